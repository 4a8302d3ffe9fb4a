"""The lease: one holder at a time, over processes, and no write of any other process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.harness import in_threads

from qmigrate.errors import LeaseHeldError, LedgerError
from qmigrate.ledger import Lease, Ledger, Quarantined, tables, unlock
from qmigrate.ledger.fence import Owner
from qmigrate.model.plan import Job

pytestmark = pytest.mark.timeout(120)

#: Holds the lease, prints its epoch, and works until its input ends.
HOLDER = """
import sys
from qmigrate.ledger import Ledger
from qmigrate.model.plan import Job
ledger = Ledger.open(sys.argv[1])
with ledger.hold("notes", timeout=float(sys.argv[2]), ttl=float(sys.argv[3])) as lease:
    run = lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="a", tool="t", server="s")
    print(lease.epoch, lease.taken_over_from or "-", flush=True)
    sys.stdin.read()
    lease.finish_run(run, "done")
"""


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.02)


@contextmanager
def holder(url: str, *, timeout: float = 0, ttl: float = 30) -> Iterator[subprocess.Popen[str]]:
    """Another process that requests the lease."""
    arguments = [sys.executable, "-c", HOLDER, url, str(timeout), str(ttl)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def said(process: subprocess.Popen[str]) -> list[str]:
    """Epoch and predecessor of a process that got the lease."""
    assert process.stdout is not None
    return process.stdout.readline().split(" ", 1)


def opened(lease: Lease) -> int:
    """A run."""
    return lease.open_run("upgrade", Job("notes", "b", ()), {}, actor="me", tool="1", server="q")


def set_lease(ledger: Ledger, **values: object) -> None:
    """Change the lease row outside of the code."""
    with ledger.database.writing() as connection:
        connection.execute(update(tables.leases).values(**values))


def test_the_epoch_grows_with_every_acquisition(ledger: Ledger) -> None:
    """Released cleanly, the next holder takes it at once and has taken it over from no other."""
    for epoch in (1, 2, 3):
        with ledger.hold("notes", timeout=0) as lease:
            assert (lease.epoch, lease.taken_over_from, lease.collection) == (epoch, None, "notes")
            assert 0 < lease.remaining() <= 30
            assert [(row.name, row.epoch, row.expired) for row in ledger.leases()] == [("notes", epoch, False)]
        assert ledger.leases()[0].expired
        assert lease.remaining() == 0


def test_collections_have_leases_of_their_own(ledger: Ledger) -> None:
    """Two collections are worked on at the same time."""
    with ledger.hold("notes", timeout=0) as one, ledger.hold("images", timeout=0) as other:
        opened(one)
        other.discard_stage("g")
        assert [row.name for row in ledger.leases()] == ["images", "notes"]


def test_a_held_lease_is_refused_by_name(ledger: Ledger, ledger_url: str) -> None:
    """The error names who, where, since when, until when, and what to do; the wait is announced once."""
    lines: list[str] = []
    with holder(ledger_url) as process:
        assert said(process)[0] == "1"
        with pytest.raises(LeaseHeldError) as caught, ledger.hold("notes", timeout=0.5, progress=lines.append):
            pytest.fail("two holders")
        row = ledger.leases()[0]
        for part in (row.owner, f"on host {row.host}", "since ", f"until {row.expires_at:%H:%M}", str(process.pid)):
            assert part in caught.value.message
        assert caught.value.exit_code == 6
        assert "qmigrate repair --unlock notes" in (caught.value.hint or "")
        assert len(lines) == 1
        assert row.owner in lines[0]
        assert process.communicate("", timeout=60)[1] == ""
    assert process.returncode == 0


def test_of_two_racing_processes_one_works_and_the_other_waits(ledger: Ledger, ledger_url: str) -> None:
    """Both get the lease, one after the other, each under its own epoch."""
    with ExitStack() as stack:
        racers = [stack.enter_context(holder(ledger_url, timeout=90)) for _ in range(2)]
        eventually(lambda: len(ledger.runs()) == 1)
        assert len(ledger.open_runs()) == 1
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.close()
        answers = sorted(racer.stdout.read().strip() for racer in racers if racer.stdout is not None)
    assert answers == ["1 -", "2 -"]
    assert [row.state for row in ledger.runs()] == ["done", "done"]


def test_threads_racing_for_a_new_lease_never_share_an_epoch(ledger: Ledger) -> None:
    """Also where the row doesn't exist yet."""
    epochs: list[int] = []
    inside = threading.Semaphore(1)

    def work() -> None:
        with ledger.hold("notes", timeout=60) as lease:
            assert inside.acquire(blocking=False), "two holders at once"
            epochs.append(lease.epoch)
            inside.release()

    in_threads(work)
    assert sorted(epochs) == [1, 2, 3, 4]


