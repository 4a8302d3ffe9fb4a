"""The steps of docker-entrypoint.sh in one process: their order, what ends them, and what one leaves for the next."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import qmigrate.alembic.__main__ as alembic
from qmigrate.cli import app, entrypoint
from qmigrate.errors import PendingError, QmigrateError

ASKED = ["--wait=7s", "--max-estimate=1h", "--lock-timeout=2m"]
WAIT = "qmigrate wait --timeout 7s"
ALEMBIC = "alembic -x qdrant=run -x qdrant_max_estimate=1h -x qdrant_lock_timeout=2m upgrade head"
UPGRADE = "qmigrate upgrade --max-estimate 1h --lock-timeout 2m"
HEADS = "alembic current --check-heads"
CHECK = "qmigrate check"


@pytest.fixture
def called(monkeypatch):
    """Both command lines write what they were called with, and answer what a test says; else 0."""
    calls: list[str] = []
    answers: dict[str, object] = {}

    def put(name, arguments):
        calls.append(" ".join([name, *arguments]))
        answer = answers.get(calls[-1], 0)
        return answer() if callable(answer) else answer

    monkeypatch.setattr(app, "run", lambda arguments: put("qmigrate", arguments))
    monkeypatch.setattr(alembic, "main", lambda arguments: put("alembic", arguments))
    monkeypatch.setattr(app, "set_up_process", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    yield calls, answers
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("mode", "steps"), [("upgrade", [WAIT, ALEMBIC, UPGRADE, CHECK]), ("check", [WAIT, HEADS, CHECK])]
)
def test_a_mode_runs_its_steps_in_order(called, mode, steps):
    """All of them, with what was asked for."""
    assert entrypoint.main([mode, *ASKED]) == 0
    assert called[0] == steps


@pytest.mark.parametrize(
    ("mode", "failed", "code", "said"),
    [
        ("upgrade", WAIT, 9, f"not started: `{WAIT}` ended with 9"),
        ("upgrade", ALEMBIC, 3, f"not started: `python -m qmigrate.{ALEMBIC}` ended with 3"),
        ("upgrade", ALEMBIC, 255, f"not started: `python -m qmigrate.{ALEMBIC}` ended with 255"),
        ("upgrade", CHECK, 4, f"not started: `{CHECK}` ended with 4"),
        ("check", HEADS, 3, f"not started: `python -m qmigrate.{HEADS}` ended with 3"),
        # The script says what a signal has ended.
        ("check", CHECK, 143, ""),
    ],
)
def test_the_first_that_fails_is_the_last(called, capsys, mode, failed, code, said):
    """Its code is that of all, and a line names it as it would be typed."""
    calls, answers = called
    answers[failed] = code
    assert entrypoint.main([mode, *ASKED]) == code
    assert calls[-1] == failed
    assert capsys.readouterr().err.partition("docker-entrypoint: ")[2].strip() == said


def test_the_line_is_json_where_lines_are(called, capsys, monkeypatch):
    """As the script writes it."""
    monkeypatch.setenv("QMIGRATE_LOG", "json")
    called[1][CHECK] = 4
    entrypoint.main(["check", *ASKED])
    found = json.loads(capsys.readouterr().err)
    assert (found["event"], found["logger"]) == ("message", "docker-entrypoint")
    assert found["message"] == f"not started: `{CHECK}` ended with 4"


def raises(error: BaseException):
    """A step that ends so."""

    def step():
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit(2), 2), (SystemExit("no config"), 1), (ZeroDivisionError("in a revision"), 1)],
    ids=["code", "message", "traceback"],
)
def test_how_alembic_ends_otherwise(called, capsys, error, code):
    """Its own exit for a wrong command line, and what a revision raises, which has its traceback."""
    called[1][ALEMBIC] = raises(error)
    assert entrypoint.main(["upgrade", *ASKED]) == code
    said = capsys.readouterr().err
    assert ("Traceback" in said) == isinstance(error, ZeroDivisionError)
    assert f"ended with {code}" in said


def test_a_step_leaves_nothing_for_the_next(called, tmp_path, monkeypatch):
    """Alembic's env.py sets up logging, paths, variables and a handler; the next step finds what the first one found."""
    root, other = logging.getLogger(), logging.getLogger("qmigrate.some")
    monkeypatch.setenv("QMIGRATE_QDRANT_URL", "http://mine:6333")
    monkeypatch.setenv("QMIGRATE_ACTOR", "me")
    paths = len(sys.path)
    found: list[object] = []

    def state() -> object:
        return (
            list(root.handlers), root.level, other.level, other.disabled, sys.path[-paths:], logging.lastResort,
            signal.getsignal(signal.SIGTERM), os.getcwd(), dict(os.environ),
        )  # fmt: skip

    def changes() -> int:
        found.append(state())
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
        other.setLevel(logging.ERROR)
        other.disabled = True
        logging.getLogger(f"new.{tmp_path.name}").setLevel(logging.ERROR)
        sys.path.insert(0, str(tmp_path))
        os.environ.update(QMIGRATE_QDRANT_URL="http://other:6333", QMIGRATE_LEDGER_URL="sqlite:///other.db")
        del os.environ["QMIGRATE_ACTOR"]
        os.chdir(tmp_path)
        logging.lastResort = None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return 0

    called[1].update({WAIT: changes, ALEMBIC: changes, UPGRADE: changes, CHECK: changes})
    assert entrypoint.main(["upgrade", *ASKED]) == 0
    assert found == [found[0]] * 4
    assert logging.getLogger(f"new.{tmp_path.name}").level == logging.NOTSET


