"""Deletion of points: selected in several ways at once, counted, capped, exported, recorded, and brought back whole."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from qdrant_client import models
from sqlalchemy import create_engine, text
from tests.conftest_postgres import fresh_database
from tests.harness import CREATE, Deployment, audit, write
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix, upgrade
from qmigrate.engine import barriers
from qmigrate.engine.fixes import delete, journal
from qmigrate.errors import ArchiveError, PlanError, RefusedError, RowsError, UnknownNameError, UsageError
from qmigrate.model.transform import Point
from qmigrate.store import records

#: Paths that a prefix must tell apart, by id; UUIDs behind the integers.
PATHS = {
    1: "/photos/2024/a.jpg",
    2: "/photos/2024/sub/b.jpg",
    3: "/photos/2024-old/c.jpg",
    4: "/photos/2024",
    5: "/photos/20245/d.jpg",
    6: "/photos/100%_x/é.jpg",
    7: "/photos/100%ax/e.jpg",
    8: "/photos/100a_x/f.jpg",
    9: "/photos/2024/",
    2**63 + 1: "/large/g.jpg",
    str(uuid.uuid5(uuid.NAMESPACE_OID, "h")): "/photos/2024/h.jpg",
    str(uuid.uuid5(uuid.NAMESPACE_OID, "i")): "/other/i.jpg",
}
IN_2024 = {1, 2, 4, 9, str(uuid.uuid5(uuid.NAMESPACE_OID, "h"))}
KINDS = """
def upgrade():
    return [op.CreateCollection("{name}",
        {{"a": VectorParams(size=8, distance=Distance.COSINE),
          "m": VectorParams(size=2, distance=Distance.DOT, multivector_config=MultiVectorConfig(comparator="max_sim"))}},
        {{"s": SparseVectorParams()}})]
