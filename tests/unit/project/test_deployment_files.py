"""Dockerfile, docker-compose.yml and docs/deploy.md agree with each other and with the project; Docker is not needed."""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qmigrate import errors
from qmigrate.settings.values import parse_duration

ROOT = Path(__file__).resolve().parents[3]
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
    """One base, by its full version; the targets exist; nothing becomes root again after the service's user."""
    arguments = dict(part.split("=", 1) for name, part in instructions() if name == "ARG")
    assert PINNED.search(f"python:{arguments['PYTHON']}")
    starts = stages()
    assert {start for start in starts.values() if start not in starts} == {"python:${PYTHON}"}
    assert list(starts)[-1] == "service"
    assert starts["gpu"] == starts["console"] == starts["service"] == "base"
    users = [arguments for name, arguments in instructions() if name == "USER"]
    assert users == ["10001:10001"]
    # The group of the user has that number too: files of a volume are the group's (fsGroup).
    made = " ".join(text for name, text in instructions() if name == "RUN")
    assert "groupadd --system --gid 10001" in made
    assert "--uid 10001 --gid 10001" in made


def test_the_image_installs_pinned_versions_with_hashes_and_keeps_no_installer():
    """Every install is checked against a lock, or installs just the project itself; pip, tests and stubs stay out."""
    runs = [text for name, text in instructions() if name == "RUN"]
    installs = [part for text in runs for part in text.split("&&") if " install " in part and "pip" in part]
    assert installs
    for part in installs:
        assert "--require-hashes -r requirements/" in part or "--no-deps /wheels/" in part, part
    assert any("--without-pip" in text for text in runs)
    assert any("pip uninstall" in text for text in runs)
    for text in runs:
        if "image" in text and "--require-hashes" in text and "build-gpu" in text:
            assert "-name tests" in text


@pytest.mark.parametrize(
    ("lock", "extras"), [("image.lock", ()), ("image-gpu.lock", ("open-clip",)), ("image-console.lock", ("console",)), ("build.lock", None)]
)
def test_the_locks_satisfy_what_the_project_declares(lock, extras):
    """scripts/lock has been run since a dependency changed; every pinned version has hashes."""
    text = (ROOT / "requirements" / lock).read_text()
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    pinned: dict[str, str] = {}
    for entry in filter(None, entries):
        head = re.match(r"([A-Za-z0-9_.-]+)==([^\s;\\]+)", entry)
        assert head is not None, entry[:80]
        assert "--hash=sha256:" in entry, head[0]
        pinned[canonicalize_name(head[1])] = head[2]
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if extras is None:
        declared = project["build-system"]["requires"]
    else:
        optional = project["project"]["optional-dependencies"]
        declared = [*project["project"]["dependencies"], *(one for extra in extras for one in optional[extra])]
    for written in declared:
        wanted = Requirement(written)
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted.name} is not in {lock}: run scripts/lock"
        assert version in wanted.specifier, f"{wanted}: {version} is pinned; run scripts/lock"


def test_what_others_made_is_fetched_by_its_digest():
    """Actions and images of workflows, compose and guide, and the frontend that builds the image, can't be replaced."""
    files = [ROOT / "docker-compose.yml", ROOT / "docs" / "deploy.md", *(ROOT / ".github/workflows").glob("*.yml")]
    texts = {file: file.read_text() for file in files}
    actions = [one for text in texts.values() for one in re.findall(r"uses: (\S+)", text) if one != "./"]
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
    """Every image has a version or a target, and whatever is waited for has a health check."""
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
        for published in service.get("ports", []):
            assert published.startswith("127.0.0.1:"), name
    # A job is the image without its command, and not healthy by answering requests.
    for job, target in (("migrate", "gpu"), ("migrate-cpu", "service")):
        assert services[job]["command"] == []
        assert services[job]["healthcheck"] == {"disable": True}
        assert services[job]["build"]["target"] == target
    for name, service in services.items():
        if "build" in service:
            # Nothing but /tmp can be written to, and that has an end.
            assert service["read_only"] is True, name
            assert [re.match(r"/tmp:size=\d+[mg]", one) is not None for one in service["tmpfs"]] == [True], name
            assert any("/data/images" in volume for volume in service["volumes"]), name


