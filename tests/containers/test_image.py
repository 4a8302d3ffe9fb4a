"""The image, built and run by Docker or Podman where one is found: what is in it, and the deployment from nothing."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

ROOT = Path(__file__).resolve().parents[2]
#: As docs/deploy.md runs it: nothing can be written but a bounded /tmp, and no right is left.
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp:size=256m,mode=1777",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
#: Longest time in seconds for a build, and for anything that a test waits for.
BUILD, LONGEST = 1200.0, 180.0

pytestmark = [pytest.mark.container, pytest.mark.timeout(1500)]


@dataclass
class Engine:
    """Docker or Podman, and the containers that a test has started."""

    program: str
    image: str
    started: list[str] = field(default_factory=list)

    def call(self, *arguments: str, timeout: float = LONGEST) -> subprocess.CompletedProcess[str]:
        """One command of the engine."""
        return subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, *command: str, entrypoint: str = "", **variables: str) -> str:
        """Start a container in the background; its id."""
        name = f"qmigrate-test-{uuid.uuid4().hex[:12]}"
        given = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
        start = [f"--entrypoint={entrypoint}"] if entrypoint else []
        made = self.call("run", "--detach", f"--name={name}", "--network=host", *HARDENED, *start, *given, self.image, *command)
        assert made.returncode == 0, made.stderr
        self.started.append(name)
        return name

    def ends(self, name: str) -> tuple[int, str]:
        """Exit code and log, once it has ended."""
        waited = self.call("wait", name)
        logs = self.call("logs", name)
        return int(waited.stdout.strip()), logs.stdout + logs.stderr

    def log(self, name: str) -> str:
        """What it has printed so far."""
        found = self.call("logs", name)
        return found.stdout + found.stderr

    def wait_for(self, name: str, condition: Callable[[], bool]) -> None:
        """Until the condition holds."""
        deadline = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < deadline, self.log(name)
            time.sleep(0.1)


def engine_found() -> str | None:
    """The first engine that answers."""
    for program in ("docker", "podman"):
        if shutil.which(program) is not None:
            answered = subprocess.run([program, "info"], capture_output=True, check=False, timeout=60)
            if answered.returncode == 0:
                return program
    return None


@pytest.fixture(scope="module")
def built() -> Iterator[Engine]:
    """The service's image, built from this checkout."""
    program = engine_found()
    if program is None:
        pytest.skip("no container engine: install Docker or Podman")
    made = Engine(program, f"qmigrate-test:{uuid.uuid4().hex[:12]}")
    done = made.call("build", "--target=service", "--tag", made.image, str(ROOT), timeout=BUILD)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    yield made
    made.call("rmi", "--force", made.image)


@pytest.fixture
def engine(built: Engine) -> Iterator[Engine]:
    """The engine; what a test has started is gone afterwards."""
    yield built
    for name in built.started:
        built.call("rm", "--force", name)
    built.started.clear()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("id -u; id -g", "10001\n10001\n"),
        ("getent group 10001 | cut -d: -f3", "10001\n"),
        ("command -v pip; python -c 'import pip' 2>/dev/null && echo there; true", ""),
        ("find /opt/venv -type d -name tests | head -3", ""),
        ("find /opt/venv -name '*.pyi' | head -3", ""),
        ("touch /app/x 2>/dev/null && echo written; touch /opt/venv/x 2>/dev/null && echo written; true", ""),
        ("touch /tmp/x && echo written", "written\n"),
        ("find / -xdev \\( -name '.env*' -o -name '*.pem' -path '/app/*' \\) 2>/dev/null | head -3", ""),
        ("qmigrate --version | cut -d' ' -f1 | sed -n 1p", "qmigrate\n"),
    ],
)
def test_the_image_holds_what_it_needs_and_nothing_else(engine, command, expected):
    """Its user and group, no installer, no tests or stubs, nothing that can be written but /tmp."""
    code, log = engine.ends(engine.run("-c", command, entrypoint="/bin/sh"))
    assert (code, log) == (0, expected)


