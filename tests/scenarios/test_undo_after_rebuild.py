"""Deleted points come back into a collection that was changed since: through the very operations that changed the others."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import create_engine, text
from tests.conftest import clean
from tests.harness import Deployment, write
from tests.scenarios.test_deletion import KINDS, PATHS, digests, paths

from qmigrate import op
from qmigrate.commands import adopt, fix, gc, rollback, upgrade
from qmigrate.engine.fixes.undo import Through
from qmigrate.errors import EmbedError, RefusedError
from qmigrate.model.transform import Point
from qmigrate.ports import PayloadEdit

SHOUT = """
def shout(point):
    return {{**point.payload, "loud": point.payload["path"].upper()}}

def upgrade():
    return [
        op.TransformPoints("{name}", shout),
        op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="loud")),
        op.RenameVector("{name}", "s", "sparse", cutover="immediate"),
        op.DropVector("{name}", "m", cutover="immediate"),
        op.CreatePayloadIndex("{name}", "kind", PayloadSchemaType.KEYWORD),
    ]
irreversible = "a test"
"""
EMBED = """
def upgrade():
    return [op.AddVector("{name}", "VECTOR", VectorParams(size=16, distance=Distance.COSINE),
                         values=Embed("words", text="path", on_failure="HOW"))]
"""
TOUCH = """
def touch(point):
    return {{**point.payload, "touched": True}}

def upgrade():
    return [op.TransformPoints("{name}", touch)]
