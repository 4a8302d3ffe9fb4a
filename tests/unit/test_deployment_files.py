"""Dockerfile, docker-compose.yml and docs/deploy.md agree with each other and with the project; Docker is not needed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from qmigrate import errors

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SCRIPT = (ROOT / "docker-entrypoint.sh").read_text()
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
#: A version for people, and the digest that is fetched: a tag can be moved to other bytes.
PINNED = re.compile(r":v?\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}$")


def instructions() -> list[list[str]]:
    """The Dockerfile's, continued lines joined and comments left out."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in lines]


def stages() -> dict[str, str]:
    """Target -> what it starts from."""
    found = [arguments.split() for name, arguments in instructions() if name == "FROM"]
    return {words[2]: words[0] for words in found}


def test_every_stage_starts_from_a_pinned_python_and_ends_without_root():
    """One base, by its full version; the targets exist; nobody becomes root again after the service's user."""
    arguments = dict(part.split("=", 1) for name, part in instructions() if name == "ARG")
    assert PINNED.search(f"python:{arguments['PYTHON']}")
    starts = stages()
    assert {start for start in starts.values() if start not in starts} == {"python:${PYTHON}"}
    assert list(starts)[-1] == "service"
    assert starts["gpu"] == starts["service"] == "base"
    users = [arguments for name, arguments in instructions() if name == "USER"]
    assert users == ["10001:10001"]
    versions = {name: value for name, value in arguments.items() if name != "PYTHON"}
    assert versions
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", value) for value in versions.values())


def test_what_others_made_is_fetched_by_its_digest():
    """Actions and images of workflows, compose and guide, and the frontend that builds the image, can't be replaced."""
    files = [ROOT / "docker-compose.yml", ROOT / "docs" / "deploy.md", *(ROOT / ".github/workflows").glob("*.yml")]
    texts = {file: file.read_text() for file in files}
    actions = [one for text in texts.values() for one in re.findall(r"uses: (\S+)", text)]
    assert actions
    assert all(re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", one) for one in actions)
    images = [one for text in texts.values() for one in re.findall(r"^\s+image: (\S+)", text, re.MULTILINE)]
    others = [one for one in images if not one.startswith(("registry.example/", "qdrant/qdrant:${{"))]
    assert others
    assert all(PINNED.search(one) for one in others)
    matrix = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    # The newest server is tried as it is: what it breaks is to be seen.
    assert all(PINNED.search(f":{one}") for one in matrix["qdrant"] if one != "latest")
    assert PINNED.search((ROOT / "Dockerfile").read_text().splitlines()[0])


def test_everything_that_is_copied_is_there_and_let_through():
    """COPY finds its sources in the project, and .dockerignore keeps none of them out."""
    let_through = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    sources = [
        source
        for name, arguments in instructions()
        if name == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    ]
    assert {"src", "alembic", "qdrant_migrations", "docker-entrypoint.sh"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_through, source
    assert set(let_through) == set(sources)
    assert os.access(ROOT / "docker-entrypoint.sh", os.X_OK)
    # A package of that name would hide Alembic from everything that runs in this folder.
    assert not (ROOT / "alembic" / "__init__.py").exists()


def test_the_services_of_compose_are_pinned_checked_and_waited_for():
    """Every image has a version or a target, and whatever is waited for says when it is ready."""
    services = COMPOSE["services"]
    for name, service in services.items():
        if "build" in service:
            assert service["build"]["target"] in stages(), name
        else:
            assert PINNED.search(service["image"]), name
            assert "healthcheck" in service
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert "test" in services[other]["healthcheck"]
        for volume in service.get("volumes", []):
            source = volume.rsplit(":/", 1)[0]
            assert source in COMPOSE["volumes"] or source.startswith("${IMAGES"), volume
    # The job is the image without its command, and not healthy by answering requests.
    assert services["migrate"]["command"] == []
    assert services["migrate"]["healthcheck"] == {"disable": True}


def test_every_variable_that_is_set_is_one_that_somebody_reads():
    """Names in compose and in the guide are those of the entrypoint, of the settings or of Alembic."""
    read = set(re.findall(r"\$\{(QMIGRATE_\w+)", SCRIPT)) | {"ALEMBIC_CONFIG"}
    read |= set(re.findall(r'"(QMIGRATE_[A-Z_]+)"', (ROOT / "src" / "qmigrate" / "settings.py").read_text()))
    assert {"QMIGRATE_ON_START", "QMIGRATE_WAIT", "QMIGRATE_MAX_ESTIMATE", "QMIGRATE_LOCK_TIMEOUT"} <= read
    for service in ("image-search", "migrate"):
        given = set(COMPOSE["services"][service]["environment"])
        assert {name for name in given if name.startswith("QMIGRATE_")} <= read
    assert set(re.findall(r"(?:QMIGRATE|ALEMBIC)_[A-Z_]+[A-Z]", GUIDE + SCRIPT)) <= read
    for name in read & set(re.findall(r"QMIGRATE_[A-Z_]+[A-Z]", SCRIPT)):
        assert f"`{name}`" in GUIDE, name


def manifests() -> list[dict]:
    """Every YAML document of the guide."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def test_the_manifests_of_the_guide_are_whole_and_their_jobs_end():
    """They parse; a Job's pod gets the image's entrypoint and ends; values of variables are strings."""
    found = manifests()
    assert {"Secret", "Job", "Deployment", "PersistentVolumeClaim"} <= {one.get("kind") for one in found}
    jobs = [one for one in found if one.get("kind") == "Job"]
    assert any("nvidia.com/gpu" in str(job) and "/weights" in str(job) for job in jobs)
    assert any("helm.sh/hook" in job["metadata"].get("annotations", {}) for job in jobs)
    for one in found:
        spec = one.get("spec", {}).get("template", {}).get("spec", {})
        for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
            assert all(isinstance(entry["value"], str) for entry in container.get("env", []))
            if container["name"] == "migrate":
                # Otherwise the image's command, the service, would follow the migration and never end.
                assert container.get("command") == ["docker-entrypoint.sh"] or container.get("args")
    for job in jobs:
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_guide_names_every_exit_code():
    """The codes of the error tree, and those of signals, are in its table."""
    table = GUIDE[GUIDE.index("| code | meaning") :].split("\n\n")[0]
    named = {int(code) for row in table.splitlines() for code in re.findall(r"\d+", row.split("|")[1])}
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.QmigrateError)]
    assert {one.exit_code for one in classes} <= named
    assert {129, 130, 143, 255} <= named


@pytest.mark.server
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on PATH, which Qdrant's image has")
def test_the_health_check_of_qdrant_tells_up_from_down(qdrant_server):
    """The command of docker-compose.yml succeeds on a server that is ready and fails where nobody listens."""
    kind, *command = COMPOSE["services"]["qdrant"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = qdrant_server.url.rsplit(":", 1)[1]
    for other, healthy in ((port, True), ("1", False)):
        asked = [part.replace("/6333", f"/{other}") for part in command]
        ended = subprocess.run(asked, capture_output=True, timeout=20, check=False)
        assert (ended.returncode == 0) == healthy, shlex.join(asked)
