"""What both stores must do alike: the contract of ``ports.Store`` on local mode and on a real server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

import pytest
from qdrant_client import grpc
from tests.harness import by_hand, write

from qmigrate.errors import ConflictError, NotFoundError, StoreError
from qmigrate.model.ids import points_of
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.transform import Point, PointId, PointTransform
from qmigrate.ports import PayloadEdit
from qmigrate.store import portable, records

VECTOR = {"size": 4, "distance": "Dot"}
SCHEMA = CollectionSchema(vectors={"a": VECTOR})


def make(store, name: str, schema: CollectionSchema = SCHEMA, *, seal=None, defer_index: bool = False) -> None:
    """Make a collection, completely."""
    store.create_collection(name, schema, seal=seal)
    store.complete_collection(name, schema, defer_index=defer_index)


def points(ids: Sequence[PointId], **payload) -> list[Point]:
    """Points of these ids."""
    return [Point(found, {"n": place, **payload}, {"a": [1.0, 2.0, 3.0, place]}) for place, found in enumerate(ids)]


def ids_of(pages) -> list[PointId]:
    """All ids, in the order they came."""
    return [records.point_id(row) for page in pages for row in page]


def mixed_ids() -> list[PointId]:
    """Numbers up to the largest, then UUIDs, in Qdrant's order."""
    numbers = [0, 7, 8, 9, 10, 100, 2**32, 2**63 + 5, 2**64 - 1]
    return [*numbers, *sorted(str(uuid.uuid5(uuid.NAMESPACE_OID, str(place))) for place in range(12))]


def test_a_collection_is_listed_described_and_dropped(store, fresh_name):
    """A new collection is listed and described with its schema and seal, and gone after a drop, twice."""
    make(store, fresh_name, seal={"revision": "0001", "note": None})
    assert fresh_name in store.physical_names()
    found = store.describe(fresh_name)
    assert found.physical == fresh_name
    assert found.seal == {"revision": "0001", "note": None}
    assert found.schema.vectors["a"]["size"] == 4
    assert found.schema.aliases == ()
    assert (found.status, found.problem, found.inactive, found.unknown) == ("green", None, (), ())
    store.drop_collection(by_hand(fresh_name))
    store.drop_collection(by_hand(fresh_name))
    assert store.describe(fresh_name) is None


def test_describe_knows_no_collection_that_is_not_there(store, fresh_name):
    """None is returned for an unknown name."""
    assert store.describe(fresh_name) is None


@pytest.mark.parametrize(
    "schema",
    [
        CollectionSchema(vectors={"": {"size": 4, "distance": "Cosine"}}),
        CollectionSchema(vectors={"a": VECTOR, "b": {"size": 8, "distance": "Euclid", "datatype": "float16"}}),
        CollectionSchema(vectors={"size": {"size": 3, "distance": "Dot"}}),
        CollectionSchema(vectors={}, sparse={"words": {"modifier": "idf"}}),
        CollectionSchema(vectors={"m": {**VECTOR, "multivector_config": {"comparator": "max_sim"}}}),
        CollectionSchema(vectors={"a": VECTOR}, config={"metadata": {"team": "search", "nested": {"x": None}}}),
    ],
    ids=["unnamed", "named", "a vector called size", "sparse only", "multivector", "metadata"],
)
def test_a_described_schema_creates_an_equal_collection(store, fresh_name, schema):
    """Describe -> create -> describe changes nothing that was declared, and nothing at all."""
    make(store, fresh_name, schema)
    first = store.describe(fresh_name).schema
    assert changes(first, schema) == ()
    make(store, f"{fresh_name}_2", first, seal={"x": 1})
    again = store.describe(f"{fresh_name}_2").schema
    assert again == first


def test_a_second_collection_of_the_name_is_a_conflict(store, fresh_name):
    """Neither a collection nor an alias can be taken by a new collection."""
    make(store, fresh_name)
    with pytest.raises(ConflictError):
        make(store, fresh_name)
    store.create_alias(f"{fresh_name}_alias", fresh_name)
    with pytest.raises(ConflictError):
        make(store, f"{fresh_name}_alias")


