"""Deleted points come back into a collection that was changed since: through the very operations that changed the others."""

from __future__ import annotations

import uuid

import pytest
from tests.conftest import clean
from tests.harness import Deployment, write
from tests.scenarios.test_deletion import KINDS, digests, paths

from qmigrate import op
from qmigrate.commands import adopt, fix, rollback, upgrade
from qmigrate.errors import EmbedError, RefusedError
from qmigrate.model.transform import Point

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
    with pytest.raises(RefusedError, match="of after revision 0002, which was taken back since"):
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
