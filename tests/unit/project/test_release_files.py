"""What is published and what others run of it: workflows, tool image, hook, Kubernetes examples. No service is asked."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from qmigrate.cli.app import root
from qmigrate.settings.values import parse_duration

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLES = sorted((ROOT / "examples" / "kubernetes").glob("*.yaml"))
TOOL = (ROOT / "Dockerfile.tool").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Everything in which an action or an image may be named.
NAMING = sorted(
    [
        *(ROOT / ".github").rglob("*.yml"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("Dockerfile*"),
        *(ROOT / name for name in ("README.md", "action.yml", "docker-compose.yml")),
        *EXAMPLES,
    ]
)
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


def test_every_action_is_named_by_a_commit():
    """A tag can be moved to other code: 40 digits can't. Ours stands for itself in the guides."""
    found = [(file.name, one) for file in NAMING for one in re.findall(r"\buses:\s*[\"']?([^\s\"'`]+)", file.read_text())]
    assert len(found) > 20
    for name, one in found:
        own = one == "./" or (name.endswith(".md") and one == "OWNER/qmigrate@COMMIT")
        assert own or re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", one), f"{name}: {one}"
    versions: dict[str, set[str]] = {}
    for file in NAMING:
        for one, said in re.findall(r"uses: (\S+@[0-9a-f]{40}) +#? *(v[\d.]+)?", file.read_text()):
            assert said, f"{file.name}: {one} doesn't say which version it is"
            versions.setdefault(one.partition("@")[0], set()).add(one)
    assert all(len(commits) == 1 for commits in versions.values()), "one action, two versions"


def test_every_image_is_named_by_its_digest():
    """Also in the guides, since they are copied; images that a reader builds are at registry.example."""
    pattern = r"^\s*-?\s*(?:image:|FROM)[ \t]+[\"']?([^\s\"'#]+)"
    found = [(file.name, one) for file in NAMING for one in re.findall(pattern, file.read_text(), re.MULTILINE)]
    found += [(file.name, one) for file in NAMING for one in re.findall(r"docker create (\S+?)\)", file.read_text())]
    stages = {"base", "build", "build-gpu", "tool", "qmigrate"}
    arguments = [one for file in ROOT.glob("Dockerfile*") for one in re.findall(r"^ARG PYTHON=(\S+)", file.read_text(), re.M)]
    assert len(set(arguments)) == 1, "both images have the same base"
    assert len(arguments) == 2
    others = [(name, one) for name, one in found if one not in stages and not one.startswith(("registry.example", "qdrant/qdrant:${{"))]
    others = [(name, one.replace("${PYTHON}", arguments[0])) for name, one in others]
    assert len(others) > 8
    for name, one in others:
        assert re.search(r":v?\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}$", one), f"{name}: {one}"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_has_no_right_that_it_does_not_name(file):
    """Nothing is written but by jobs that say so; no text of a user gets into a script; no secret is needed."""
    text = file.read_text()
    flow = yaml.safe_load(text)
    assert flow["permissions"] in ({}, {"contents": "read"})
    assert "pull_request_target" not in text
    assert "secrets." not in text
    for name, job in flow["jobs"].items():
        assert "timeout-minutes" in job, name
        for step in job["steps"]:
            inside = re.findall(r"\$\{\{(.*?)\}\}", step.get("run", ""))
            assert all(re.fullmatch(r" *matrix\.\w+ *", one) for one in inside), (name, step["run"])


