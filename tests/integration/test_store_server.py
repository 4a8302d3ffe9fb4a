"""What only a server has: operation ids, deferred indexes, enforced settings, snapshots."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import httpx
import numpy as np
import pytest
from qdrant_client import grpc
from tests.harness import write

from qmigrate.errors import NotFoundError, RefusedError, StoreError
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.transform import Point
from qmigrate.store import connect, exact, records

pytestmark = pytest.mark.server

VECTOR = {"size": 4, "distance": "Dot"}
SHARDED = CollectionSchema(vectors={"a": VECTOR}, config={"shard_number": 3})


def make(store, name, schema=SHARDED, *, seal=None, defer_index=False):
    """Make a collection of three shards, completely."""
    store.create_collection(name, schema, seal=seal)
    store.complete_collection(name, schema, defer_index=defer_index)


def ready(number: int):
    """A point to write."""
    made = grpc.PointStruct(id=grpc.PointId(num=number))
    made.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire([1.0, 2.0, 3.0, float(number)]))
    return made.SerializeToString()


def fill(store, name, count=60):
    """Write points to every shard."""
    made = [Point(number, {"n": number}, {"a": [1.0, 2.0, 3.0, float(number)]}) for number in range(count)]
    write(store, name, made)


def moved(before, after):
    """How far each shard's id went."""
    assert before.keys() == after.keys()
    return [after[shard] - before[shard] for shard in sorted(before)]


def settle(store, name):
    """Readings until one is settled; the limit is the test's own timeout."""
    while not (reading := store.readiness(name)).settled:
        assert reading.failed is None
        time.sleep(0.02)
    return reading


def test_a_barrier_moves_every_shard_by_a_constant(server_store, fresh_name):
    """Barriers in a row move each shard's id by the same step, also on shards that hold points."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    readings = [server_store.barrier(fresh_name) for _ in range(4)]
    steps = {step for before, after in pairwise(readings) for step in moved(before, after)}
    assert len(readings[0]) == 3
    assert len(steps) == 1
    assert steps.pop() > 0


def test_a_barrier_shows_that_something_was_written(server_store, fresh_name):
    """An upsert and a delete move the id of their shard; reads, seals and settings move none."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    first = server_store.barrier(fresh_name)
    step = moved(first, second := server_store.barrier(fresh_name))
    list(server_store.scan(fresh_name))
    server_store.count(fresh_name)
    server_store.write_seal(fresh_name, {"x": 1})
    server_store.create_alias(f"{fresh_name}_alias", fresh_name)
    quiet = moved(second, third := server_store.barrier(f"{fresh_name}_alias"))
    assert quiet == step
    server_store.upsert(fresh_name, [ready(1)]).wait()
    written = moved(third, fourth := server_store.barrier(fresh_name))
    assert sum(written) == sum(step) + 1
    server_store.delete(fresh_name, [1])
    assert sum(moved(fourth, server_store.barrier(fresh_name))) == sum(step) + 1


def test_a_barrier_sees_a_write_that_nobody_waited_for(server_store, qdrant_server, fresh_name):
    """A write acknowledged without waiting is in the ids once a later barrier returns."""
    make(server_store, fresh_name)
    step = sum(moved(first := server_store.barrier(fresh_name), before := server_store.barrier(fresh_name)))
    assert first.keys() == before.keys()
    for number in range(20):
        body = {"points": [{"id": number, "vector": {"a": [1, 2, 3, 4]}}]}
        httpx.put(f"{qdrant_server.url}/collections/{fresh_name}/points?wait=false", json=body).raise_for_status()
    assert sum(moved(before, server_store.barrier(fresh_name))) == step + 20
    assert server_store.count(fresh_name) == 20


FULL = CollectionSchema(
    vectors={
        "a": {
            "size": 8,
            "distance": "Cosine",
            "on_disk": True,
            "hnsw_config": {"m": 8},
            "quantization_config": {"scalar": {"type": "int8", "quantile": 0.99}},
        },
        "m": {"size": 4, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}, "datatype": "float16"},
    },
    sparse={"s": {"modifier": "idf", "index": {"on_disk": True}}},
    indexes={
        "kind": {"type": "keyword", "is_tenant": True},
        "n": {"type": "integer"},
        "range": {"type": "integer", "lookup": False, "range": True},
        "words": {"type": "text", "tokenizer": "prefix", "min_token_len": 2, "lowercase": True},
        "deep.at": {"type": "datetime"},
    },
    config={
        "hnsw_config": {"m": 24, "ef_construct": 200},
        "optimizers_config": {"default_segment_number": 2, "indexing_threshold": 5000},
        "quantization_config": {"binary": {"always_ram": True}},
        "strict_mode_config": {"enabled": True, "max_query_limit": 5000},
        "wal_config": {"wal_capacity_mb": 16},
        "shard_number": 2,
        "on_disk_payload": False,
        "read_fan_out_factor": 1,
        "metadata": {"team": "search"},
    },
)