@pytest.fixture(scope="module")
def tool() -> Iterator[Engine]:
    """The image with the tool alone, and a project's files in an image on it."""
    program = engine_found()
    if program is None:
        pytest.skip("no container engine: install Docker or Podman")
    made = Engine(program, f"qmigrate-tool-test:{uuid.uuid4().hex[:12]}")
    done = made.call("build", f"--file={ROOT / 'Dockerfile.tool'}", "--tag", made.image, str(ROOT), timeout=BUILD)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    yield made
    for name in made.started:
        made.call("rm", "--force", name)
    made.call("rmi", "--force", made.image)


@pytest.mark.parametrize(
    ("entrypoint", "command", "code", "expected"),
    [
        ("/bin/sh", ("-c", "id -u; id -g; pwd"), 0, "10001\n10001\n/project\n"),
        ("/bin/sh", ("-c", "command -v pip; python -c 'import pip' 2>/dev/null && echo there; true"), 0, ""),
        ("/bin/sh", ("-c", "find /opt/venv -type d -name tests -o -name '*.pyi' | head -3; ls /app 2>/dev/null; true"), 0, ""),
        ("/bin/sh", ("-c", "touch /project/x /opt/venv/x 2>/dev/null && echo written; touch /tmp/x && echo there"), 0, "there\n"),
        ("", ("--version",), 0, "qmigrate "),
        ("", ("check", "--offline"), 2, "there is no folder /project/qdrant_migrations/versions"),
        ("", ("status",), 2, "error: no ledger is configured"),
    ],
)
def test_the_tool_image_runs_any_verb_without_a_right(tool, entrypoint, command, code, expected):
    """No root, no installer, a root that is only read; its entrypoint is the tool."""
    ended, log = tool.ends(tool.run(*command, entrypoint=entrypoint))
    assert ended == code, log
    assert log == expected if entrypoint else expected in log


@pytest.fixture
def stores(postgres_database, qdrant_with) -> dict[str, str]:
    """Variables of an empty database and an empty Qdrant."""
    server = qdrant_with()
    return {
        "QMIGRATE_LEDGER_URL": postgres_database,
        "QMIGRATE_QDRANT_URL": server.url,
        "QMIGRATE_QDRANT_GRPC_PORT": str(server.grpc_port),
        "QMIGRATE_WAIT": "30s",
    }


@pytest.mark.server
@pytest.mark.postgres
def test_three_replicas_come_up_from_nothing(engine, stores):
    """One migrates, the others wait, all start; a second start has nothing to do; the log has the outcome."""
    names = [engine.run("sh", "-c", "echo started", **stores) for _ in range(3)]
    ended = [engine.ends(name) for name in names]
    assert [code for code, _ in ended] == [0, 0, 0], ended
    assert all("started" in log for _, log in ended)
    url = stores["QMIGRATE_QDRANT_URL"]
    client = QdrantClient(url=url, check_compatibility=False)
    assert {one.alias_name for one in client.get_aliases().aliases} >= {"image_assets", "faces"}
    client.close()
    code, log = engine.ends(engine.run("true", QMIGRATE_ON_START="check", **stores))
    assert code == 0, log


@pytest.mark.server
@pytest.mark.postgres
def test_a_forgotten_ledger_ends_with_the_name_of_its_variable(engine, stores):
    """Exit code 2, which a job doesn't try again, and no traceback."""
    del stores["QMIGRATE_LEDGER_URL"]
    code, log = engine.ends(engine.run("true", **stores))
    assert code == 2, log
    assert "QMIGRATE_LEDGER_URL" in log
    assert "Traceback" not in log


@pytest.mark.server
@pytest.mark.postgres
def test_a_service_is_stopped_by_sigterm(engine, stores):
    """The command is the container's first process: it gets the signal itself and ends with 0."""
    name = engine.run(**stores)
    engine.wait_for(name, lambda: engine.call("exec", name, "python", "-c", READY).returncode == 0)
    assert engine.call("stop", "--time=60", name).returncode == 0
    assert engine.ends(name)[0] == 0, engine.log(name)


READY = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"
