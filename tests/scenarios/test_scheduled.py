"""Clean-up by a clock: bounded by a share, from a preset, at a rate, nothing left is success; and values inside objects."""

from __future__ import annotations

import json
import shlex

import pytest
from tests.harness import audit
from tests.scenarios.app_sql import FACES, PERSON, App, application, drift
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix
from qmigrate.engine.fixes import edit
from qmigrate.errors import RefusedError, RowsError

IDS = "SELECT id FROM faces"
PRESETS = {
    "strays": {"kind": "orphans", "sql": IDS, "reason": "nightly", "grace": "0s", "max_share": 0.1},
    "names": {"kind": "sync", "sql": FACES, "fields": ["person"], "max_share": 0.5, "reason": "nightly"},
    "gone": {"sql": IDS + " WHERE person = 'p9'", "max_share": 0.5, "reason": "nightly"},
    "person": PERSON,
}


@pytest.fixture
def app(deployment, app_url) -> App:
    """Local mode with SQLite, a server with PostgreSQL: 60 points and rows, and presets for a clock."""
    known = {name: {"collection": deployment.name, **one} for name, one in PRESETS.items()}
    deployment.extra["fixes"] = {"presets": known}
    made = application(deployment, app_url)
    made.run("CREATE TABLE wanted (value TEXT, reason TEXT, requested_at TIMESTAMP)")
    return made


#: A clean-up as a clock runs it; what makes work for it; and how much that is.
CLEAN_UPS = [
    (("orphans", "NAME", "--sql", IDS, "--reason", "r", "--grace", "0s", "--max-share", "0.1"), "DELETE FROM faces WHERE id <= 5", 5),
    (("orphans", "--preset", "strays"), "DELETE FROM faces WHERE id <= 5", 5),
    (("sync", "--preset", "names"), "UPDATE faces SET person = 'p9' WHERE id <= 5", 5),
    (("delete", "--preset", "gone"), "UPDATE faces SET person = 'p9' WHERE id <= 5", 5),
    (("retrain", "--preset", "person", "--value", "p9"), "UPDATE faces SET person = 'p9' WHERE id <= 5", 5),
]


@pytest.mark.parametrize(("words", "change", "points"), CLEAN_UPS, ids=lambda one: "-".join(one[:3]) if isinstance(one, tuple) else "")
def test_a_share_is_consent_and_nothing_left_is_success(app, words, change, points):
    """--yes with a share, given or in the preset, needs no number; the second run finds nothing and exits with 0."""
    words = ["fix", *(app.made.name if one == "NAME" else one for one in words), "--yes", "--json"]
    app.run(change)
    done = call(app.made.root, *words)
    assert done.code == 0, done.text
    data = done.json["data"]
    assert sum(one.get("changed", one.get("deleted")) for one in data.get("done", data.get("values"))) == points
    if words[1] in ("orphans", "delete"):
        # Rows without a point are not a reason for a scheduled run to fail.
        app.run("INSERT INTO faces (id) VALUES (900)")
    again = call(app.made.root, *words)
    assert again.code == 0, again.text
    data = again.json["data"]
    assert sum(one.get("changed", one.get("deleted")) for one in data.get("done", data.get("values"))) == 0


def test_more_than_the_share_is_refused(app):
    """A preset's share holds, and is shown exactly; a share on the command line takes its place."""
    app.run("DELETE FROM faces WHERE id <= 20")
    before = app.payloads()
    said = call(app.made.root, "fix", "orphans", "--preset", "strays", "--yes")
    assert (said.code, "more than the cap of 10%" in said.err) == (10, True), said.text
    said = call(app.made.root, "fix", "orphans", "--preset", "strays", "--yes", "--max-share", "0.001")
    assert (said.code, "more than the cap of 0.1%" in said.err, app.payloads() == before) == (10, True, True), said.text
    said = call(app.made.root, "fix", "orphans", "--preset", "strays", "--yes", "--max-share", "0.5")
    assert (said.code, len(app.payloads())) == (0, 40), said.text