def test_a_full_schema_survives_create_and_describe(server_store, fresh_name):
    """Every declared field is read back, and what is read back creates an equal collection."""
    make(server_store, fresh_name, FULL)
    first = server_store.describe(fresh_name)
    assert changes(first.schema, FULL) == ()
    assert first.unknown == ()
    assert first.schema.indexes["kind"] == {"type": "keyword", "is_tenant": True}
    make(server_store, f"{fresh_name}_2", first.schema)
    assert server_store.describe(f"{fresh_name}_2").schema == first.schema


@pytest.mark.parametrize(
    "change",
    [
        Change("config.set", "hnsw_config", after={"m": 32}),
        Change("config.set", "optimizers_config", after={"default_segment_number": 3}),
        Change("config.set", "quantization_config", after={"scalar": {"type": "int8"}}, before={"binary": {}}),
        Change("config.set", "strict_mode_config", after={"enabled": True, "max_query_limit": 77}),
        Change("config.set", "replication_factor", after=2),
        Change("config.set", "on_disk_payload", after=True),
        Change("config.set", "read_fan_out_factor", after=3),
        Change("vector.alter", "a", after={"hnsw_config": {"m": 12}, "on_disk": False}, before=FULL.vectors["a"]),
        Change("sparse.alter", "s", after={"index": {"on_disk": False}}, before=FULL.sparse["s"]),
        Change("index.add", "new", after={"type": "bool"}),
        Change("index.alter", "n", after={"type": "keyword"}, before={"type": "integer"}),
        Change("index.drop", "kind", before={"type": "keyword"}),
    ],
    ids=lambda change: f"{change.kind} {change.name}",
)
def test_each_change_in_place_is_taken_and_may_be_repeated(server_store, fresh_name, change):
    """What was asked for is there afterwards, and again after a second time."""
    make(server_store, fresh_name, FULL)
    for _ in range(2):
        server_store.apply(fresh_name, change)
        found = server_store.describe(fresh_name).schema
        family, verb = change.kind.split(".")
        part = {"config": "config", "vector": "vectors", "sparse": "sparse", "index": "indexes"}[family]
        holder = getattr(found, part)
        if verb == "drop":
            assert change.name not in holder
        else:
            live = CollectionSchema(**{part: {change.name: holder[change.name]}})
            assert changes(live, CollectionSchema(**{part: {change.name: change.after}})) == ()


def test_the_unnamed_vector_is_tuned_in_place(server_store, fresh_name):
    """Its name is the empty string, on the way in and out."""
    make(server_store, fresh_name, CollectionSchema(vectors={"": VECTOR}))
    server_store.apply(fresh_name, Change("vector.alter", "", after={**VECTOR, "on_disk": True}, before=VECTOR))
    assert server_store.describe(fresh_name).schema.vectors == {"": {**VECTOR, "on_disk": True}}


def test_quantization_is_removed_by_a_change_to_none(server_store, fresh_name):
    """It is the one setting that the server can unset."""
    make(server_store, fresh_name, FULL)
    server_store.apply(fresh_name, Change("config.set", "quantization_config", before={"binary": {}}))
    assert "quantization_config" not in server_store.describe(fresh_name).schema.config


