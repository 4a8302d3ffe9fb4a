"""Orphans both ways: strays go only when they are seen twice, missing ids are listed; what is being inserted is spared."""

from __future__ import annotations

import tempfile
import unicodedata
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import click
import pytest
from sqlalchemy import create_engine, text
from tests.harness import ADD, audit
from tests.scenarios.app_sql import App, application
from tests.scenarios.cli import call, refused

from qmigrate import fix as program
from qmigrate import op
from qmigrate.cli import shell
from qmigrate.commands import fix, missing_rows, run_fixes, upgrade
from qmigrate.engine.fixes import orphans
from qmigrate.errors import PlanError, QmigrateError, RefusedError, UsageError
from qmigrate.ledger.reader import clock
from qmigrate.model import statement
from qmigrate.ports import PayloadEdit, Silent
from qmigrate.settings.load import Settings

IDS = "SELECT id FROM faces"


@pytest.fixture
def app(deployment, app_url) -> App:
    """Local mode with SQLite, a server with PostgreSQL: 60 points; rows 1 to 5 are gone, rows 900 to 902 are new."""
    made = application(deployment, app_url)
    made.run("DELETE FROM faces WHERE id <= 5")
    made.run("INSERT INTO faces (id) VALUES (900), (901), (902)")
    return made


def wanted(app: App, **more) -> op.DeleteOrphans:
    """The operation of the tests."""
    return op.DeleteOrphans(app.made.name, **{"sql": IDS, "reason": "test", "grace": "200ms", **more})


def test_strays_go_and_missing_ids_are_listed(app, tmp_path):
    """--check exits with 4 and counts both; the strays go, are recorded as orphans, and come back."""
    before, file = app.payloads(), tmp_path / "missing"
    words = ["fix", "orphans", app.made.name, "--sql", IDS, "--missing", str(file)]
    said = call(app.made.root, *words, "--check", "--json")
    (seen,) = said.json["data"]["previews"]
    assert (said.code, seen["changes"], [one["id"] for one in seen["sample"]]) == (4, 5, [1, 2, 3, 4, 5])
    assert {name: seen["counts"][name] for name in ("rows", "strays", "missing")} == {"rows": 58, "strays": 5, "missing": 3}
    assert file.read_text().split() == ["900", "901", "902"]
    assert (app.payloads(), call(app.made.root, *words, "--reason", "r", "--yes").code) == (before, 10)
    done = call(app.made.root, *words, "--reason", "r", "--yes", "--expect", "5", "--grace", "0s")
    assert (done.code, "5 points deleted" in done.out) == (0, True), done.text
    assert app.payloads() == {one: value for one, value in before.items() if one > 5}
    (row,) = audit(app.made)
    assert (row.kind, row.count, row.reason) == ("ORPHAN", 5, "r")
    assert call(app.made.root, *words, "--check").code == 4
    app.run("DELETE FROM faces WHERE id >= 900")
    assert call(app.made.root, *words, "--check").code == 0
    fix.undo(app.made.settings(), row.id)
    assert app.payloads() == before


def test_no_more_goes_than_a_person_was_shown(app, monkeypatch):
    """Rows that go away between the question and the look would otherwise be bounded by the cap alone."""
    before, words = app.payloads(), ["fix", "orphans", app.made.name, "--sql", IDS, "--reason", "r", "--grace", "0s"]
    monkeypatch.setattr(shell.Shell, "may_ask", property(lambda _: True))

    def agreed(question, err):
        app.run("DELETE FROM faces WHERE id = 6")
        return True

    with monkeypatch.context() as asked:
        asked.setattr(click, "confirm", agreed)
        said = call(app.made.root, *words)
    assert (said.code, "6 points" in said.text, "5 were confirmed" in said.text) == (10, True, True), said.text
    for most in ({}, {app.made.name: 5}):
        for grace in (0, "200ms"):
            with pytest.raises(RefusedError, match="were confirmed"):
                fix.fix(app.made.settings(), wanted(app, grace=grace), most=most)
    assert app.payloads() == before
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    assert call(app.made.root, *words).code == 0
    assert app.payloads() == {one: value for one, value in before.items() if one > 6}


