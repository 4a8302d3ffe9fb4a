"""What operations say of themselves: what can't be reversed or spoken, what is filled, and their words."""

import pytest
from qdrant_client import models
from qdrant_client.models import Distance, VectorParams

from qmigrate import Compute, CopyOf, Embed, Empty, op
from qmigrate.model.schema import CollectionSchema

COSINE = {"size": 8, "distance": "Cosine"}
DOT = {"size": 8, "distance": "Dot"}
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

EMPTY = Empty()


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (add(), None),
        (add(values=CopyOf("a")), None),
        (op.RenameVector("c", "a", "z"), None),
        (op.CreatePayloadIndex("c", "n", "integer"), None),
        (op.UpdateCollection("c", hnsw_config={"m": 4}), None),
        (QUANTIZED, None),
        (op.TransformPoints("c", shout, inverse=whisper), None),
        (op.CreateCollection("c"), None),
        (op.DropVector("c", "a"), "the old values of vector a"),
        (op.Reembed("c", "a", values=WORDS), "the old values of vector a"),
        (alter({**COSINE, "datatype": "float16"}), "rounded values can't be restored"),
        (op.TransformPoints("c", shout), "no inverse"),
        (op.UpdateCollection("c", strict_mode_config={"enabled": True}), "can't be unset"),
        (op.UpdateCollection("c", vectors_config={"a": {"hnsw_config": {"m": 4}}}), "can't be unset"),
    ],
    ids=lambda value: value.label() if hasattr(value, "label") else None,
)
def test_irreversible_reason(operation, words):
    """An operation has why only the previous generation leads back, or that the change can be reversed."""
    found = operation.irreversible_reason(LIVE)
    assert (found is None) if words is None else (words in (found or ""))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (add(), None),
        (alter({**COSINE, "datatype": "float16"}), None),
        (op.CreatePayloadIndex("c", "n", "integer"), None),
        (op.TransformPoints("c", shout), None),
        (alter({"size": 9, "distance": "Cosine"}, values=WORDS), "size of vector a goes from 8 to 9"),
        (alter(COSINE, "d"), "distance of vector d goes from Dot to Cosine"),
        (alter({**COSINE, "multivector_config": {"comparator": "max_sim"}}, values=WORDS), "becomes a multivector"),
        (alter(COSINE, values=WORDS), "gets other values"),
        (op.Reembed("c", "a", values=WORDS), "another model"),
        (op.DropVector("c", "a"), "is dropped"),
        (op.RenameVector("c", "a", "z"), "is renamed to z"),
    ],
    ids=lambda value: value.label() if hasattr(value, "label") else None,
)
def test_incompatible(operation, words):
    """What old readers and writers can't speak is named, and nothing else."""
    for schema in (DECLARED, LIVE):
        found = operation.incompatible(schema)
        assert (found is None) if words is None else (words in (found or ""))


def test_filled_and_embeds():
    """What is computed is announced by its target vector; what is carried, copied or empty is not."""
    compute = Compute(vector)
    assert add().filled() == {"new": WORDS}
    assert add().embeds() == {"new": WORDS}
    assert op.Reembed("c", "a", values=compute).filled() == {"a": compute}
    assert op.Reembed("c", "a", values=compute).embeds() == {}
    assert alter(COSINE, values=WORDS).filled() == {"a": WORDS}
    for operation in (add(values=EMPTY), add(values=CopyOf("a")), alter(COSINE), op.DropVector("c", "a")):
        assert operation.filled() == {}


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (
            op.AddVector("c", "l14", {"size": 768, "distance": "Cosine"}, values=Embed("clip-l14", image="path")),
            "add vector l14 768 cosine ← embed clip-l14(path)",
        ),
        (add({}, EMPTY), "add vector new sparse ← left empty"),
        (alter({**DOT, "datatype": "float16"}, "d"), "alter vector d 8 dot float16"),
        (op.Reembed("c", "", values=Compute(vector)), "fill vector (unnamed) again ← compute vector"),
        (op.RenameVector("c", "", "z"), "rename vector (unnamed) to z"),
        (op.Quantize("c", "", "int8"), "quantize vector (unnamed) to int8"),
        (op.Quantize("c", "a", "binary", on_disk=True), "quantize vector a to binary, the originals on disk"),
        (
            op.CreateCollection("c", {"a": COSINE}, {"s": {}}, {"f": "text"}),
            "create collection c: a 8 cosine, s sparse, index f text",
        ),
        (op.CreateCollection("c"), "create collection c: no vectors"),
        (
            op.CreatePayloadIndex("c", "f", {"type": "keyword", "is_tenant": True}),
            "add payload index f keyword is_tenant=True",
        ),
        (op.Reshard("c", 3, 2), "reshard: shard_number 3, replication_factor 2"),
        (op.TransformPoints("c", shout, whisper), "transform every payload with shout, back with whisper"),
        (op.SetAlias("x", "c"), "set alias x"),
    ],
    ids=lambda value: value.label() if hasattr(value, "label") else None,
)
def test_describe(operation, words):
    """One line for people."""
    assert operation.describe() == words


def test_operations_are_values():
    """Equal arguments make equal operations, whatever they were given as; nothing can be set afterwards."""
    given = op.AddVector("c", "v", VectorParams(size=8, distance=Distance.COSINE), values=WORDS)
    same = op.AddVector("c", "v", COSINE, values=WORDS)
    assert given == same
    assert given != op.AddVector("c", "v", COSINE, values=WORDS, strategy="copy")
    with pytest.raises(AttributeError):
        given.vector = "w"
