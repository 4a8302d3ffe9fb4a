"""Payload sync: drift between payloads and SQL is found, counted, capped, repaired in groups, recorded and undone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.harness import audit
from tests.scenarios.app_sql import FACES, App, application, drift
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.commands.fix import Narrow
from qmigrate.errors import ConfigError, PlanError, RefusedError, RowsError, UsageError

#: What `drift` makes of sixty points.
COUNTS = {"rows": 60, "missing": 2, "different": 12, "extra": 2, "without_row": 1, "without_point": 1}
CHANGED = 15


@pytest.fixture
def app(deployment, app_url) -> App:
    """Local mode with SQLite, and a server with PostgreSQL: the application's SQL and the ledger in one database."""
    return application(deployment, app_url)


def test_drift_is_counted_mended_recorded_and_undone(app):
    """Every kind of drift is found exactly; the sync makes payloads equal to SQL; the undo restores what was there."""
    settings = app.made.settings()
    assert fix.review(settings, app.sync()).changes == 0
    assert fix.fix(settings, app.sync()).changed == 0
    assert audit(app.made) == []
    drift(app)
    before = app.payloads()
    seen = fix.review(settings, app.sync())
    (preview,) = seen.previews
    assert (preview.points, preview.changes, dict(preview.counts), seen.exit_code) == (60, CHANGED, COUNTS, 4)
    assert preview.sample[0] == {"id": 1, "before": {"person": "p1"}, "after": {"person": "p9"}}
    assert app.payloads() == before
    sampled = fix.review(settings, app.sync(), Narrow(sample=60)).previews[0]
    assert (sampled.changes, sampled.counts["sampled"]) == (CHANGED, 60)

    (done,) = fix.fix(settings, app.sync(reason="merge"), expect=CHANGED).done
    assert (done.changed, done.verified, done.changed_meanwhile, done.gone) == (CHANGED, CHANGED, 0, 0)
    wanted = {**{one: value for one, value in app.rows().items() if one != 5000}, 30: before[30]}
    assert app.payloads() == wanted
    assert fix.review(settings, app.sync()).changes == 0
    (row,) = audit(app.made)
    assert (row.kind, row.count, row.reason, row.collection) == ("PAYLOAD_SYNC", 0, "merge", app.made.name)
    assert (row.id, row.facts["changed"], row.facts["counts"]) == (done.log, CHANGED, COUNTS)
    newest = status.history(settings).rows[0]
    assert (newest.direction, newest.strategy, newest.collection) == ("fix", "edit", app.made.name)
    assert app.made.row().revision == "0001"

    store = app.made.store()
    store.overwrite_payload(app.made.name, 1, {"person": "newer"})
    store.delete(app.made.name, [2])
    store.close()
    assert dict(fix.undo_review(settings, done.log).previews[0].counts) == {"newer": 1, "gone": 1}
    (undone,) = program.undo(done.log, settings=settings).done
    assert undone.changed == CHANGED - 2
    assert app.payloads() == {**{one: value for one, value in before.items() if one != 2}, 1: {"person": "newer"}}
    with pytest.raises(RefusedError, match=f"undone already, by fix {undone.log}"):
        fix.undo(settings, done.log)
    program.undo(undone.log, settings=settings)
    assert app.payloads() == {**{one: value for one, value in wanted.items() if one != 2}, 1: {"person": "newer"}}


def test_only_some_points(app):
    """Given ids right after a commit, or rows since a moment; what is outside stays as it drifted."""
    drift(app)
    settings = app.made.settings()
    once = {"sql": FACES, "fields": ["person", "score"], "settings": settings, "max_share": 1.0}
    done = program.sync_payload(app.made.name, ids=[1, "2", 30, 40, 4711], **once).done[0]
    assert (done.changed, done.counts["without_row"], done.counts["rows"]) == (3, 1, 3)
    assert {one: app.payloads()[one].get("person") for one in (1, 2, 3)} == {1: "p9", 2: "p9", 3: "p3"}
    sql = "SELECT id, person, score, changed_at FROM faces"
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    done = program.sync_payload(app.made.name, since=("changed_at", moment), **{**once, "sql": sql}).done[0]
    assert (done.changed, done.counts["rows"]) == (11, 13)
    (left,) = program.check_payload(app.made.name, sql=sql, fields=["person", "score"], settings=settings).previews
    assert [one["id"] for one in left.sample] == [21]