def test_what_is_refused(app):
    """No row at all, more than the cap, no reason: nothing goes."""
    before, settings = app.payloads(), app.made.settings()
    for more, error, words in (
        ({"sql": IDS + " WHERE id < 0"}, RefusedError, "no row at all"),
        ({"sql": IDS + " WHERE id < 20"}, RefusedError, "cap of 10%"),
        ({"reason": ""}, PlanError, "a reason is required"),
        ({"grace": -1}, PlanError, "grace must be"),
        ({"grace": 900}, PlanError, "grace is 900, which has no unit: write 900d, 900h, 900m or 900s"),
        ({"grace": 900.0}, PlanError, "has no unit"),
    ):
        with pytest.raises(error, match=words):
            fix.fix(settings, wanted(app, **more))
    assert app.payloads() == before


class Meanwhile(Silent):
    """Does something once the second look is waited for, and something else when that was reported some times."""

    def __init__(self, *steps) -> None:
        self.steps = list(steps)
        self.waits = 0

    def advance(self, count: int, note: str = "") -> None:
        """Count the waiting."""
        if note.startswith("second look"):
            self.waits += 1
            if self.steps and self.waits in (1, 4):
                self.steps.pop(0)()


def test_what_is_being_inserted_is_spared(app, monkeypatch):
    """A row that comes between the two looks saves its point; so does one of a transaction that was open all the time."""
    engine = create_engine(app.url)
    progress, began = Meanwhile(lambda: app.run("INSERT INTO faces (id) VALUES (2)")), datetime.now(UTC)
    # However long the first look takes, it is waited for the second.
    monkeypatch.setattr(orphans, "clock", lambda ledger: began + timedelta(seconds=progress.waits / 10))
    if app.url.startswith("postgresql"):
        connection = engine.connect()
        connection.execute(text("INSERT INTO faces (id) VALUES (1)"))
        progress.steps.append(connection.commit)
    (done,) = fix.fix(app.made.settings(), wanted(app), progress=progress).done
    kept = {2, 1} if app.url.startswith("postgresql") else {2}
    assert {one for one in app.payloads() if one <= 5} == kept
    assert (done.changed, progress.steps) == (5 - len(kept), [])
    if app.url.startswith("postgresql"):
        connection.close()
    engine.dispose()


def test_a_sample_says_how_many_there_may_be(app, tmp_path):
    """As many points and rows at random as there are give exact figures; fewer an interval that holds the truth."""
    words = ["fix", "orphans", app.made.name, "--sql", IDS, "--check", "--sample"]
    whole = call(app.made.root, *words, "200", "--json").json["data"]["previews"][0]
    names = ("strays", "strays_at_least", "strays_at_most", "missing", "missing_at_least", "missing_at_most", "rows")
    assert [whole["counts"][name] for name in names] == [5, 5, 5, 3, 3, 3, 58]
    few = program.check_orphans(app.made.name, sql=IDS, sample=20, settings=app.made.settings()).previews[0].counts
    assert few["sampled"] == few["sampled_rows"] == 20
    for name, truth in (("strays", 5), ("missing", 3)):
        assert few[name] <= truth <= few[f"{name}_at_most"], few
        assert few[name] <= few[f"{name}_at_least"] <= few[f"{name}_at_most"], few
    shown = call(app.made.root, *words, "200")
    assert (shown.code, "5 to 5 points are strays (95 %)" in shown.out) == (4, True), shown.text
    assert call(app.made.root, *words[:-2], "--sample", "5", "--reason", "r").code == 2
    app.run("DELETE FROM faces WHERE id >= 900")
    app.run("INSERT INTO faces (id) VALUES (1), (2), (3), (4), (5)")
    assert call(app.made.root, *words, "30").code == 0