"""


def paths() -> list[Point]:
    """A point per path: dense, multivector and sparse vectors, nested payload; one without most of them."""
    found = []
    for number, (identifier, path) in enumerate(PATHS.items()):
        vectors = {"a": [float(number + place) for place in range(8)]}
        if number:
            vectors["m"] = [[1.0, float(number)], [0.5, -1.0]]
            vectors["s"] = {"indices": [1, 5 + number], "values": [0.25, 1.5]}
        payload = {"path": path, "n": number, "deep": {"list": [1, 2.5, None, {"é": "x"}]}, "kind": f"k{number % 3}"}
        found.append(Point(identifier, payload, vectors))
    return found


@pytest.fixture
def made(deployment: Deployment, request, tmp_path) -> Deployment:
    """Local mode with SQLite, a server with PostgreSQL: a collection of paths, and sessions in SQL."""

    def prepared(url: str) -> Deployment:
        deployment.extra.update(databases={"app": {"url": url}}, fixes={"max_share": 0.6})
        deployment.__post_init__()
        deployment.revise("0001", KINDS)
        upgrade.upgrade(deployment.settings())
        store = deployment.store()
        write(store, deployment.name, paths())
        store.close()
        engine = create_engine(url)
        with engine.begin() as sql:
            sql.execute(text("CREATE TABLE sessions (session INTEGER, asset BIGINT)"))
            rows = [{"s": 12, "a": one} for one in (1, 3, 6, 99)] + [{"s": 13, "a": one} for one in (3, 7)]
            sql.execute(text("INSERT INTO sessions VALUES (:s, :a)"), rows)
        engine.dispose()
        return deployment

    if "url" not in deployment.qdrant:
        yield prepared(f"sqlite:///{tmp_path}/app.db")
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        yield prepared(url)


def digests(made: Deployment) -> dict:
    """Id -> digest of the whole point."""
    store = made.store()
    try:
        return {records.point_id(row): records.digest_under(None)(row) for page in store.scan(made.name) for row in page}
    finally:
        store.close()


SESSION = "SELECT asset AS id FROM sessions WHERE session = :s AND asset NOT IN (SELECT asset FROM sessions WHERE session <> :s)"
MUST = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="k0"))])
#: Selection, what goes, and what the audit calls it.
SELECTIONS = [
    ({"prefix": "/photos/2024"}, IN_2024, "DIRECTORY"),
    ({"prefix": "/photos/2024/"}, IN_2024, "DIRECTORY"),
    ({"prefix": "/photos/100%_x"}, {6}, "DIRECTORY"),
    ({"ids": [1, "c0ffee00-0000-0000-0000-000000000000", 7]}, {1, 7}, "ASSET"),
    ({"ids": list(PATHS)[:5], "prefix": "/photos/2024"}, {1, 2, 4}, "DIRECTORY"),
    ({"filter": MUST}, set(list(PATHS)[::3]), "FILTER"),
    ({"filter": {"must": [{"key": "n", "range": {"lt": 3}}]}, "prefix": "/photos/2024/sub"}, {2}, "DIRECTORY"),
    ({"sql": SESSION, "parameters": {"s": 12}, "type": "SESSION"}, {1, 6}, "SESSION"),
]


def test_every_selection_takes_exactly_its_points_and_gives_them_back(made):
    """Prefixes end at a slash, conditions add up, shared assets are spared; undone, every point is the same bit by bit."""
    settings, before = made.settings(), digests(made)
    for selection, gone, kind in SELECTIONS:
        wanted = op.DeletePoints(made.name, reason="not wanted", **selection)
        (seen,) = fix.review(settings, wanted).previews
        assert (seen.changes, {one["id"] for one in seen.sample}) == (len(gone), gone), selection
        (done,) = program.delete_points(made.name, reason="not wanted", expect=len(gone), settings=settings, **selection).done
        assert (done.changed, done.verified, done.changed_meanwhile) == (len(gone), len(gone), 0), selection
        assert digests(made) == {one: value for one, value in before.items() if one not in gone}, selection
        row = audit(made)[0]
        assert (row.id, row.kind, row.count, row.reason) == (done.log, kind, len(gone), "not wanted")
        assert Path(row.facts["file"]).stat().st_mode & 0o777 == 0o600
        assert fix.review(settings, wanted).changes == 0
        (undone,) = fix.undo(settings, done.log).done
        assert (undone.changed, undone.counts["newer"]) == (len(gone), 0)
        assert digests(made) == before, selection
    with pytest.raises(RefusedError, match="undone already"):
        fix.undo(settings, done.log)


def test_undo_spares_what_is_newer_and_refuses_what_it_can_t_do(made):
    """A point that is there again stays, unless it is to be overwritten; without its file nothing is brought back."""
    settings, before = made.settings(), digests(made)
    wanted = op.DeletePoints(made.name, ids=[1, 2, 3], reason="r")
    (done,) = fix.fix(settings, wanted).done
    store = made.store()
    write(store, made.name, [Point(1, {"path": "/new"}, {"a": [1.0] * 8})])
    store.close()
    newer = digests(made)[1]
    (undone,) = fix.undo(settings, done.log).done
    assert (undone.changed, undone.counts["newer"]) == (2, 1)
    assert digests(made) == {**before, 1: newer}
    (done,) = fix.fix(settings, op.DeletePoints(made.name, ids=[2, 3], reason="r")).done
    (undone,) = fix.undo(settings, done.log, overwrite=True).done
    assert undone.changed == 2
    (done,) = fix.fix(settings, op.DeletePoints(made.name, ids=[2], reason="r")).done
    file = Path(audit(made)[0].facts["file"])
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    with pytest.raises(ArchiveError):
        fix.undo(settings, done.log)
    file.unlink()
    with pytest.raises(RefusedError, match="not in .*jsonl.zst"):
        fix.undo(settings, done.log)
    file.write_bytes(whole)
    (bare,) = fix.fix(settings, op.DeletePoints(made.name, ids=[3], reason="r", export=False)).done
    with pytest.raises(RefusedError, match="has kept nothing"):
        fix.undo(settings, bare.log)


#: What is given, and how it is refused.
REFUSED = [
    ({}, PlanError, "no points are selected"),
    ({"ids": [1], "reason": " "}, PlanError, "a reason is required"),
    ({"ids": [-1]}, PlanError, "not a point id"),
    ({"ids": ["x"]}, PlanError, "not a point id"),
    ({"filter": {}}, PlanError, "selects every point"),
    ({"filter": {"must": []}}, PlanError, "selects every point"),
    ({"filter": {"must": [{"key": "n", "macth": 1}]}}, UsageError, "not valid for Qdrant"),
    ({"prefix": "/"}, PlanError, "every path"),
    ({"prefix": {"field": "path"}}, PlanError, "the prefix must be a string"),
    ({"sql": "UPDATE sessions SET session = 1"}, PlanError, "not a SELECT"),
    ({"sql": "SELECT asset AS id FROM sessions"}, RowsError, "more than once"),
    ({"sql": SESSION}, PlanError, "parameter :s"),
    ({"ids": list(PATHS), "max_share": 0.5}, RefusedError, "12 of 12 points .* more than the cap of 50%"),
    ({"ids": list(PATHS)}, RefusedError, "cap of 60%"),
    ({"ids": [1], "max_share": 0}, PlanError, "above 0"),
    ({"ids": [1], "type": "session"}, PlanError, "capital letters"),
]


def test_nothing_goes_unless_every_check_passed(made):
    """No reason, no condition, an empty one, ids that are none, a query that doesn't fit, the cap: all points stay."""
    before = digests(made)
    for given, error, words in REFUSED:
        with pytest.raises(error, match=words):
            fix.fix(made.settings(), op.DeletePoints(made.name, **{"reason": "r", **given}))
    with pytest.raises(UnknownNameError, match="no collection 'unknown'"):
        fix.fix(made.settings(), op.DeletePoints("unknown", ids=[1], reason="r"))
    with pytest.raises(RefusedError, match="2 points .* 3 were expected"):
        fix.fix(made.settings(), op.DeletePoints(made.name, ids=[1, 2, 999], reason="r"), expect=3)
    if "url" in made.qdrant:
        body = "[op.UpdateCollection('{name}', strict_mode_config={{'enabled': True, 'unindexed_filtering_retrieve': False}})]"
        made.revise("0002", "def upgrade():\n    return " + body + "\n")
        upgrade.upgrade(made.settings())
        with pytest.raises(RefusedError, match="refuses this filter: .*ndex") as caught:
            fix.fix(made.settings(), op.DeletePoints(made.name, filter=MUST, reason="r"))
        assert "CreatePayloadIndex" in caught.value.hint
    assert (digests(made), audit(made), made.row().state) == (before, [], "ready")