def test_the_console_is_beside_the_service_and_knows_who_calls():
    """It needs a token, migrates nothing by itself, keeps exports on a volume, and is healthy where it answers."""
    console = COMPOSE["services"]["console"]
    settings = yaml.safe_load((ROOT / "qmigrate.yaml").read_text())["console"]
    named = {one["env"] for one in settings["tokens"]}
    assert named
    for name in named:
        assert console["environment"][name] == f"${{{name}:?set it in .env}}", "without one it doesn't start"
        assert f'echo "{name}=$(openssl rand' in GUIDE
    assert console["environment"]["QMIGRATE_ON_START"] == "off"
    assert "exports:/app/.qmigrate/exports" in console["volumes"]
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    target = text[text.index("FROM base AS console") :].split("\nFROM ")[0]
    assert 'CMD ["qmigrate", "serve", "--host", "0.0.0.0"]' in target
    assert "VOLUME /app/.qmigrate/exports" in target
    kind, program, *asked = console["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    assert asked[1] in target.replace("\\'", "'"), "the image has the same health check"
    assert "console" not in COMPOSE["services"]["image-search"].get("depends_on", {})


@pytest.mark.parametrize(
    "path",
    [
        "src/.env",
        "src/qmigrate/.env.production",
        "examples/image_search/secrets.env",
        "qdrant_migrations/server.key",
        "alembic/ca.pem",
        "qdrant_migrations/.qmigrate/ledger.db",
        "src/qmigrate/__pycache__/x.pyc",
    ],
)
def test_secrets_inside_a_folder_that_is_let_through_stay_out_of_the_image(path):
    """What comes last in .dockerignore wins: a folder that is let through brings nothing of this kind along."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = path.split("/")
        heads = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        tail = pattern.removeprefix("**/")
        found = any(fnmatchcase(part, tail) for part in parts) if pattern.startswith("**/") else pattern in [*heads, "*"]
        if found:
            ignored = not line.startswith("!")
    assert ignored


def test_every_variable_that_is_set_is_one_that_somebody_reads():
    """Names in compose and in the guide are those of the entrypoint, of the settings or of Alembic."""
    read = set(re.findall(r"\$\{(QMIGRATE_\w+)", SCRIPT)) | {"ALEMBIC_CONFIG"}
    read |= set(re.findall(r'"(QMIGRATE_[A-Z_]+)"', (ROOT / "src" / "qmigrate" / "settings/load.py").read_text()))
    assert {"QMIGRATE_ON_START", "QMIGRATE_WAIT", "QMIGRATE_MAX_ESTIMATE", "QMIGRATE_LOCK_TIMEOUT"} <= read
    for service in ("image-search", "console", "migrate", "migrate-cpu"):
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


def kubernetes_objects() -> list[dict]:
    """The manifests of the guide; its workflow for CI is none."""
    return [one for one in manifests() if "apiVersion" in one]


def test_there_are_seven_manifests_and_the_api_takes_them():
    """Every field exists in the API and has its type, strictly: a misspelt one would be ignored by a cluster."""
    found = kubernetes_objects()
    assert len(found) == 7
    for one in found:
        for version in ("1.32", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(one, version, strict=True)
    wrong = copy.deepcopy(next(one for one in found if one["kind"] == "Job"))
    wrong["spec"]["activeDeadlineSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.32", strict=True)


def test_every_pod_is_restricted_and_every_migration_sees_the_pictures():
    """Pod Security "restricted", a bounded /tmp on a read-only root, and a mount for what revisions embed."""
    pods = [one["spec"]["template"]["spec"] for one in kubernetes_objects() if one["kind"] in ("Job", "Deployment")]
    assert len(pods) == 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {one["name"]: one for one in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
            assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
            assert "sizeLimit" in volumes[mounts["/tmp"]["name"]]["emptyDir"]
            assert mounts["/data/images"]["readOnly"] is True
            assert container["resources"]["limits"]["memory"]
            if container["name"] == "image-search":
                assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_job_outlives_its_longest_run_and_gives_up_only_where_that_helps():
    """The deadline leaves room beyond QMIGRATE_MAX_ESTIMATE; a drained node is not a failure; hopeless codes end it."""
    hopeless = {2, 3, 4, 5, 7, 10, 11, 255}
    for job in (one for one in kubernetes_objects() if one["kind"] == "Job"):
        spec = job["spec"]
        ignored, failed = spec["podFailurePolicy"]["rules"]
        assert (ignored["action"], ignored["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget", "status": "True"}])
        assert failed["action"] == "FailJob"
        assert hopeless <= set(failed["onExitCodes"]["values"])
        assert not {6, 9, 12, 137, 143} & set(failed["onExitCodes"]["values"])
        [container] = spec["template"]["spec"]["containers"]
        given = {entry["name"]: entry["value"] for entry in container["env"]}
        deadline = spec.get("activeDeadlineSeconds")
        assert deadline is None or deadline >= 2 * parse_duration(given["QMIGRATE_MAX_ESTIMATE"])


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
    """The command of docker-compose.yml succeeds on a server that is ready and fails where nothing listens."""
    kind, *command = COMPOSE["services"]["qdrant"]["healthcheck"]["test"]
    assert kind == "CMD"
    port = qdrant_server.url.rsplit(":", 1)[1]
    for other, healthy in ((port, True), ("1", False)):
        asked = [part.replace("/6333", f"/{other}") for part in command]
        ended = subprocess.run(asked, capture_output=True, timeout=20, check=False)
        assert (ended.returncode == 0) == healthy, shlex.join(asked)
