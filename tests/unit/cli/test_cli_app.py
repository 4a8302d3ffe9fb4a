"""The command line around the verbs: options, JSON, errors, exit codes, and what it costs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

import qmigrate.commands
import qmigrate.commands.metrics  # it is not faked, and imports what is
from qmigrate import errors
from qmigrate.cli.app import VERBS as TABLE
from qmigrate.cli.app import root, run
from qmigrate.cli.shell import Duration
from qmigrate.commands.adopt import Adopted, AdoptResult
from qmigrate.commands.check import Checked
from qmigrate.commands.drift import DriftRevision
from qmigrate.commands.lint import Linted
from qmigrate.commands.metrics import Metrics, exposition
from qmigrate.commands.results import (
    Check,
    Doctor,
    History,
    Outcome,
    Repaired,
    Snapshots,
    Status,
    UpgradeResult,
    Waited,
)
from qmigrate.commands.schema import Schemas
from qmigrate.commands.snapshot import DeletedSnapshots
from qmigrate.model.plan import Closing, CollectionPlan, InPlace, Job, Plan
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import Change
from qmigrate.settings.values import FOR_EVER, parse_duration
from qmigrate.text import to_plain

STATUS = Status("Qdrant local", "sqlite l.db", "0001", (), 0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder, an environment without settings, and no terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("CONFIG", "QDRANT_URL", "QDRANT_API_KEY", "LEDGER_URL", "SCRIPTS"):
        monkeypatch.delenv(f"QMIGRATE_{name}", raising=False)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """Puts functions in the place of ``qmigrate.commands.<module>``, and keeps how they were called."""
    calls: list[tuple[str, tuple, dict]] = []

    def put(module: str, **functions) -> list:
        fake = types.ModuleType(f"qmigrate.commands.{module}")
        for name, answer in functions.items():
            setattr(fake, name, _recording(calls, name, answer))
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
        monkeypatch.setattr(qmigrate.commands, module, fake, raising=False)
        return calls

    return put


def _recording(calls, name, answer):
    def called(*args, **kwargs):
        calls.append((name, args[1:], kwargs))
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args, **kwargs) if callable(answer) else answer

    return called


def plan(verb: str = "upgrade") -> Plan:
    """A plan of one collection."""
    step = InPlace((), "c__g0001", (Change("index.add", "f", {"type": "keyword"}),), "light")
    closing = Closing(0, "0002", "upgrade", "sum", None, None)
    return Plan(verb, ("0002",), (CollectionPlan(Job("c", "b", (step,), (closing,)), ("0002  index f",), ("light",)),))


def result(verb: str = "upgrade") -> UpgradeResult:
    """What a verb that changes something returns."""
    return UpgradeResult(plan(verb), (), (Outcome("c", ("0002",), "c__g0001", 0.25),))


def test_help_is_light():
    """--help and a usage error load no client library, SQL, numpy or model, and of qmigrate no verb and no operation."""
    heavy = ["torch", "numpy", "grpc", "sqlalchemy", "qdrant_client", "alembic", "rich", "yaml", "httpx", "PIL"]
    ours = {"qmigrate.operations", "qmigrate.model", "qmigrate.settings", "qmigrate.commands", "msgspec"}
    verbs = {f"qmigrate.cli.{module}" for module, _ in TABLE.values()} - {"qmigrate.cli.completion"}
    for args, unloaded in (
        (["--help"], {*heavy, *ours, *verbs}),
        (["frobnicate"], {*heavy, *ours, *verbs} - {"rich"}),
        (["upgrade", "--help"], {*heavy, "qmigrate.operations", "qmigrate.cli.inspect", "qmigrate.cli.fix"}),
    ):
        code = (
            f"import sys; from qmigrate.cli.app import run; code = run({args!r}); "
            f"print(code, *[name for name in {sorted(unloaded)!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == ("2" if args == ["frobnicate"] else "0")


def test_the_lines_of_the_help_are_those_of_the_verbs():
    """Every verb of the table is a command of its name, has its line, and groups have what is under them."""
    assert list(root.commands) == list(TABLE)
    for verb, (_, line) in TABLE.items():
        command = root.commands[verb]
        assert (command.name, command.get_short_help_str(200)) == (verb, line)
    fix = root.commands["fix"]
    assert isinstance(fix, click.Group)
    assert {"orphans", "stats", "reset", "retrain", "sync", "delete", "undo", "quarantine"} == set(fix.commands)


def test_what_a_shell_completes_for_a_verb_loads_none_of_them():
    """While a person types, the table answers."""
    code = (
        "import sys; from qmigrate.cli.app import main; import atexit; "
        "atexit.register(lambda: print(*[one for one in sys.modules if one.startswith('qmigrate.cli.up')], file=sys.stderr)); "
        "main([])"
    )
    asked = {**os.environ, "_QMIGRATE_COMPLETE": "bash_complete", "COMP_WORDS": "qmigrate up", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=asked)
    assert (done.stdout, done.stderr) == ("plain,upgrade\n", "\n")


def test_the_module_is_the_command(here):
    """``python -m qmigrate`` is the command, with its exit code."""
    done = subprocess.run([sys.executable, "-m", "qmigrate", "frobnicate"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no verb 'frobnicate'\n  → qmigrate --help\n"


def test_every_verb_has_help_and_json(capsys):
    """Every verb is listed, explains itself, and takes --json."""
    for name, command in root.commands.items():
        for one in command.commands.values() if isinstance(command, click.Group) else [command]:
            assert one.help
            assert "json" in {parameter.name for parameter in one.params}
        assert run([name, "--help"]) == 0
        assert f"qmigrate {name}" in capsys.readouterr().out
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [word for word in root.commands if f"\n  {word} " not in shown] == []
    assert max(map(len, shown.splitlines())) <= 84


ADOPTED = AdoptResult((Adopted("docs", "docs", 0, "0001", "history", 3),))

VERBS = [
    (["init"], "init", {}),
    (["adopt", "docs"], "adopt", {"adopt": ADOPTED}),
    (["stamp", "1"], "adopt", {"stamp": ADOPTED}),
    (["plan"], "upgrade", {"plan": plan()}),
    (["upgrade"], "upgrade", {"upgrade": result()}),
    (["rollback"], "rollback", {"rollback": result("rollback")}),
    (["abort"], "rollback", {"abort": result("abort")}),
    (["status"], "status", {"status": STATUS}),
    (["history"], "status", {"history": History(())}),
    (["verify", "a", "b"], "verify", {"verify": VerificationReport("a", "b")}),
    (["check"], "check", {"check": Checked("q", "l", ())}),
    (["check", "--offline"], "lint", {"lint": Linted(Path("s"), 0, 0, (), (), 0, 0, (), 0)}),
    (["schema"], "schema", {"schema": Schemas("live", ())}),
    (["revision", "--from-drift"], "drift", {"from_drift": DriftRevision(Path("x.py"), "2", ("1",), "m", ("c",))}),
    (["repair", "--schema", "c", "--yes"], "drift", {"restore": result("repair")}),
    (
        ["metrics"],
        "metrics",
        {
            "metrics": Metrics(datetime.now(UTC), {"qdrant": True, "ledger": True}),
            "exposition": exposition,
            "write": None,
        },
    ),
    (["doctor"], "doctor", {"doctor": Doctor((Check("x", True, "fine"),))}),
    (["wait"], "doctor", {"wait": Waited(True, True, 0.1)}),
    (["snapshot", "create", "*"], "snapshot", {"create": Snapshots(())}),
    (["snapshot", "list"], "snapshot", {"list_": Snapshots(())}),
    (["snapshot", "delete", "n", "--yes"], "snapshot", {"delete": DeletedSnapshots((), {}, False)}),
    (["snapshot", "restore", "c", "--latest", "--yes"], "restore", {"restore": result("restore")}),
    (["snapshot", "restore", "c", "--undo"], "restore", {"undo": result("restore")}),
    (["snapshot", "restore", "c", "n", "--dry-run"], "restore", {"plan": plan("restore")}),
    (["repair", "--unlock", "c", "--yes"], "repair", {"unlock": Repaired("unlock", "c", "done")}),
    (["repair", "--accept", "1", "--reason", "why"], "repair", {"accept": Repaired("accept", "1", "done")}),
]


@pytest.mark.parametrize(("args", "module", "functions"), VERBS, ids=[" ".join(entry[0]) for entry in VERBS])
def test_every_verb_answers_for_people_and_as_json(commands, capsys, args, module, functions):
    """On stdout stands the result and nothing else: text, or one JSON object with schema, ok and data."""
    if functions:
        commands(module, **functions)
    assert run([*args, "--json"]) == 0
    printed = capsys.readouterr()
    envelope = json.loads(printed.out)
    verb = ".".join(word for word in args[:2] if word.isalpha() and (word == args[0] or args[0] == "snapshot"))
    assert (envelope["schema"], envelope["ok"], set(envelope)) == (f"qmigrate.{verb}/1", True, {"schema", "ok", "data"})
    assert printed.err == ""
    if args != ["init"]:
        assert run(args) == 0
        assert capsys.readouterr().out.strip()


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.QmigrateError)]


# CollectionsFailedError is made of others: tests/scenarios/test_keep_going.py.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not errors.CollectionsFailedError])
def test_every_error_has_its_exit_code(commands, capsys, kind):
    """Each class of the error tree ends in its exit code: as a message with a hint, and as JSON."""
    error = kind("it went wrong") if kind is errors.StoppedError else kind("it went wrong", hint="do this\nor that")
    error.facts = {"count": 3}
    commands("status", status=error)
    assert run(["status"]) == error.exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines[0] == "error: it went wrong"
    assert lines[1:][: len(error.hint.splitlines())] == [f"  → {line}" for line in error.hint.splitlines()]
    assert run(["--json", "status"]) == error.exit_code
    envelope = json.loads(capsys.readouterr().out)
    assert envelope == {
        "schema": "qmigrate.status/1",
        "ok": False,
        "error": {
            "type": kind.__name__,
            "message": "it went wrong",
            "hint": error.hint,
            "exit_code": error.exit_code,
            "facts": {"count": 3},
            **({"code": kind.code} if kind.code else {}),
        },
    }


@pytest.mark.parametrize(
    ("error", "used", "last"),
    [
        (errors.RefusedError("no", hint="x"), False, "Nothing was changed. (10)"),
        (errors.PlanError("no", hint="x"), False, "Nothing was written. (2)"),
        (errors.RefusedError("no", hint="x"), True, "  → x"),
        (errors.StoreError("no", hint="x"), False, "  → x"),
    ],
)
def test_that_nothing_happened_is_said_only_when_it_is_certain(commands, capsys, error, used, last):
    """A refusal ends with the assurance, unless work had begun for some collection before."""

    def upgrade(settings, target, *, progress, **more):
        if used:
            progress.begin("other", "fill", 10)
        raise error

    commands("upgrade", upgrade=upgrade)
    run(["upgrade"])
    assert capsys.readouterr().err.splitlines()[-1] == last


def test_unexpected_errors_are_one_line(commands, capsys):
    """A fault of the program is exit 1 and one line without secrets; --debug shows the traceback."""
    commands("status", status=ZeroDivisionError("at postgresql://app:hunter2@db/x"))
    assert run(["status"]) == 1
    shown = capsys.readouterr().err
    assert shown.splitlines()[0] == "error: unexpected ZeroDivisionError: at postgresql://app:***@db/x"
    assert "Traceback" not in shown
    assert "--debug" in shown
    assert run(["status", "--debug"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_is_130(commands, capsys):
    """A KeyboardInterrupt that no checkpoint catches ends with 130."""
    commands("status", status=KeyboardInterrupt())
    assert run(["status"]) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["status", "--bogus"], "No such option '--bogus'"),
        (["verify", "a"], "Missing argument 'B'"),
        (["wait", "--timeout", "soon"], "'soon' is not a duration such as 60s"),
        (["rollback", "--now", "--carry-writes"], "--now and --carry-writes can't go together"),
        (["repair"], "choose one of --accept, --name, --vanished, --unlock, --leftovers and --schema"),
        (["repair", "--accept", "1", "--unlock", "c"], "choose one of"),
        (["repair", "--accept", "1", "--reason", " "], "--accept needs a --reason"),
        (["revision"], "Missing option '-m' / '--message'"),
        (["repair", "--unlock", ""], "--unlock is given, but empty"),
        (["repair", "--vanished", ""], "--vanished is given, but empty"),
        (["repair", "--name", ""], "--name is given, but empty"),
        (["abort", ""], "is given, but empty"),
        (["gc", ""], "is given, but empty"),
        (["adopt", ""], "is given, but empty"),
        (["rollback", ""], "is given, but empty"),
        (["metrics", "--textfile", ""], "--textfile is given, but empty"),
    ],
)
def test_usage_errors_are_2(capsys, args, said):
    """What can't be parsed is exit 2 with the help to read, also as JSON."""
    assert run(args) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert f"→ qmigrate {args[0]} --help" in printed.err
    assert printed.out == ""
    assert run([*args, "--json"]) == 2
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["ok"], envelope["schema"], envelope["error"]["type"]) == (
        False,
        f"qmigrate.{args[0]}/1",
        "UsageError",
    )


