"""Fixtures for tests that need Qdrant: local mode always, a real server when one is found. It tests nothing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from qmigrate.ports import Store
from qmigrate.store import ConnectionSettings, connect
from tests.harness import by_hand

NONE_FOUND = "no Qdrant server: set QDRANT_URL, put the qdrant program on PATH, or start Docker"
#: The program of a server that is newer than the one the other tests run on, tried where a feature needs it.
NEWER = "qdrant-1.19"
NO_PREFIXES = f"no Qdrant server from 1.19 on: set QDRANT_URL to one, or put {NEWER} on PATH"
NO_PROGRAM = "needs a Qdrant server with settings of its own: put the qdrant program on PATH"
#: How long a server may take to start, in seconds.
_START = 60.0
_IMAGE = "qdrant/qdrant:v1.18.3"


@dataclass
class QdrantServer:
    """A running server.

    Attributes:
        url: REST address.
        grpc_port: of the same host.
        api_key: that it asks for, or None.
        restart: kills it (SIGKILL) and starts it again on the same ports and data; None where that can't be done.
        stop: the same without the start.
    """

    url: str
    grpc_port: int
    api_key: str | None = None
    restart: Callable[[], None] | None = None
    stop: Callable[[], None] | None = None
    kwargs: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.kwargs = {"url": self.url, "grpc_port": self.grpc_port, "api_key": self.api_key}

    def settings(self, **changed: Any) -> ConnectionSettings:
        """Settings to connect with."""
        return ConnectionSettings(**{**self.kwargs, "timeout": 20.0, **changed})


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[QdrantServer]:
    """A server that the whole session shares; skips the test when there is none."""
    yield from serving()


def serving() -> Iterator[QdrantServer]:
    """One server: the one that is given, else a fresh one for as long as it is used."""
    given = os.environ.get("QDRANT_URL")
    if given:
        port = int(os.environ.get("QDRANT_GRPC_PORT", "6334"))
        yield QdrantServer(given.rstrip("/"), port, os.environ.get("QDRANT_API_KEY") or None)
        return
    for find in (_installed, _container):
        source = find()
        if source is not None:
            with source as server:
                yield server
            return
    pytest.skip(NONE_FOUND)


@pytest.fixture
def prefix_server(request: pytest.FixtureRequest) -> Iterator[QdrantServer]:
    """A server that matches prefixes: the session's own where it is new enough, else one of the newer program."""
    if os.environ.get("QDRANT_URL") or shutil.which(NEWER) is None:
        server = request.getfixturevalue("qdrant_server")
        opened = connect(server.settings())
        able = opened.capabilities.prefixes
        opened.close()
        if not able:
            pytest.skip(NO_PREFIXES)
        yield server
        return
    with running({}, program=NEWER) as server:
        yield server


@pytest.fixture(scope="session")
def qdrant_program() -> str:
    """Path of the `qdrant` program; skips the test when there is none."""
    found = shutil.which("qdrant")
    if found is None:
        pytest.skip(NO_PROGRAM)
    return found


@pytest.fixture
def qdrant_with(qdrant_program: str) -> Iterator[Callable[..., QdrantServer]]:
    """Starts servers of the test's own: ``qdrant_with({"QDRANT__SERVICE__API_KEY": "k"})``; killed when it ends."""
    assert qdrant_program
    with ExitStack() as stack:

        def start(env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()) -> QdrantServer:
            return stack.enter_context(running(env or {}, arguments))

        yield start


@pytest.fixture
def fresh_name() -> str:
    """A prefix that no other test uses, for collections and aliases."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["local", pytest.param("server", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest, fresh_name: str, tmp_path: Path) -> Iterator[Store]:
    """Each store in turn; what was made under the test's `fresh_name` is removed afterwards."""
    if request.param == "local":
        opened = connect(ConnectionSettings(path=str(tmp_path / "qdrant")))
    else:
        opened = connect(request.getfixturevalue("qdrant_server").settings())
    yield opened
    clean(opened, fresh_name)
    opened.close()


@pytest.fixture
def server_store(qdrant_server: QdrantServer, fresh_name: str) -> Iterator[Store]:
    """A store on the shared server; cleaned like `store`."""
    opened = connect(qdrant_server.settings())
    yield opened
    clean(opened, fresh_name)
    opened.close()


def clean(opened: Store, prefix: str) -> None:
    """Remove every alias and collection whose name begins with `prefix`."""
    for alias in opened.aliases():
        if alias.startswith(prefix):
            opened.drop_alias(alias)
    for name in opened.physical_names():
        if name.startswith(prefix):
            for snapshot in opened.list_snapshots(name):
                opened.delete_snapshot(name, snapshot.name)
            opened.drop_collection(by_hand(name))


@contextmanager
def running(
    env: Mapping[str, str], arguments: tuple[str, ...] = (), program: str = "qdrant"
) -> Iterator[QdrantServer]:
    """A `program` on free ports with a folder of its own, killed and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="qmigrate-qdrant-"))
    http, rpc = free_port(), free_port()
    variables = {
        **os.environ,
        "QDRANT__SERVICE__HOST": "127.0.0.1",
        "QDRANT__SERVICE__HTTP_PORT": str(http),
        "QDRANT__SERVICE__GRPC_PORT": str(rpc),
        "QDRANT__STORAGE__STORAGE_PATH": str(folder / "storage"),
        "QDRANT__STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "QDRANT__TELEMETRY_DISABLED": "true",
        "QDRANT__LOG_LEVEL": "WARN",
        **env,
    }
    url = f"http://127.0.0.1:{http}"
    process: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (folder / "log").open("ab") as log:
            made = subprocess.Popen(
                [program, *arguments], env=variables, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        process.append(made)
        wait_until_ready(url, lambda: made.poll() is None, folder / "log")

    def stop() -> None:
        made = process.pop()
        made.send_signal(signal.SIGKILL)
        made.wait()

    def restart() -> None:
        stop()
        start()

    try:
        start()
        key = env.get("QDRANT__SERVICE__API_KEY")
        yield QdrantServer(url, rpc, key, restart=restart, stop=stop)
    finally:
        while process:
            stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_ready(url: str, alive: Callable[[], bool], log: Path | None = None) -> None:
    """Poll ``/readyz`` until it answers."""
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and alive():
        try:
            if httpx.get(f"{url}/readyz", timeout=1.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    said = log.read_text(errors="replace")[-2000:] if log else ""
    raise RuntimeError(f"the Qdrant server at {url} did not become ready. {said}")


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _installed() -> Any:
    return running({}) if shutil.which("qdrant") else None


def _container() -> Any:
    if importlib.util.find_spec("testcontainers") is None or shutil.which("docker") is None:
        return None
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        return None
    return _in_docker()


@contextmanager
def _in_docker() -> Iterator[QdrantServer]:
    from testcontainers.core.container import DockerContainer

    with DockerContainer(_IMAGE).with_exposed_ports(6333, 6334) as container:
        host = container.get_container_host_ip()
        url = f"http://{host}:{container.get_exposed_port(6333)}"
        wait_until_ready(url, lambda: True)
        yield QdrantServer(url, int(container.get_exposed_port(6334)))