def test_the_current_folder_holds_no_library(tmp_path):
    """Only Alembic's env.py may import what lies there: a file that is called like a library is not executed."""
    (tmp_path / "json.py").write_text("raise SystemExit('executed')")
    script = Path(__file__).parents[3] / "docker-entrypoint.sh"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    asked = {**os.environ, "PATH": tools, "QMIGRATE_QDRANT_URL": "ftp://nowhere", "QMIGRATE_ON_START": "check"}
    done = subprocess.run(["sh", script], cwd=tmp_path, env=asked, capture_output=True, text=True, check=False)
    assert ("executed" in done.stderr, "`qmigrate wait --timeout 60s` ended with 2" in done.stderr) == (False, True), done


def test_alembic_finds_what_lies_in_the_current_folder(called, tmp_path, monkeypatch):
    """As when it is a step of its own."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, bool] = {}
    called[1].update({step: lambda step=step: found.update({step: sys.path[0] == str(tmp_path)}) for step in (WAIT, ALEMBIC, CHECK)})
    assert entrypoint.main(["upgrade", *ASKED]) == 0
    assert found == {WAIT: False, ALEMBIC: True, CHECK: False}


def test_a_signal_between_checkpoints_ends_it(called):
    """A step without a handler of its own, such as the wait, is left; nothing follows, and the code is the signal's."""
    calls, answers = called
    answers[WAIT] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        entrypoint.main(["upgrade", *ASKED])
    assert (ended.value.code, calls) == (143, [WAIT])


def test_a_refusal_of_a_step_is_its_own(monkeypatch, capsys, tmp_path):
    """The real command lines: no settings are there for the store that is named, and the first step says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QMIGRATE_QDRANT_URL", "ftp://nowhere")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert entrypoint.main(["check"]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "not started: `qmigrate wait --timeout 60s` ended with 2" in said


def test_alembic_gives_its_handler_back(monkeypatch):
    """What is set for the time of its run is not left to what comes after it."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(alembic, "alembic", lambda *_, **__: (_ for _ in ()).throw(PendingError("no")))
    assert alembic.main(["current"]) == PendingError.exit_code
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_is_not_taken_for_something_that_can_not_be_had(monkeypatch, capsys):
    """Alembic's run is stopped where an error would be passed over: a sample that can't be embedded, say."""

    def measured(*_, **__) -> None:
        with contextlib.suppress(QmigrateError, Exception):
            os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(alembic, "alembic", measured)
    assert alembic.main(["upgrade", "head"]) == 143
    assert capsys.readouterr().err == "FAILED: stopped between two steps, as asked\n"
