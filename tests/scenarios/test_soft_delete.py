"""Points that are only marked as deleted, what readers see, when gc takes them; and deletion by age."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
import yaml
from qdrant_client import models
from tests.conftest_postgres import fresh_database
from tests.harness import CREATE, Deployment, audit, make_point, write
from tests.scenarios.cli import call

from qmigrate import fix as program
from qmigrate import op
from qmigrate.cli.app import root
from qmigrate.commands import fix, gc, upgrade
from qmigrate.engine.fixes import edit
from qmigrate.errors import PlanError, RefusedError
from qmigrate.ledger import tables
from qmigrate.ledger.reader import present
from qmigrate.store import records

NOW = datetime.now(UTC)


def ago(days: float) -> datetime:
    """A moment of the past."""
    return NOW - timedelta(days=days)


#: Id -> ``created_at``: texts with and without a zone, seconds, milliseconds (no seconds), a year, null; some without.
CREATED = {
    1: ago(100).isoformat(),
    2: ago(10).isoformat(),
    3: int(ago(100).timestamp()),
    4: int(ago(10).timestamp()),
    5: int(ago(100).timestamp() * 1000),
    6: 2019,
    7: None,
    8: ago(200).strftime("%Y-%m-%dT%H:%M:%SZ"),
}
OLD = {1, 3, 8}


@pytest.fixture
def made(deployment: Deployment, request):
    """Local mode with SQLite, a server with PostgreSQL: points of several ages, and some without any."""

    def prepared() -> Deployment:
        deployment.revise("0001", CREATE)
        upgrade.upgrade(deployment.settings())
        points = [make_point(number) for number in range(20)]
        for point in points:
            point.payload.update({"created_at": CREATED[point.id]} if point.id in CREATED else {})
        store = deployment.store()
        write(store, deployment.name, points)
        store.close()
        return deployment

    deployment.extra["fixes"] = {"max_share": 0.6}
    if "url" not in deployment.qdrant:
        deployment.__post_init__()
        yield prepared()
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        deployment.ledger_url = url
        deployment.__post_init__()
        yield prepared()


def seen(made: Deployment, where=None) -> set:
    """Ids that a reader gets who leaves out what is marked."""
    found = program.visible(where)
    assert isinstance(found, models.Filter)
    store = made.store()
    try:
        pages = store.scan(made.name, where=found.model_dump(mode="json", exclude_none=True))
        return {records.point_id(row) for page in pages for row in page}
    finally:
        store.close()


def put(made: Deployment, identifier: int, value) -> None:
    """Write the key of the mark as an application does."""
    payload = {**made.contents()[identifier][0], "deleted": value}
    if value is None:
        del payload["deleted"]
    store = made.store()
    store.overwrite_payload(made.name, identifier, payload)
    store.close()


def soon(made: Deployment) -> None:
    """Marks of this collection are due at once."""
    made.extra["collections"] = {made.name: {"fixes": {"soft_delete": "0s"}}}
    made.__post_init__()


def forget_journals(made: Deployment) -> None:
    """The ledger as an earlier version left it, which kept them for a time only."""
    engine = sqlalchemy.create_engine(made.settings().ledger.url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.delete(tables.bases))
    engine.dispose()


#: Who has written the key of the mark by the time of gc: the value that it has then, made of the recorded one.
STAYS = {
    "never marked by us": (4, lambda mark: {"at": "2001-01-01T00:00:00+00:00", "reason": "of the application"}),
    "the very same mark on another point": (5, lambda mark: mark),
    "written again": (1, lambda mark: {**mark, "at": "2001-01-01T00:00:00+00:00"}),
    "removed": (2, lambda mark: None),
}


def test_gc_deletes_only_what_this_ledger_has_marked(made):
    """A flag of the application's, a mark that was written again or removed: the points stay, counted by why."""
    everything, settings = set(made.contents()), made.settings()
    program.delete_points(made.name, ids=[1, 2, 3], reason="moved", soft=True, expect=3, settings=settings)
    mark = made.contents()[1][0]["deleted"]
    for identifier, value in STAYS.values():
        put(made, identifier, value(mark))
    soon(made)
    (shown,) = gc.review(made.settings()).purges
    assert (shown.points, dict(shown.left)) == (1, {"not_ours": 2, "written_again": 1, "mark_removed": 1})
    done = gc.gc(made.settings())
    assert (done.exit_code, set(made.contents())) == (0, everything - {3})
    answer = call(made.root, "gc")
    assert (answer.code, "2 points: deleted.at is old" in answer.out, "Nothing to collect" in answer.out) == (0, True, True)
    # A purge is undone to keep the points: the next gc leaves them.
    fix.undo(made.settings(), audit(made)[0].id)
    (shown,) = gc.gc(made.settings()).purges
    assert (shown.points, dict(shown.left), set(made.contents())) == (0, {"not_ours": 4}, everything)
    # Where the record is gone, it is unknown which marks are of it.
    program.delete_points(made.name, ids=[6], reason="moved", soft=True, expect=1, settings=settings)
    forget_journals(made)
    (shown,) = gc.gc(made.settings()).purges
    assert (shown.points, len(shown.forgotten), dict(shown.left)) == (0, 1, {"not_ours": 5})
    assert set(made.contents()) == everything