def test_the_seal_is_written_replaced_and_removed_beside_other_metadata(store, fresh_name):
    """The seal never shows in the schema's metadata, and other keys stay."""
    make(store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"metadata": {"team": "x"}}))
    for seal in ({"generation": 1, "deep": {"a": 1}}, {"generation": 2}, None):
        store.write_seal(fresh_name, seal)
        found = store.describe(fresh_name)
        assert found.seal == seal
        assert found.schema.config["metadata"] == {"team": "x"}


def test_points_come_back_as_they_were_written(store, fresh_name):
    """Payload, dense, sparse and multivectors survive; a point without vectors too."""
    schema = CollectionSchema(
        vectors={"a": VECTOR, "m": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}},
        sparse={"s": {}},
    )
    make(store, fresh_name, schema)
    payload = {"text": "grüße", "n": 2**53 + 1, "f": 0.5, "list": [1, None], "deep": {"a": {"b": True}}, "no": None}
    vectors = {"a": [1.0, 2.0, 3.0, 4.0], "m": [[1.0, 2.0], [3.0, 4.0]], "s": {"indices": [3, 9], "values": [0.5, 1.5]}}
    whole = Point(1, payload, vectors)
    bare = Point(str(uuid.uuid4()), {}, {})
    write(store, fresh_name, [whole])
    empty = grpc.PointStruct(id=grpc.PointId(uuid=bare.id))
    empty.vectors.vectors.SetInParent()
    store.upsert(fresh_name, [empty.SerializeToString()]).wait()
    found = {records.point_id(row): row for row in store.fetch(fresh_name, [1, bare.id, 99])}
    assert records.payload_of(found[1]) == payload
    assert records.vectors_of(found[1]) == whole.vectors
    assert (records.payload_of(found[bare.id]), records.vectors_of(found[bare.id])) == ({}, {})
    without = store.fetch(fresh_name, [1], vectors=False)
    assert records.vectors_of(without[0]) == {}
    assert store.fetch(fresh_name, []) == []
    assert store.fetch_ids(fresh_name, [99, bare.id, 1]) == {1, bare.id}
    assert store.fetch_ids(fresh_name, []) == set()


def test_an_upsert_replaces_the_whole_point(store, fresh_name):
    """A second write of an id leaves nothing of the first."""
    make(store, fresh_name)
    write(store, fresh_name, points([1], old=True))
    write(store, fresh_name, points([1]))
    assert records.payload_of(store.fetch(fresh_name, [1])[0]) == {"n": 0}


def test_a_refused_write_raises_when_it_is_waited_for(store, fresh_name):
    """A vector of the wrong size is an error of wait(), and nothing is written."""
    make(store, fresh_name)
    ready = grpc.PointStruct(id=grpc.PointId(num=1))
    ready.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire([1.0, 2.0]))
    pending = store.upsert(fresh_name, [ready.SerializeToString()])
    with pytest.raises(StoreError):
        pending.wait()
    assert store.count(fresh_name) == 0


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_scan_yields_every_point_once_in_qdrants_order(store, fresh_name, page):
    """Unsigned ids ascending, then UUIDs by bytes, whatever the page size."""
    make(store, fresh_name)
    expected = mixed_ids()
    write(store, fresh_name, points(list(reversed(expected))))
    pages = list(store.scan(fresh_name, page=page))
    assert ids_of(pages) == expected
    assert all(0 < len(found) <= page for found in pages)
    assert sorted(expected, key=records.order_key) == expected


@pytest.mark.parametrize("page", [1, 4, 1000])
def test_ids_alone_come_in_the_same_order(store, fresh_name, page):
    """As arrays, numbers before UUIDs, all of them or those that a filter selects."""
    make(store, fresh_name)
    expected = mixed_ids()
    write(store, fresh_name, points(list(reversed(expected))))
    assert [one for found in store.scan_ids(fresh_name, page=page) for one in points_of(found)] == expected
    where = {"must": [{"has_id": expected[3:]}]}
    found = [one for part in store.scan_ids(fresh_name, page=page, where=where) for one in points_of(part)]
    assert found == expected[3:]
    with pytest.raises(NotFoundError):
        list(store.scan_ids(f"{fresh_name}_missing"))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        *[(None, 9), (8, 100), (11, 100), (5, 6)],
        *[(9, None), (2**64 - 1, None), ("border", None), (None, "border"), (10, "border")],
    ],
)
def test_scan_takes_start_in_and_leaves_stop_out(store, fresh_name, start, stop):
    """Borders need not exist; an id border before a UUID border spans both kinds."""
    make(store, fresh_name)
    everything = mixed_ids()
    write(store, fresh_name, points(everything))
    border = everything[14]
    start, stop = (border if value == "border" else value for value in (start, stop))
    low = records.order_key(start) if start is not None else b""
    high = records.order_key(stop) if stop is not None else b"\xff"
    expected = [found for found in everything if low <= records.order_key(found) < high]
    for page in (2, 1000):
        assert ids_of(store.scan(fresh_name, start=start, stop=stop, page=page)) == expected