def test_what_changed_meanwhile_survives(made, monkeypatch):
    """A point that changes between the look and the deletion stays; one that another client deleted is not an error."""
    from qmigrate.engine.fixes import edit

    original = edit._change

    def meanwhile(work, step, fixing, hand, entries):
        store = made.store() if "url" in made.qdrant else work.store
        store.overwrite_payload(made.name, 1, {"path": "/photos/2024/a.jpg", "n": 77})
        store.delete(made.name, [2])
        if store is not work.store:
            store.close()
        return original(work, step, fixing, hand, entries)

    monkeypatch.setattr(edit, "_change", meanwhile)
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, prefix="/photos/2024", reason="r")).done
    assert (done.changed, done.changed_meanwhile) == (len(IN_2024) - 1, 1)
    assert {1} == set(digests(made)) & IN_2024


@pytest.mark.parametrize("writer", [False, True])
def test_what_was_exported_is_read_again_where_somebody_writes(made, monkeypatch, writer):
    """Operation ids show that none has: no point is read again. A write between two requests is seen: its point stays."""
    monkeypatch.setattr(journal, "PAGE", 2)
    monkeypatch.setattr(delete, "_WINDOW", 2)
    monkeypatch.setattr(delete.Removal, "window", 2)
    told, write, holds = [], delete.Removal.write, barriers.Undisturbed.holds

    def disturbed(self, hand, entries):
        write(self, hand, entries)
        monkeypatch.setattr(delete.Removal, "write", write)
        store = made.store() if "url" in made.qdrant else hand.store
        store.overwrite_payload(made.name, 9, {"path": "/photos/2024/", "n": 77})
        if store is not hand.store:
            store.close()

    if writer:
        monkeypatch.setattr(delete.Removal, "write", disturbed)
    monkeypatch.setattr(barriers.Undisturbed, "holds", lambda self: told.append(holds(self)) or told[-1])
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, prefix="/photos/2024", reason="r")).done
    assert (done.changed, done.changed_meanwhile) == ((len(IN_2024) - 1, 1) if writer else (len(IN_2024), 0))
    assert (9 in digests(made)) is writer
    server = "url" in made.qdrant
    # Asked before each portion and again right before it goes.
    assert told == [server] * 2 + [server and not writer] * 4


