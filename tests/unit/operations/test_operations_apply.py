"""What operations do to schemas and points, and how they want to be done."""

import pytest
from qdrant_client import models
from qdrant_client.models import Distance, VectorParams

from qmigrate import Compute, CopyOf, Embed, Empty, op
from qmigrate.errors import PlanError
from qmigrate.model.schema import DISABLED, CollectionSchema, changes
from qmigrate.model.state import Capabilities
from qmigrate.model.transform import PointTransform

COSINE = {"size": 8, "distance": "Cosine"}
DOT = {"size": 8, "distance": "Dot"}
SCALAR = {"scalar": {"type": "int8"}}
DECLARED = CollectionSchema(
    vectors={"a": COSINE, "d": DOT}, sparse={"s": {}}, indexes={"kind": {"type": "keyword"}}, aliases=("further",)
)
#: The same on a server, with its defaults filled in and a setting that is not declared.
LIVE = DECLARED.with_(
    vectors={"a": {**COSINE, "on_disk": False}, "d": {**DOT, "datatype": "float32"}},
    indexes={"kind": {"type": "keyword", "is_tenant": False, "on_disk": False}},
    config={
        "shard_number": 1,
        "replication_factor": 1,
        "on_disk_payload": True,
        "hnsw_config": {"m": 24, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizers_config": {"deleted_threshold": 0.2, "indexing_threshold": 10000},
    },
)
SERVER = Capabilities(False, (1, 18, 3), "Qdrant 1.18.3", True, True, True, True)
OLD = Capabilities(False, (1, 16, 0), "Qdrant 1.16.0", True, True, False, True)
WORDS = Embed("words", text="text")


def shout(point):
    """Upper case."""
    return {**point.payload, "text": str(point.payload["text"]).upper()}


def whisper(point):
    """Lower case."""
    return {**point.payload, "text": str(point.payload["text"]).lower()}


def vector(point):
    """A vector of eight zeros."""
    return [0.0] * 8


def add(params=COSINE, values=WORDS, **more):
    """An AddVector with the usual arguments."""
    return op.AddVector("c", "new", params, values=values, **more)


def alter(params, name="a", **more):
    """An AlterVector of the usual vector."""
    return op.AlterVector("c", name, params, **more)


QUANTIZED = op.UpdateCollection("c", quantization_config=models.ScalarQuantization(scalar={"type": "int8"}))
APPLIED = [
    (add(), ["vector.add new"]),
    (add(models.SparseVectorParams(modifier=models.Modifier.IDF)), ["sparse.add new"]),
    (alter({**COSINE, "hnsw_config": {"m": 4}}), ["vector.alter a"]),
    (alter({"modifier": "idf"}, "s"), ["sparse.alter s"]),
    (op.Quantize("c", "a", "binary"), ["vector.alter a"]),
    (op.Quantize("c", "a", "int8", on_disk=True), ["vector.alter a"]),
    (op.Quantize("c", "a", "product", on_disk=False), ["vector.alter a"]),
    (op.Reembed("c", "a", values=WORDS), []),
    (op.DropVector("c", "a"), ["vector.drop a"]),
    (op.DropVector("c", "s"), ["sparse.drop s"]),
    (op.RenameVector("c", "a", "z"), ["vector.drop a", "vector.add z"]),
    (op.CreatePayloadIndex("c", "n", models.PayloadSchemaType.INTEGER), ["index.add n"]),
    (op.CreatePayloadIndex("c", "kind", models.UuidIndexParams(type="uuid")), ["index.alter kind"]),
    (op.CreatePayloadIndex("c", "kind", "keyword"), []),
    (op.DropPayloadIndex("c", "kind"), ["index.drop kind"]),
    (op.UpdateCollection("c", hnsw_config=models.HnswConfigDiff(m=4)), ["config.set hnsw_config"]),
    (QUANTIZED, ["config.set quantization_config"]),
    (op.UpdateCollection("c", vectors_config={"a": {"on_disk": True}}), ["vector.alter a"]),
    (op.UpdateCollection("c", sparse_vectors_config={"s": {"modifier": "idf"}}), ["sparse.alter s"]),
    (op.UpdateCollection("c", params={"replication_factor": 2}), ["config.set replication_factor"]),
    (op.UpdateCollection("c", metadata={"owner": "us"}), ["config.set metadata"]),
    (op.UpdateCollection("c", quantization_config=models.Disabled.DISABLED), []),
    (op.Reshard("c", 3), ["config.set shard_number"]),
    (op.TransformPoints("c", shout), []),
    (op.SetAlias("x", "c"), ["alias.add x"]),
]


@pytest.mark.parametrize("schema", [DECLARED, LIVE], ids=["recorded", "live"])
@pytest.mark.parametrize(("operation", "wanted"), APPLIED, ids=[row[0].describe() for row in APPLIED])
def test_apply_makes_the_same_changes_of_recorded_and_live_schema(operation, wanted, schema):
    """Server defaults make no difference to what an operation changes."""
    after = operation.apply(schema)
    assert [f"{change.kind} {change.name}" for change in changes(schema, after)] == wanted


@pytest.mark.parametrize("operation", [row[0] for row in APPLIED], ids=[row[0].describe() for row in APPLIED])
def test_live_after_has_no_drift_from_recorded_after(operation):
    """What both fold to agrees: a shadow made from the live schema is what the ledger records."""
    assert changes(operation.apply(LIVE), operation.apply(DECLARED)) == ()


def test_update_merges_deeply_and_keeps_what_nobody_declared():
    """A setting is merged field by field into the live one; tuning that no revision declared survives."""
    after = op.UpdateCollection("c", hnsw_config={"ef_construct": 200}, metadata={"b": 2}).apply(
        LIVE.with_(config={**LIVE.config, "metadata": {"a": 1}})
    )
    assert after.config["hnsw_config"] == {"m": 24, "ef_construct": 200, "full_scan_threshold": 10000}
    assert after.config["metadata"] == {"a": 1, "b": 2}
    assert after.config["on_disk_payload"] is True


def test_quantization_is_replaced_and_turned_off_as_a_whole():
    """Another method takes the place of the old one; turned off, a new collection is made without it."""
    scalar = QUANTIZED.apply(LIVE)
    assert scalar.config["quantization_config"] == SCALAR
    product = op.UpdateCollection("c", quantization_config={"product": {"compression": "x4"}}).apply(scalar)
    assert product.config["quantization_config"] == {"product": {"compression": "x4"}}
    off = op.UpdateCollection("c", quantization_config=models.Disabled.DISABLED).apply(product)
    assert off.config["quantization_config"] == DISABLED
    assert "quantization_config" not in off.create_request()


def test_create_collection_declares_what_it_was_given():
    """All parts of the create call end up in the schema as plain JSON, and nothing that was not given."""
    made = op.CreateCollection(
        "c",
        {"a": VectorParams(size=8, distance=Distance.COSINE)},
        {"s": models.SparseVectorParams()},
        {"f": models.PayloadSchemaType.KEYWORD, "t": models.TextIndexParams(type="text", lowercase=True)},
        hnsw_config=models.HnswConfigDiff(m=4),
        quantization_config=models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8")),
        on_disk_payload=False,
    ).apply(None)
    assert made == CollectionSchema(
        vectors={"a": COSINE},
        sparse={"s": {}},
        indexes={"f": {"type": "keyword"}, "t": {"type": "text", "lowercase": True}},
        config={"hnsw_config": {"m": 4}, "quantization_config": SCALAR, "on_disk_payload": False},
    )


@pytest.mark.parametrize(
    ("given", "vectors"),
    [
        (VectorParams(size=8, distance=Distance.COSINE), {"": COSINE}),
        (COSINE, {"": COSINE}),
        ({"size": COSINE}, {"size": COSINE}),
        ({}, {}),
        (None, {}),
    ],
)
def test_one_vector_without_a_name_is_the_unnamed_one(given, vectors):
    """Parameters instead of a name -> parameters mean the unnamed vector; a vector may be called size."""
    assert op.CreateCollection("c", given).apply(None).vectors == vectors


def test_drop_collection_leaves_nothing():
    """Afterwards there is no schema, and readers are warned."""
    drop = op.DropCollection("c")
    assert drop.apply(LIVE) is None
    assert (drop.drops, drop.creates) == (True, False)
    assert drop.incompatible(LIVE)
    assert "until gc" in (drop.irreversible_reason(LIVE) or "")


CARRIED = {"a": "a", "d": "d", "s": "s"}
REST = {"d": "d", "s": "s"}
EMPTY = Empty()
TRANSFORMS = [
    (add(), PointTransform(vectors=CARRIED, values={"new": WORDS})),
    (add(values=EMPTY), PointTransform(vectors=CARRIED, values={"new": EMPTY})),
    (add(values=CopyOf("a")), PointTransform(vectors={**CARRIED, "new": "a"})),
    (
        add({**COSINE, "datatype": "float16"}, CopyOf("a")),
        PointTransform(vectors={**CARRIED, "new": "a"}, converted=frozenset({"new"})),
    ),
    (alter({**COSINE, "hnsw_config": {"m": 4}}), PointTransform(vectors=CARRIED)),
    (alter({**COSINE, "datatype": "float16"}), PointTransform(vectors=CARRIED, converted=frozenset({"a"}))),
    (alter(COSINE, "d"), PointTransform(vectors=CARRIED, converted=frozenset({"d"}))),
    (alter({**DOT, "distance": "Euclid"}, "d"), PointTransform(vectors=CARRIED)),
    (alter({**DOT, "datatype": "float32"}, "d"), PointTransform(vectors=CARRIED)),
    (alter(COSINE, values=WORDS), PointTransform(vectors=REST, values={"a": WORDS}, lossless=False, drops=True)),
    (
        alter(DOT, values=CopyOf("d")),
        PointTransform(vectors={**CARRIED, "a": "d"}, lossless=False, drops=True),
    ),
    (
        op.Reembed("c", "a", values=WORDS),
        PointTransform(vectors=REST, values={"a": WORDS}, lossless=False, drops=True),
    ),
    (op.DropVector("c", "a"), PointTransform(vectors=REST, lossless=False, drops=True)),
    (op.RenameVector("c", "a", "z"), PointTransform(vectors={"z": "a", **REST})),
    (op.TransformPoints("c", shout), PointTransform(vectors=CARRIED, payload=(shout,), inverse=None)),
    (
        op.TransformPoints("c", shout, inverse=whisper),
        PointTransform(vectors=CARRIED, payload=(shout,), inverse=(whisper,)),
    ),
    *(
        (operation, PointTransform(vectors=CARRIED))
        for operation in (
            op.CreatePayloadIndex("c", "n", "integer"),
            op.DropPayloadIndex("c", "kind"),
            op.UpdateCollection("c", hnsw_config={"m": 4}),
            op.Reshard("c", 3),
            op.SetAlias("x", "c"),
        )
    ),
]


@pytest.mark.parametrize("schema", [DECLARED, LIVE], ids=["recorded", "live"])
@pytest.mark.parametrize(("operation", "wanted"), TRANSFORMS, ids=[row[0].describe() for row in TRANSFORMS])
def test_transform(operation, wanted, schema):
    """What each operation does to a point."""
    assert operation.transform(schema) == wanted


STRATEGIES = [
    (add(), "copy", "values change for every point"),
    (add(values=EMPTY), "clone", "room in every segment"),
    (add(values=EMPTY, strategy="in_place"), "in_place", "asked for"),
    (add(values=CopyOf("a")), "copy", "vector new is written into every point"),
    (alter({**COSINE, "hnsw_config": {"m": 4}}), "clone", "rebuilds vector a"),
    (alter({**COSINE, "hnsw_config": {"m": 4}}, strategy="in_place"), "in_place", "asked for"),
    (alter({**COSINE, "datatype": "float16"}), "copy", "the stored form of vector a changes"),
    (alter({**DOT, "distance": "Euclid"}, "d"), "copy", "the stored form of vector d changes"),
    (alter(COSINE, values=WORDS), "copy", "values change for every point"),
    (alter(COSINE, values=EMPTY), "copy", "values change for every point"),
    (alter(COSINE), "in_place", "light"),
    (op.Reembed("c", "a", values=Compute(vector)), "copy", "values change for every point"),
    (op.DropVector("c", "a"), "clone", "removed from every segment"),
    (op.DropVector("c", "a", strategy="in_place"), "in_place", "asked for"),
    (op.RenameVector("c", "a", "z"), "copy", "vector z is written into every point"),
    (op.CreatePayloadIndex("c", "n", "integer"), "in_place", "light"),
    (op.CreatePayloadIndex("c", "n", "integer", strategy="copy"), "copy", "asked for"),
    (op.CreatePayloadIndex("c", "kind", "uuid"), "clone", "no index while it is rebuilt"),
    (op.CreatePayloadIndex("c", "kind", "uuid", strategy="in_place"), "in_place", "asked for"),
    (op.CreatePayloadIndex("c", "kind", "keyword"), "in_place", "light"),
    (op.DropPayloadIndex("c", "kind"), "in_place", "light"),
    (op.UpdateCollection("c", hnsw_config={"m": 4}), "clone", "rebuilds the HNSW graph of every segment"),
    (op.UpdateCollection("c", hnsw_config={"m": 24}), "in_place", "light"),
    (op.UpdateCollection("c", hnsw_config={"m": 4}, strategy="in_place"), "in_place", "asked for"),
    (QUANTIZED, "clone", "quantizes every segment"),
    (op.UpdateCollection("c", optimizers_config={"indexing_threshold": 5}), "in_place", "light"),
    (op.UpdateCollection("c", strict_mode_config={"enabled": True}), "in_place", "light"),
    (op.UpdateCollection("c", vectors_config={"a": {"on_disk": True}}), "clone", "rebuilds vector a"),
    (op.Reshard("c", 3), "copy", "shard_number can only be chosen when a collection is created"),
    (op.Reshard("c", 1), "in_place", "light"),
    (op.Reshard("c", replication_factor=2), "in_place", "light"),
    (op.TransformPoints("c", shout), "copy", "the payload of every point changes"),
    (op.SetAlias("x", "c"), "in_place", "light"),
    (op.DropCollection("c"), "in_place", "name"),
]


@pytest.mark.parametrize(
    ("operation", "rank", "words"), STRATEGIES, ids=[f"{row[0].describe()} {row[2]}" for row in STRATEGIES]
)
def test_strategy(operation, rank, words):
    """Light work is done in place, the rest next to the live collection, unless asked otherwise, with the reason."""
    found = operation.strategy(LIVE, SERVER)
    assert found.rank == rank
    assert words in found.reason


UNNAMED = CollectionSchema(vectors={"": COSINE})
IMPOSSIBLE = [
    (add(strategy="in_place"), LIVE, SERVER, "values change for every point"),
    (add(values=CopyOf("a"), strategy="in_place"), LIVE, SERVER, "written into every point"),
    (add(values=EMPTY, strategy="in_place"), LIVE, OLD, "Qdrant 1.16.0 can't add a vector of a live collection"),
    (add(values=EMPTY, strategy="in_place"), UNNAMED, SERVER, "unnamed vector"),
    (op.DropVector("c", "a", strategy="in_place"), LIVE, OLD, "can't drop a vector"),
    (op.DropVector("c", "", strategy="in_place"), UNNAMED, SERVER, "unnamed vector"),
    (alter({**COSINE, "datatype": "float16"}, strategy="in_place"), LIVE, SERVER, "the stored form"),
    (alter({**DOT, "distance": "Euclid"}, "d", strategy="in_place"), LIVE, SERVER, "the stored form"),
    (alter(COSINE, values=WORDS, strategy="in_place"), LIVE, SERVER, "values change"),
]


@pytest.mark.parametrize(
    ("operation", "schema", "capabilities", "words"),
    IMPOSSIBLE,
    ids=[f"{row[0].label()} {row[3]}" for row in IMPOSSIBLE],
)
def test_impossible_wishes_are_refused(operation, schema, capabilities, words):
    """Work in place that no server can do is refused with the reason, never turned into something else."""
    with pytest.raises(PlanError, match='strategy="in_place" is not possible') as caught:
        operation.strategy(schema, capabilities)
    assert words in caught.value.message


def test_a_parameter_that_is_left_out_needs_a_new_collection():
    """A server can't unset a parameter, and the schemas don't show it as a change: it becomes a copy, never nothing."""
    tuned = LIVE.with_(
        vectors={"a": {**COSINE, "hnsw_config": {"m": 4}}}, indexes={"kind": {"type": "keyword", "is_tenant": True}}
    )
    for operation, words in (
        (alter(COSINE), "hnsw_config of vector a"),
        (op.CreatePayloadIndex("c", "kind", "keyword"), "is_tenant of payload index kind"),
    ):
        found = operation.strategy(tuned, SERVER)
        assert found.rank == "copy"
        assert words in found.reason
    with pytest.raises(PlanError, match="takes a new collection"):
        alter(COSINE, strategy="in_place").strategy(tuned, SERVER)


def test_dropping_an_index_that_is_not_there_is_refused_where_indexes_can_be_seen():
    """A server shows its indexes, so a missing one is an error; local mode shows none, so it proves nothing."""
    bare = LIVE.with_(indexes={})
    operation = op.DropPayloadIndex("c", "kind")
    local = Capabilities(True, (0, 0, 0), "local mode", False, False, True, False)
    assert operation.strategy(bare, local).rank == "in_place"
    with pytest.raises(PlanError, match="there is no payload index on 'kind'"):
        operation.strategy(bare, SERVER)
