"""Points as bytes: what is spliced reads as the message that would have been built."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value

from qmigrate.model.transform import PointTransform
from qmigrate.store import records, wire

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(st.text(max_size=12), JSON, max_size=6)
FLOATS = st.floats(-1e6, 1e6, width=32)
VECTORS = st.one_of(
    st.lists(FLOATS, min_size=1, max_size=40),
    st.lists(st.lists(FLOATS, min_size=2, max_size=2), min_size=1, max_size=3),
    st.just({"indices": [1, 5], "values": [0.5, 2.0]}),
)
IDS = st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str))


def stored(identifier, payload, vectors, unnamed=None):
    """A point as a server would hand it out."""
    known = grpc.PointId(num=identifier) if isinstance(identifier, int) else grpc.PointId(uuid=identifier)
    made = grpc.RetrievedPoint(id=known)
    for key, value in payload.items():
        made.payload[key].CopyFrom(json_to_value(value))
    if unnamed is not None:
        made.vectors.vector.MergeFromString(records.vector_wire(unnamed))
    for name, value in vectors.items():
        made.vectors.vectors.vectors[name].MergeFromString(records.vector_wire(value))
    return made


@given(IDS, PAYLOADS, st.dictionaries(st.text(max_size=6), VECTORS, max_size=4))
def test_a_spliced_point_is_the_point(identifier, payload, vectors):
    """Id, payload and every kind of vector come through unchanged."""
    point = stored(identifier, payload, vectors)
    made = grpc.PointStruct.FromString(wire.spliced(point.SerializeToString(), {}))
    again = grpc.RetrievedPoint(id=made.id, payload=made.payload)
    again.vectors.MergeFromString(made.vectors.SerializeToString())
    assert records.point_id(again) == identifier
    assert records.payload_of(again) == records.payload_of(point)
    assert records.vectors_of(again) == records.vectors_of(point)
    assert made.HasField("vectors")


@given(st.dictionaries(st.text(max_size=6), VECTORS, max_size=3), st.lists(FLOATS, min_size=1, max_size=300))
def test_an_added_vector_stands_beside_the_others(vectors, values):
    """The new named vector is there with its own values, and the old ones are as they were."""
    point = stored(7, {"a": 1}, {f"old{name}": value for name, value in vectors.items()})
    row = np.array(values, dtype=np.float32)
    made = grpc.PointStruct.FromString(wire.spliced(point.SerializeToString(), {"new": records.vector_wire(row)}))
    found = {name: records.vector_value(one) for name, one in made.vectors.vectors.vectors.items()}
    assert found.pop("new") == [float(one) for one in row]
    assert found == records.vectors_of(point)


def test_an_unnamed_vector_is_carried_and_never_mixed():
    """Alone it is copied; next to an added one the caller has to build the message."""
    point = stored(1, {}, {}, unnamed=[1.0, 2.0])
    alone = grpc.PointStruct.FromString(wire.spliced(point.SerializeToString(), {}))
    assert list(alone.vectors.vector.dense.data) == [1.0, 2.0]
    assert wire.spliced(point.SerializeToString(), {"b": b""}) is None


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**21, 2**35])
def test_varints_read_back(number):
    """The length prefix is protobuf's."""
    made = grpc.PointId(num=number).SerializeToString()
    assert made == (b"\x08" + wire.varint(number))


@given(IDS, PAYLOADS, st.dictionaries(st.text(max_size=6), VECTORS, max_size=3))
def test_the_fast_way_and_the_slow_way_agree(identifier, payload, vectors):
    """A point made by splicing equals the one made from messages."""
    point = stored(identifier, payload, {f"v{name}": value for name, value in vectors.items()})
    names = records.vectors_of(point).keys()
    fast = records.make_ready(point, PointTransform.identity(frozenset(names)), {})
    slow = records.make_ready(point, PointTransform(vectors={name: name for name in names}, drops=True), {})
    one, other = grpc.PointStruct.FromString(fast), grpc.PointStruct.FromString(slow)
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