def test_on_the_command_line_and_in_a_revision(made, tmp_path):
    """A dry run shows who would go; --yes alone is not enough; in a revision the plan counts exactly."""
    words = ["fix", "delete", made.name, "--prefix", "/photos/2024", "--reason", "folder removed"]
    shown = call(made.root, *words, "--dry-run")
    assert (shown.code, "5 of 12 points would be deleted" in shown.out) == (0, True)
    assert "/photos/2024/sub/b.jpg" in shown.out
    for more, code in ((["--yes"], 10), ([], 10), (["--yes", "--expect", "4"], 10), (["--filter", "a: [", "--yes"], 2)):
        assert call(made.root, *words, *more).code == code, more
    done = call(made.root, *words, "--yes", "--expect", "5", "--max-rate", "1000")
    assert (done.code, "5 points deleted" in done.out, "qmigrate fix undo 1" in done.out) == (0, True, True)
    assert call(made.root, "fix", "undo", "1", "--yes").code == 0
    where = tmp_path / "where.yaml"
    where.write_text("must: [{key: kind, match: {value: k1}}]")
    assert "4 points would be deleted" in call(made.root, *words[:3], "--filter", f"@{where}", "--reason", "r", "--dry-run").out
    made.revise("0002", 'def upgrade():\n    return [op.DeletePoints("{name}", prefix="/photos/2024", reason="gone"),\n'
                '            op.DeletePoints("{name}", ids=[3], reason="too")]\n')
    planned = call(made.root, "plan").out
    assert re.search(r"5 of 12 points would be deleted.*\n.*1 of 12 points would be deleted", planned), planned
    upgrade.upgrade(made.settings())
    assert set(digests(made)) == set(PATHS) - IN_2024 - {3}
    assert [(row.kind, row.count) for row in audit(made)[:2]] == [("ASSET", 1), ("DIRECTORY", 5)]
    for row in audit(made)[:2]:
        fix.undo(made.settings(), row.id)
    assert set(digests(made)) == set(PATHS)
    shown = call(made.root, "history", "--deletions", "--since", "1h")
    assert (shown.code, len(shown.out.splitlines()), "DIRECTORY (undone by 2)" in shown.out) == (0, 7, True), shown.text
    rows = call(made.root, "history", made.name, "--deletions", "--type", "directory", "--target", "2024", "--csv").out
    assert [line.split(",")[0] for line in rows.splitlines()] == ["id", "3", "1"]
    found = call(made.root, "history", "--deletions", "--actor", "nobody@*", "--json").json["data"]["rows"]
    assert (found, call(made.root, "history", "--csv").code) == ([], 2)


PRESETS = {
    "session": {"collection": "", "sql": SESSION.replace(":s", ":value"), "type": "SESSION", "reason": "session reset"},
    "kind": {
        "filter": {"must": [{"key": "kind", "match": {"value": ":value"}}, {"key": "n", "range": {"lt": ":below"}}]},
        "type": "CATEGORY",
    },
    "folder": {"collection": "", "prefix": ":value", "filter": {"must": [{"key": "n", "match": {"value": ":org"}}]}},
    "wrong": {"collection": "", "sqll": "SELECT 1"},
}


