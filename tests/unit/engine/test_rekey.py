"""Other ids: what a revision may have, how it is planned, and the proof over both orders of ids."""

from __future__ import annotations

import uuid
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value
from tests.fakes import Done
from tests.unit.planner.test_planner import SERVER
from tests.unit.planner.test_planner_fuse import ADD, INDEX, PAYLOAD, groups, planned

from qmigrate import Uuid5, op
from qmigrate.engine.points.base import unpack
from qmigrate.engine.points.transformation import Maker
from qmigrate.engine.prove import rekey
from qmigrate.engine.prove.passes import Sides
from qmigrate.engine.work import OneAtATime
from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point, PointTransform
from qmigrate.operations.text.stored import from_text, to_text
from qmigrate.ports import Silent
from qmigrate.store import records

BY_DOC = Uuid5(uuid.NAMESPACE_URL, "{org}:{doc}:{meta.model}")
SCHEMA = CollectionSchema(vectors={"a": {"size": 2, "distance": "Dot"}}, indexes={"org": {"type": "keyword", "is_tenant": True}})
FREE = CollectionSchema(vectors={"a": {"size": 2, "distance": "Dot"}})
REKEY = op.Rekey("docs", BY_DOC, cutover="immediate")


def test_an_id_is_what_the_application_makes_of_the_same_fields():
    """Uuid5 is uuid.uuid5 of the filled template, whole numbers as their digits; it survives being kept as JSON."""
    payload = {"org": "o", "doc": 7, "meta": {"model": "ü"}}
    assert BY_DOC(Point(1, payload, {})) == str(uuid.uuid5(uuid.NAMESPACE_URL, "o:7:ü"))
    (again,) = from_text(to_text([REKEY]))
    assert again == REKEY
    assert again.id(Point(1, payload, {})) == BY_DOC(Point(9, payload, {}))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"doc": 1}, "has no 'org', 'meta.model'"),
        ({"org": "", "doc": 1, "meta": {"model": None}}, "has no 'org', 'meta.model'"),
        ({"org": 1.5, "doc": True, "meta": {"model": ["x"]}}, "in 'org', 'doc', 'meta.model'"),
    ],
)
def test_a_point_that_gives_no_name_is_said_with_its_fields(payload, words):
    """Missing, empty or ambiguous fields are an error that names them all."""
    with pytest.raises(ValueError, match=words):
        BY_DOC(Point(1, payload, {}))


@pytest.mark.parametrize("made", [-1, 2**64, True, 1.0, "x", None, len], ids=str)
def test_what_is_no_id_is_refused(made):
    """A function that returns something else than an unsigned integer or a UUID is named with what it returned."""
    transform = PointTransform({}, new_id=lambda _: made)
    with pytest.raises(ValueError, match="neither an unsigned integer nor a UUID"):
        records.new_id(grpc.RetrievedPoint(id=grpc.PointId(num=1)), transform)
    with pytest.raises(ValueError, match="KeyError: 'x'"):
        records.new_id(grpc.RetrievedPoint(id=grpc.PointId(num=1)), PointTransform({}, new_id=lambda p: p.payload["x"]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Uuid5("no", "{a}"), "namespace"),
        (lambda: Uuid5(uuid.NAMESPACE_URL, "plain"), "must name payload fields"),
        (lambda: Uuid5(uuid.NAMESPACE_URL, "{a:>3}"), "without format"),
        (lambda: Uuid5(uuid.NAMESPACE_URL, "{a}{b}"), "nothing separates"),
        (lambda: Uuid5(uuid.NAMESPACE_URL, "{a"), "can't be read"),
        (lambda: op.Rekey("docs", BY_DOC).check(FREE), "choose when it goes live"),
        (lambda: op.Rekey("docs", 5, cutover="hold").check(FREE), "a function of a point"),
        (lambda: op.Rekey("docs", Uuid5(uuid.NAMESPACE_URL, "{doc}"), cutover="hold").check(SCHEMA), "two tenants"),
        (lambda: op.Rekey("docs", BY_DOC, tenant="team", cutover="hold").check(FREE), "'team' tells tenants apart"),
        (lambda: op.Rekey("docs", len, cutover="hold").check(SCHEMA), "a function doesn't show"),
    ],
)
def test_what_could_not_be_meant_is_refused(make, words):
    """Ids without fields, ambiguous ones, and ids that two tenants could share are errors before anything is planned."""
    with pytest.raises(PlanError, match=words):
        make()


def test_other_ids_are_a_copy_of_their_own():
    """Only what leaves points alone rides along; a change of values is another rebuild, or refused in one revision."""
    REKEY.check(SCHEMA)
    assert REKEY.strategy(SCHEMA, SERVER).rank == "copy"
    assert REKEY.transform(SCHEMA).back() is None
    assert not REKEY.transform(SCHEMA).is_identity()
    assert groups(planned(INDEX, REKEY, op.Reshard("docs", shard_number=2))) == ["234"]
    assert groups(planned(ADD, REKEY, PAYLOAD)) == ["2", "3", "4"]
    for beside in (ADD, PAYLOAD, op.DropVector("docs", "a", cutover="immediate")):
        with pytest.raises(PlanError, match="neither the ids nor the values stay"):
            planned((REKEY, beside))