irreversible = "a test"
"""
REKEY = """
from qmigrate import Uuid5
def upgrade():
    return [op.Rekey("{name}", Uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{{path}}"), cutover="immediate")]
irreversible = "a test"
"""


@pytest.fixture
def pair(deployment, tmp_path):
    """Two deployments of the same points: from one of them some are deleted."""
    twin = Deployment(tmp_path / "twin", deployment.qdrant, f"sqlite:///{tmp_path}/twin.db")
    if "path" in deployment.qdrant:
        twin.qdrant = {"path": str(tmp_path / "twin-qdrant")}
    for made in (deployment, twin):
        made.extra.update(fixes={"max_share": 0.6})
        made.__post_init__()
        made.revise("0001", KINDS)
        upgrade.upgrade(made.settings())
        put(made, *paths())
    yield deployment, twin
    if "url" in twin.qdrant:
        clean(twin)


def put(made: Deployment, *points: Point) -> None:
    """The application writes points."""
    store = made.store()
    write(store, made.name, points)
    store.close()


def deleted(made: Deployment, *ids) -> int:
    """Delete points; the number for their undo."""
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=list(ids), reason="r")).done
    return done.log


def test_points_come_back_as_what_they_would_have_become(pair):
    """Dense, sparse and multivectors, UUIDs, nested payloads: bit by bit the twin's, through payloads, vectors and ids."""
    made, twin = pair
    ids = [point.id for point in paths()]
    logs = [deleted(made, *ids[:3], ids[-1])]
    for number, body in enumerate((SHOUT, REKEY), 2):
        for one in pair:
            one.revise(f"{number:04d}", body)
            upgrade.upgrade(one.settings())
        logs.append(deleted(made, *list(digests(made))[:2]))
    assert len(digests(made)) == len(ids) - 8
    seen = fix.undo_review(made.settings(), logs[0]).previews[0]
    assert (seen.changes, {one["after"]["path"] for one in seen.sample}) == (4, {paths()[n].payload["path"] for n in (0, 1, 2, -1)})
    for log, count in zip(logs, (4, 2, 2), strict=True):
        (done,) = fix.undo(made.settings(), log).done
        assert (done.changed, done.verified, done.counts["newer"]) == (count, count, 0)
    assert digests(made) == digests(twin)
    (again,) = fix.fix(made.settings(), op.DeletePoints(made.name, prefix="/photos/2024", reason="r")).done
    assert fix.undo_review(made.settings(), again.log).changes == 5


def test_what_is_newer_stays_and_what_can_t_be_made_is_refused(pair):
    """A point that is there again is never written over unasked; a vector that can't be filled stops the undo before it writes."""
    made, twin = pair
    bare = str(uuid.uuid4())
    put(made, Point(bare, {"kind": "without a path"}, {"a": [1.0] * 8}))
    log, bare_log = deleted(made, 1, 2), deleted(made, bare)
    made.revise("0002", SHOUT.replace('payload["path"].', 'payload.get("path", "").'))
    upgrade.upgrade(made.settings())
    put(made, Point(1, {"path": "/new", "loud": "/NEW"}, {"a": [2.0] * 8}))
    before = digests(made)
    with pytest.raises(EmbedError, match="can't be given vector 'b'"):
        fix.undo(made.settings(), bare_log)
    assert (digests(made), made.row().state) == (before, "ready")
    (done,) = fix.undo(made.settings(), log).done
    assert (done.changed, done.counts["newer"], digests(made)[1]) == (1, 1, before[1])
    log = deleted(made, 3)
    rollback.rollback(made.settings(), "0001", writes="discard")
    with pytest.raises(RefusedError, match="from after revision 0002, which was rolled back since"):
        fix.undo(made.settings(), log)
    log = deleted(twin, 2)
    twin.revise("0002", TOUCH)
    adopt.stamp(twin.settings(), "0002", only=[twin.name])
    with pytest.raises(RefusedError, match="0002 was only recorded since"):
        fix.undo(twin.settings(), log)


def test_what_can_t_be_embedded_comes_back_as_its_revision_lets_it(pair):
    """on_failure="keep_without_vector" brings the point back without it; with "drop" it stays in the file, counted."""
    made, _ = pair
    bare = str(uuid.uuid4())
    put(made, Point(bare, {"kind": "without a path"}, {"a": [1.0] * 8}))
    log = deleted(made, bare, 1)
    for number, how in ((2, "keep_without_vector"), (3, "drop")):
        made.revise(f"{number:04d}", EMBED.replace("VECTOR", f"v{number}").replace("HOW", how))
        upgrade.upgrade(made.settings())
        (done,) = fix.undo(made.settings(), log).done
        assert (done.changed, done.verified, bare in digests(made)) == ((2, 2, True) if number == 2 else (1, 1, False))
        counted = {name: done.counts.get(name, 0) for name in ("without_vector", "not_embedded")}
        assert counted == {"without_vector": int(number == 2), "not_embedded": int(number == 3)}
        log = deleted(made, *({bare, 1} & digests(made).keys()))


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_what_is_written_while_a_point_is_made_again_stays(pair, monkeypatch):
    """Models are slow: a point that the application writes since is newer, and is left alone."""
    made, _ = pair
    log = deleted(made, 1, 2)
    made.revise("0002", SHOUT)
    upgrade.upgrade(made.settings())
    ready = Through.ready

    def slow(self, points):
        found = ready(self, points)
        write(self._maker._work.store, made.name, [Point(1, {"path": "/new", "loud": "/NEW"}, {"a": [2.0] * 8})])
        return found

    monkeypatch.setattr(Through, "ready", slow)
    (done,) = fix.undo(made.settings(), log).done
    assert (done.changed, done.changed_meanwhile, done.verified) == (1, 1, 1)
    contents = made.contents()
    assert [contents[one][0]["path"] for one in (1, 2)] == ["/new", paths()[1].payload["path"]]


def synced(made: Deployment, folder, *, kind: str) -> int:
    """Give every point that SQL has another kind, all but one; the number for its undo."""
    url = f"sqlite:///{folder}/app.db"
    made.extra["databases"] = {"app": {"url": url}}
    made.__post_init__()
    # Larger numbers don't fit into SQLite.
    known = [one for one in made.contents() if one != 2**63 + 1]
    engine = create_engine(url)
    with engine.begin() as sql:
        sql.execute(text("DROP TABLE IF EXISTS kinds"))
        sql.execute(text("CREATE TABLE kinds (id, kind TEXT)"))
        sql.execute(text("INSERT INTO kinds VALUES (:id, :kind)"), [{"id": one, "kind": kind} for one in known])
    engine.dispose()
    wanted = op.SyncPayload(made.name, "SELECT id, kind FROM kinds", fields={"kind": "kind"}, max_share=1.0)
    (done,) = fix.fix(made.settings(), wanted).done
    assert done.changed == len(known)
    return done.log


def kinds(made: Deployment) -> dict:
    """Path -> kind."""
    return {payload["path"]: payload.get("kind") for payload, _ in made.contents().values()}


def edited(made: Deployment, path: str, **values) -> None:
    """The application changes a payload, by the id that the point has now."""
    (found,) = [one for one, (payload, _) in made.contents().items() if payload["path"] == path]
    store = made.store()
    store.edit_payloads(made.name, [PayloadEdit([found], values)])
    store.close()


def test_payloads_are_given_back_to_points_that_have_other_ids_since(pair, tmp_path):
    """By two revisions that gave new ids, each asked as it was then: equal to before but for what is newer or gone."""
    made, _ = pair
    before = kinds(made)
    log = synced(made, tmp_path, kind="all")
    gone = deleted(made, 1)
    for number, body in enumerate((REKEY, REKEY.replace("{{path}}", "{{path}} {{n}}")), 2):
        made.revise(f"{number:04d}", body)
        upgrade.upgrade(made.settings(), no_snapshot=True)
    assert set(made.contents()).isdisjoint(PATHS)
    edited(made, PATHS[3], kind="newer")
    # Not the value that counts, and back to the point by the ids of today.
    edited(made, PATHS[5], n=-1)
    seen = fix.undo_review(made.settings(), log).previews[0]
    assert (seen.changes, seen.counts["newer"], seen.counts["gone"]) == (len(PATHS) - 3, 1, 1)
    (done,) = fix.undo(made.settings(), log).done
    assert (done.changed, done.verified) == (len(PATHS) - 3, len(PATHS) - 3)
    expected = {path: kind for path, kind in before.items() if path != PATHS[1]}
    assert kinds(made) == {**expected, PATHS[3]: "newer"}
    # The undo is a fix of the ids of today, with a way back of its own.
    (again,) = fix.undo(made.settings(), done.log).done
    alone = before["/large/g.jpg"]
    assert set(kinds(made).values()) == {"all", "newer", alone}
    fix.undo(made.settings(), again.log, overwrite=True)
    assert kinds(made) == {**expected, PATHS[3]: "newer"}
    fix.undo(made.settings(), gone)
    assert kinds(made)[PATHS[1]] == "all"


def test_payloads_of_points_whose_ids_nobody_can_tell_stay_as_they_are(tmp_path):
    """Refused with the reason: the revision was undone since, or the generation that knew both ids is gone."""
    # The ledger is enough for it, so that local mode is enough.
    qdrant, ledger = {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db"
    made = Deployment(tmp_path / "project", qdrant, ledger, extra={"fixes": {"max_share": 1.0}})
    made.revise("0001", KINDS)
    upgrade.upgrade(made.settings())
    put(made, *paths())
    alone = kinds(made)["/large/g.jpg"]
    log = synced(made, tmp_path, kind="all")
    made.revise("0002", REKEY)
    upgrade.upgrade(made.settings())
    later = synced(made, tmp_path, kind="later")
    rollback.rollback(made.settings(), "0001", writes="discard")
    with pytest.raises(RefusedError, match="had given them was undone since"):
        fix.undo(made.settings(), later)
    upgrade.upgrade(made.settings())
    assert fix.undo_review(made.settings(), log).previews[0].changes == len(PATHS) - 1
    gc.gc(made.settings(), made.name, now=True, discard_writes=True)
    with pytest.raises(RefusedError, match="the generation that knows both ids is not kept any more") as refused:
        fix.undo(made.settings(), log)
    assert "snapshot list" in refused.value.hint
    assert set(kinds(made).values()) == {"all", alone}


@pytest.mark.parametrize("deployment", ["local"], indirect=True)
def test_what_another_revision_of_the_name_has_made_stays_away(pair):
    """Undone, written otherwise and applied again: the points have vectors of what it had before."""
    made, _ = pair
    body = EMBED.replace("VECTOR", "b").replace("HOW", "stop")
    file = made.revise("0002", body)
    upgrade.upgrade(made.settings())
    log = deleted(made, 1)
    for again in (body, body.replace('text="path"', 'text="kind"')):
        rollback.rollback(made.settings(), "0001", writes="discard")
        file.unlink()
        made.last = "0001"
        file = made.revise("0002", again)
        upgrade.upgrade(made.settings())
        if again == body:
            assert fix.undo_review(made.settings(), log).changes == 1
    with pytest.raises(RefusedError, match="0002, which was rolled back since"):
        fix.undo(made.settings(), log)