def test_rows_since_a_moment_on_the_command_line(app):
    """The moment itself counts; SQLite's seconds are a time as well, what is none is an error, and never "In order"."""
    drift(app)
    sql = "SELECT id, person, score, changed_at FROM faces"
    words = ["fix", "sync", app.made.name, "--sql", sql, "--field", "person", "--field", "score"]
    words += ["--check", "--json", "--since-column", "changed_at", "--since"]

    def counted(since: str) -> tuple:
        found = call(app.made.root, *words, since)
        return found.code, found.json["data"]["previews"][0]["counts"]["rows"]

    moments = {"2026-06-01T00:00": (4, 13), "2026-06-01T00:00:00.000001": (0, 0), "2026-06-01T02:00+02:00": (4, 13)}
    assert {one: counted(one) for one in moments} == moments
    early = call(app.made.root, *words, "0001-01-01T00:00+14:00")
    assert (early.code, "is not a moment of UTC" in early.json["error"]["message"]) == (2, True)
    if app.url.startswith("sqlite"):
        app.run("UPDATE faces SET changed_at = unixepoch(changed_at)")
        assert {one: counted(one) for one in moments} == moments
        app.run("UPDATE faces SET changed_at = '1.6.2026' WHERE id = 3")
        wrong = call(app.made.root, *words, "2026-06-01T00:00")
        assert (wrong.code, "is not a time in the row 3: '1.6.2026'" in wrong.json["error"]["message"]) == (2, True)


def test_the_revision_the_plan_and_the_way_back(app):
    """In a revision it is planned with exact counts, applied after the rebuild before it; a rollback lets points be."""
    app.made.revise("0002", 'def upgrade():\n    return [op.AddVector("{name}", "b", VectorParams(size=16, '
                    'distance=Distance.COSINE), values=Embed("words", text="text"))]\n')
    body = f'def upgrade():\n    return [op.SyncPayload("{{name}}", {FACES!r}, fields=["person"], max_share=0.5)]\n'
    app.made.revise("0003", body)
    drift(app)
    settings = app.made.settings()
    (item,) = upgrade.plan(settings).collections
    assert [step.kind for step in item.job.steps] == ["build", "golive", "edit"]
    assert [(found["changes"], found["points"]) for found in item.edits] == [(14, 60)]
    assert any("14 of 60 points would change (60 rows, 1 missing, 12 different, 1 extra" in line for line in item.reasons)
    upgrade.upgrade(settings)
    assert (app.made.row().revision, app.made.row().state) == ("0003", "ready")
    (row,) = audit(app.made)
    assert row.facts["changed"] == 14
    assert fix.review(settings, app.sync(fields=["person"])).changes == 0
    plan = back.rollback(settings, "-1", dry_run=True).plan
    assert any("the points stay" in line for line in plan.collections[0].lines)
    back.rollback(settings, "-1")
    assert app.made.row().revision == "0002"
    assert fix.review(settings, app.sync(fields=["person"])).changes == 0
    app.made.revise("0003", body.replace("op.Sync", 'op.CreatePayloadIndex("{name}", "n", "integer"), op.Sync'), down="0002")
    with pytest.raises(PlanError, match="a data fix is a step of its own"):
        upgrade.plan(app.made.settings())


#: What is given instead of the usual, and how it is refused.
REFUSED = [
    ({"max_share": 0.1}, RefusedError, "15 of 60 points .* more than the cap of 10%"),
    ({"max_share": 0}, PlanError, "above 0"),
    ({"sql": "DELETE FROM faces"}, PlanError, "not a SELECT"),
    ({"sql": "SELECT id, person FROM faces"}, RowsError, "column 'score' not at all"),
    ({"sql": FACES + " UNION ALL SELECT 1, 'x', 2"}, RowsError, "the id 1 more than once"),
    ({"sql": "SELECT CASE WHEN id = 50 THEN NULL ELSE id END AS id, person, score FROM faces"}, RowsError, "NULL"),
    ({"sql": "SELECT person AS id, person, score FROM faces"}, RowsError, "not a point id|NULL"),
    ({"fields": {"deep[].person": "person"}}, PlanError, "not a payload key"),
    ({"fields": {"deep": "person", "deep.person": "person"}}, PlanError, "deep.person lies inside deep"),
    ({"json": ["other"]}, PlanError, "json names 'other'"),
    ({"json": ["person"]}, RowsError, "column 'person' of the row .* is not JSON"),
    (
        {"sql": "SELECT id, '\"' || SLASH || 'ud83d\"' AS person, score FROM faces", "json": ["person"]},
        RowsError,
        "is not JSON: .* surrogates not allowed",
    ),
    ({"fields": []}, PlanError, "no field"),
    ({"sql": FACES + " WHERE person = :who"}, PlanError, "parameter :who"),
    ({"database": "other"}, ConfigError, "no database 'other'"),
    ({"sql": FACES + " WHERE id < 0"}, RefusedError, "no row at all"),
    ({"sql": "SELECT id + 9000 AS id, person, score FROM faces"}, RefusedError, "60 rows, and none has a point"),
]