def options(command, *kinds, words=()):
    """Every option of a command and those below it of some types, with the words that lead there."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, *kinds, words=(*words, name))
    yield from ((words, one) for one in command.params if isinstance(one.type, kinds))


def named(one):
    """How a test calls an option, or the words that lead there."""
    return getattr(one, "name", None) or "-".join(one)


@pytest.mark.parametrize(("words", "option"), list(options(root, Duration)), ids=named)
def test_no_option_takes_a_bare_number_for_seconds(words, option):
    """90 could mean days or seconds; with a unit, in short or in full, it is read."""
    for written in ("90", "0.5", "7776000"):
        with pytest.raises(click.BadParameter, match="has no unit: 90d, 24h, 5m or 60s"):
            option.type_cast_value(click.Context(click.Command("x")), written)
    for written in ("90d", "90 days"):
        assert option.type_cast_value(click.Context(click.Command("x")), written) == 90 * 86400.0


@pytest.mark.parametrize(("words", "option"), list(options(root, click.types.FloatParamType, Duration)), ids=named)
def test_no_option_takes_what_is_not_a_finite_number(words, option):
    """NaN is neither above nor below any bound, and nothing can be counted with infinity."""
    for written in ("nan", "NaN", "inf", "-inf", "infinity", "1e999", "9" * 400):
        with pytest.raises(click.BadParameter):
            option.type_cast_value(click.Context(click.Command("x")), written)


@pytest.mark.parametrize("written", ["9" * 400 + "d", "99999999999d", "9999999d", timedelta.max])
def test_the_longest_duration_is_one_that_can_be_counted_with(written):
    """A century is forever: the calendar goes back that far, and a thread can wait that long."""
    found = parse_duration(written)
    assert found == FOR_EVER < threading.TIMEOUT_MAX
    assert datetime.now(UTC) - timedelta(seconds=found) < datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "args",
    [
        ["fix", "sync", "c", "--sql", "SELECT 1 AS id, 2 AS v", "--field", "v", "--check", "--since-column", "t", "--since"],
        ["history", "--deletions", "--since"],
    ],
    ids=lambda args: args[1],
)
@pytest.mark.parametrize("since", ["99999999999d", "9999999d"])
def test_a_time_before_the_calendar_is_long_ago(here, capsys, args, since):
    """It is read: what stops the verb is that nothing is there yet."""
    (here / "qmigrate.yaml").write_text("qdrant: {path: ./qdrant}\nledger: {url: 'sqlite:///ledger.db'}\n")
    run([*args, since])
    assert "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["export", "show", ""], "is given, but empty"),
        (["fix", "delete", "c", "--id", "1", "--reason", "x", "--ids-to", ""], "--ids-to is given, but empty"),
        (["fix", "delete", "c", "--reason", "x", "--older-than", "90"], "'90' has no unit: 90d"),
        (["fix", "delete", "c", "--reason", "x", "--older-than", "1.5"], "'1.5' has no unit"),
        (["snapshot", "delete", "--older-than", "30", "--yes"], "'30' has no unit"),
    ],
)
def test_usage_errors_of_a_group_are_2(capsys, args, said):
    """An empty file, and an age without a unit, are refused before anything is opened."""
    assert run(args) == 2
    printed = capsys.readouterr()
    assert (said in printed.err, f"→ qmigrate {args[0]} {args[1]} --help" in printed.err) == (True, True), printed.err


@pytest.mark.parametrize("before", [True, False])
def test_global_options_stand_on_either_side(here, commands, before):
    """--config and its like reach the settings before and behind the verb."""
    (here / "other.yaml").write_text("scripts: from_file")
    seen = []
    commands("status", status=lambda settings, **_options: seen.append(settings) or STATUS)
    options = ["--config", "other.yaml", "--qdrant-url", "http://localhost:1", "--ledger-url", "sqlite:///x.db"]
    assert run([*options, "status"] if before else ["status", *options]) == 0
    assert seen[0].qdrant.url == "http://localhost:1"
    assert seen[0].ledger.url == f"sqlite:///{here}/x.db"
    assert seen[0].scripts.name == "from_file"


def test_settings_that_are_wrong_are_2(here, capsys):
    """A mistake in the file stops a verb before it does anything."""
    (here / "qmigrate.yaml").write_text("rebiuld: {}")
    assert run(["status"]) == 2
    assert 'did you mean "rebuild"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["plan", "0003", "--only", "a", "--only", "b"], ("plan", ("0003", ("a", "b")), {"trial": None})),
        (["plan"], ("plan", ("head", None), {"trial": None})),
        (
            ["upgrade", "+1", "--no-snapshot", "--lock-timeout", "5m"],
            (
                "upgrade",
                ("+1",),
                {"only": None, "dry_run": False, "lock_timeout": 300.0, "no_snapshot": True, "allow_gap": False, "hold": False, "keep_going": False, "parallel": None},
            ),
        ),
        (
            ["upgrade", "--keep-going"],
            (
                "upgrade",
                ("head",),
                {"only": None, "dry_run": False, "lock_timeout": None, "no_snapshot": False, "allow_gap": False, "hold": False, "keep_going": True, "parallel": None},
            ),
        ),
        (
            ["rollback"],
            ("rollback", ("-1",), {"only": None, "writes": "refuse", "dry_run": False, "lock_timeout": None, "parallel": None, "without_files": False}),
        ),
        (
            ["rollback", "-2", "--carry-writes", "--only", "c"],
            ("rollback", ("-2",), {"only": ("c",), "writes": "carry", "dry_run": False, "lock_timeout": None, "parallel": None, "without_files": False}),
        ),
        (
            ["rollback", "--discard-writes", "0002", "--dry-run"],
            ("rollback", ("0002",), {"only": None, "writes": "discard", "dry_run": True, "lock_timeout": None, "parallel": None, "without_files": False}),
        ),
        (["rollback", "--", "-1", "--now"], None),
        (
            ["rollback", "--now", "--", "-1"],
            ("rollback", ("-1",), {"only": None, "writes": "now", "dry_run": False, "lock_timeout": None, "parallel": None, "without_files": False}),
        ),
        (["abort", "c"], ("abort", ("c",), {"lock_timeout": None})),
    ],
)
def test_what_the_verbs_are_called_with(commands, args, call):
    """Arguments and flags arrive as the functions of qmigrate.commands take them; -1 is a target, not an option."""
    module = {"plan": "upgrade", "upgrade": "upgrade"}.get(args[0], "rollback")
    calls = commands(module, plan=plan(), upgrade=result(), rollback=result("rollback"), abort=result("abort"))
    code = run(args)
    if call is None:
        assert (code, calls) == (2, [])
        return
    assert code == 0
    name, positional, named = calls[0]
    named.pop("progress", None)
    assert (name, positional, named) == call


def test_a_dry_run_is_a_plan(commands, capsys):
    """With --dry-run, upgrade prints the plan and the command that would do it."""
    commands("upgrade", upgrade=UpgradeResult(plan(), (), ()))
    assert run(["upgrade", "--dry-run", "--only", "c", "0002"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing was written. Run it: qmigrate upgrade 0002 --only c"


@pytest.mark.parametrize(
    ("args", "module", "functions", "code"),
    [
        (["status", "--exit-code"], "status", {"status": Status("q", "l", None, (), 2)}, 3),
        (["status"], "status", {"status": Status("q", "l", None, (), 2)}, 0),
        (["doctor"], "doctor", {"doctor": Doctor((Check("x", False, "bad"), Check("y", True, "ok")))}, 9),
        (["verify", "a", "b"], "verify", {"verify": VerificationReport("a", "b", points=1)}, 5),
    ],
)
def test_results_that_are_no_success(commands, args, module, functions, code):
    """Pending, unhealthy and different have exit codes of their own."""
    commands(module, **functions)
    assert run(args) == code


def test_unlock_asks_for_consent(commands, capsys):
    """Without a terminal and without --yes, the lease stays."""
    calls = commands("repair", unlock=Repaired("unlock", "c", "done"))
    assert run(["repair", "--unlock", "c"]) == 10
    assert calls == []
    assert "add --yes" in capsys.readouterr().err


def test_progress_and_result_stay_apart(commands, capsys):
    """Progress goes to stderr, the result to stdout; -q silences the first, never the second."""

    def upgrade(settings, target, *, progress, **more):
        progress.begin("c", "fill", 10)
        progress.advance(10)
        progress.end("10 points")
        return result()

    commands("upgrade", upgrade=upgrade)
    run(["upgrade"])
    printed = capsys.readouterr()
    assert "c: fill, 10 points" in printed.err
    assert "fill" not in printed.out
    assert printed.out.splitlines()[-1].startswith("Done: 1 collection at 0002")
    run(["upgrade", "-q"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("environ", "args", "coloured"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, [], True),
        ({"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": "1", "TERM": "xterm"}, ["--no-color"], False),
    ],
)
def test_colours(commands, capsys, monkeypatch, environ, args, coloured):
    """Colours appear where they are asked for, and never without a terminal unless forced."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    commands("upgrade", plan=plan())
    run(["plan", *args])
    assert ("\x1b[" in capsys.readouterr().out) == coloured