def test_neither_a_share_nor_a_number_is_refused(app):
    """Where it is not given how many may go, --yes alone deletes nothing, whichever verb it is."""
    app.run("DELETE FROM faces WHERE id <= 5")
    before = app.payloads()
    for words in (("orphans", app.made.name, "--sql", IDS), ("delete", app.made.name, "--id", "7")):
        said = call(app.made.root, "fix", *words, "--reason", "r", "--yes")
        assert (said.code, "--max-share" in said.err) == (10, True), said.text
    assert app.payloads() == before


def test_a_sample_counts_what_was_looked_at(app):
    """Of a sample it is said how many of those in it differ, and how many of all may; a sync does so as orphans do."""
    drift(app)
    words = ["fix", "sync", app.made.name, "--sql", FACES, "--field", "person", "--field", "score", "--check", "--sample"]
    whole = call(app.made.root, *words, "500")
    assert "15 of 60 points would change (a sample of 60)" in whole.out, whole.text
    assert "15 to 15 points differ (95 %)" in whole.out
    assert "Nothing was changed: 15 of 60 points would change." in whole.out
    (few,) = call(app.made.root, *words, "50", "--json").json["data"]["previews"]
    assert few["counts"]["sampled"] == 50
    assert few["changes"] <= few["counts"]["changes_at_least"] <= 15 <= few["counts"]["changes_at_most"]
    shown = call(app.made.root, *words, "50").out
    assert " of 50 points would change (a sample of 60)" in shown, shown


def test_every_fix_keeps_to_its_rate(app, monkeypatch):
    """A rate makes portions of a second's worth, each waited for: of syncs, marks, deletions, undos and retrainings."""
    taken: list[int] = []

    class Counting(edit.Throttle):
        """Notes what it releases, and waits for nothing."""

        def take(self, points: int) -> None:
            taken.append(points)

    monkeypatch.setattr(edit, "Throttle", Counting)
    settings, name = app.made.settings(), app.made.name
    app.run("UPDATE faces SET person = 'p9' WHERE id <= 10")
    app.run("DELETE FROM faces WHERE id > 50")
    runs = {
        "sync": lambda: program.sync_payload(name, sql=FACES, fields=["person"], max_share=1, max_rate=4, settings=settings),
        "undo": lambda: program.undo(1, max_rate=4, settings=settings),
        "orphans": lambda: program.orphans(name, sql=IDS, reason="r", grace=0, max_share=1, max_rate=4, settings=settings),
        "bring back": lambda: program.undo(3, max_rate=4, settings=settings),
        "soft": lambda: program.delete_points(name, reason="r", ids=list(range(1, 11)), soft=True, max_share=1, max_rate=4, settings=settings),
        "retrain": lambda: program.retrain("person", ["p9"], max_rate=4, settings=settings),
    }
    for what, run in runs.items():
        taken.clear()
        run()
        assert taken == [4, 4, 2], what


def test_a_rate_is_no_other_fix(app, monkeypatch):
    """A fix that was interrupted and is run again at another rate is finished, and not begun a second time."""
    drift(app)
    settings = app.made.settings()

    def broken(*_):
        raise RefusedError("stopped here")

    monkeypatch.setattr(edit, "_change", broken)
    with pytest.raises(RefusedError, match="stopped here"):
        fix.fix(settings, app.sync(), expect=15, max_rate=5)
    monkeypatch.undo()
    (done,) = fix.fix(settings, app.sync(), expect=15, max_rate=5000).done
    assert done.changed == 15


NESTED = "SELECT id, person, score FROM faces"


@pytest.fixture
def deep(app) -> App:
    """The same, with the person in an object, next to a key that is the application's own."""
    store = app.made.store()
    for one in range(1, 61):
        store.overwrite_payload(app.made.name, one, {"metadata": {"person_id": f"p{one % 5}", "own": one}, "text": "t"})
    # Without the object; with another one; with something else in its place.
    store.overwrite_payload(app.made.name, 2, {"text": "t"})
    store.overwrite_payload(app.made.name, 3, {"metadata": {"own": 3}})
    store.close()
    app.run("UPDATE faces SET person = 'p' || CAST(id % 5 AS TEXT)")
    app.run("UPDATE faces SET person = 'new' WHERE id = 1")
    app.run("UPDATE faces SET person = NULL WHERE id = 4")
    return app