def test_nothing_changes_unless_every_check_passed(app):
    """Caps, queries that aren't a SELECT or fail half-way, ids that don't fit: refused before the first write."""
    drift(app)
    before = app.payloads()
    for change, error, words in REFUSED:
        calls = (fix.fix,) if change == {"max_share": 0.1} else (fix.review, fix.fix)
        for refused in calls:
            with pytest.raises(error, match=words):
                refused(app.made.settings(), app.sync(**_spelled(app, change)))
    assert (app.payloads(), audit(app.made), app.made.row().state) == (before, [], "ready")


def _spelled(app: App, change: dict) -> dict:
    """A backslash as the database makes one."""
    made = "chr(92)" if app.url.startswith("postgresql") else "char(92)"
    return {name: value.replace("SLASH", made) if isinstance(value, str) else value for name, value in change.items()}


def test_what_changed_since_it_was_found_is_let_be(app, monkeypatch):
    """A row or a point that changes between finding and writing stays as it is, and the next sync finds it."""
    from qmigrate.engine.fixes import edit

    drift(app)
    settings = app.made.settings()
    original = edit._change

    def meanwhile(work, step, fixing, hand, entries):
        app.run("UPDATE faces SET person = 'p7' WHERE id = 1")
        point = app.made.store() if "url" in app.made.qdrant else work.store
        point.overwrite_payload(app.made.name, 2, {"person": "p8", "score": 2.0})
        point.delete(app.made.name, [3])
        if point is not work.store:
            point.close()
        return original(work, step, fixing, hand, entries)

    monkeypatch.setattr(edit, "_change", meanwhile)
    (done,) = fix.fix(settings, app.sync()).done
    assert (done.changed, done.changed_meanwhile, done.gone) == (CHANGED - 3, 2, 1)
    left = fix.review(settings, app.sync()).previews[0]
    assert [(one["id"], one["after"]) for one in left.sample] == [(1, {"person": "p7"}), (2, {"person": "p9"})]
    with pytest.raises(RefusedError, match="2 points .* 5 were expected"):
        fix.fix(settings, app.sync(), expect=5)
    with pytest.raises(UsageError, match="no fix 99"):
        fix.undo(settings, 99)


def test_on_the_command_line(app, tmp_path):
    """--check exits with 4 and a sample; without a terminal --yes is needed; the number for undo is printed."""
    drift(app)
    query = tmp_path / "faces.sql"
    query.write_text(FACES + " -- all of them\n")
    words = ["fix", "sync", app.made.name, "--sql-file", str(query), "--field", "person", "--field", "score=score"]
    said = call(app.made.root, *words, "--check")
    assert (said.code, "15 of 60 points would change" in said.out) == (4, True)
    assert '"p1" → "p9"' in said.out
    assert call(app.made.root, *words, "--check", "--sample", "60", "--json").json["data"]["previews"][0]["changes"] == 15
    refused = call(app.made.root, *words)
    assert (refused.code, "15 points would change, and that needs consent" in refused.err) == (10, True)
    assert "review them first (--check); --yes does it" in refused.err
    assert call(app.made.root, *words, "--yes").code == 10
    assert call(app.made.root, *words, "--yes", "--max-share", "1", "--expect", "14").code == 10
    for wrong in (["--sql", "SELECT 1"], ["--sample", "3"], ["--since", "soon"], ["--param", "x"], ["--max-share", "0"]):
        assert call(app.made.root, *words, "--yes", *wrong).code == 2, wrong
    some = call(app.made.root, *words, "--yes", "--max-share", "1", "--id", "1", "--id", "2", "--json").json["data"]
    assert some["done"][0]["changed"] == 2
    done = call(app.made.root, *words, "--yes", "--max-share", "1", "--expect", "13", "--reason", "merge")
    assert (done.code, "13 points changed" in done.out, "Undo it: qmigrate fix undo 2" in done.out) == (0, True, True)
    assert call(app.made.root, *words, "--check").code == 0
    shown = call(app.made.root, "fix", "undo", "2", "--dry-run")
    assert (shown.code, "13 of 60 points would be restored" in shown.out) == (0, True)
    assert "13 points restored" in call(app.made.root, "fix", "undo", "2", "--yes").out
    assert call(app.made.root, *words, "--check").code == 4


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("17", 17),
        ("12345678123456781234567812345678", "12345678-1234-5678-1234-567812345678"),
        (str(2**64 - 1), 2**64 - 1),
        (str(2**64), None),
        ("1" * 21, None),
    ],
)
def test_an_id_of_digits_is_a_number_or_a_uuid(written, meant):
    """A UUID without hyphens may have digits alone; what is neither is refused, and not looked for in vain."""
    operation = op.SyncPayload("c", sql="SELECT id, a FROM t", fields=["a"])
    if meant is None:
        with pytest.raises(PlanError, match="is not a point id"):
            fix.Narrow(ids=[written]).of(operation)
    else:
        assert fix.Narrow(ids=[written]).of(operation)["ids"] == [meant]
