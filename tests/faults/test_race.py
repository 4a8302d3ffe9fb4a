"""Several processes at once: one works, the others wait or say who does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.faults.test_kill import child, points_of
from tests.harness import ADD, CREATE, Deployment

from qmigrate.commands import status, upgrade
from qmigrate.ledger import Ledger

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def loaded(qdrant_server, ledger_url, tmp_path):
    """A loaded collection with a pending rebuild, on a real server and on each kind of ledger."""
    from tests.conftest import clean

    qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    made = Deployment(tmp_path / "project", qdrant, ledger_url, extra={"rebuild": {"max_rate": 1500}})
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(1500)
    made.revise("0002", ADD)
    yield made
    clean(made)


def start(made: Deployment, *options: str) -> subprocess.Popen:
    """`qmigrate upgrade` in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "qmigrate", "--config", str(made.config), "upgrade", *options]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_run(made: Deployment) -> None:
    """Until a run of the collection is open."""
    ledger = Ledger.open(made.ledger_url)
    deadline = time.monotonic() + 60
    try:
        while ledger.open_run(made.name) is None:
            assert time.monotonic() < deadline, "no run was opened"
            time.sleep(0.02)
    finally:
        ledger.close()


@pytest.mark.server
@pytest.mark.timeout(200)
def test_of_two_upgrades_one_works_and_the_other_waits(loaded):
    """Both end with 0; the revision is applied once, by one copy."""
    both = [start(loaded), start(loaded)]
    ended = [process.communicate(timeout=150) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    rows = [row for row in status.history(loaded.settings()).rows if row.revision == "0002"]
    assert len(rows) == 1
    assert loaded.row().generation == "g0002"


@pytest.mark.server
@pytest.mark.timeout(200)
def test_who_does_not_want_to_wait_gets_exit_6_and_a_name(loaded):
    """With --lock-timeout 0 an upgrade names the holder of the lease, and status shows a run from any terminal."""
    ledger = Ledger.open(loaded.ledger_url)
    try:
        with ledger.hold(loaded.name, timeout=0, ttl=120):
            refused = start(loaded, "--lock-timeout", "0")
            _, err = refused.communicate(timeout=100)
    finally:
        ledger.close()
    assert refused.returncode == 6, err
    assert "Traceback" not in err
    assert loaded.name in err
    assert socket.gethostname() in err
    first = start(loaded)
    wait_for_run(loaded)
    row = loaded.row()
    first.communicate(timeout=150)
    assert first.returncode == 0
    assert row.state in ("running", "ready")


@pytest.mark.server
@pytest.mark.timeout(200)
def test_a_stop_signal_ends_at_a_checkpoint_and_the_next_run_goes_on(loaded):
    """SIGTERM: exit 143, everything acknowledged is kept, and the copy isn't started over."""
    first = start(loaded)
    wait_for_run(loaded)
    ledger = Ledger.open(loaded.ledger_url)
    deadline = time.monotonic() + 60
    while not (run := ledger.open_run(loaded.name)) or run.record(0, "fill") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 143, err
    copied = sum(share.points for share in ledger.ranges(run.id, 0))
    ledger.close()
    assert loaded.row().state == "interrupted"
    result = upgrade.upgrade(loaded.settings())
    assert result.resumed[0].run == run.id
    assert copied <= 1500
    assert loaded.row().state == "ready"


@pytest.mark.server
@pytest.mark.timeout(250)
def test_a_killed_upgrade_is_taken_over_on_every_ledger(loaded, tmp_path):
    """SIGKILL in the fill: another process takes the lease over and finishes the stored job."""
    log = tmp_path / "points"
    killed = child(loaded, "upgrade", "head", kill_at=12, log=log)
    assert killed.returncode == -signal.SIGKILL
    assert points_of(log)
    assert loaded.row().state == "interrupted"
    upgrade.upgrade(loaded.settings())
    assert loaded.row().state == "ready"
    assert len(loaded.contents()) == 1500