def test_missing_ids_reach_a_table_once_and_a_function_in_batches(app, monkeypatch):
    """The table gets each id once however often it is run; a function gets lists; what doesn't fit is reported in advance."""
    settings, name = app.made.settings(), app.made.name
    app.run('CREATE TABLE "to do" (id BIGINT, collection TEXT, found_at TIMESTAMP, PRIMARY KEY (collection, id))')
    words = ["fix", "orphans", name, "--sql", IDS, "--check", "--missing-table"]
    for _ in range(2):
        assert call(app.made.root, *words, "to do").code == 4
        assert sorted(app.run('SELECT id, collection FROM "to do"')) == [(900, name), (901, name), (902, name)]
    app.run("CREATE TABLE wrong (id TEXT)")
    app.run("INSERT INTO faces (id) VALUES (903)")
    for table, said in (("nowhere", "there is no table nowhere"), ("wrong", "no column collection, found_at")):
        answer = call(app.made.root, *words, table)
        assert (answer.code, said in answer.err, "CREATE TABLE" in answer.err) == (2, True, True), answer.text
    got: list = []
    monkeypatch.setattr(missing_rows, "AT_ONCE", 3)
    (done,) = program.orphans(name, sql=IDS, reason="r", grace=0.0, missing=got.append, missing_table="to do", settings=settings).done
    assert (done.changed, got, app.run('SELECT count(*) FROM "to do"')) == (5, [[900, 901, 902], [903]], [(4,)])
    with pytest.raises(UsageError, match="can't be imported"):
        missing_rows.function_of(Settings(), "no_such_module:attr")
    assert missing_rows.function_of(Settings(), "os.path:basename")("/a/b") == "b"


SINK = """
from pathlib import Path
from typing import IO

def take(ids):
    with (Path(__file__).parent / "taken").open("a") as out:
        out.writelines(f"{one}\\n" for one in ids)
"""


def test_a_preset_says_what_is_compared_and_where_missing_ids_go(app, tmp_path, monkeypatch):
    """A name stands for the query, the time in between and what gets missing ids; the command line may say otherwise."""
    sink = f"sink_{app.made.name}"
    (tmp_path / f"{sink}.py").write_text(SINK)
    monkeypatch.syspath_prepend(str(tmp_path))
    app.run('CREATE TABLE "to do" (id BIGINT, collection TEXT, found_at TIMESTAMP, PRIMARY KEY (collection, id))')
    preset = {
        "kind": "orphans",
        "collection": app.made.name,
        "sql": "SELECT id FROM faces WHERE id < :below",
        "parameters": {"below": 902},
        "reason": "rows that are gone",
        "grace": "0s",
        "missing_table": "to do",
        "missing_call": f"{sink}:take",
    }
    deletion = {"collection": app.made.name, "prefix": "/a", "reason": "r"}

    def attempt(*more: str, name: str = "strays", **changed):
        given = {key: value for key, value in {**preset, **changed}.items() if value is not None}
        app.made.extra["fixes"] = {"presets": {"strays": given, "old": deletion}}
        app.made.__post_init__()
        return call(app.made.root, "fix", "orphans", "--preset", name, *more)

    before = app.payloads()
    for more, changed, code, words in (
        ((), {"kind": "strays"}, 2, "fixes.presets.strays.kind must be deletion or orphans"),
        ((), {"prefix": "/a"}, 2, "no key 'prefix'; one with kind: deletion has it"),
        ((), {"missing_tabel": "x"}, 2, "did you mean \"missing_table\"?"),
        ((), {"missing_table": 5}, 2, "fixes.presets.strays.missing_table must be a string"),
        ((), {"grace": "soon"}, 2, "fixes.presets.strays.grace must be a duration"),
        ((), {"sql": None}, 2, "fixes.presets.strays has no query"),
        ((), {"collection": None}, 2, "fixes.presets.strays names no collection"),
        ((), {"parameters": None}, 2, "needs a value for below"),
        (("--param", "other=1"), {}, 2, "has no parameter other"),
        (("--sql", IDS), {}, 2, "the query is that of the preset"),
        ((), {"reason": None}, 2, "a --reason is required"),
        ((), {"missing_call": f"{sink}:no"}, 2, f"{sink}:no can't be imported"),
        (("--missing", "x"), {}, 2, "to a file or to a function, not to both"),
    ):
        said = attempt("--yes", "--expect", "5", *more, **changed)
        assert (said.code, words in said.err) == (code, True), said.text
    other = attempt(name="old")
    assert (other.code, "has kind: deletion, not orphans" in other.err, "fix delete --preset old" in other.err) == (2, True, True)
    wrong = call(app.made.root, "fix", "delete", "--preset", "strays", "--yes", "--expect", "5")
    assert (wrong.code, "has kind: orphans, not deletion" in wrong.err) == (2, True), wrong.text
    assert (app.payloads(), (tmp_path / "taken").exists(), app.run('SELECT count(*) FROM "to do"')) == (before, False, [(0,)])
    assert attempt("--check", reason=None).code == 4
    assert (tmp_path / "taken").read_text().split() == ["900", "901"]
    done = attempt("--yes", "--expect", "5", "--param", "below=9000")
    assert (done.code, "5 points deleted" in done.out) == (0, True), done.text
    assert (tmp_path / "taken").read_text().split()[2:] == ["900", "901", "902"]
    assert sorted(app.run('SELECT id, collection FROM "to do"')) == [(one, app.made.name) for one in (900, 901, 902)]
    assert [(row.kind, row.count, row.reason) for row in audit(app.made)] == [("ORPHAN", 5, "rows that are gone")]
    assert attempt("--check", missing_call=None, missing="elsewhere.txt").code == 4
    assert (app.made.root / "elsewhere.txt").read_text().split() == ["900", "901"]