def test_a_killed_holder_of_this_machine_is_taken_over_at_once(ledger: Ledger, ledger_url: str) -> None:
    """Its lease would have lasted an hour; its run is found interrupted and can be resumed."""
    with holder(ledger_url, ttl=3600) as process:
        assert said(process)[0] == "1"
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines: list[str] = []
        with ledger.hold("notes", timeout=0, progress=lines.append) as lease:
            assert lease.epoch == 2
            assert lines == [f"notes: {lease.taken_over_from} is dead: taken over at once"]
            assert f"process {process.pid}" in (lease.taken_over_from or "")
            found = ledger.open_run("notes")
            assert found is not None
            assert found.state == "running"
            lease.resume_run(found.id)


def test_a_killed_holder_that_nobody_has_reaped_is_dead(ledger: Ledger, ledger_url: str) -> None:
    """In a container without an init process its entry stays."""
    with holder(ledger_url, ttl=3600) as process:
        assert said(process)[0] == "1"
        os.kill(process.pid, signal.SIGKILL)
        # Not waited for: it stays a zombie until the end of the block.
        with ledger.hold("notes", timeout=30) as lease:
            assert lease.epoch == 2


def test_a_stopped_holder_is_waited_for(ledger: Ledger, ledger_url: str) -> None:
    """It may be woken at any time; once its lease has ended it is taken over, and not called dead."""
    with holder(ledger_url, ttl=3600) as process:
        said(process)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(LeaseHeldError), ledger.hold("notes", timeout=0.5):
            pytest.fail("two holders")
        assert ledger.open_runs()[0].leased
        set_lease(ledger, expires_at=ledger.database.now())
        lines: list[str] = []
        with ledger.hold("notes", timeout=0, progress=lines.append) as lease:
            assert (lease.epoch, lines) == (2, [])
            process.send_signal(signal.SIGCONT)
            assert "took it over" in process.communicate("", timeout=60)[1]


def test_only_a_holder_that_died_at_work_is_called_dead(ledger: Ledger, ledger_url: str) -> None:
    """One that has given its lease back has ended in good order."""
    with holder(ledger_url, ttl=3600) as process:
        said(process)
        assert not ledger.open_runs()[0].is_dead
        process.kill()
        process.wait()
        assert ledger.open_runs()[0].is_dead
    with ledger.hold("notes", timeout=0) as lease:
        lease.resume_run(ledger.open_runs()[0].id)
        assert not ledger.open_runs()[0].is_dead
    set_lease(ledger, pid=2**22 + 1)
    assert not ledger.open_runs()[0].is_dead


@pytest.mark.parametrize(
    "change",
    [{"host": "another"}, {"boot_id": "another"}, {"pid_namespace": "another"}, {"boot_id": None}, {"process_start": None}, {"pid": None}],
    ids=lambda change: "-".join(f"{name}={value}" for name, value in change.items()),
)
def test_a_holder_that_may_live_is_waited_for(ledger: Ledger, ledger_url: str, change: dict[str, object]) -> None:
    """On another machine, in another container, or where the system doesn't report it, only expiry counts."""
    with holder(ledger_url, ttl=3600) as process:
        said(process)
        process.kill()
        process.wait()
    set_lease(ledger, **change)
    with pytest.raises(LeaseHeldError), ledger.hold("notes", timeout=0):
        pytest.fail("two holders")
    set_lease(ledger, expires_at=ledger.database.now())
    with ledger.hold("notes", timeout=0) as lease:
        assert lease.epoch == 2
        assert lease.taken_over_from is not None


def test_a_reused_process_id_is_not_the_holder(ledger: Ledger) -> None:
    """The number is alive, but it started at another time."""
    with ledger.hold("notes", timeout=0):
        start = Owner.current().process_start
        assert start is not None
        set_lease(ledger, process_start=start - 1)
        with ledger.hold("notes", timeout=0) as next_one:
            assert next_one.epoch == 2


def test_every_write_of_a_stale_holder_is_refused(ledger: Ledger) -> None:
    """Once another epoch is there nothing is written any more, whichever method is called."""
    with ledger.hold("notes", timeout=0, ttl=3600) as stale:
        run = opened(stale)
        set_lease(ledger, epoch=7)
        before = [ledger.runs(), ledger.open_runs(), ledger.leases()]
        writes: list[Callable[[], object]] = [
            lambda: stale.journal(run, 0, "fill", "done"),
            lambda: opened(stale),
            lambda: stale.resume_run(run),
            lambda: stale.finish_run(run, "done"),
            lambda: stale.progress(run, 1, 2),
            lambda: stale.fix_ranges(run, 0, [(None, None)]),
            lambda: stale.checkpoint(run, 0, 0, 1, 1, False, "g", [b"x"]),
            lambda: stale.stage_base("g", 0, [b"x"]),
            lambda: stale.commit_base("g"),
            lambda: stale.discard_stage("g"),
            lambda: stale.drop_base("g"),
            lambda: stale.carry(run, 0, 1, b"", b"", "done"),
            lambda: stale.quarantine("g", 1, [Quarantined(1, "b", "kept", "embed", "m")]),
        ]
        for write in writes:
            with pytest.raises(LeaseHeldError, match="took it over"):
                write()
        assert [ledger.runs(), ledger.open_runs(), ledger.leases()] == before
        assert stale.remaining() == 0
    assert ledger.leases()[0].epoch == 7
    assert not ledger.leases()[0].expired, "a stale holder doesn't give back what is another's"