@pytest.mark.parametrize(
    "declared",
    [None, {"indexing_threshold": 4321, "prevent_unoptimized": True}, {"indexing_threshold": 0}],
    ids=["nothing declared", "declared", "declared off"],
)
def test_deferring_the_index_is_taken_back_exactly(qdrant_server, server_store, fresh_name, declared):
    """Indexing is off during the load and back at what a fresh collection has, also from another process."""
    config = {"optimizers_config": declared} if declared else {}
    schema = CollectionSchema(vectors={"a": VECTOR}, config=config)
    make(server_store, f"{fresh_name}_fresh", schema)
    make(server_store, fresh_name, schema, defer_index=True, seal={"state": "building"})
    # Another process may have stopped anywhere in it.
    server_store.complete_collection(fresh_name, schema, defer_index=True)
    loading = server_store.describe(fresh_name)
    assert loading.schema.config["optimizers_config"]["indexing_threshold"] == 0
    assert loading.prevents_unoptimized is False
    assert (loading.seal, "metadata" in loading.schema.config) == ({"state": "building"}, False)
    other = connect(qdrant_server.settings())
    try:
        other.build_index(fresh_name, schema)
    finally:
        other.close()
    fresh = server_store.describe(f"{fresh_name}_fresh")
    found = server_store.describe(fresh_name)
    wanted = fresh.schema.config["optimizers_config"]
    assert changes(found.schema, schema.with_(config={"optimizers_config": wanted})) == ()
    assert found.seal == {"state": "building"}
    raw = httpx.get(f"{qdrant_server.url}/collections/{fresh_name}").json()["result"]["config"]["metadata"]
    assert set(raw) == {"qmigrate"}


def test_an_unknown_threshold_is_never_guessed(server_store, fresh_name):
    """Indexing turned off by another client, and nothing declared: an error that names what to declare."""
    off = {"optimizers_config": {"indexing_threshold": 0}}
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config=off))
    with pytest.raises(StoreError, match="threshold"):
        server_store.build_index(fresh_name, CollectionSchema(vectors={"a": VECTOR}))


def test_no_graph_is_built_before_build_index(qdrant_server, server_store, fresh_name):
    """Points above the threshold stay unindexed while it is deferred, and are indexed afterwards."""
    schema = CollectionSchema(
        vectors={"a": {"size": 64, "distance": "Dot"}},
        config={"optimizers_config": {"indexing_threshold": 100, "default_segment_number": 1}, "hnsw_config": {"m": 4}},
    )
    make(server_store, fresh_name, schema, defer_index=True)
    write(server_store, fresh_name, [Point(n, {}, {"a": [float(n % 7 + d) for d in range(64)]}) for n in range(1000)])

    def indexed():
        settle(server_store, fresh_name)
        reply = httpx.get(f"{qdrant_server.url}/collections/{fresh_name}")
        return reply.json()["result"].get("indexed_vectors_count") or 0

    assert indexed() == 0
    server_store.build_index(fresh_name, schema)
    while indexed() < 900:
        time.sleep(0.02)


def test_strict_limits_are_kept_while_reading_and_writing(server_store, fresh_name):
    """A scan shrinks its pages, an upsert its batches and a sample its number to what the collection allows."""
    strict = {"enabled": True, "max_query_limit": 7, "upsert_max_batchsize": 5, "max_timeout": 1}
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"strict_mode_config": strict}))
    server_store.upsert(fresh_name, [ready(number) for number in range(23)]).wait()
    pages = list(server_store.scan(fresh_name, page=1000))
    assert [len(page) for page in pages] == [7, 7, 7, 2]
    assert len(server_store.sample_ids(fresh_name, 100)) == 7
    assert len(server_store.fetch(fresh_name, list(range(23)))) == 23


def test_points_that_grpc_cannot_carry_are_written_within_strict_limits(server_store, fresh_name):
    """Large integers and plain points in one batch, NaN vectors among them; beyond 64 bits it is refused."""
    strict = {"enabled": True, "max_query_limit": 7, "upsert_max_batchsize": 5, "max_timeout": 1}
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"strict_mode_config": strict}))
    points = [grpc.PointStruct.FromString(ready(number)) for number in range(23)]
    for point in points[::2]:
        point.payload["n"].CopyFrom(exact.value_of([2**63 + point.id.num]))
    points[4].vectors.vectors.vectors["a"].dense.data[0] = math.nan
    server_store.upsert(fresh_name, [point.SerializeToString() for point in points]).wait()
    found = {records.point_id(row): row for page in server_store.scan(fresh_name) for row in page}
    payloads = {number: records.payload_of(row) for number, row in found.items()}
    assert payloads == {number: {} if number % 2 else {"n": [2**63 + number]} for number in range(23)}
    vectors = {number: records.vectors_of(row)["a"] for number, row in found.items() if number != 4}
    assert vectors == {number: [1.0, 2.0, 3.0, number] for number in vectors}
    points[0].payload["n"].CopyFrom(exact.value_of(2**64))
    with pytest.raises(RefusedError, match="point 0 would get a payload integer beyond 64 bits"):
        server_store.upsert(fresh_name, [points[0].SerializeToString()]).wait()
    assert server_store.payloads(fresh_name, [0]) == {0: {"n": [2**63]}}