def test_plain_values():
    """Dataclasses, paths, times, sets and numbers become plain JSON; what JSON can't hold becomes null."""
    value = {
        "path": Path("/a"),
        "at": datetime(2025, 11, 21, 14, 2, tzinfo=UTC),
        "set": frozenset({"b", "a"}),
        "nan": float("nan"),
        "check": Check("x", None, "y"),
        "job": Job("c", "b", ()),
        3: (1, 2.5, True, None),
    }
    assert to_plain(value) == {
        "path": "/a",
        "at": "2025-11-21T14:02:00+00:00",
        "set": ["a", "b"],
        "nan": None,
        "check": {
            "name": "x", "group": "", "level": "info", "ok": None, "detail": "y", "hint": None,
            "exit_code": 0, "facts": {},
        },
        "job": {"collection": "c", "basis": "b", "steps": [], "closes": [], "supersedes": None},
        "3": [1, 2.5, True, None],
    }


def test_a_closed_pipe_is_no_traceback(here):
    """`qmigrate … | head` ends quietly."""
    code = (
        "import sys; from qmigrate.cli import app; import click\n"
        "@app.root.command('flood')\n"
        "def flood():\n    for _ in range(100000): click.echo('x' * 100)\n"
        "app.main(['flood'])"
    )
    done = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done.stdout.read(10)
    done.stdout.close()
    shown = done.stderr.read()
    done.stderr.close()
    assert (done.wait(), shown) == (141, b"")


def test_an_empty_url_is_not_the_embedded_qdrant(here, monkeypatch, capsys):
    """A secret that is missing ends with a settings error, in the environment as on the command line."""
    monkeypatch.setenv("QMIGRATE_QDRANT_URL", "")
    assert run(["status"]) == 2
    assert "QMIGRATE_QDRANT_URL is set, but empty" in capsys.readouterr().err
    monkeypatch.delenv("QMIGRATE_QDRANT_URL")
    assert run(["--qdrant-url", "", "status"]) == 2
    assert "--qdrant-url is given, but empty" in capsys.readouterr().err
    assert not (here / ".qmigrate").exists()