def test_the_record_of_marks_is_kept_until_gc_has_followed_it(made):
    """However long gc is late: other fixes don't forget which points were marked."""
    everything, settings = set(made.contents()), made.settings()
    program.delete_points(made.name, ids=[1, 2], reason="moved", soft=True, expect=2, settings=settings)
    soon(made)
    made.extra["fixes"] = {**made.extra["fixes"], "undo": "0s"}
    made.__post_init__()
    program.delete_points(made.name, ids=[9], reason="gone", expect=1, settings=made.settings())
    assert [one.points for one in gc.review(made.settings()).purges] == [2]
    gc.gc(made.settings())
    assert set(made.contents()) == everything - {1, 2, 9}


ODD = models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="odd"))])


def test_marked_points_are_hidden_given_back_and_purged(made):
    """A mark has when and why; readers leave it out; gc deletes it after its time, exported, and both can be undone."""
    settings, before = made.settings(), made.contents()
    everything = set(before)
    (done,) = program.delete_points(made.name, ids=[1, 2, 3, 99], reason="moved", soft=True, expect=3, settings=settings).done
    assert (done.changed, done.verified, done.counts["not_there"]) == (3, 3, 1)
    mark = made.contents()[1][0]["deleted"]
    assert mark["reason"] == "moved"
    assert abs(datetime.fromisoformat(mark["at"]) - NOW) < timedelta(hours=1)
    assert (seen(made), seen(made, ODD)) == (everything - {1, 2, 3}, {one for one in everything - {2} if one % 2 == 0})
    assert seen(made, ODD.model_dump(exclude_none=True)) == seen(made, ODD)
    row = audit(made)[0]
    assert (row.kind, row.count, row.facts["flag"], row.facts["type"]) == ("SOFT_DELETE", 0, "deleted", "ASSET")
    assert fix.review(settings, op.DeletePoints(made.name, ids=[1, 2, 3], reason="r", soft=True)).previews[0].counts["already"] == 3
    # Another client has changed the mark of one since.
    put(made, 2, {"at": mark["at"], "reason": "mine"})
    (undone,) = fix.undo(settings, done.log).done
    assert (undone.changed, undone.counts["newer"], seen(made)) == (2, 1, everything - {2})
    assert {one: value for one, value in made.contents().items() if one != 2} == {one: before[one] for one in everything - {2}}
    # What was undone marks nothing any more, and what another client wrote is not ours.
    soon(made)
    assert not gc.review(made.settings()).anything
    program.delete_points(made.name, ids=[3, 4], reason="again", soft=True, expect=2, settings=settings)
    put(made, 2, {"at": "2001-01-01T00:00:00+00:00", "reason": "mine"})
    shown = call(made.root, "gc", "--dry-run")
    assert (shown.code, "2 points with deleted.at before" in shown.out) == (0, True), shown.text
    gone = call(made.root, "gc", "--yes")
    assert (gone.code, "2 points marked as deleted; qmigrate fix undo 4" in gone.out) == (0, True), gone.text
    assert "1 point: deleted.at is old, and no soft deletion of this ledger holds" in gone.out, gone.text
    assert set(made.contents()) == everything - {3, 4}
    assert [(row.kind, row.count) for row in audit(made)] == [("PURGE", 2), ("SOFT_DELETE", 0), ("UNDO", 0), ("SOFT_DELETE", 0)]
    fix.undo(made.settings(), 4)
    assert made.contents()[3][0]["deleted"]["reason"] == "again"
    assert not gc.review(made.settings()).anything
    assert Path(audit(made)[1].facts["file"]).stat().st_mode & 0o777 == 0o600