def test_the_heartbeat_keeps_the_lease(ledger: Ledger) -> None:
    """A holder that only thinks stays the holder, longer than its lease would last."""
    with ledger.hold("notes", timeout=0, ttl=0.6) as lease:
        first = ledger.leases()[0].expires_at
        eventually(lambda: ledger.leases()[0].expires_at.timestamp() > first.timestamp() + 1.2)
        assert lease.remaining() > 0
        opened(lease)


def test_the_heartbeat_notices_a_take_over(ledger: Ledger) -> None:
    """Without any write the holder learns that it is none any more."""
    with ledger.hold("notes", timeout=0, ttl=0.6) as lease:
        set_lease(ledger, epoch=9, expires_at=ledger.database.now(3600))
        eventually(lambda: lease.remaining() == 0)
        with pytest.raises(LeaseHeldError):
            opened(lease)
    assert not ledger.leases()[0].expired


def test_a_lease_that_cannot_be_renewed_is_lost_for_good(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is gone until the lease has run out; when it is back, the holder stays locked out."""

    def gone() -> object:
        raise LedgerError("the database is gone")

    with ledger.hold("notes", timeout=0, ttl=0.6) as lease:
        with monkeypatch.context() as patch:
            patch.setattr(type(ledger.database), "writing", lambda _self: gone())
            eventually(lambda: lease.remaining() == 0)
            eventually(lambda: not lease._heart.is_alive())
        with pytest.raises(LeaseHeldError, match="could not be renewed in time"):
            opened(lease)
    assert ledger.runs() == []


def test_threads_of_one_holder_write_at_the_same_time(ledger: Ledger) -> None:
    """Parallel ranges checkpoint without losing a page or a count."""
    with ledger.hold("notes", timeout=0) as lease:
        run = opened(lease)
        lease.fix_ranges(run, 0, [(number or None, number + 1) for number in range(4)])

        def work(number: int) -> None:
            for done in range(1, 6):
                lease.checkpoint(run, 0, number, done, done, done == 5, "g", [b"%d.%d" % (number, done)])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = ledger.open_run("notes")
        assert found is not None
        assert found.done_points == 20
        assert list(ledger.base_pages("g")) == [b"%d.%d" % (n, done) for n in range(4) for done in range(1, 6)]


def test_reading_the_base_and_staging_the_next_go_together(ledger: Ledger) -> None:
    """A pass reads one base while it writes the other, from one thread."""
    with ledger.hold("notes", timeout=0) as lease:
        lease.stage_base("g", 0, [b"%d" % number for number in range(30)])
        lease.commit_base("g")
        for page in ledger.base_pages("g"):
            lease.stage_base("g", 0, [page + b"!"])
        lease.commit_base("g")
        assert list(ledger.base_pages("g")) == [b"%d!" % number for number in range(30)]


def test_an_error_of_the_work_gives_the_lease_back(ledger: Ledger) -> None:
    """The error itself comes out, and no process has to wait."""
    with pytest.raises(ZeroDivisionError), ledger.hold("notes", timeout=0):
        raise ZeroDivisionError
    with ledger.hold("notes", timeout=0) as lease:
        assert lease.taken_over_from is None
    with pytest.raises(LeaseHeldError, match="was released"):
        opened(lease)


def test_unlocking_lets_the_next_one_in(ledger: Ledger, ledger_url: str) -> None:
    """For a holder on another host that is known to be dead; the epoch grows only when it is taken."""
    assert not unlock(ledger, "notes", "ann")
    with holder(ledger_url, ttl=3600) as process:
        said(process)
        process.kill()
        process.wait()
    set_lease(ledger, boot_id="another machine")
    assert unlock(ledger, "notes", "ann")
    assert [(row.epoch, row.expired) for row in ledger.leases()] == [(1, True)]
    assert not unlock(ledger, "notes", "ann")
    with ledger.hold("notes", timeout=0) as lease:
        assert lease.epoch == 2
        assert lease.taken_over_from is not None


def test_a_ledger_without_tables_cannot_be_held(ledger_url: str, tmp_path: Path) -> None:
    """Holding is not a way to make them."""
    ledger = Ledger.open(ledger_url)
    with pytest.raises(LedgerError, match="no tables yet"), ledger.hold("notes", timeout=0):
        pytest.fail("held")
    assert not unlock(ledger, "notes", "ann")
    ledger.close()
    assert not (tmp_path / "state").exists()
