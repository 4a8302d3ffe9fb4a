"""Whether the holder of a lease is dead: only where everything that tells processes apart says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from qmigrate.ledger import fence
from qmigrate.ledger.fence import Owner


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that lives until its input ends."""
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        if process.poll() is None:
            process.kill()


def row_of(pid: int) -> dict[str, object]:
    """The row that a process of this number would have written about itself."""
    found = fence._process(pid)
    assert found is not None
    return {**asdict(Owner.current()), "pid": pid, "process_start": found.start}


def state_of(pid: int) -> str:
    """Its state, as the system has it."""
    found = fence._process(pid)
    return "gone" if found is None else found.state


def reach(pid: int, states: str) -> None:
    """Until the system shows one of the states."""
    while state_of(pid) not in states:
        pass


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, True),
        ({"host": "another"}, False),
        ({"host": None}, False),
        ({"boot_id": "another"}, False),
        ({"boot_id": None}, False),
        ({"pid_namespace": "1"}, False),
        ({"pid_namespace": None}, False),
        ({"pid": None}, False),
        ({"pid": 0}, False),
        ({"process_start": None}, False),
    ],
    ids=str,
)
def test_what_a_row_says_of_a_process_that_is_gone(child, change, dead):
    """Host, boot, namespaces, number and start: one that is missing or another one's proves nothing."""
    row = row_of(child.pid)
    child.kill()
    child.wait()
    assert Owner.current().proves_dead({**row, **change}) is dead


@pytest.mark.parametrize("mine", [{"boot_id": None}, {"pid_namespace": None}, {"host": "another"}], ids=str)
def test_a_process_that_knows_too_little_of_itself_proves_nothing(child, mine):
    """Also where the row has the same gap."""
    row = row_of(child.pid)
    child.kill()
    child.wait()
    assert not replace(Owner.current(), **mine).proves_dead({**row, **mine} if None in mine.values() else row)


def test_a_living_process(child):
    """It is there, with its own start."""
    assert not Owner.current().proves_dead(row_of(child.pid))


def test_a_stopped_process_lives(child):
    """It may be woken at any time."""
    row = row_of(child.pid)
    child.send_signal(signal.SIGSTOP)
    reach(child.pid, "T")
    assert not Owner.current().proves_dead(row)
    child.send_signal(signal.SIGCONT)


def test_a_killed_process_that_no_parent_has_reaped(child):
    """Its number is still taken, but nothing of it runs."""
    row = row_of(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    reach(child.pid, "Z")
    assert Owner.current().proves_dead(row)


@pytest.mark.parametrize(("later", "dead"), [(0, False), (1, True)])
def test_a_number_that_another_process_has_by_now(later, dead):
    """Only the start tells: the number of this process, which lives, but began at another moment than the row says."""
    row = row_of(os.getpid())
    assert Owner.current().proves_dead({**row, "process_start": row["process_start"] - later}) is dead


def test_a_process_that_may_not_be_looked_at(child, monkeypatch):
    """Where the system hides it, it is not gone."""
    row = row_of(child.pid)
    monkeypatch.setattr(fence, "_process", lambda _pid: None)

    def denied(_pid: int, _number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert not Owner.current().proves_dead({**row, "process_start": 1})


@pytest.mark.parametrize("shown", ["4711", OSError()], ids=str)
def test_processes_of_another_place(monkeypatch, shown):
    """Where /proc is another namespace's, or can't be read, a number in it means nothing."""

    def readlink(_path: str) -> str:
        if isinstance(shown, OSError):
            raise shown
        return shown

    monkeypatch.setattr(os, "readlink", readlink)
    assert Owner.current().pid_namespace is None


@pytest.mark.parametrize(
    ("clock", "expected"),
    [(fence._COMMON_CLOCK, "7"), (99, "7/99"), (FileNotFoundError(), "7"), (PermissionError(), None)],
    ids=str,
)
def test_a_process_with_a_clock_of_its_own(monkeypatch, clock, expected):
    """The start of a process is counted by the clock of who reads it, so that clock has to be the same one."""

    class Found:
        def __init__(self, number: int) -> None:
            self.st_ino = number

    def stat(path: str) -> Found:
        if path.endswith("time") and isinstance(clock, OSError):
            raise clock
        return Found(clock if path.endswith("time") else 7)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(os, "readlink", lambda _path: str(os.getpid()))
    monkeypatch.setattr(Path, "read_text", lambda *_a, **_k: "boot")
    assert fence._pid_namespace() == expected