def test_a_mark_never_writes_over_the_application_s_own_key(made):
    """Another value under the key, or strict mode without an index on the time: refused, with the way on."""
    before = made.contents()
    with pytest.raises(RefusedError, match="kind = 'even'") as caught:
        fix.fix(made.settings(), op.DeletePoints(made.name, ids=[1], reason="r", soft=True, flag="kind"))
    assert "--flag" in caught.value.hint
    for given, said in (({"flag": "a.b"}, "not a payload key"), ({"export": False}, "doesn't go with soft")):
        with pytest.raises(PlanError, match=said):
            fix.fix(made.settings(), op.DeletePoints(made.name, ids=[1], reason="r", soft=True, **given))
    assert (made.contents(), audit(made)) == (before, [])
    words = ["fix", "delete", made.name, "--id", "1", "--reason", "r", "--soft", "--flag", "hidden", "--yes", "--expect", "1"]
    if "url" in made.qdrant:
        strict = "op.UpdateCollection('{name}', strict_mode_config={{'enabled': True, 'unindexed_filtering_retrieve': False}})"
        made.revise("0002", f"def upgrade():\n    return [{strict}]\n")
        upgrade.upgrade(made.settings())
        answer = call(made.root, *words)
        assert (answer.code, "hidden.at has none" in answer.err, "CreatePayloadIndex" in answer.err) == (10, True, True)
        made.revise("0003", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "hidden.at", PayloadSchemaType.DATETIME)]\n')
        upgrade.upgrade(made.settings())
    answer = call(made.root, *words)
    assert (answer.code, "1 point marked as deleted" in answer.out) == (0, True), answer.text
    # In a revision the plan counts what it would mark.
    soft = 'op.DeletePoints("{name}", ids=[3, 4], soft=True, flag="hidden", reason="r")'
    made.revise("0004", f"def upgrade():\n    return [{soft}]\n")
    assert "2 of 20 points would be marked as deleted" in call(made.root, "plan").out
    upgrade.upgrade(made.settings())
    assert [(row.kind, row.facts["flag"]) for row in audit(made)] == [("SOFT_DELETE", "hidden")] * 2
    if "url" in made.qdrant:
        # Without the index they can't be found any more: gc reports it, and does the rest.
        made.revise("0005", 'def upgrade():\n    return [op.DropPayloadIndex("{name}", "hidden.at")]\n')
        upgrade.upgrade(made.settings())
        assert "hidden.at" in gc.review(made.settings()).purges[0].problem
        assert [one.exit_code for one in gc.gc(made.settings()).spared] == [10]
        assert [call(made.root, "gc", one).code for one in ("--yes", "--dry-run")] == [10, 0]
        _gc_says_what_it_can_not_find(made)
        made.revise("0006", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "hidden.at", PayloadSchemaType.DATETIME)]\n')
        upgrade.upgrade(made.settings())
    store = made.store()
    where = program.visible(flag="hidden").model_dump(mode="json", exclude_none=True)
    assert len([row for page in store.scan(made.name, where=where) for row in page]) == 17
    store.close()


def _gc_says_what_it_can_not_find(made: Deployment) -> None:
    """Marked points that can't be found are exit 10 where nothing else goes, too, and whether a question was asked or not."""
    lines = ("points that are marked as deleted can't be found", "→ index hidden.at: op.CreatePayloadIndex")
    alone = [call(made.root, "gc", *words) for words in (["--yes"], [], ["--dry-run"])]
    assert [one.code for one in alone] == [10, 10, 0]
    for one in alone:
        assert [one.out.count(line) for line in lines] == [1, 1], one.text
        assert ("Nothing to collect" in one.out, "would go" in one.out) == (False, False), one.text
    machine = call(made.root, "gc", "--yes", "--json")
    assert (machine.code, [one["collection"] for one in machine.json["data"]["spared"]]) == (10, [made.name])


