"""What points take: payloads, rows of multivectors, sparse vectors and new vectors count; and how sizes are written."""

from __future__ import annotations

import json

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import estimate, gc, upgrade
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point
from qmigrate.model.weight import MOST_ROOM, Weight
from qmigrate.planner.estimate import Copy, Speed, seconds_of_copy
from qmigrate.settings.sections import EstimateSettings
from qmigrate.store import ConnectionSettings, connect
from qmigrate.store.server.examine import _bytes
from qmigrate.store.weigh import weigh
from qmigrate.text import size

A = {"size": 8, "distance": "Cosine"}
COUNT = 50
BIG = {"text": "x" * 20_000, "tags": list(range(500))}
#: (what, schema, payload, vectors, bytes of a point at least, at most)
POINTS = (
    ("small", CollectionSchema(vectors={"a": A}), {"n": 1}, {"a": [1.0] * 8}, 32, 200),
    ("a big payload", CollectionSchema(vectors={"a": A}), BIG, {"a": [1.0] * 8}, 20_000, 30_000),
    ("rows", CollectionSchema(vectors={"a": {**A, "multivector_config": {"comparator": "max_sim"}}}), {},
     {"a": [[1.0] * 8] * 300}, 9_600, 10_000),
    ("float16", CollectionSchema(vectors={"a": {"size": 1000, "distance": "Cosine", "datatype": "float16"}}), {},
     {"a": [1.0] * 1000}, 2_000, 2_200),
    ("sparse", CollectionSchema(vectors={"a": A}, sparse={"s": {}}), {},
     {"a": [1.0] * 8, "s": {"indices": list(range(400)), "values": [0.5] * 400}}, 3_200, 3_400),
    ("without its vector", CollectionSchema(vectors={"a": A, "b": {"size": 60_000, "distance": "Dot"}}), {}, {"a": [1.0] * 8}, 32, 300_000),
)  # fmt: skip


@pytest.mark.parametrize(("schema", "payload", "vectors", "least", "most"), [row[1:] for row in POINTS], ids=[row[0] for row in POINTS])
def test_points_are_weighed_by_a_sample(tmp_path, schema, payload, vectors, least, most):
    """Within a small margin of what they hold."""
    store = connect(ConnectionSettings(path=str(tmp_path / "q")))
    try:
        store.create_collection("c", schema, seal=None)
        write(store, "c", [Point(number, payload, vectors) for number in range(COUNT)])
        found = weigh(store, "c")
        assert found.points > 0
        assert least <= found.per_point(schema) <= most
    finally:
        store.close()


def test_what_can_not_be_read_counts_as_declared(tmp_path):
    """No collection, no points: the declaration has to do."""
    store = connect(ConnectionSettings(path=str(tmp_path / "q")))
    try:
        assert weigh(store, "nothing") == Weight()
    finally:
        store.close()
    assert Weight().per_point(CollectionSchema(vectors={"a": {**A, "size": 100}})) == 600


#: (what, measured values, schema of the target, target <- source, bytes of its vectors)
TARGETS = (
    ("carried", {"a": 10.0}, {"a": A}, {}, 40),
    ("new", {"a": 10.0}, {"a": A, "b": {"size": 100, "distance": "Dot"}}, {}, 440),
    ("renamed", {"a": 10.0}, {"z": A}, {"z": "a"}, 40),
    ("as another type", {"a": 10.0}, {"a": {**A, "datatype": "uint8"}}, {}, 10),
    ("dropped", {"a": 10.0, "b": 1000.0}, {"a": A}, {}, 40),
    ("new rows", {}, {"m": {"size": 10, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}}}, {}, 5120),
)


@pytest.mark.parametrize(("values", "vectors", "sources", "wanted"), [row[1:] for row in TARGETS], ids=[row[0] for row in TARGETS])
def test_a_target_weighs_what_is_carried_and_what_is_new(values, vectors, sources, wanted):
    """By the sample of the source, and by the declaration where there is none."""
    bare = Weight(1, 0, values).per_point(CollectionSchema())
    assert Weight(1, 0, values).per_point(CollectionSchema(vectors=vectors), sources) - bare == wanted


