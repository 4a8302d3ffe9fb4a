"""Helper processes: none hangs a run, none runs what lies in the current folder, and none is left behind."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.commands.test_workers import ORDER, fake, settings

from qmigrate import children
from qmigrate.commands.workers import local
from qmigrate.commands.workers.local import LocalWorkers
from qmigrate.engine.golive import freeze_watchdog
from qmigrate.engine.workers.protocol import WorkerLostError
from qmigrate.errors import StoppedError, StoreError

SOURCE = Path(children.__file__).parent


def test_a_module_in_the_current_folder_is_never_run_by_a_helper(tmp_path, monkeypatch):
    """A json.py where qmigrate is started: neither the watchdog of a freeze nor a worker imports it."""
    for name in ("json", "socket", "signal", "qmigrate"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(tmp_path)
    # What a parent of an unsafe kind would hand down.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    watched = subprocess.run(freeze_watchdog.command(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert (watched.returncode, watched.stdout) == (0, b"")
    assert b"Error" not in watched.stderr
    mine, its = socket.socketpair()
    with mine, subprocess.Popen(local.command(its.fileno()), pass_fds=[its.fileno()], stderr=subprocess.PIPE) as worker:
        its.close()
        mine.sendall(b"no JSON\n")
        assert worker.wait(60) == 1
        assert worker.stderr is not None
        assert worker.stderr.read() == b""
    assert not (tmp_path / "ran").exists()


def test_every_helper_is_started_by_the_one_function():
    """What starts a process of Python's takes its command from there, and ends it there."""
    starting = set()
    for file in SOURCE.rglob("*.py"):
        tree = ast.parse(file.read_text())
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if names & {"subprocess", "multiprocessing", "concurrent.futures.process"} and file.name != "children.py":
            starting.add(file)
    assert starting == {SOURCE / "engine" / "golive" / "freeze_watchdog.py", SOURCE / "commands" / "workers" / "local.py"}
    for file in starting:
        text = file.read_text()
        assert "children.command(" in text
        assert not re.search(r"\.communicate\(|process\.wait\(|stdout\.readline\(", text)


# --- the watchdog of a freeze ----------------------------------------------------------------------------------------


def helper(monkeypatch, tmp_path, body: str) -> Path:
    """The watchdog is this program from now on; its process id is in the file that is returned."""
    place = tmp_path / "pid"
    code = f"import os, signal, sys, time; open({str(place)!r}, 'w').write(str(os.getpid()))\n{body}"
    monkeypatch.setattr(freeze_watchdog, "command", lambda: [sys.executable, "-c", code])
    monkeypatch.setattr(freeze_watchdog, "own", lambda _work, source: f"{source}__e1")
    return place


