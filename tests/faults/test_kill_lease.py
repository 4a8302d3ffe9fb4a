"""SIGKILL in the middle of a copy: the same command takes over from the dead process at once, and copies on at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.harness import CREATE, Deployment
from tests.scenarios import gated_embedder

from qmigrate.commands import upgrade
from qmigrate.errors import LeaseHeldError
from qmigrate.ledger import Ledger
from qmigrate.ports import Silent

POINTS = 120
ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=768, distance=Distance.COSINE), values=Embed("l14", text="text"))]
"""


class Told(Silent):
    """Keeps what is shown to a person, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        self.lines.append(phase)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def made(qdrant_server, ledger_url, tmp_path, monkeypatch) -> Iterator[Deployment]:
    """A loaded collection with a rebuild pending whose embedder stops in the middle; no command waits for a lease."""
    monkeypatch.setenv("GATE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(gated_embedder, "FREE", POINTS * 10)
    embedder = {"type": "callable", "function": "tests.scenarios.gated_embedder:embed", "size": 768, "max_batch": 20}
    one = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 3},
        ledger_url,
        extra={"embedders": {"l14": embedder}, "limits": {"lease_ttl": "600s", "lock_timeout": "0s"}, "rebuild": {"workers": 1}},
    )
    one.revise("0001", CREATE)
    upgrade.upgrade(one.settings())
    one.load(POINTS)
    one.revise("0002", ADD)
    yield one
    clean(one)


def begun(made: Deployment, folder: Path) -> subprocess.Popen[bytes]:
    """`qmigrate upgrade` in a process of its own, in the middle of its copy."""
    command = [sys.executable, "-m", "qmigrate", "--config", str(made.config), "upgrade"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=made.root)
    deadline = time.monotonic() + 120
    while not (folder / "asked").exists():
        assert process.poll() is None, process.returncode
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def epoch_of(made: Deployment) -> int:
    """Of the lease."""
    ledger = Ledger.open(made.ledger_url)
    try:
        return next(lease.epoch for lease in ledger.leases() if lease.name == made.name)
    finally:
        ledger.close()


def check_finished(made: Deployment) -> None:
    """Every point has its vector, behind the name."""
    found = made.contents()
    assert len(found) == POINTS
    assert all(len(vectors["b"]) == 768 for _, vectors in found.values())
    assert (made.row().revision, made.row().state) == ("0002", "ready")


def test_the_same_command_goes_on_at_once(made, tmp_path):
    """Its lease would have lasted ten minutes. Only what counts as proven waits until no request of the dead can land."""
    process = begun(made, tmp_path)
    before = epoch_of(made)
    assert made.row().state == "running"
    process.kill()
    process.wait()
    row = made.row()
    assert row.state == "interrupted"
    assert row.detail.endswith("its process is dead: the next command takes over at once")
    told = Told()
    (tmp_path / "open").touch()
    upgrade.upgrade(made.settings(), progress=told)
    assert f"(process {process.pid}) is dead: taken over at once" in told.lines[0]
    assert epoch_of(made) == before + 1
    # On a slow machine the copy alone takes longer than a request can.
    waits = [number for number, line in enumerate(told.lines) if "until no request of the interrupted run" in line]
    assert all(told.lines.index("fill") < number < told.lines.index("swap") for number in waits), told.lines
    check_finished(made)


def test_one_that_is_only_stopped_is_waited_for(made, tmp_path):
    """Nothing tells when it is woken. Once it has ended, the run goes on."""
    process = begun(made, tmp_path)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(LeaseHeldError):
        upgrade.upgrade(made.settings())
    assert made.row().state == "running"
    process.kill()
    process.wait()
    (tmp_path / "open").touch()
    upgrade.upgrade(made.settings())
    check_finished(made)
