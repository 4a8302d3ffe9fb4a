"""Other ids: every point ends under its new id, exactly once; what can't be is reported before the name moves."""

from __future__ import annotations

import uuid

import pytest
from tests.conftest import clean
from tests.harness import Deployment, make_point, write

from qmigrate import fix
from qmigrate.commands import gc, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import rebuild
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.golive import golive
from qmigrate.errors import RefusedError, VerificationError
from qmigrate.model.facts.phases import Proof
from qmigrate.model.transform import Point

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}}),
            op.CreatePayloadIndex("{name}", "org", KeywordIndexParams(type="keyword", is_tenant=True))]
"""
REKEY = """
import uuid
from qmigrate import Uuid5

def upgrade():
    return [op.Rekey("{name}", Uuid5(uuid.NAMESPACE_URL, "{{org}}:{{doc}}:{{model}}"), cutover="immediate"),
            op.CreatePayloadIndex("{name}", "doc", PayloadSchemaType.KEYWORD)]
"""
#: Ids that other points have now: each point takes the id of its successor.
SHIFT = """
def following(point):
    return point.id % {count} + 1

def upgrade():
    return [op.Rekey("{{name}}", following, cutover="immediate")]
"""
POINTS = 24


def point(number: int, *, org: str = "acme", doc: str | None = None, **more) -> Point:
    """A point of a tenant."""
    made = make_point(number, uuid_id=number % 3 == 2)
    fields = {"org": org, "doc": doc if doc is not None else f"d{number}", "model": "b32", **more}
    return Point(made.id, {**made.payload, **fields}, made.vectors)


def expected(before: dict) -> dict:
    """Every point under its new id, with the same values."""
    made = {}
    for payload, vectors in before.values():
        name = f"{payload['org']}:{payload['doc']}:{payload['model']}"
        made[str(uuid.uuid5(uuid.NAMESPACE_URL, name))] = (payload, vectors)
    assert len(made) == len(before)
    return made


def deployed(folder, config: dict, *points: Point, body: str = REKEY) -> Deployment:
    """A loaded collection with the revision pending."""
    made = Deployment(folder / "project", config, f"sqlite:///{folder}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    put(made, *points)
    made.revise("0002", body)
    return made


def put(made: Deployment, *points: Point) -> None:
    """Write through the logical name."""
    store = made.store()
    try:
        write(store, made.name, points)
    finally:
        store.close()


def generations(made: Deployment) -> list[str]:
    """Physical names of this collection."""
    store = made.store()
    try:
        return [name for name in store.physical_names() if name.startswith(made.name)]
    finally:
        store.close()


@pytest.mark.timeout(300)
def test_points_get_other_ids_and_back(qdrant_config, tmp_path):
    """Unfit points stop it before a write; then every point is there once; back is refused with writes, or loses them."""
    twin = point(POINTS + 1, doc="d0")
    made = deployed(tmp_path, qdrant_config, *map(point, range(POINTS)), twin, point(POINTS + 3, org=""))
    with pytest.raises(VerificationError) as unfit:
        upgrade.upgrade(made.settings())
    assert unfit.value.facts["ids"]["count"] == 2
    assert f"{twin.id} would get the id" in unfit.value.message
    assert "and so would 1;" in unfit.value.message
    assert "has no 'org'" in unfit.value.message
    assert generations(made) == [f"{made.name}__g0001"]
    # The same id would be no collision for another tenant.
    put(made, point(POINTS + 1, org="other", doc="d0"), point(POINTS + 3))
    before = made.contents()
    upgrade.upgrade(made.settings())
    after = made.contents()
    assert after == expected(before)
    report = next(row.report for row in reversed(status.history(made.settings()).rows) if row.revision == "0002")
    assert (report["verification"]["proven"], report["verification"]["holds"]) == (POINTS + 2, True)
    back.rollback(made.settings(), "0001")
    assert made.contents() == before
    upgrade.upgrade(made.settings())
    assert made.contents() == after
    late = point(99)
    store = made.store()
    write(store, made.name, [late])
    store.delete(made.name, [sorted(after)[0]])
    store.close()
    for writes, words in (("refuse", "1 point added, 1 deleted"), ("carry", "has no inverse"), ("now", "counted")):
        with pytest.raises(RefusedError, match=words):
            back.rollback(made.settings(), "0001", writes=writes)
    assert late.id in made.contents()
    back.rollback(made.settings(), "0001", writes="discard")
    assert made.contents() == before
    # What was left either way can be deleted: none of it is taken for written since.
    gc.gc(made.settings(), made.name, now=True)
    assert generations(made) == [f"{made.name}__g0001"]
    upgrade.upgrade(made.settings())
    gc.gc(made.settings(), made.name, now=True)
    assert generations(made) == [f"{made.name}__g0004"]
    assert made.contents() == after
    clean_up(made)


def clean_up(made: Deployment) -> None:
    """Leave nothing on a server."""
    if "url" in made.qdrant:
        clean(made)


@pytest.mark.timeout(300)
def test_writes_during_the_build_are_read_again(qdrant_config, tmp_path, monkeypatch):
    """Points that change, move, come or go after they were copied end right; two that meet in one id stop the swap."""
    made = deployed(tmp_path, qdrant_config, *map(point, range(POINTS)))
    copy, clash = rebuild.copy_ranges, [point(40, doc="same"), point(42, doc="same")]
    rounds = []

    def disturbed(work, step, maker, ranges):
        facts = copy(work, step, maker, ranges)
        if not rounds:
            # 0 moves to another id, 1 takes the one that 0 had, 3 is gone, 50 is new, 6 has another value.
            write(work.store, step.source, [point(0, doc="moved"), point(1, doc="d0"), point(50), point(6, n=-6), *clash])
            work.store.delete(step.source, [point(3).id])
        rounds.append(1)
        return facts

    monkeypatch.setattr(rebuild, "copy_ranges", disturbed)
    with pytest.raises(VerificationError) as met:
        upgrade.upgrade(made.settings())
    assert f"{clash[1].id} would get the id" in met.value.message
    assert f"so would {clash[0].id}" in met.value.message
    assert made.row().revision == "0001"
    store = made.store()
    store.delete(made.name, [clash[1].id])
    store.close()
    before = made.contents()
    upgrade.upgrade(made.settings())
    assert made.contents() == expected(before)
    clean_up(made)


@pytest.mark.timeout(300)
def test_ids_may_be_exchanged_among_the_points(qdrant_config, tmp_path, monkeypatch):
    """None is taken for its predecessor; a server's writes stop for the proof, and one past the fence is listed."""
    count, sweep, local = 12, golive.sweep, "path" in qdrant_config
    made = Deployment(tmp_path / "project", qdrant_config, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE.replace("is_tenant=True", "is_tenant=False"))
    upgrade.upgrade(made.settings(), "0001")
    made.load(count, uuids=False)
    before = made.contents()
    ids = fix.delete_points(made.name, ids=[count], reason="to be undone", max_share=1, settings=made.settings())
    fix.undo(ids.done[0].log, settings=made.settings())
    again = fix.delete_points(made.name, ids=[count], reason="twice", max_share=1, settings=made.settings())
    made.load(1, start=count - 1, uuids=False)
    made.revise("0002", SHIFT.format(count=count))

    def late(work, sides, **since):
        assert work.facts(Proof).frozen is not local
        if not local:
            work.store.lift_fence(own(work, sides.source), {})
            write(work.store, sides.source, [make_point(2, text="late")])
        return sweep(work, sides, **since)

    monkeypatch.setattr(golive, "sweep", late)
    upgrade.upgrade(made.settings())
    assert made.contents() == {key % count + 1: value for key, value in before.items()}
    report = next(row.report for row in reversed(status.history(made.settings()).rows) if row.revision == "0002")
    # What was deleted would get an id that another point has by now.
    assert fix.undo(again.done[0].log, settings=made.settings()).changed == 0
    assert made.contents() == {key % count + 1: value for key, value in before.items()}
    listed = [] if local else [3]
    assert [one for one, _ in report["sweep"]["listed"]["named"]] == listed
    assert report["sweep"]["carried"] == 0
    if local:
        monkeypatch.undo()
        back.rollback(made.settings(), "0001")
        assert made.contents() == before
    clean_up(made)