def test_presets_are_deletions_with_a_name(made):
    """A service's session, category or tenant: values are filled in by name; one that is missing or unknown is refused."""
    known = {name: {**entry, **({"collection": made.name} if "collection" in entry else {})} for name, entry in PRESETS.items()}
    made.extra["fixes"] = {"max_share": 0.6, "presets": known}
    made.__post_init__()
    words = ["fix", "delete", "--preset"]
    done = call(made.root, *words, "session", "--value", "12", "--yes", "--expect", "2")
    assert (done.code, [(row.kind, row.count, row.reason) for row in audit(made)]) == (0, [("SESSION", 2, "session reset")])
    shown = call(made.root, "fix", "delete", made.name, "--preset", "kind", "--value", "k1", "--param", "below=5", "--reason", "r",
                 "--dry-run", "--json").json["data"]["previews"][0]
    assert {one["id"] for one in shown["sample"]} == {one for number, one in enumerate(PATHS) if number % 3 == 1 and number < 5}
    for more, code, said in (
        (["session"], 2, "needs a value for value"),
        (["session", "--value", "1", "--param", "valeu=2"], 2, "no parameter valeu"),
        (["sesion", "--value", "1"], 2, 'did you mean "session"'),
        (["folder", "--value", "/photos", "--reason", "r"], 2, "needs a value for org"),
        (["kind", "--value", "k1", "--param", "below=5", "--reason", "r"], 2, "names no collection"),
        (["wrong", "--reason", "r"], 2, "no key 'sqll'"),
        (["session", "--value", "12", "--id", "1"], 2, "those of the preset"),
        (["folder", "--value", "/photos", "--param", "org=1"], 2, "a reason is required"),
    ):
        answer = call(made.root, *words, *more, "--dry-run")
        assert (answer.code, said in answer.err) == (code, True), answer.text


#: A payload value as the application writes it, what is typed, how many go, and the note on the types.
TYPED = [
    ("90", '"90"', 1, 'asset_id: text "90"'),
    ("90", "90", 0, "`asset_id` holds texts, and is compared with the number 90: a text is written '\"90\"'"),
    (90, "90", 1, "asset_id: number 90"),
    (90, '"90"', 0, "the number is written 90, without quotes"),
    ("007", "007", 1, 'asset_id: text "007"'),
    ("2024-01-01", "2024-01-01", 1, 'asset_id: text "2024-01-01"'),
    ("1e5", "1e5", 1, 'asset_id: text "1e5"'),
    (True, "json:true", 1, "asset_id: boolean true"),
    (True, "true", 0, "it is written json:true"),
    ("a\tb", "a\tb", 1, "asset_id: text"),
    ("😀", '"\\ud83d\\ude00"', 1, 'asset_id: text "😀"'),
]


@pytest.mark.parametrize(("held", "typed", "goes", "words"), TYPED, ids=lambda one: repr(one)[:20])
def test_a_preset_selects_the_type_that_is_meant(made, held, typed, goes, words):
    """Strings and numbers are kept apart, the preview names them, and reports where the payload holds something else."""
    where = {"must": [{"key": "asset_id", "match": {"value": ":value"}}]}
    presets = {"asset": {"collection": made.name, "filter": where, "reason": "r", "max_share": 1.0}}
    made.extra["fixes"] = {"presets": presets}
    made.__post_init__()
    store = made.store()
    write(store, made.name, [Point(1, {"asset_id": held}, {"a": [1.0] * 8})])
    store.close()
    args = ("fix", "delete", "--preset", "asset", "--value", typed, "--yes")
    shown = call(made.root, *args, "--dry-run")
    assert f"{goes} of 12 points would be deleted" in shown.out, shown.text
    assert words in " ".join(shown.out.split())
    done = call(made.root, *args, "--expect", str(goes))
    assert done.code == 0, done.text
    assert (1 in digests(made)) == (not goes)
    if not goes:
        assert "0 points: `asset_id` holds" in " ".join(done.out.split())


def test_a_must_not_of_another_type_is_named_before_everything_goes(made):
    """Under must_not a value of the wrong type means every point, and the preview reports it."""
    where = '{"must_not": [{"key": "kind", "match": {"value": 7}}]}'
    shown = call(made.root, "fix", "delete", made.name, "--filter", where, "--reason", "r", "--dry-run")
    assert "12 of 12 points would be deleted" in shown.out
    assert "`kind` holds texts, and is compared with the number 7" in " ".join(shown.out.split())