def edited(app: App, *edits: PayloadEdit) -> None:
    """The application changes payloads."""
    store = app.made.store()
    store.edit_payloads(app.made.name, edits)
    store.close()


#: Column of the ids, and what the points have.
KINDS = [
    ("BIGINT", lambda number: number * 10),
    ("TEXT", lambda number: f"asset-{number}"),
    ("UUID", lambda number: str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))).upper()),
]


def test_ids_in_a_payload_field(app):
    """Integers, texts and UUIDs tie rows to points; several points have one id, and one without it is left alone."""
    name, settings = app.made.name, app.made.settings()
    before = app.payloads()
    for column, value in KINDS:
        edited(app, *(PayloadEdit([one], {"asset": value(one // 2)}) for one in before if one > 2))
        app.run("DROP TABLE IF EXISTS assets")
        app.run(f"CREATE TABLE assets (id {column} PRIMARY KEY)")
        app.run("INSERT INTO assets VALUES (:id)", [{"id": value(one)} for one in range(3, 32)])
        given = {"sql": "SELECT id FROM assets", "id_field": "asset", "settings": settings}
        got: list = []
        (seen,) = program.check_orphans(name, missing=got.extend, **given).previews
        # Points 3 to 5 have the ids 1 and 2; the points 1 and 2 none; none has 31.
        assert {one["id"] for one in seen.sample} == {3, 4, 5}, column
        assert (seen.counts["without_id"], seen.counts["strays"], seen.counts["missing"]) == (2, 3, 1), column
        assert got == [value(31) if column != "UUID" else value(31).lower()]
        (sampled,) = program.check_orphans(name, sample=100, **given).previews
        assert (sampled.counts["strays"], sampled.counts["missing"]) == (3, 1), column
        (done,) = program.orphans(name, reason="r", grace="100ms", **given).done
        assert (done.changed, set(before) - set(app.payloads())) == (3, {3, 4, 5})
        fix.undo(settings, done.log)
    refused = (
        ({"sql": "SELECT 5 AS id"}, None, "a string in asset, and the query on app returns integers"),
        ({"sql": "SELECT 'x' AS id UNION ALL SELECT 'x'"}, None, "returns the id x more than once"),
        ({"sql": "SELECT NULL AS id"}, None, "is NULL in a row"),
        ({}, [1.5], "= .1.5., which is not an id"),
        ({}, ["a", "b"], "which is not an id"),
    )
    for more, value, words in refused:
        if value is not None:
            edited(app, PayloadEdit([7], {"asset": value}))
        with pytest.raises(QmigrateError, match=words):
            program.check_orphans(name, **{**given, **more})


ONE = str(uuid.uuid5(uuid.NAMESPACE_OID, "one"))
#: The column, what its row has, what the point has, and whether it is reported as written otherwise.
SPELT = {
    "padded by the column": ("CHAR(40)", "asset-1", "asset-1", 0),
    "padded in SQL": ("TEXT", "asset-1  ", "asset-1", 0),
    "padded in the payload": ("TEXT", "asset-1", "asset-1   ", 0),
    "a UUID in mixed case in SQL": ("TEXT", ONE[:9].upper() + ONE[9:], ONE, 0),
    "a UUID in mixed case in the payload": ("TEXT", ONE, ONE[:9].upper() + ONE[9:], 0),
    "a UUID in upper case, padded": ("CHAR(40)", ONE.upper(), ONE, 0),
    "a UUID in braces": ("TEXT", f"{{{ONE}}}", ONE, 0),
    "a text in another case": ("TEXT", "Asset-1", "asset-1", 1),
    "a text in another case, padded": ("CHAR(40)", "asset-1", "ASSET-1", 1),
    "one character in SQL, two in the payload": ("TEXT", "caf\u00e9", "cafe\u0301", 1),
    "two characters in SQL, one in the payload": ("CHAR(40)", "cafe\u0301", "caf\u00e9", 1),
    "two marks in another order, neither composed nor taken apart": ("TEXT", "\u1eb9\u0301", "\u00e9\u0323", 1),
    "a letter that is not ASCII in another case": ("TEXT", "\u00c9T\u00c9", "\u00e9t\u00e9", 1),
    "both": ("TEXT", "CAFE\u0301", "caf\u00e9", 1),
    "full-width letters in SQL": ("TEXT", "\uff41\uff13", "a3", 1),
    "full-width letters in the payload": ("TEXT", "A3", "\uff41\uff13", 1),
}


@pytest.mark.parametrize("how", SPELT)
def test_no_point_goes_for_how_its_id_is_written(app, how):
    """Only what has no row in any spelling goes; what differs by case or normalisation alone is left, and counted."""
    column, row, value, otherwise = SPELT[how]
    edited(app, PayloadEdit([7], {"asset": value}), PayloadEdit([8], {"asset": "nobody"}))
    app.run(f"CREATE TABLE assets (id {column} PRIMARY KEY)")
    app.run("INSERT INTO assets VALUES (:id)", [{"id": row}, {"id": "another"}])
    given = {"sql": "SELECT id FROM assets", "id_field": "asset", "settings": app.made.settings()}
    said = call(app.made.root, "fix", "orphans", app.made.name, "--sql", given["sql"], "--id-field", "asset", "--check")
    assert (said.code, "1 written otherwise" in said.out) == (4, bool(otherwise)), said.text
    (sampled,) = program.check_orphans(app.made.name, sample=100, **given).previews
    assert sampled.counts["strays"] == 1
    (done,) = program.orphans(app.made.name, reason="r", grace="100ms", **given).done
    assert (done.changed, 7 in app.payloads(), 8 in app.payloads()) == (1, True, False)


def open_full() -> IO[bytes]:
    """A file that no byte goes into, as on a full disk."""
    return Path("/dev/full").open("r+b")


def test_where_tmpdir_is_full_nothing_goes(app, monkeypatch):
    """What it needs room for is said, with the exit code of a store that can't be used, and no point is touched."""
    before = app.payloads()
    app.run("DELETE FROM faces WHERE id = 7")
    how = ("--sql", "SELECT id FROM faces", "--reason", "r", "--yes", "--max-share", "1", "--grace", "0s")
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", lambda **_: open_full())
        refused(app.made.root, ("fix", "orphans", app.made.name, *how), 9, "TMPDIR")
    assert app.payloads() == before
    said = call(app.made.root, "fix", "orphans", app.made.name, *how)
    assert (said.code, before.keys() - app.payloads().keys()) == (0, {1, 2, 3, 4, 5, 7}), said.text


@pytest.mark.parametrize(("held", "goes"), [("123", None), ("-7", None), ("007", None), (124, None), ("x9", 1), (9, 1)])
def test_what_a_row_has_as_another_type_is_no_orphan(app, held, goes):
    """A column that holds numbers and texts makes numbers of some texts, as SQLite does: refused, and nothing goes."""
    name, before = app.made.name, app.payloads()
    edited(app, *(PayloadEdit([one], {"asset": f"a{one}"}) for one in before))
    edited(app, PayloadEdit([7], {"asset": held}))
    if app.url.startswith("postgresql"):
        pytest.skip("a column has one type there")
    app.run("CREATE TABLE assets (id STRING)")
    app.run("INSERT INTO assets VALUES (:id)", [{"id": f"a{one}"} for one in before if one != 7])
    app.run("INSERT INTO assets VALUES ('123'), ('-7'), ('007'), (NULL)")
    app.run("CREATE VIEW known AS SELECT id FROM assets WHERE id IS NOT NULL UNION ALL SELECT '124'")
    asked = op.DeleteOrphans(name, sql="SELECT id FROM known", id_field="asset", reason="r", grace=0)
    if goes is None:
        with pytest.raises(RefusedError, match="the same with another type"):
            fix.fix(app.made.settings(), asked)
        assert app.payloads() == before
    else:
        assert fix.fix(app.made.settings(), asked).done[0].changed == goes


class Clock:
    """A ledger's clock that is moved by hand; waiting moves it."""

    def __init__(self, monkeypatch) -> None:
        self.ahead = timedelta()
        self.meanwhile: list = []
        for module in (run_fixes, orphans, orphans):
            monkeypatch.setattr(module, "clock", lambda ledger: clock(ledger) + self.ahead)
        monkeypatch.setattr(run_fixes, "pause", self.pause)

    def pause(self, seconds: float) -> None:
        """What another client does, once; and as much time as was waited for."""
        while self.meanwhile:
            self.meanwhile.pop(0)()
        self.ahead += timedelta(seconds=seconds)


def test_between_the_two_looks_others_may_work(app, monkeypatch):
    """No process holds the lease while it waits: a rebuild in between is let through, and makes it look again."""
    settings, hands = app.made.settings(), Clock(monkeypatch)
    looks: list = []
    original = orphans.find_orphans
    monkeypatch.setattr(run_fixes, "find_orphans", lambda *given: looks.append(1) or original(*given))

    def others() -> None:
        app.made.revise("0002", ADD)
        if "url" in app.made.qdrant:
            upgrade.upgrade(settings)

    hands.meanwhile.append(others)
    (done,) = fix.fix(settings, wanted(app, grace="15m")).done
    assert done.changed == 5
    assert len(looks) == (2 if "url" in app.made.qdrant else 1)
    assert fix.undo_review(settings, done.log).changes == 5


def test_a_first_look_is_kept_for_a_later_run(app, monkeypatch):
    """--no-wait exits with 12 until the grace is over; what changed or was forgotten since is not deleted then."""
    hands = Clock(monkeypatch)
    words = ["fix", "orphans", app.made.name, "--sql", IDS, "--reason", "r", "--yes", "--expect"]
    before = app.payloads()
    for form, said in (([], "run the same command again after"), (["--json"], '"due_at": "20')):
        early = call(app.made.root, *words, "2", "--no-wait", *form)
        assert (early.code, said in early.out) == (12, True), early.text
        assert app.payloads() == before
        hands.ahead += timedelta(minutes=7)
    app.run("INSERT INTO faces (id) VALUES (2), (3)")
    edited(app, PayloadEdit([4], {"person": "another person"}))
    hands.ahead += timedelta(minutes=7)
    done = call(app.made.root, *words, "2", "--no-wait", "--json")
    assert (done.code, done.json["data"]["done"][0]["changed"]) == (0, 2), done.text
    assert done.json["data"]["done"][0]["counts"]["changed_since"] == 1
    assert set(before) - set(app.payloads()) == {1, 5}
    # The next one begins again: 4 is seen for the first time as it is now.
    assert call(app.made.root, *words, "1", "--no-wait").code == 12
    hands.ahead += timedelta(days=8)
    assert call(app.made.root, *words, "1", "--no-wait").code == 12


def test_a_first_look_serves_a_resume_and_a_revision(app, monkeypatch):
    """What was seen twice is not looked for again after a crash; a revision takes a first look that was kept, and doesn't wait."""
    hands, settings = Clock(monkeypatch), app.made.settings()
    looks: list = []
    original = orphans.find_orphans
    monkeypatch.setattr(run_fixes, "find_orphans", lambda *given: looks.append(1) or original(*given))
    with monkeypatch.context() as patch:
        patch.setattr(orphans.Orphans, "write", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fix.fix(settings, wanted(app, grace="15m"))
    resumed = fix.fix(settings, wanted(app, grace="15m"))
    assert ([one.changed for one in resumed.done], len(resumed.resumed), looks) == ([5], 1, [1])
    fix.undo(settings, resumed.done[0].log)
    waiting = fix.fix(settings, wanted(app, grace="15m"), wait=False)
    assert (waiting.exit_code, [one.strays for one in waiting.looked], looks) == (12, [5], [1, 1])
    hands.ahead += timedelta(minutes=16)
    monkeypatch.setattr(orphans.time, "sleep", lambda seconds: pytest.fail("it waits with the lease"))
    app.made.revise("0002", f'def upgrade():\n    return [op.DeleteOrphans("{{name}}", sql="{IDS}", reason="test")]\n')
    upgrade.upgrade(settings)
    assert {one for one in app.payloads() if one <= 5} == set()


#: Queries that leave rows out, and what is named; and some that don't.
CUT = [
    (f"{IDS} LIMIT 58", "LIMIT 58"),
    (f"{IDS} ORDER BY id FETCH FIRST 58 ROWS ONLY", "FETCH FIRST"),
    (f"{IDS} LIMIT 100 OFFSET 3", "LIMIT 100"),
    (f"{IDS} -- LIMIT 3", None),
    ("SELECT id FROM faces WHERE id = (SELECT id FROM faces LIMIT 1)", None),
    ("SELECT id FROM faces WHERE person <> ' limit 3'", None),
    ("SELECT id, top, offset FROM faces LIMIT ALL", None),
]


@pytest.mark.parametrize(("sql", "named"), CUT)
def test_a_query_that_is_cut_off_is_told(sql, named):
    """Rows beyond a limit would look as if they were gone."""
    assert statement.cut(sql) == named


@pytest.mark.parametrize("deployment", ["local"], indirect=True)
def test_a_query_that_is_cut_off_is_refused(app):
    """By whatever way it comes: a preset, the command line, a figure."""
    before = app.payloads()
    for act in (fix.review, fix.fix):
        with pytest.raises(RefusedError, match="has LIMIT 58"):
            act(app.made.settings(), wanted(app, sql=f"{IDS} LIMIT 58", grace="0s"))
    assert app.payloads() == before


@pytest.mark.parametrize("deployment", ["local"], indirect=True)
def test_an_accent_that_is_written_otherwise_is_the_same(app):
    """File systems write é as two characters: a row that differs by that alone may be the point's."""
    both = [unicodedata.normalize(how, "caf\u00e9") for how in ("NFD", "NFC")]
    app.run("CREATE TABLE assets (name TEXT)")
    for stored, row in (both, both[::-1]):
        store = app.made.store()
        store.edit_payloads(app.made.name, [PayloadEdit([10], {"asset": stored}), PayloadEdit([11], {"asset": "b"})])
        store.close()
        app.run("DELETE FROM assets")
        app.run("INSERT INTO assets VALUES (:name), ('b')", {"name": row})
        named = wanted(app, sql="SELECT name FROM assets", key="name", id_field="asset", grace="0s")
        (done,) = fix.fix(app.made.settings(), named).done
        assert (done.changed, done.counts["written_otherwise"]) == (0, 1)


@pytest.mark.parametrize("field", [None, "n"])
@pytest.mark.parametrize("grace", ["0s", "200ms"])
def test_a_query_of_which_no_row_has_a_point_is_about_something_else(app, field, grace):
    """The wrong column or database makes every point an orphan: that needs the number of them, or is only a preview."""
    before, sql = app.payloads(), "SELECT id + 100000 AS id FROM faces"
    words = ["fix", "orphans", app.made.name, "--sql", sql, "--reason", "r", "--grace", grace]
    words += ["--id-field", field] if field else []
    done = call(app.made.root, *words, "--yes", "--max-share", "1")
    assert (done.code, "none of the 58 rows" in done.text) == (10, True), done.text
    with pytest.raises(RefusedError, match="none of the 58 rows"):
        fix.fix(app.made.settings(), wanted(app, sql=sql, id_field=field, grace=grace, max_share=1.0))
    assert (app.payloads(), audit(app.made)) == (before, [])
    assert call(app.made.root, *words, "--check").code == 4
    done = call(app.made.root, *words, "--yes", "--max-share", "1", "--expect", "60")
    assert (done.code, app.payloads()) == (0, {}), done.text