ROWS = {**A, "multivector_config": {"comparator": "max_sim"}}
#: (what, numbers of the vector, rows of it, multivectors, target, its size there, bytes of its vector)
RESIZED = (
    ("longer", 8.0, 1.0, (), A, 1024, 4096),
    ("longer, in half of the points", 4.0, 0.5, (), A, 1024, 2048),
    ("shorter, of another type", 8.0, 1.0, (), {**A, "datatype": "float16"}, 4, 8),
    ("rows of another size", 2400.0, 300.0, ("a",), ROWS, 16, 19_200),
    ("rows from now on", 8.0, 1.0, (), ROWS, 16, 8192),
    ("no rows any more", 2400.0, 300.0, ("a",), A, 16, 64),
)


@pytest.mark.parametrize(("values", "rows", "multi", "params", "length", "wanted"), [row[1:] for row in RESIZED], ids=[row[0] for row in RESIZED])
def test_a_target_weighs_by_the_size_that_it_will_have(values, rows, multi, params, length, wanted):
    """On disk and in memory, under its own name and under another one."""
    found = Weight(1, 0, {"a": values}, {"a": rows}, frozenset(multi))
    vector, graph = {**params, "size": length}, {"hnsw_config": {"m": 0}}
    for weighed in (found.per_point, found.in_memory):
        bare = weighed(CollectionSchema())
        assert weighed(CollectionSchema(vectors={"a": vector}, config=graph)) - bare == wanted
        assert weighed(CollectionSchema(vectors={"z": vector}, config=graph), {"z": "a"}) - bare == wanted


def test_a_plan_and_gc_say_what_points_really_take(tmp_path):
    """50 points of 20 kB are a megabyte, not 12 kB; a vector that is added comes on top."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [Point(number, BIG, {"a": [1.0] * 8}) for number in range(COUNT)])
    store.close()
    real = COUNT * len(json.dumps(BIG))
    made.revise("0002", 'def upgrade():\n    return [op.AddVector("{name}", "b", VectorParams(size=6000, distance=Distance.COSINE), values=Embed("wide", text="text"))]\n')
    made.extra["embedders"] = {"wide": {"type": "hashing", "size": 6000}}
    made.__post_init__()
    (item,) = upgrade.plan(made.settings()).collections
    assert real * 0.9 + COUNT * 24_000 < item.bytes < real * 1.3 + COUNT * 24_200
    made.revise("0002", 'def upgrade():\n    return [op.AlterVector("{name}", "a", VectorParams(size=6000, distance=Distance.COSINE), values=Embed("wide", text="text"), cutover="immediate")]\n', down="0001")
    (item,) = upgrade.plan(made.settings()).collections
    assert real * 0.9 + COUNT * 24_000 < item.bytes < real * 1.3 + COUNT * 24_200, "the size after the change"
    made.revise("0002", ADD, down="0001")
    upgrade.upgrade(made.settings())
    (row,) = gc.review(made.settings()).staying
    assert real * 0.9 < row.size < real * 1.3


def test_a_speed_scales_with_what_points_weigh():
    """An earlier run with its weight: points of ten times the bytes take ten times as long, whatever was declared."""
    schema = CollectionSchema(vectors={"a": A})
    speed = Speed(1000, 10.0, 1000, 5.0, 5.0, 0, 232, 1000, collection="c")
    rates = EstimateSettings(step=0.0)
    seconds = [seconds_of_copy(Copy("c", 1000, 0, schema, 1000, weight), [speed], rates, local=False)[0] for weight in (1000, 10_000)]
    assert seconds == [pytest.approx(20.0), pytest.approx(200.0)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (84_000_000, "84 MB"), (999_499_999, "999 MB"), (999_600_000, "1.0 GB"),
     (5 * 10**12, "5.0 TB"), (5 * 10**15, "5.0 PB"), (9_223_372_036_854_775_807, "9.2 EB")],
)  # fmt: skip
def test_sizes_in_words(value, shown):
    """One or two digits that count, in the unit that fits."""
    assert size(value) == shown


@pytest.mark.parametrize(
    ("told", "unit", "wanted"),
    [(None, 1, None), (0, 1, None), (16_000_000, 1024, 16_384_000_000), (2**63 - 1, 1, None), (2**63 // 1024, 1024, None), (MOST_ROOM, 1, None)],
)  # fmt: skip
def test_no_machine_has_more_room_than_there_is(told, unit, wanted):
    """A container without a limit reports the largest number there is: that counts as unknown."""
    assert _bytes(told, unit) == wanted


def test_what_a_build_makes_of_a_point_is_planned_once(tmp_path, monkeypatch):
    """Seconds, bytes and the number of embedded vectors of one build come from one transform."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(20)
    made.revise("0002", ADD)
    planned = []

    def transform_of(operations, schema):
        planned.append(operations)
        return real(operations, schema)

    real = estimate.transform_of
    monkeypatch.setattr(estimate, "transform_of", transform_of)
    (item,) = upgrade.plan(made.settings()).collections
    assert (item.seconds is not None, item.bytes is not None, len(planned)) == (True, True, 1)