def test_scan_reads_only_what_is_asked_for(store, fresh_name):
    """Payload can be left out or cut to fields, vectors can be left out."""
    make(store, fresh_name)
    write(store, fresh_name, points([1], text="x", other=1))
    some = next(iter(store.scan(fresh_name, payload=["text"], vectors=False)))[0]
    assert (records.payload_of(some), records.vectors_of(some)) == ({"text": "x"}, {})
    none = next(iter(store.scan(fresh_name, payload=False)))[0]
    assert records.payload_of(none) == {}
    assert set(records.vectors_of(none)) == {"a"}


def test_scan_of_nothing_yields_no_page(store, fresh_name):
    """An empty collection has no pages; an unknown one is an error."""
    make(store, fresh_name)
    assert list(store.scan(fresh_name)) == []
    with pytest.raises(NotFoundError):
        list(store.scan(f"{fresh_name}_missing"))


def test_a_scan_can_be_left_early(store, fresh_name):
    """Closing a scan with a page under way leaves the store usable."""
    make(store, fresh_name)
    write(store, fresh_name, points(list(range(30))))
    rows = store.scan(fresh_name, page=10)
    next(rows)
    rows.close()
    assert store.count(fresh_name) == 30


def test_counts_are_exact_and_can_be_conditional(store, fresh_name):
    """Missing, null and empty fields count as missing; points can lack a vector."""
    make(store, fresh_name, CollectionSchema(vectors={"a": VECTOR, "b": VECTOR}))
    payloads = [{"t": "x"}, {"t": None}, {"t": []}, {}, {"deep": {"t": 1}}]
    made = [Point(place, payload, {"a": [1.0, 1.0, 1.0, 1.0]}) for place, payload in enumerate(payloads)]
    made.append(Point(99, {"t": "y"}, {"b": [1.0, 1.0, 1.0, 1.0]}))
    write(store, fresh_name, made)
    assert store.count(fresh_name) == 6
    assert store.count(fresh_name, missing_field="t") == 4
    assert store.count(fresh_name, missing_field="deep.t") == 5
    assert store.count(fresh_name, without_vector="a") == 1
    assert store.count(fresh_name, without_vector="b") == 5
    assert store.count(fresh_name, missing_field="t", without_vector="a") == 0
    assert store.sample_ids(fresh_name, 9, having="b") == [99]
    assert sorted(store.sample_ids(fresh_name, 9, having="a")) == [0, 1, 2, 3, 4]


def test_a_sample_holds_ids_of_the_collection(store, fresh_name):
    """As many as asked for, or all; each once."""
    make(store, fresh_name)
    everything = mixed_ids()
    write(store, fresh_name, points(everything))
    few = store.sample_ids(fresh_name, 5)
    assert len(few) == len(set(few)) == 5
    assert set(few) <= set(everything)
    assert sorted(store.sample_ids(fresh_name, 500), key=records.order_key) == everything
    assert store.sample_ids(fresh_name, 0) == []


def test_a_sample_of_points_with_the_unnamed_vector(store, fresh_name):
    """It has a name there, too: the empty one."""
    make(store, fresh_name, CollectionSchema(vectors={"": VECTOR}))
    ready = records.make_ready(grpc.RetrievedPoint(id=grpc.PointId(num=1)), PointTransform.identity(frozenset()), {})
    filled = records.make_ready(
        grpc.RetrievedPoint(id=grpc.PointId(num=2)), PointTransform.identity(frozenset()), {"": [1.0] * 4}
    )
    store.upsert(fresh_name, [ready, filled]).wait()
    assert store.sample_ids(fresh_name, 9, having="") == [2]