def test_a_release_is_published_by_trust_alone():
    """Only the job that publishes has the identity for PyPI; files and image are attested; nothing of a run is kept."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    rights = {name: {right for right, level in job["permissions"].items() if level == "write"} for name, job in jobs.items()}
    assert rights == {
        "build": {"id-token", "attestations"},
        "pypi": {"id-token"},
        "image": {"packages", "id-token", "attestations"},
        "page": {"contents"},
    }
    used = {name: [step.get("uses", "").partition("@")[0] for step in job["steps"]] for name, job in jobs.items()}
    assert used["build"].count("actions/attest") == 2
    assert used["pypi"] == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert used["image"][-1] == "actions/attest"
    assert jobs["pypi"]["environment"] == jobs["image"]["environment"] == "pypi"
    assert jobs["page"]["needs"] == ["build", "pypi", "image"]
    for job in jobs.values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
            if step.get("uses", "").startswith("pypa/"):
                assert not {"password", "user", "repository-url"} & set(step["with"])
    runs = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    for line in runs.splitlines():
        assert "pip\" install" not in line or "--require-hashes" in line, line
    for path in re.findall(r"(?:\./)?((?:scripts|requirements)/[\w.]+)", runs):
        assert (ROOT / path).is_file(), path


problem = runpy.run_path(str(ROOT / "scripts" / "release_version.py"))["problem"]


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "said"),
    [
        ("v1.2.3", "1.2.3", "## [1.2.3] - 2026-01-01", None),
        ("v1.2.3rc1", "1.2.3rc1", "# C\n\n## 1.2.3rc1\n", None),
        ("1.2.3", "1.2.3", "## [1.2.3]", "expected v1.2.3"),
        ("v1.2.4", "1.2.3", "## [1.2.3]", "the tag is v1.2.4"),
        ("v1.2.3", "1.2.3", "## [Unreleased]\n## [1.2.30]\n", "has no section 1.2.3"),
        ("v1.2", "1.2", "## [1.2]", "not a version such as"),
    ],
)
def test_a_tag_that_is_not_this_version_is_refused(tag, version, changelog, said):
    """Tag, pyproject.toml and changelog name one version."""
    found = problem(tag, version, changelog)
    assert (found is None) == (said is None), found
    assert said is None or said in found


def test_the_lock_of_a_release_is_pinned_with_hashes():
    """What checks and describes the files is fetched by its digest, as what builds them."""
    entries = [one for one in re.split(r"(?m)^(?=[A-Za-z0-9])", (ROOT / "requirements/release.lock").read_text()) if one]
    names = {re.split("==", entry)[0] for entry in entries}
    assert {"twine", "cyclonedx-bom"} <= names
    assert all("--hash=sha256:" in entry and "==" in entry for entry in entries)


def test_every_python_that_is_promised_is_tried():
    """The classifiers, the matrix of the tests and the two ends on macOS and Windows agree."""
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == promised == ["3.11", "3.12", "3.13", "3.14"]
    systems = jobs["systems"]["strategy"]["matrix"]
    assert [one.partition("-")[0] for one in systems["os"]] == ["macos", "windows"]
    assert systems["python"] == [promised[0], promised[-1]]
    marks = re.search(r'-m "(.*?)"', str(jobs["systems"]["steps"]))
    assert marks is not None
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert set(marks[1].replace("not ", "").split(" and ")) == {one.partition(":")[0] for one in known}


def test_the_license_is_the_whole_one():
    """The text of Apache 2.0, byte by byte, and it gets into what is published."""
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert PROJECT["license"] == "Apache-2.0"
    assert "COPY pyproject.toml README.md LICENSE ./" in TOOL
    assert "COPY pyproject.toml README.md LICENSE ./" in (ROOT / "Dockerfile").read_text()


def test_the_links_of_the_security_page_lead_somewhere():
    """Files that it names are there, with the headings."""
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "SECURITY.md").read_text()):
        path, _, heading = target.partition("#")
        text = (ROOT / path).read_text()
        headings = {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in re.findall(r"(?m)^#+ (.*)$", text)}
        assert not heading or heading in headings, target


# --- the tool image ------------------------------------------------------------------------------------------------


def steps_of(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_tool_image_holds_the_tool_alone():
    """Pinned with hashes, no installer, not root, nothing of the reference deployment, the tool as its entrypoint."""
    steps = steps_of(TOOL)
    installs = [part for name, text in steps if name == "RUN" for part in text.split("&&") if " install " in part]
    assert len(installs) == 3
    for part in installs:
        assert "--require-hashes -r requirements/" in part or "--no-deps /wheels/" in part, part
    final = steps[max(number for number, (name, _) in enumerate(steps) if name == "FROM") :]
    assert [text for name, text in final if name == "COPY"] == ["--from=build /opt/venv /opt/venv"]
    assert [text for name, text in final if name == "USER"] == ["10001:10001"]
    assert [text for name, text in final if name == "ENTRYPOINT"] == ['["qmigrate"]']
    assert [text for name, text in final if name == "WORKDIR"] == ["/project"]
    made = " ".join(text for name, text in final if name == "RUN")
    assert "--uid 10001 --gid 10001" in made
    assert "pip uninstall" in made
    assert final.index(("USER", "10001:10001")) > max(number for number, (name, _) in enumerate(final) if name in ("RUN", "COPY"))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [one for name, text in steps if name == "COPY" and "--from" not in text for one in text.split()[:-1]]
    assert all(f"!{one}" in ignored and (ROOT / one).exists() for one in sources)


# --- pre-commit ----------------------------------------------------------------------------------------------------


def hook(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run the hook as it is, but in the environment of the tests in place of one that is installed for it."""
    (entry,) = HOOKS
    program, _, arguments = entry["entry"].partition(" ")
    local = {**entry, "language": "system", "entry": f"'{sys.executable}' -m {program} {arguments}"}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [local]}]}))
    (folder / "home").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pre_commit", "run", entry["id"], "--files", *files]
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PRE_COMMIT_HOME": str(folder / "home"), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def repository(tmp_path):
    """A project under git, as pre-commit needs one."""
    if shutil.which("git") is None:
        pytest.skip("no git on PATH, which pre-commit works by")
    shutil.copytree(ROOT / "examples" / "pydocs", tmp_path, dirs_exist_ok=True)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def test_the_hook_is_valid_for_pre_commit():
    """Its own check of the manifest."""
    command = [sys.executable, "-m", "pre_commit", "validate-manifest", str(ROOT / ".pre-commit-hooks.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hook_stops_a_revision_that_breaks_a_rule(repository):
    """It passes on a good project, fails on a broken one, and has nothing to do with other files."""
    versions = repository / "qdrant_migrations" / "versions"
    first = sorted(versions.glob("*.py"))[0]
    done = hook(repository, str(first.relative_to(repository)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed" in done.stdout
    assert "Skipped" in hook(repository, "load.py").stdout
    first.write_text(first.read_text() + "\nimport no_such_module_anywhere\n")
    done = hook(repository, str(first.relative_to(repository)))
    assert done.returncode == 1
    assert "no_such_module_anywhere" in done.stdout


# --- Kubernetes ----------------------------------------------------------------------------------------------------


def objects() -> list[dict]:
    """Every object of the examples."""
    return [one for file in EXAMPLES for one in yaml.safe_load_all(file.read_text())]


def test_the_cluster_takes_every_example():
    """Every field exists and has its type, strictly, in an older and the newest API."""
    assert [one["kind"] for one in objects()] == ["Deployment", "Job", "Secret"]
    for one in objects():
        for version in ("1.32", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(one, version, strict=True)


def pods() -> list[tuple[str, dict]]:
    """Kind and pod of what runs some."""
    return [(one["kind"], one["spec"]["template"]["spec"]) for one in objects() if "template" in one.get("spec", {})]


@pytest.mark.parametrize(("kind", "pod"), pods(), ids=[kind for kind, _ in pods()])
def test_every_pod_of_the_examples_is_restricted_and_can_run_its_commands(kind, pod):
    """Pod Security "restricted", a bounded /tmp on a read-only root, and arguments that the command line takes."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (secret,) = [one["metadata"]["name"] for one in objects() if one["kind"] == "Secret"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {one["mountPath"] for one in container["volumeMounts"]} == {"/tmp"}
        assert container["resources"]["limits"]["memory"]
        if container["name"] in ("wait", "migrate"):
            assert container["envFrom"] == [{"secretRef": {"name": secret}}]
            verb, *rest = container["args"]
            root.commands[verb].make_context(verb, rest)
    assert "sizeLimit" in pod["volumes"][0]["emptyDir"]
    assert pod["initContainers"][0]["name"] == "wait"


def test_the_limits_of_the_examples_fit_each_other():
    """A try may take what --max-estimate allows; the Job gives up where trying again can't help, and only there."""
    found = {one["kind"]: one for one in objects()}
    job = found["Job"]["spec"]
    words = job["template"]["spec"]["containers"][0]["args"]
    assert job["activeDeadlineSeconds"] >= 2 * parse_duration(words[words.index("--max-estimate") + 1])
    ignored, failed = job["podFailurePolicy"]["rules"]
    assert ignored["action"] == "Ignore"
    assert set(failed["onExitCodes"]["values"]) == {2, 3, 4, 5, 7, 8, 10, 11}
    deployment = found["Deployment"]["spec"]
    words = deployment["template"]["spec"]["initContainers"][1]["args"]
    assert deployment["progressDeadlineSeconds"] > parse_duration(words[words.index("--max-estimate") + 1])
