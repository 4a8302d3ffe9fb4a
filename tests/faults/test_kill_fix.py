"""SIGKILL at each journal write and each write to Qdrant of a data fix: the same command ends it, or an abort undoes it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.conftest import clean
from tests.faults import forked
from tests.faults.stride import thinned
from tests.harness import Deployment
from tests.scenarios.app_sql import IN_SQL, PERSON, RETRAINED, WRITES, App, application, drift

from qmigrate import op
from qmigrate.commands import fix, retrain
from qmigrate.commands import rollback as back
from qmigrate.ledger import Ledger

#: Minutes: see scripts/test --nightly.
pytestmark = pytest.mark.nightly

CHANGED = 15
#: The moments after a write to Qdrant, before it is noted.
AFTER = ("after edit_payloads", "after delete")


def prepare(folder: Path, config: dict) -> App:
    """A collection that has drifted from its SQL."""
    qdrant = {"path": str(folder / "qdrant")} if "path" in config else {**config, "timeout": 1}
    folder.mkdir()
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
    app = application(made, f"sqlite:///{folder}/app.db")
    drift(app)
    app.run("CREATE TABLE wanted (value TEXT, reason TEXT, requested_at TIMESTAMP)")
    made.extra["fixes"] = {"presets": {"person": {**PERSON, "collection": made.name}}}
    made.__post_init__()
    return app


def marked(app: App) -> list:
    """What was asked for, and how many rows are marked, where that is more than none."""
    counted = app.run("SELECT count(*) FROM faces WHERE changed_at IS NULL AND person = 'p9'")
    return [*app.run("SELECT value, reason FROM wanted"), *(counted if counted[0][0] else [])]


def child(app: App, verb: str, *, kill_at=None, log=None):
    """Run it in a process of its own."""
    arguments = (str(app.made.config), app.made.name, verb, str(kill_at or "-"), str(log or "-"))
    return forked.run("tests.faults.child_fix", *arguments)


def recorded(app: App) -> tuple[list, int]:
    """(changed, kind) of the audit, and how many journals are kept."""
    ledger = Ledger.open(app.made.settings().ledger.url)
    try:
        rows = ledger.deletions()
        kept = sum(ledger.has_base(f"edit:{run.id}:0") for run in ledger.runs())
        return [(row.kind, row.facts["changed"]) for row in rows], kept
    finally:
        ledger.close()


def points_of(log: Path) -> tuple[list[int], list[str]]:
    """Every point before a write, and the last one after each kind; with all labels."""
    labels = log.read_text().splitlines()
    numbers = [number for number, label in enumerate(labels, 1) if label.startswith("before") or label in AFTER]
    return numbers, labels


KINDS = {"sync": ("PAYLOAD_SYNC", CHANGED), "set": ("SET_PAYLOAD", 12), "unset": ("DELETE_PAYLOAD", 12), "delete": ("FILTER", 22), "retrain": ("PERSON", 12)}
#: Of the chosen points, every how many-th.
STEPS = {"sync": 1, "set": 2, "unset": 2, "delete": 2, "retrain": 3}


def again(app: App, verb: str) -> None:
    """The same command."""
    settings = app.made.settings()
    if verb == "retrain":
        retrain.retrain(settings, RETRAINED, expect=KINDS[verb][1])
        return
    if verb in WRITES:
        fix.fix(settings, WRITES[verb](app.made.name))
        return
    wish = app.sync() if verb == "sync" else op.DeletePoints(app.made.name, sql=IN_SQL, max_share=1.0, reason="test")
    fix.fix(settings, wish)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", list(KINDS))
def test_a_killed_fix_is_finished_or_taken_back(qdrant_config, tmp_path, verb):
    """Finished: every point changed and counted once, one row in the audit. Aborted: as before, nothing is kept."""
    local = "path" in qdrant_config
    probe = prepare(tmp_path / "probe", qdrant_config)
    before = probe.payloads()
    done = child(probe, verb, log=tmp_path / "points")
    assert done.returncode == 0, done.stderr
    after = probe.payloads()
    wanted, rows = ([KINDS[verb]], 1), marked(probe)
    assert len(rows) == 2 * (verb == "retrain")
    assert recorded(probe) == wanted
    numbers, labels = points_of(tmp_path / "points")
    begun = labels.index("after open_run") + 1
    assert local or {"after edit_payloads", "after delete"} & set(labels)
    # The journal is the same in local mode: its ends are enough there.
    chosen = thinned(numbers)
    for place, number in enumerate(chosen[1::3] if local else chosen[STEPS[verb] - 1 :: STEPS[verb]]):
        app = prepare(tmp_path / f"kill{number}", qdrant_config)
        assert child(app, verb, kill_at=number).returncode == -signal.SIGKILL, labels[number - 1]
        if place % 2 == local and begun < number:
            back.abort(app.made.settings(), app.made.name)
            assert (app.payloads(), recorded(app)) == (before, ([], 0)), labels[number - 1]
            assert not list(app.made.settings().fixes.exports.glob("*"))
        else:
            again(app, verb)
            assert (app.payloads(), recorded(app), marked(app)) == (after, wanted, rows), labels[number - 1]
        assert app.made.row().state == "ready"
        if not local:
            clean(app.made)


@pytest.mark.timeout(600)
def test_a_killed_abort_of_a_fix_is_repeated(qdrant_config, tmp_path):
    """Taking back what was changed half-way may be killed too; repeated, it ends as if the fix had never begun."""
    if "path" in qdrant_config:
        pytest.skip("the same code, and quick enough only once")
    half = "after edit_payloads"

    def interrupted(folder: Path) -> tuple[App, dict]:
        app = prepare(folder, qdrant_config)
        before = app.payloads()
        log = folder / "log"
        child(app, "sync", log=log, kill_at=at or None)
        return app, before

    at = 0
    probe, _ = interrupted(tmp_path / "all")
    at = (tmp_path / "all" / "log").read_text().splitlines().index(half) + 1
    clean(probe.made)
    probe, before = interrupted(tmp_path / "probe")
    assert child(probe, "abort", log=tmp_path / "points").returncode == 0
    assert probe.payloads() == before
    for number in thinned(points_of(tmp_path / "points")[0])[2::3]:
        app, before = interrupted(tmp_path / f"kill{number}")
        assert app.payloads() != before
        assert child(app, "abort", kill_at=number).returncode == -signal.SIGKILL
        back.abort(app.made.settings(), app.made.name)
        assert (app.payloads(), recorded(app), app.made.row().state) == (before, ([], 0), "ready")
        clean(app.made)


CALL = '''
from pathlib import Path

def count_up(calling):
    with Path({log!r}).open("a") as out:
        out.write(calling.key + "\\n")
    calling.client.set_payload(calling.alias, {{{{"called": True}}}}, points=[1, 2, 3])

def upgrade():
    return [op.Call("{{name}}", count_up, key="once")]
'''


@pytest.mark.timeout(600)
def test_a_killed_call_is_called_again_or_ended(qdrant_config, tmp_path):
    """Before it is noted as done it is called again, afterwards never; an abort ends the run and records nothing."""
    local = "path" in qdrant_config

    def begun(folder: Path) -> tuple[App, Path]:
        app = prepare(folder, qdrant_config)
        app.made.revise("0002", CALL.format(log=str(folder / "called")))
        return app, folder / "called"

    def upgraded(app: App, *, kill_at=None, log=None):
        return forked.run(
            "tests.faults.child", str(app.made.config), "upgrade", "head", str(kill_at or "-"), str(log or "-"), "-"
        )

    probe, called = begun(tmp_path / "probe")
    done = upgraded(probe, log=tmp_path / "points")
    assert (done.returncode, called.read_text()) == (0, "once\n"), done.stderr
    labels = (tmp_path / "points").read_text().splitlines()
    begins, noted = labels.index("after journal change running") + 1, labels.index("after journal change done") + 1
    opened = labels.index("after open_run") + 1
    for place, number in enumerate(thinned([one for one, label in enumerate(labels, 1) if label.startswith("before")])):
        app, called = begun(tmp_path / f"kill{number}")
        assert upgraded(app, kill_at=number).returncode == -signal.SIGKILL
        if place % 2 and opened < number:
            back.abort(app.made.settings(), app.made.name)
            assert (app.made.row().revision, app.made.row().state) == ("0001", "pending"), labels[number - 1]
        assert upgraded(app).returncode == 0
        times = len(called.read_text().splitlines())
        aborted = bool(place % 2 and opened < number)
        assert times in ((1, 2) if begins < number <= noted or aborted else (1,)), labels[number - 1]
        marked_points = {one for one, (payload, _) in app.made.contents().items() if payload.get("called")}
        assert (marked_points, app.made.row().revision, app.made.row().state) == ({1, 2, 3}, "0002", "ready")
        if not local:
            clean(app.made)
