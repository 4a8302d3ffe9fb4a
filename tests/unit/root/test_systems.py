"""macOS and Windows: what is done there in another way, and what is refused or reported. Their marks are put here."""

from __future__ import annotations

import builtins
import getpass
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import portalocker
import pytest
import yaml
from tests.conftest_systems import missing

from qmigrate import atomic_file
from qmigrate.alembic import lock
from qmigrate.commands.doctor import project
from qmigrate.commands.workers.local import LocalWorkers
from qmigrate.engine.golive import freeze_watchdog
from qmigrate.engine.prove.versions import VersionTable
from qmigrate.errors import ConfigError, LeaseHeldError
from qmigrate.ledger import fence
from qmigrate.ledger.fence import Owner
from qmigrate.model.ids import pages_of
from qmigrate.ports import VersionPage
from qmigrate.settings.load import Settings

#: What Python has only where the system is a Unix.
UNIX = ("fchmod", "pread", "getuid")


@pytest.fixture
def windows(monkeypatch):
    """Python as on Windows: its name, and without what it lacks there."""
    monkeypatch.setattr(sys, "platform", "win32")
    for name in UNIX:
        monkeypatch.delattr(os, name, raising=False)


def test_a_file_is_closed_before_it_takes_its_name(windows, monkeypatch, tmp_path):
    """Windows renames no open file; nor can a folder be brought to disk there."""
    renamed: list[bool] = []
    plain = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: renamed.append(out.closed) or plain(self, target))
        patch.setattr(atomic_file.os, "O_BINARY", 0, raising=False)
        with atomic_file.writing(tmp_path / "a" / "x.bin") as out:
            out.write(b"one\ntwo\n")
    assert renamed == [True]
    assert (tmp_path / "a" / "x.bin").read_bytes() == b"one\ntwo\n"
    assert os.listdir(tmp_path / "a") == ["x.bin"]


def test_what_is_left_of_a_file_is_removed_after_it_was_closed(windows, monkeypatch, tmp_path):
    """Neither an error in the block nor a process that died leaves a part behind."""
    removed: list[bool] = []
    plain, seen = Path.unlink, []
    opened = Path.open

    def opening(self, *args, **kwargs):
        seen.append(opened(self, *args, **kwargs))
        return seen[-1]

    def removing(self, missing_ok=False):
        removed.append(all(one.closed for one in seen))
        plain(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", removing)

    def failing(out):
        seen.append(out)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), atomic_file.writing(tmp_path / "x.bin") as out:
        failing(out)
    (tmp_path / f"y.bin{atomic_file.PART}").write_bytes(b"half")
    monkeypatch.setattr(Path, "open", opening)
    atomic_file.clean(tmp_path, ".bin")
    assert removed == [True, True]
    assert os.listdir(tmp_path) == []


def test_files_are_opened_as_bytes(monkeypatch, tmp_path):
    """Where the system tells texts from bytes, each file is of bytes: an archive must not grow at its line ends."""
    flags: list[int] = []
    monkeypatch.setattr(os, "O_BINARY", 1 << 28, raising=False)
    plain = os.open

    def opening(path, how, *rest, **more):
        flags.append(how)
        return plain(path, how & ~(1 << 28), *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opening)
        os.close(atomic_file.private_file(tmp_path / "x"))
        with atomic_file.writing(tmp_path / "y") as out:
            out.write(b"1")
    made = [one for one in flags if one & os.O_CREAT]
    assert len(made) == 2
    assert all(one & 1 << 28 for one in made)


def test_no_module_opens_a_file_by_its_own_flags():
    """``os.open`` with a mode of its own would forget the bytes of Windows."""
    source = Path(atomic_file.__file__).parent
    own = {file.relative_to(source).as_posix() for file in source.rglob("*.py") if "os.O_CREAT" in file.read_text()}
    assert own == {"atomic_file.py"}


def test_a_table_in_a_file_is_read_by_place(windows):
    """Without ``pread`` several readers take turns; each gets its own entries."""
    numbers = np.arange(1, 2001, dtype=np.uint64)
    with VersionTable(most=50) as table:
        for start in range(0, 2000, 40):
            (ids,) = pages_of([int(one) for one in numbers[start : start + 40]])
            table.add(VersionPage(ids, numbers[start : start + 40] * 3))
        first, second = table.pages(), table.pages()
        pairs = list(zip(first, second, strict=True))
    for left, right in pairs:
        assert np.array_equal(left.numbers, right.numbers)
    assert np.array_equal(np.concatenate([left.numbers for left, _ in pairs]), numbers * 3)


def test_a_user_without_a_name_is_recorded(windows, monkeypatch):
    """Python asks a module that Windows hasn't; an error there must not stop an upgrade."""

    def unnamed():
        raise ModuleNotFoundError("No module named 'pwd'")

    monkeypatch.setattr(getpass, "getuser", unnamed)
    assert fence.system_user().startswith("unknown@")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "getuid", lambda: 10001, raising=False)
    assert fence.system_user().startswith("10001@")


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_no_holder_is_taken_for_dead_where_nothing_proves_it(monkeypatch, system):
    """Without /proc a lease is waited out; above all no process is touched: on Windows signal 0 would stop it."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(fence, "_boot_id", lambda: None)
    monkeypatch.setattr(fence, "_pid_namespace", lambda: None)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a process was touched"))
    me = Owner.current()
    row = {"host": me.host, "boot_id": None, "pid_namespace": None, "pid": 999_999_999, "process_start": 1}
    assert not me.proves_dead(row)


@pytest.mark.parametrize("clocks", [("CLOCK_BOOTTIME",), ("CLOCK_MONOTONIC",)], ids=["Linux", "macOS"])
def test_the_clock_of_leases_counts_while_the_machine_sleeps(monkeypatch, clocks):
    """Each system has another one that does; Python's ``monotonic`` is neither."""
    asked: list[int] = []
    monkeypatch.setattr(time, "clock_gettime", lambda clock: asked.append(clock) or 7.0)
    if clocks == ("CLOCK_MONOTONIC",):
        monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    expected = getattr(time, clocks[0])
    assert (fence.elapsed(), asked) == (7.0, [expected])
    monkeypatch.setattr(sys, "platform", "win32")
    assert fence.elapsed() != 7.0