def test_deleting_ids_is_repeatable(store, fresh_name):
    """Missing ids are not an error, an empty list sends no request."""
    make(store, fresh_name)
    everything = mixed_ids()
    write(store, fresh_name, points(everything))
    gone = [7, everything[-1]]
    store.delete(fresh_name, gone)
    store.delete(fresh_name, [*gone, 123456])
    store.delete(fresh_name, [])
    assert ids_of(store.scan(fresh_name)) == [found for found in everything if found not in gone]


def test_vectors_are_added_and_dropped_in_place_repeatably(store, fresh_name):
    """Each change may be repeated, and the points keep their other vectors."""
    make(store, fresh_name)
    write(store, fresh_name, points([1]))
    dense = Change("vector.add", "b", after={"size": 3, "distance": "Cosine", "on_disk": True})
    sparse = Change("sparse.add", "s", after={"modifier": "idf"})
    for change in (dense, dense, sparse, sparse):
        store.apply(fresh_name, change)
    found = store.describe(fresh_name).schema
    assert found.vectors["b"]["size"] == 3
    assert found.sparse["s"]["modifier"] == "idf"
    assert store.count(fresh_name, without_vector="b") == 1
    for change in (dense.reverse(), dense.reverse(), sparse.reverse(), sparse.reverse()):
        store.apply(fresh_name, change)
    assert store.describe(fresh_name).schema.vector_names() == {"a"}
    assert set(records.vectors_of(store.fetch(fresh_name, [1])[0])) == {"a"}


def test_metadata_is_changed_in_place_and_back(store, fresh_name):
    """A reversed change removes the keys that it had added, and keeps the seal."""
    make(store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"metadata": {"a": 1}}), seal={"g": 1})
    change = Change("config.set", "metadata", after={"a": 2, "b": {"x": 1}}, before={"a": 1})
    store.apply(fresh_name, change)
    assert store.describe(fresh_name).schema.config["metadata"] == {"a": 2, "b": {"x": 1}}
    store.apply(fresh_name, change.reverse())
    assert store.describe(fresh_name).schema.config["metadata"] == {"a": 1}
    assert store.describe(fresh_name).seal == {"g": 1}


@pytest.mark.parametrize(
    "change",
    [
        Change("config.set", "shard_number", after=3, before=1),
        Change("vector.alter", "a", after={"size": 5, "distance": "Dot"}, before=VECTOR),
        Change("point.add", "a", after={}),
        Change("alias.drop", "a", before={}),
    ],
    ids=["shard number", "vector size", "no such kind", "an alias"],
)
def test_what_can_not_be_changed_in_place_is_refused(store, fresh_name, change):
    """An error, and the collection as it was."""
    make(store, fresh_name)
    before = store.describe(fresh_name)
    with pytest.raises(StoreError):
        store.apply(fresh_name, change)
    assert store.describe(fresh_name) == before


def test_index_changes_are_accepted(store, fresh_name):
    """An index can be declared and dropped; whether it is enforced is in the capabilities."""
    make(store, fresh_name)
    change = Change("index.add", "n", after={"type": "integer"})
    store.apply(fresh_name, change)
    store.apply(fresh_name, change)
    expected = {"n": {"type": "integer"}} if store.capabilities.payload_indexes else {}
    assert store.describe(fresh_name).schema.indexes == expected
    store.apply(fresh_name, change.reverse())
    store.apply(fresh_name, change.reverse())
    assert store.describe(fresh_name).schema.indexes == {}


def test_a_collection_is_ready_after_its_index_is_built(store, fresh_name):
    """Deferred or not, build_index may be repeated and readiness reports the points."""
    make(store, fresh_name, defer_index=True)
    write(store, fresh_name, points(list(range(50))))
    store.build_index(fresh_name, SCHEMA)
    store.build_index(fresh_name, SCHEMA)
    reading = store.readiness(fresh_name)
    assert reading.failed is None
    assert reading.points == 50


def test_a_quiet_collection_shows_the_same_operation_ids(store, fresh_name):
    """Reading moves nothing; local mode has none, since no other process can write."""
    make(store, fresh_name)
    first = store.barrier(fresh_name)
    list(store.scan(fresh_name))
    assert store.operation_ids(fresh_name) == first
    assert bool(first) is not store.capabilities.local