#: What is given, and how the audit names it.
TARGETS = [
    (("--id", "5"), "5"),
    (("--id", "5", "--id", "2"), "5, 2"),
    (("--prefix", "/photos/2024/"), "/photos/2024/"),
    (("--filter", '{"must": [{"key": "n", "match": {"value": 2}}]}'), '{"must": [{"key": "n", "match": {"value": 2}}]}'),
    (("--sql", "SELECT asset AS id\nFROM sessions WHERE session = :s", "--param", "s=12"), "s=12"),
    (("--sql", "SELECT asset AS id\nFROM sessions WHERE asset = 5"), "SELECT asset AS id FROM sessions WHERE asset = 5"),
    (("--preset", "session", "--value", "12"), "12"),
    (("--preset", "session", "--value", "77"), "77"),
    (("--preset", "folder", "--value", "/photos/2024/"), "/photos/2024/"),
]


@pytest.mark.parametrize(("said", "target"), TARGETS, ids=lambda one: str(one)[-30:])
def test_the_audit_has_what_was_said_also_of_nothing(made, said, target):
    """A deletion is recorded by what was asked for, as it was given, and is recorded although it found no point."""
    query = "SELECT asset AS id FROM sessions WHERE session = :value"
    presets = {
        "session": {"collection": made.name, "sql": query, "reason": "r"},
        "folder": {"collection": made.name, "prefix": ":value", "reason": "r"},
    }
    made.extra["fixes"] = {"presets": presets, "max_share": 1.0}
    made.__post_init__()
    collection = () if said[0] == "--preset" else (made.name,)
    args = ("fix", "delete", *collection, *said, "--reason", "r", "--yes", "--max-share", "1")
    first = call(made.root, *args)
    again = call(made.root, *args)
    # Assets that were named one by one and are not there: reported by a code of its own, and recorded all the same.
    assert (first.code, again.code) == (0, 10 if "--id" in said else 0), first.text + again.text
    newest, oldest = audit(made)
    assert (oldest.target, newest.target, newest.count) == (target, target, 0)
    assert "Undo it" not in again.out


@pytest.mark.parametrize(
    ("value", "words"), [("\ud83d", "surrogate"), (float("nan"), "NaN")], ids=["surrogate", "nan"]
)
def test_a_filter_that_is_no_json_is_refused_from_python_too(value, words):
    """What no payload can hold is refused before anything is asked."""
    where = {"must_not": [{"key": "kind", "match": {"value": value}}]}
    with pytest.raises(PlanError, match=words):
        op.DeletePoints("docs", filter=where, reason="r").check_words()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--id", "1", "--flag", "gone"), "--flag goes with --soft"),
        (("--id", "1", "--flag", "deleted"), "--flag goes with --soft"),
        (("--id", "1", "--field", "n"), "--field goes with --prefix"),
        (("--id", "1", "--age-field", "n"), "--age-field goes with --older-than"),
        (("--id", "1", "--key", "uid"), "--key goes with --sql"),
        (("--id", "1", "--database", "other"), "--database goes with --sql"),
        (("--preset", "p", "--field", "n"), "--field can't go with --preset"),
        (("--preset", "p", "--database", "other"), "--database can't go with --preset"),
        (("--preset", "p", "--flag", "gone"), "--flag goes with --soft"),
    ],
)
def test_what_an_option_would_say_is_not_dropped(tmp_path, words, said):
    """It was to bound what goes, or to mark it only: without the other one points would go all the same."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.extra = {"fixes": {"presets": {"p": {"filter": {"must": [{"key": "n", "match": {"value": 1}}]}}}}}
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3, uuids=False)
    answer = call(made.root, "fix", "delete", made.name, *words, "--reason", "r", "--yes", "--max-share", "1")
    assert (answer.code, said in answer.err, len(made.contents())) == (2, True, 3)