HUNDRED = {"size": 100, "distance": "Dot"}
#: (what, vector, config of the collection, bytes in memory besides those of an id)
MEMORY = (
    ("float32 and its graph", HUNDRED, {}, 400 + 128),
    ("m of the collection", HUNDRED, {"hnsw_config": {"m": 32}}, 400 + 256),
    ("m of the vector", {**HUNDRED, "hnsw_config": {"m": 8}}, {"hnsw_config": {"m": 32}}, 400 + 64),
    ("no graph", {**HUNDRED, "hnsw_config": {"m": 0}}, {}, 400),
    ("on disk", {**HUNDRED, "on_disk": True}, {}, 128),
    ("cold", {**HUNDRED, "on_disk": False, "memory": "cold"}, {}, 128),
    ("all on disk", {**HUNDRED, "on_disk": True, "hnsw_config": {"on_disk": True}}, {}, 0),
    ("float16", {**HUNDRED, "datatype": "float16"}, {}, 200 + 128),
    ("int8 next to the originals", HUNDRED, {"quantization_config": {"scalar": {"type": "int8"}}}, 400 + 100 + 128),
    ("int8, originals on disk", {**HUNDRED, "on_disk": True}, {"quantization_config": {"scalar": {"type": "int8", "always_ram": True}}}, 100 + 128),
    ("quantized on disk", {**HUNDRED, "on_disk": True}, {"quantization_config": {"scalar": {"type": "int8"}}}, 128),
    ("binary", {**HUNDRED, "on_disk": True, "quantization_config": {"binary": {"always_ram": True}}}, {}, 12.5 + 128),
    ("two bits", {**HUNDRED, "on_disk": True, "quantization_config": {"binary": {"always_ram": True, "encoding": "two_bits"}}}, {}, 25 + 128),
    ("x16", {**HUNDRED, "on_disk": True, "quantization_config": {"product": {"compression": "x16", "always_ram": True}}}, {}, 25 + 128),
)


@pytest.mark.parametrize(("vector", "config", "wanted"), [row[1:] for row in MEMORY], ids=[row[0] for row in MEMORY])
def test_what_a_server_wants_in_memory(vector, config, wanted):
    """Vectors and graphs as they are declared: what lies on disk is none of it."""
    found = Weight().in_memory(CollectionSchema(vectors={"a": vector}, config=config)) - Weight().in_memory(CollectionSchema())
    assert found == round(wanted)


def test_a_plan_says_what_its_index_wants(qdrant_server, tmp_path):
    """The new vector and both graphs; in local mode there is no index, and nothing is said."""
    for place, there in (({"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, True), ({"path": str(tmp_path / "q")}, False)):
        made = Deployment(tmp_path / str(there), place, f"sqlite:///{tmp_path}/{there}.db")
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(50)
        made.revise("0002", ADD)
        try:
            (item,) = upgrade.plan(made.settings()).collections
            # 8 and 16 values of 4 bytes, two graphs and an id.
            assert item.memory == (50 * (32 + 64 + 2 * 128 + 50) if there else None)
            said = call(made.root, "plan", "--no-trial").out
            assert ("in memory for vectors and index" in said) == there
        finally:
            if there:
                clean(made)