def settings(tmp_path, **data) -> Settings:
    """Those of a file."""
    (tmp_path / "qmigrate.yaml").write_text(yaml.safe_dump(data))
    return Settings.load(config=tmp_path / "qmigrate.yaml", environ={})


def test_a_process_for_each_device_is_refused_on_windows(windows, tmp_path):
    """What was asked for by name is an error with a way out; what would be chosen by itself is not chosen."""
    ledger = {"url": "sqlite:///ledger.db"}
    chosen = settings(tmp_path, qdrant={"url": "http://localhost"}, ledger=ledger, rebuild={"devices": ["cuda:0", "cuda:1"]})
    with pytest.raises(ConfigError, match="which Windows can't do") as refused:
        LocalWorkers(chosen).check()
    assert "rebuild.engine: ray" in str(refused.value.hint)
    free = settings(tmp_path, qdrant={"url": "http://localhost"}, ledger=ledger)
    LocalWorkers(free).check()
    assert LocalWorkers(free).places(["any"]) == ()


@pytest.mark.parametrize(
    ("system", "said", "unsaid"),
    [
        ("linux", (), ("on ",)),
        ("darwin", ("on macOS: ", "is waited out", "SQLite ledger", "free memory"), ("devices",)),
        ("win32", ("on Windows: ", "is waited out", "rights of their folder", "rebuild.devices"), ()),
        ("freebsd14", ("on freebsd14: ", "is waited out"), ("devices",)),
    ],
)
def test_doctor_names_what_is_missing_on_a_system(monkeypatch, system, said, unsaid):
    """Nothing on Linux; elsewhere one note, which fails nothing."""
    monkeypatch.setattr(sys, "platform", system)
    patient = SimpleNamespace(settings=SimpleNamespace(ledger=SimpleNamespace(url="sqlite:///x")), local=True)
    found = list(project.system(patient))
    text = " ".join(one.detail for one in found)
    assert all(word in text for word in said)
    assert not any(word in text for word in unsaid)
    assert [one.ok for one in found] == [None] * bool(said)
    patient = SimpleNamespace(settings=SimpleNamespace(ledger=SimpleNamespace(url="postgresql://x")), local=False)
    assert not any(word in one.detail for one in project.system(patient) for word in ("SQLite", "memory"))


def test_the_watchdog_of_a_freeze_outlives_ctrl_c(monkeypatch):
    """It has a group of its own by the way of each system."""
    given: dict[str, object] = {}

    def started(*_args, **kwargs):
        given.update(kwargs)
        raise RuntimeError("seen")

    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(freeze_watchdog.subprocess, "Popen", started)
    monkeypatch.setattr(freeze_watchdog, "own", lambda _work, source: source)
    store = SimpleNamespace(capabilities=SimpleNamespace(local=False))
    work = SimpleNamespace(store=store, collection="docs", settings=SimpleNamespace(connection=dict))
    with pytest.raises(RuntimeError, match="seen"):
        freeze_watchdog.Watch.start(work, "docs__g0001")
    assert (given["start_new_session"], given["creationflags"]) == (True, 512)


def test_a_helper_that_is_gone_is_no_error_on_any_system():
    """Linux calls the end of its pipe broken, Windows an invalid argument."""
    for error in (BrokenPipeError(), OSError(22, "Invalid argument")):

        def failing(_text, error=error):
            raise error

        watch = freeze_watchdog.Watch(SimpleNamespace(stdin=SimpleNamespace(write=failing, flush=lambda: None)))
        watch.freezes({})


def test_alembic_runs_alone_without_fcntl(monkeypatch, tmp_path):
    """The lock of a SQLite file is taken by portalocker, which has a way on every system."""
    from sqlalchemy import create_engine

    plain = builtins.__import__

    def importing(name, *args, **kwargs):
        assert name != "fcntl"
        return plain(name, *args, **kwargs)

    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    with lock.only_one(engine, "alembic_version", 1.0):
        monkeypatch.setattr(builtins, "__import__", importing)
        held = pytest.raises(LeaseHeldError, match="did not finish within")
        with held, lock.only_one(engine, "alembic_version", 0.0):
            pytest.fail("both have it")
    now = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
    kept = pytest.raises(portalocker.exceptions.LockException)
    with lock.only_one(engine, "alembic_version", 0.0), (tmp_path / "app.db.alembic-lock").open("r+b") as file, kept:
        portalocker.lock(file, now)
    engine.dispose()


@pytest.mark.parametrize(
    ("module", "source", "where"),
    [
        ("test_a", "assert 1", ""),
        ("test_a", "assert path.stat().st_mode & 0o777 == 0o600", "win32"),
        ("test_a", "os.kill(pid, 9)", "win32"),
        ("test_children", "assert 1", "win32"),
        ("test_a", "Path('/proc/self')", "darwin win32"),
        ("test_owner", "assert 1", "darwin win32"),
    ],
)
def test_what_a_system_has_no_means_for_is_skipped_there(module, source, where):
    """By the words of a test; Linux runs all of them."""
    assert " ".join(one for one in ("darwin", "linux", "win32") if missing(module, source, one)) == where