def test_payloads_keep_integers_that_grpc_loses(store, fresh_name):
    """Read and written exactly, also by a scan, in the bytes of points that are written, and in an edit."""
    make(store, fresh_name)
    write(store, fresh_name, points([1, 2]))
    huge = {"n": 2**63 + 5, "deep": [{"m": 2**64 - 1}], "d": 2.0**63, "i": 1, "f": 1.0}
    store.overwrite_payload(fresh_name, 1, huge)
    assert store.payloads(fresh_name, [1, 3]) == {1: huge}
    assert json.dumps(store.payloads(fresh_name, [1]), sort_keys=True) == json.dumps({1: huge}, sort_keys=True)
    (page,) = store.scan(fresh_name)
    for stored in (page[0], *store.fetch(fresh_name, [1])):
        assert json.dumps(records.payload_of(stored), sort_keys=True) == json.dumps(huge, sort_keys=True)
    assert records.payload_of(next(store.scan(fresh_name, payload=["n"]))[0]) == {"n": 2**63 + 5}
    store.upsert(fresh_name, [portable.ready(records.with_id(page[0], 7)), portable.ready(page[1])]).wait()
    store.edit_payloads(fresh_name, [PayloadEdit([2], {"deep": {"m": 2**64 - 1}}, ["n"])])
    assert store.payloads(fresh_name, [7]) == {7: huge}
    assert store.payloads(fresh_name, [2])[2]["deep"] == {"m": 2**64 - 1}
    assert "n" not in store.payloads(fresh_name, [2])[2]
    assert store.payloads(fresh_name, []) == {}
    with pytest.raises(StoreError):
        store.overwrite_payload(fresh_name, 9, {"n": 1})


def test_payload_edits_set_and_remove_keys_of_many_points(store, fresh_name):
    """Groups of points get their values, keys go, other keys stay; repeated it changes nothing."""
    make(store, fresh_name)
    write(store, fresh_name, points([1, 2, 3, 4, 5], kind="z"))
    edits = [
        PayloadEdit([1, 2], {"kind": "x", "deep": {"a": [1, 2.5, None]}}),
        PayloadEdit([3], {"kind": "y"}, ["n"]),
        PayloadEdit([4], {}, ["n", "nothing"]),
    ]
    for _ in range(2):
        store.edit_payloads(fresh_name, edits)
        rows = store.fetch(fresh_name, [1, 2, 3, 4, 5], payload=["kind", "n", "deep"], vectors=False)
        found = {records.point_id(row): records.payload_of(row) for row in rows}
        assert found[1] == found[1] | {"kind": "x", "deep": {"a": [1, 2.5, None]}}
        assert "n" in found[2]
        assert found[3] == {"kind": "y"}
        assert "n" not in found[4]
        assert found[5].get("kind") != "x"


def test_payload_edits_inside_objects(store, fresh_name):
    """A path changes one value of an object and leaves the others; an object that is missing is made; odd keys too."""
    make(store, fresh_name)
    write(store, fresh_name, points([1, 2]))
    for one in (1, 2):
        store.overwrite_payload(fresh_name, one, {"a": {"b": 1, "c": 2, "größe": {"x": 1}}, "t": "text"})
    store.overwrite_payload(fresh_name, 2, {"t": "text"})
    edit = PayloadEdit([1, 2], {"a.b": 7, "a.größe.y": 8, "t": "new"}, ["a.c", "a.größe.x"])
    store.edit_payloads(fresh_name, [edit])
    assert store.payloads(fresh_name, [1, 2]) == {
        1: {"a": {"b": 7, "größe": {"y": 8}}, "t": "new"},
        2: {"a": {"b": 7, "größe": {"y": 8}}, "t": "new"},
    }
    with pytest.raises(NotFoundError):
        store.edit_payloads(fresh_name, [PayloadEdit([1, 99], {"a.b": 9})])


def test_payload_edits_inside_objects_keep_integers_that_grpc_loses(store, fresh_name):
    """A large integer changes nothing about where an edit goes: into the object that its path names, out of it too."""
    make(store, fresh_name)
    write(store, fresh_name, points([1]))
    store.overwrite_payload(fresh_name, 1, {"a": {"b": 1, "c": 2, "größe": {"x": 1}}, "t": "text"})
    edit = PayloadEdit([1], {"a.b": 2**63 + 1, "a.größe.y": 8, "t": 2**64 - 1}, ["a.c", "a.größe.x"])
    store.edit_payloads(fresh_name, [edit])
    assert store.payloads(fresh_name, [1]) == {1: {"a": {"b": 2**63 + 1, "größe": {"y": 8}}, "t": 2**64 - 1}}
