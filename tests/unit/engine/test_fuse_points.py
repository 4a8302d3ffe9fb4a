"""Fused revisions do to every point exactly what they would do one after the other: random operations, random points."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.unit.planner.test_planner import SERVER

from qmigrate import Compute, CopyOf, Embed, Empty, op
from qmigrate.engine.work import transform_of
from qmigrate.errors import PlanError
from qmigrate.model.plan import OpRef
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point
from qmigrate.planner.forward import segments
from qmigrate.planner.members import Position
from qmigrate.planner.segment import fold

NAMES = ("a", "b", "c", "d")
DISTANCES = ("Cosine", "Dot", "Euclid")
DATATYPES = (None, "float16", "uint8")


def shout(point):
    """A payload function that reads the payload only."""
    return {**point.payload, "text": point.payload["text"] + "!", "loud": True}


def weigh(point):
    """A payload function that reads the vectors."""
    total = sum(sum(vector) for _, vector in sorted(point.vectors.items()))
    return {**point.payload, "weight": round(total, 3), "seen": sorted(point.vectors)}


def from_payload(point):
    """A filling that reads the payload."""
    return [len(point.payload["text"]) + 0.5, 2.25]


def from_vectors(point):
    """A filling that reads the vectors."""
    return [sum(sum(vector) for vector in point.vectors.values()) + 1.5, len(point.vectors) + 0.5]


@st.composite
def params(draw):
    """A dense vector of two values."""
    datatype = draw(st.sampled_from(DATATYPES))
    found = {"size": 2, "distance": draw(st.sampled_from(DISTANCES))}
    return found if datatype is None else {**found, "datatype": datatype}


FILLINGS = st.sampled_from([Embed("words", text="text"), Compute(from_payload), Compute(from_vectors)])
NAME = st.sampled_from(NAMES)
COPIES = st.builds(CopyOf, NAME, st.just(True))
SAID = {"cutover": "immediate"}
OPERATIONS = st.one_of(
    st.builds(lambda name, made, value: op.AddVector("docs", name, made, values=value), NAME, params(), FILLINGS | COPIES | st.just(Empty())),
    st.builds(lambda name, made, value: op.AlterVector("docs", name, made, values=value, **SAID), NAME, params(), st.none() | FILLINGS | COPIES),
    st.builds(lambda name, value: op.Reembed("docs", name, values=value, **SAID), NAME, FILLINGS),
    st.builds(lambda name: op.DropVector("docs", name, **SAID), NAME),
    st.builds(lambda name, new: op.RenameVector("docs", name, new, **SAID), NAME, NAME),
    st.sampled_from([op.TransformPoints("docs", shout), op.TransformPoints("docs", weigh)]),
    st.sampled_from([op.CreatePayloadIndex("docs", "text", "keyword"), op.UpdateCollection("docs", hnsw_config={"m": 24})]),
)
SCHEMAS = st.dictionaries(st.sampled_from(NAMES[:2]), params(), min_size=1).map(lambda vectors: CollectionSchema(vectors=vectors))
VALUES = st.tuples(st.floats(0.5, 200, width=32), st.floats(0.5, 200, width=32)).map(list)


def kept(schema: CollectionSchema, point: Point, as_it_is=frozenset()) -> Point:
    """The point as a server stores it: rounded or cut to the datatype, normalised for cosine."""
    stored = {}
    for name, vector in point.vectors.items():
        if name in as_it_is:
            stored[name] = vector
            continue
        made = schema.vectors[name]
        values = np.array(vector, dtype=np.float64)
        if made.get("datatype") == "uint8":
            values = np.clip(np.trunc(values), 0, 255)
        elif made["distance"] == "Cosine":
            values = values / (math.sqrt(float(values @ values)) or 1.0)
        if made.get("datatype") == "float16":
            values = values.astype(np.float16).astype(np.float64)
        stored[name] = [float(value) for value in values]
    return Point(point.id, point.payload, stored)


def moved(point: Point, operations, before: CollectionSchema, after: CollectionSchema) -> Point:
    """One rebuild: f of the operations, and the result as it is stored."""
    transform = transform_of(operations, before)
    payload = point.payload
    for function in transform.payload:
        payload = function(Point(point.id, payload, point.vectors))
    vectors = {target: point.vectors[source] for target, source in transform.vectors.items() if source in point.vectors}
    for target in transform.filled:
        value = transform.values[target]
        function = value.function if isinstance(value, Compute) else lambda found: [float(len(found.payload["text"])), 7.5]
        vectors[target] = function(Point(point.id, payload, point.vectors))
    return kept(after, Point(point.id, payload, vectors), frozenset(transform.vectors) - transform.converted)


def folded(schema: CollectionSchema, revisions):
    """The parts of a chain of revisions; what can't be done here is left out."""
    parts, operations = [], {}
    now = (schema, schema)
    for number, listed in enumerate(revisions):
        refs = [(OpRef(str(number), index), one) for index, one in enumerate(listed)]
        try:
            position = Position("docs", *now, "docs__g0001", 2)
            part = fold((str(number), "sum"), position, refs, f"revision {number}", SERVER)
        except PlanError:
            continue
        parts.append(part)
        operations.update(refs)
        now = part.after
    return parts, operations


@settings(max_examples=400, deadline=None)
@given(SCHEMAS, st.lists(st.lists(OPERATIONS, min_size=1, max_size=2), min_size=2, max_size=6), st.data())
def test_a_fused_rebuild_gives_the_points_of_one_rebuild_after_the_other(schema, revisions, data):
    """For any chain of revisions, each segment ends with the same points and the same schema."""
    parts, operations = folded(schema, revisions)
    point = kept(schema, Point(1, {"text": "some text"}, {name: data.draw(VALUES) for name in schema.vectors}))
    longest = 0
    for group in segments(parts):
        refs = [ref for part in group for ref in part.refs]
        before, after = group[0].before[1], group[-1].after[1]
        fused = moved(point, [operations[ref] for ref in refs], before, after)
        for part in group:
            point = moved(point, [operations[ref] for ref in part.refs], part.before[1], part.after[1])
        assert fused.payload == point.payload
        assert fused.vectors.keys() == point.vectors.keys()
        for name, vector in point.vectors.items():
            assert np.allclose(fused.vectors[name], vector, rtol=1e-9, atol=1e-9), (name, [part.lines for part in group])
        longest = max(longest, len(group))
    event(f"longest segment: {longest}")


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, st.lists(st.lists(OPERATIONS, min_size=1, max_size=2), min_size=2, max_size=6))
def test_segments_keep_every_revision_in_its_order(schema, revisions):
    """Nothing is lost, doubled or moved, with and without fusing; without it each stands alone."""
    parts, _ = folded(schema, revisions)
    for fuse in (True, False):
        assert [part for group in segments(parts, fuse=fuse) for part in group] == parts
    assert all(len(group) == 1 for group in segments(parts, fuse=False))