def test_age_is_counted_from_when_the_fix_began(made, monkeypatch):
    """Times as texts and in seconds count, nothing else; a resumed run has the border of its beginning."""
    settings, everything = made.settings(), set(made.contents())
    wanted = op.DeletePoints(made.name, older_than={"field": "created_at", "age": "90d"}, reason="retention")
    for age in ("90d", "90 days", timedelta(days=90)):
        said = op.DeletePoints(made.name, older_than={"field": "created_at", "age": age}, reason="retention")
        assert said == wanted
    (preview,) = fix.review(settings, wanted).previews
    assert {one["id"] for one in preview.sample} == OLD

    def stop(step, work):
        raise RuntimeError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(edit, "write", lambda *_: stop(None, None))
        with pytest.raises(RuntimeError):
            fix.fix(settings, wanted, expect=3)
    # It is found interrupted much later, when more would be old enough.
    with monkeypatch.context() as patched:
        patched.setattr(edit, "present", lambda ledger: present(ledger) + timedelta(days=85))
        (done,) = fix.fix(settings, wanted, expect=3).done
    assert (done.changed, set(made.contents())) == (3, everything - OLD)
    row = audit(made)[0]
    assert (row.kind, row.target, row.count) == ("AGE", "created_at older than 90 days", 3)
    assert datetime.fromisoformat(row.facts["counted_from"]) - NOW < timedelta(days=1)
    fix.undo(settings, done.log)
    if "url" in made.qdrant:
        # By the index times are texts.
        made.revise("0002", 'def upgrade():\n    return [op.CreatePayloadIndex("{name}", "created_at", PayloadSchemaType.DATETIME)]\n')
        upgrade.upgrade(made.settings())
        (preview,) = fix.review(settings, wanted).previews
        assert {one["id"] for one in preview.sample} == {1, 8}
    with pytest.raises(PlanError, match="neither soft nor by age"):
        program.delete_points(made.name, ids=[1], soft=True, erase=True, reason="asked", settings=settings)
    for given in ({"age": "90d"}, {"field": "f", "age": "soon"}, {"field": "f", "age": 0}, {"field": "f", "age": 90}, {"field": "f", "age": 90.0}, {"field": "f", "age": ["1d"]}, "90d"):
        with pytest.raises(PlanError, match="older_than"):
            fix.fix(settings, op.DeletePoints(made.name, older_than=given, reason="r"))


def test_retention_is_a_preset_for_a_cron_job(made):
    """``--yes --max-share`` is consent where the number is unknown; more than that share is refused with 10."""
    preset = {"collection": made.name, "older_than": {"field": "created_at", "age": ":age"}, "reason": "retention"}
    made.extra["fixes"] = {"presets": {"retention": preset}}
    made.__post_init__()
    words = ["fix", "delete", "--preset", "retention", "--param", "age=90d", "--yes"]
    for more, code in (([], 10), (["--max-share", "0.1"], 10), (["--max-share", "0.2", "--older-than", "1d"], 2)):
        assert call(made.root, *words, *more).code == code, more
    done = call(made.root, *words, "--max-share", "0.2")
    assert (done.code, "deleted" in done.out, OLD & set(made.contents())) == (0, True, set()), done.text
    again = call(made.root, *words, "--max-share", "0.2")
    # That nothing was old enough is recorded, too.
    assert (again.code, [row.count for row in audit(made)]) == (0, [0, 3]), again.text
    typed = call(made.root, "fix", "delete", made.name, "--older-than", "5d", "--age-field", "created_at", "--reason", "r", "--dry-run")
    assert "2 points would be deleted" in typed.out, typed.text


def test_the_cron_job_of_the_docs_fits_the_command_line():
    """The manifest in docs/fixes.md is one, and what it runs is a command line that is understood."""
    text = (Path(__file__).parents[2] / "docs" / "fixes.md").read_text()
    manifests = [yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:]]
    (job,) = [one for one in manifests if isinstance(one, dict) and one.get("kind") == "CronJob"]
    spec = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert (spec["restartPolicy"], job["spec"]["concurrencyPolicy"]) == ("Never", "Forbid")
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        program_name, *words = [*container["command"], *container.get("args", ())]
        assert program_name == "qmigrate"
        command, left = root, shlex.split(shlex.join(words))
        while hasattr(command, "commands"):
            command = command.commands[left.pop(0)]
        command.make_context(command.name, left, resilient_parsing=False)