def test_a_refusal_that_is_no_limit_stays_an_error(server_store, fresh_name):
    """Strict mode may refuse a filter without an index; that is reported, not hidden."""
    strict = {"enabled": True, "unindexed_filtering_retrieve": False}
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"strict_mode_config": strict}))
    with pytest.raises(StoreError, match="Index required"):
        server_store.count(fresh_name, missing_field="text")


def test_snapshots_are_made_listed_and_deleted(server_store, fresh_name):
    """Size, checksum and time are reported; through an alias too; a deleted one may be deleted again."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    server_store.create_alias(f"{fresh_name}_alias", fresh_name)
    assert server_store.list_snapshots(fresh_name) == []
    made = server_store.create_snapshot(f"{fresh_name}_alias")
    assert made.size > 0
    assert len(made.checksum) == 64
    assert made.created_at.tzinfo is not None
    assert server_store.list_snapshots(fresh_name) == [made]
    for _ in range(2):
        server_store.delete_snapshot(fresh_name, made.name)
    assert server_store.list_snapshots(fresh_name) == []
    with pytest.raises(NotFoundError):
        server_store.create_snapshot(f"{fresh_name}_missing")


def test_what_the_server_can_do_is_read(server_store, qdrant_server):
    """Version, label and nodes; a single node's barriers can be trusted."""
    found = server_store.capabilities
    port = httpx.URL(qdrant_server.url).port
    assert found.version >= (1, 16, 0)
    assert found.label == f"Qdrant {'.'.join(map(str, found.version))} at {httpx.URL(qdrant_server.url).host}:{port}"
    assert (found.local, found.snapshots, found.payload_indexes, found.nodes) == (False, True, True, 1)
    assert found.barrier is (found.version >= (1, 17, 0))
    assert server_store.request_timeout == 20.0


def test_a_killed_server_is_waited_for(qdrant_with, fresh_name):
    """Reads and writes that meet a restarting server go through once it is back; ids start again below."""
    server = qdrant_with({})
    opened = connect(server.settings(timeout=30.0))
    try:
        make(opened, fresh_name)
        fill(opened, fresh_name)
        rows = opened.scan(fresh_name, page=20)
        seen = len(next(rows))
        server.restart()
        seen += sum(len(page) for page in rows)
        assert seen == 60
        server.restart()
        opened.upsert(fresh_name, [ready(1000)]).wait()
        server.restart()
        assert opened.count(fresh_name) == 61
        assert set(opened.barrier(fresh_name)) == set(opened.operation_ids(fresh_name))
    finally:
        opened.close()


@pytest.mark.parametrize("distance", ["Euclid", "Dot", "Manhattan", "Cosine"])
def test_a_server_rounds_float16_as_the_proof_expects(server_store, fresh_name, distance):
    """From 1e-9 to the end of its range, borders included: as numpy rounds, or one unit next to it once normalised."""
    random = np.random.default_rng(7)
    borders = [2.0**-24, 2.0**-25, 2.0**-25 * 1.0001, 3 * 2.0**-25, 2.0**-14 - 2.0**-25, 65504.0, 65519.0, 1 + 2.0**-11]
    values = np.concatenate([10 ** random.uniform(-9, 4.8, 4088) * random.choice([-1, 1], 4088), borders])
    rows = random.permutation(values).reshape(-1, 64).astype(np.float32)
    schema = CollectionSchema(vectors={"h": {"size": 64, "distance": distance, "datatype": "float16"}})
    server_store.create_collection(fresh_name, schema, seal=None)
    write(server_store, fresh_name, [Point(number, {}, {"h": row.tolist()}) for number, row in enumerate(rows)])
    tolerance = records.tolerance_of(schema.vectors["h"])
    for stored in server_store.fetch(fresh_name, list(range(len(rows)))):
        seen = records.array_of(records.vector_messages(stored)["h"])
        assert records._close(rows[records.point_id(stored)], seen, tolerance)