def payloads(app: App) -> dict:
    """Complete payloads by id."""
    return {one: payload for one, (payload, _) in app.made.contents().items()}


def test_a_value_inside_an_object_is_synced_and_undone(deep):
    """Only the value at the path changes; the object is made where it is not there, and removed again by an undo."""
    before, settings = payloads(deep), deep.made.settings()
    words = ["fix", "sync", deep.made.name, "--sql", NESTED, "--field", "metadata.person_id=person"]
    assert call(deep.made.root, *words, "--check").code == 4
    done = call(deep.made.root, *words, "--yes", "--expect", "4", "--json")
    assert done.code == 0, done.text
    (one,) = done.json["data"]["done"]
    assert (one["changed"], one["verified"], one["counts"]["missing"], one["counts"]["different"], one["counts"]["extra"]) == (4, 4, 2, 1, 1)
    changed = {1: {"metadata": {"person_id": "new", "own": 1}, "text": "t"}, 2: {"text": "t", "metadata": {"person_id": "p2"}}}
    changed |= {3: {"metadata": {"own": 3, "person_id": "p3"}}, 4: {"metadata": {"own": 4}, "text": "t"}}
    assert payloads(deep) == before | changed
    assert call(deep.made.root, *words, "--check").code == 0
    program.undo(one["log"], settings=settings)
    assert payloads(deep) == before


def test_what_is_not_an_object_is_never_replaced(deep):
    """A text where the path leads through refuses the sync, and one that came later is left alone by the undo."""
    settings, name = deep.made.settings(), deep.made.name
    wanted = op.SyncPayload(name, NESTED, fields={"metadata.person_id": "person"}, max_share=1)
    (done,) = fix.fix(settings, wanted).done
    store = deep.made.store()
    store.overwrite_payload(name, 1, {"metadata": "a text"})
    store.close()
    (undone,) = fix.undo(settings, int(done.log), overwrite=True).done
    assert (undone.changed, undone.counts["newer"], payloads(deep)[1]) == (3, 1, {"metadata": "a text"})
    before = payloads(deep)
    with pytest.raises(RefusedError, match="point 1 .* a value that is not an object around metadata.person_id"):
        fix.fix(settings, wanted)
    assert payloads(deep) == before


def test_several_values_of_one_object_and_what_changed_meanwhile(deep, monkeypatch):
    """Two paths into one object are one change of a point; a row or point that moves in between is left alone."""
    settings, name = deep.made.settings(), deep.made.name
    deep.run("UPDATE faces SET score = id")
    original = edit._change

    def meanwhile(work, step, fixing, hand, entries):
        deep.run("UPDATE faces SET person = 'later' WHERE id = 1")
        point = deep.made.store() if "url" in deep.made.qdrant else work.store
        point.overwrite_payload(name, 2, {"metadata": {"own": "later"}})
        if point is not work.store:
            point.close()
        return original(work, step, fixing, hand, entries)

    monkeypatch.setattr(edit, "_change", meanwhile)
    wanted = op.SyncPayload(name, NESTED, fields={"metadata.person_id": "person", "metadata.more.score": "score"}, max_share=1)
    (done,) = fix.fix(settings, wanted).done
    assert (done.changed, done.changed_meanwhile) == (58, 2)
    now = payloads(deep)
    assert now[5]["metadata"] == {"person_id": "p0", "own": 5, "more": {"score": 5}}
    assert (now[1]["metadata"], now[2]) == ({"person_id": "p1", "own": 1}, {"metadata": {"own": "later"}})
    assert fix.review(settings, wanted).changes == 2