# --- the proof ----------------------------------------------------------------------------------------------------


def stored(identifier: int, key: object, value: float):
    """A point as a server sends it."""
    vectors = grpc.VectorsOutput(vectors=grpc.NamedVectorsOutput(vectors={"a": grpc.VectorOutput(data=[value, 1.0])}))
    payload = {} if key is None else {"key": json_to_value(key)}
    return grpc.RetrievedPoint(id=grpc.PointId(num=identifier), payload=payload, vectors=vectors)


class Two:
    """Two collections and a base, in memory, with the few methods that a last pass calls."""

    request_timeout = 0.0
    capabilities = SimpleNamespace(local=False)

    def __init__(self, source, target) -> None:
        self.sides = {"old": {one.id.num: one for one in source}, "new": {one.id.num: one for one in target}}
        self.bases: dict[str, list[bytes]] = {}
        self.ledger = SimpleNamespace(
            ranges=lambda *_: [SimpleNamespace(number=0, start=None, stop=5), SimpleNamespace(number=1, start=5, stop=None)],
            base_pages=lambda name, *_: iter(self.bases[name]),
            dirty=lambda *_: iter(()),
            digest_key=lambda _: bytes(32),
        )

    def aliases(self):
        return {}

    def scan(self, name, *, start=None, stop=None, page=2, **_):
        chosen = [one for key, one in sorted(self.sides[name].items()) if (start or 0) <= key and (stop is None or key < stop)]
        for place in range(0, len(chosen), 2):
            yield chosen[place : place + 2]

    def fetch(self, name, ids, **_):
        return [self.sides[name][one] for one in ids if one in self.sides[name]]

    def upsert(self, name, points):
        for one in map(grpc.PointStruct.FromString, points):
            self.sides[name][one.id.num] = stored(
                one.id.num, records.payload_of(one).get("key"), one.vectors.vectors.vectors["a"].data[0]
            )
        return Done()

    def delete(self, name, ids):
        for one in ids:
            self.sides[name].pop(one, None)

    def discard_stage(self, name):
        self.bases[name] = []

    def begin_base(self, name, like):
        self.bases[name] = []

    def stage_base(self, name, number, pages):
        self.bases[name] += pages

    def commit_base(self, name):
        assert name in self.bases


def proven(two: Two, maker: bool = True):
    """One last pass, forwards or backwards."""
    work = SimpleNamespace(
        generation=lambda _: None,
        store=two, lease=two, collection="docs", run=1, step=0, tick=lambda *_: None, progress=Silent(),
        state=SimpleNamespace(name="docs", hides=False), code=SimpleNamespace(turn=OneAtATime()),
    )
    transform = PointTransform({"a": "a"}, new_id=lambda point: point.payload["key"])
    if maker:
        return rekey.last_pass(work, Sides("old", "new", "new", "new", 0, Maker(work, transform, FREE), rekeys=True))
    return rekey.last_pass(work, Sides("new", "old", "old", "new<", 0, None, rekeys=True))


IDS = st.integers(0, 9)
VALUES = st.integers(0, 2).map(float)
SOURCE = st.lists(st.tuples(IDS, IDS | st.none(), VALUES), unique_by=lambda row: row[0], max_size=8)
TARGET = st.lists(st.tuples(IDS, IDS | st.none(), VALUES), unique_by=lambda row: row[0], max_size=8)


@settings(max_examples=300, deadline=None)
@given(SOURCE, TARGET, st.data())
def test_the_proof_holds_exactly_when_every_point_is_there_once(source, target, data):
    """Whatever the target held before: it becomes the image of the source, or the points that have none are named.

    Then any one change of either side is seen by the way back.
    """
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setattr(rekey, "reach", lambda _, name: name)
        monkey.setattr("qmigrate.engine.prove.passes.reach", lambda _, name: name)
        two = Two([stored(*row) for row in source], [stored(*row) for row in target])
        report = proven(two)
        keys = Counter(key for _, key, _ in source if key is not None)
        unfit = sum(key is None for _, key, _ in source) + sum(count - 1 for count in keys.values())
        assert report.points == len(source)
        assert report.holds is (unfit == 0)
        assert report.failures.count == unfit
        if unfit:
            return
        assert two.sides["new"] == {key: stored(key, key, value) for _, key, value in source}
        seen = {records.id_of_key(key) for key, _ in unpack(two.bases["new<"])}
        assert seen == set(two.sides["new"])
        assert proven(two, maker=False).holds
        side = data.draw(st.sampled_from(["old", "new"]))
        changed = data.draw(IDS)
        if data.draw(st.booleans()):
            two.sides[side][changed] = stored(changed, 0, 7.0)
        elif two.sides[side].pop(changed, None) is None:
            return
        assert not proven(two, maker=False).holds