def gone(place: Path) -> bool:
    """Whether the process has ended and was reaped: not even a zombie of it is left."""
    try:
        os.kill(int(place.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def work(tick=lambda: None):
    """As much of a phase's work as the watchdog needs."""
    store = SimpleNamespace(capabilities=SimpleNamespace(local=False))
    return SimpleNamespace(
        store=store, collection="docs", settings=SimpleNamespace(connection=lambda: {"nodes": []}), tick=tick
    )


STALLED = {
    "sleeps": "time.sleep(600)",
    "was stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "reads and says nothing": "sys.stdin.readline(); time.sleep(600)",
    "says half a line": "sys.stdout.write('rea'); sys.stdout.flush(); time.sleep(600)",
    "ignores the signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
}


@pytest.mark.parametrize("body", STALLED.values(), ids=STALLED)
def test_a_watchdog_that_does_not_start_is_an_error_in_time(monkeypatch, tmp_path, body):
    """Nothing is frozen without one: the error names it, and the process is killed and reaped."""
    place = helper(monkeypatch, tmp_path, body)
    monkeypatch.setattr(freeze_watchdog, "START_LIMIT", 3.0)
    with pytest.raises(StoreError, match="did not answer within 3 s, and was killed") as failed:
        freeze_watchdog.Watch.start(work(), "docs__g0001")
    assert "nothing was frozen" in str(failed.value.hint)
    assert gone(place)


def test_a_watchdog_that_ends_at_once_is_an_error(monkeypatch, tmp_path):
    """Its end is not an answer."""
    place = helper(monkeypatch, tmp_path, "sys.exit(3)")
    with pytest.raises(StoreError, match="it ended at once"):
        freeze_watchdog.Watch.start(work(), "docs__g0001")
    assert gone(place)


def test_a_stop_is_heard_while_a_watchdog_starts(monkeypatch, tmp_path):
    """The wait for it checks the stop signal, and leaves no process behind."""
    place = helper(monkeypatch, tmp_path, "time.sleep(600)")

    def stopped() -> None:
        if place.exists() and place.read_text():
            raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        freeze_watchdog.Watch.start(work(stopped), "docs__g0001")
    assert gone(place)


@pytest.mark.parametrize("body", ["time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)"], ids=["sleeps", "was stopped"])
def test_a_watchdog_that_does_not_end_is_killed(monkeypatch, tmp_path, body):
    """The swap is done, and nothing waits for the helper forever."""
    place = helper(monkeypatch, tmp_path, f"print('ready', flush=True); {body}")
    monkeypatch.setattr(freeze_watchdog, "END_LIMIT", 0.5)
    made = freeze_watchdog.Watch.start(work(), "docs__g0001")
    made.finish_gap([("a", "b")])
    made.release()
    assert gone(place)
    made.release()


# --- workers ---------------------------------------------------------------------------------------------------------

SAY = "def say(*words): end.sendall(json.dumps(words).encode() + b'\\n')\n"


@pytest.mark.parametrize("body", STALLED.values(), ids=STALLED)
def test_a_worker_that_stalls_before_it_is_ready_counts_as_lost(monkeypatch, tmp_path, body):
    """A worker reports that it is there while a model loads; a silent one is killed, with the reason."""
    monkeypatch.setattr(local, "SILENCE", 3.0)
    fake(monkeypatch, body.replace("sys.stdin.readline(); ", ""))
    with pytest.raises(WorkerLostError, match="killed: no message for 3 s"):
        LocalWorkers(settings(tmp_path)).start(ORDER, lambda: None)


def test_a_worker_that_stalls_while_it_copies_counts_as_lost(monkeypatch, tmp_path):
    """Its range continues in another one: the process that waits learns it in time, and the end takes no longer than it may."""
    monkeypatch.setattr(local, "SILENCE", 2.0)
    monkeypatch.setattr(local, "PATIENCE", 0.5)
    fake(monkeypatch, f"{SAY}say('loading'); say('ready'); lines.readline(); os.kill(os.getpid(), signal.SIGSTOP)")
    made = settings(tmp_path, qdrant={"url": "http://localhost:6333", "timeout": "1s"})
    hand = LocalWorkers(made).start(ORDER, lambda: None)
    with pytest.raises(WorkerLostError, match="no message for 2 s"):
        hand.copy(1, again=False, look=lambda: None)
    hand.close()
    assert hand._process.returncode == -9


def test_a_worker_whose_child_lives_on_is_not_waited_for(monkeypatch, tmp_path):
    """What the user's code has started there may hold the line open forever: the worker itself has ended."""
    monkeypatch.setattr(local, "LAST_WORDS", 0.2)
    fake(
        monkeypatch,
        f"{SAY}say('ready'); lines.readline()\n"
        "if os.fork() == 0:\n    time.sleep(20); os._exit(0)\n"
        "os._exit(3)",
    )
    hand = LocalWorkers(settings(tmp_path)).start(ORDER, lambda: None)
    with pytest.raises(WorkerLostError, match="exit code 3"):
        hand.copy(1, again=False, look=lambda: None)
    hand.close()


def test_what_was_killed_is_waited_for_within_a_limit():
    """An ending helper is given its time, a stuck one is killed; both are reaped."""
    quick = subprocess.Popen([sys.executable, "-c", ""])
    assert children.end(quick, 60)
    stuck = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    began = time.monotonic()
    assert not children.end(stuck, 0.1)
    assert stuck.returncode == -9
    assert time.monotonic() - began < 60


def test_a_worker_of_ray_that_stalls_counts_as_lost(monkeypatch):
    """Ray itself waits for an actor that was stopped: one that doesn't say how far it is for too long is killed."""
    from qmigrate.commands.workers import on_ray

    killed: list[object] = []

    class Silent:
        """An actor that is ready, and answers nothing from then on."""

        def __getattr__(self, name: str):
            return SimpleNamespace(remote=lambda *_: name)

    ray = SimpleNamespace(
        wait=lambda refs, timeout: ([ref for ref in refs if ref == "begin"], []),
        get=lambda ref, timeout=None: None,
        kill=killed.append,
        exceptions=SimpleNamespace(RayError=OSError),
    )
    monkeypatch.setattr(on_ray, "SILENCE", 0.3)
    actor = Silent()
    hand = on_ray.RayWorker(ray, actor, 1.0)
    hand.begin(ORDER, "", lambda: None)
    with pytest.raises(WorkerLostError, match="no message for 0.3 s"):
        hand.copy(1, again=False, look=lambda: None)
    assert killed == [actor]