def test_json_text_in_sql_is_compared_by_what_it_means(deep):
    """A column with JSON as text is an object to --json-column; without it no object is ever replaced by a text."""
    name = deep.made.name
    deep.run("CREATE TABLE documents (id BIGINT PRIMARY KEY, metadata TEXT)")
    objects = {one: payload.get("metadata") for one, payload in payloads(deep).items()}
    rows = [{"id": one, "metadata": json.dumps(found, indent=1)} for one, found in objects.items() if found]
    deep.run("INSERT INTO documents VALUES (:id, :metadata)", rows)
    deep.run("""UPDATE documents SET metadata = '{"own": 7, "person_id": "p7"}' WHERE id = 7""")
    words = ["fix", "sync", name, "--sql", "SELECT id, metadata FROM documents", "--field", "metadata"]
    before = payloads(deep)
    refused = call(deep.made.root, *words, "--yes", "--max-share", "1")
    assert (refused.code, "--json-column metadata" in refused.err, payloads(deep) == before) == (10, True, True), refused.text
    done = call(deep.made.root, *words, "--json-column", "metadata", "--yes", "--expect", "1")
    assert done.code == 0, done.text
    assert payloads(deep) == before | {7: {"metadata": {"own": 7, "person_id": "p7"}, "text": "t"}}
    assert audit(deep.made)[0].kind == "PAYLOAD_SYNC"


@pytest.mark.parametrize("kind", ["JSON", "JSONB", "TEXT"])
def test_what_a_value_inside_json_needs_is_said(deep, kind):
    """Without --json-column the error names it as it is typed; the hint is followed then, and nothing was before."""
    name, before = deep.made.name, payloads(deep)
    deep.run(f'CREATE TABLE documents (id BIGINT PRIMARY KEY, meta {kind})')
    deep.run("""INSERT INTO documents VALUES (1, '{"person": {"id": "new"}}')""")
    words = ["fix", "sync", name, "--sql", 'SELECT id, meta FROM documents', "--field", "metadata.person_id=meta.person.id"]
    refused = call(deep.made.root, *words, "--yes", "--max-share", "1")
    said = "--json-column meta"
    assert (refused.code != 0, said in refused.err, payloads(deep) == before) == (True, True, True), refused.text
    done = call(deep.made.root, *words, *shlex.split(said), "--yes", "--expect", "1")
    assert (done.code, payloads(deep)[1]["metadata"]["person_id"]) == (0, "new"), done.text
    with pytest.raises(RowsError, match="'documents.id' not at all") as caught:
        fix.review(deep.made.settings(), op.SyncPayload(name, 'SELECT id, meta FROM documents', fields={"a": "documents.id"}))
    assert "… AS documents.id" in caught.value.hint


def test_a_value_inside_json_of_sql_is_synced(deep):
    """The column is a text, the value lies inside it: it reaches the path of the payload; NULL and absent remove it."""
    name, settings = deep.made.name, deep.made.settings()
    deep.run("CREATE TABLE documents (id BIGINT PRIMARY KEY, meta TEXT)")
    texts = {1: '{"person": {"id": "new", "n": 1}}', 5: '{"person": {"id": "p5"}}', 6: '{"person": null}', 7: "{}", 8: None}
    deep.run("INSERT INTO documents VALUES (:id, :meta)", [{"id": one, "meta": text} for one, text in texts.items()])
    query = ["--sql", "SELECT id, meta FROM documents", "--json-column", "meta"]
    words = ["fix", "sync", name, *query, "--field", "metadata.person_id=meta.person.id", "--field", "n=meta.person.n"]
    done = call(deep.made.root, *words, "--yes", "--max-share", "1")
    assert done.code == 0, done.text
    now = payloads(deep)
    assert (now[1]["metadata"], now[1]["n"]) == ({"person_id": "new", "own": 1}, 1)
    assert now[5]["metadata"] == {"person_id": "p5", "own": 5}
    assert [now[one]["metadata"] for one in (6, 7, 8)] == [{"own": one} for one in (6, 7, 8)]
    assert call(deep.made.root, *words, "--check").code == 0
    deep.run("""UPDATE documents SET meta = '{"person": "text"}' WHERE id = 5""")
    with pytest.raises(RowsError, match="has no object around person.id"):
        fix.review(settings, op.SyncPayload(name, "SELECT id, meta FROM documents", fields={"a": "meta.person.id"}, json=["meta"]))
