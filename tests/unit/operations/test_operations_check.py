"""Misuse of operations, found before anything is written."""

import pytest
from qdrant_client import models
from qdrant_client.models import Distance, VectorParams

from qmigrate import Compute, CopyOf, Embed, Empty, Scale, op
from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.base import check_contradictions

COSINE = {"size": 8, "distance": "Cosine"}
DOT = {"size": 8, "distance": "Dot"}
MULTI = {**COSINE, "multivector_config": {"comparator": "max_sim"}}
SCHEMA = CollectionSchema(
    vectors={"a": COSINE, "d": DOT, "m": MULTI, "h": {**DOT, "datatype": "float16"}},
    sparse={"s": {}},
    indexes={"kind": {"type": "keyword"}},
    config={"shard_number": 1},
    aliases=("further",),
)
UNNAMED = CollectionSchema(vectors={"": COSINE})
WORDS = Embed("words", text="text")


def shout(point):
    """The payload as it is."""
    return point.payload


def vector(point):
    """A vector of eight zeros."""
    return [0.0] * 8


def add(name="new", params=COSINE, values=WORDS, **more):
    """An AddVector with the usual arguments."""
    return op.AddVector("c", name, params, values=values, **more)


def alter(name, params, **more):
    """An AlterVector of the usual collection."""
    return op.AlterVector("c", name, params, **more)


MISUSE = [
    # words of the message, operation, schema
    ("size must be between 1 and 65536, not -3", add(params={"size": -3, "distance": "Dot"}), SCHEMA),
    ("size must be between 1 and 65536, not 0", add(params=VectorParams(size=0, distance=Distance.DOT)), SCHEMA),
    ('did you mean "Cosine"?', add(params={"size": 3, "distance": "cosine"}), SCHEMA),
    ('did you mean "distance"?', add(params={"size": 3, "distanc": "Cosine"}), SCHEMA),
    ("datatype must be one of", add(params={**COSINE, "datatype": "int4"}), SCHEMA),
    ("vector a exists already", add("a"), SCHEMA),
    ("vector s exists already", add("s"), SCHEMA),
    ("contains '/'", add("x/y"), SCHEMA),
    ("contains '\\n'", add("x\ny"), SCHEMA),
    ("201 bytes long", add("x" * 201), SCHEMA),
    ("vector must be a text, not 5", add(5), SCHEMA),
    ("which has to be the only one", add(""), SCHEMA),
    ("a sparse vector needs a name", add("", params={"modifier": "idf"}), CollectionSchema()),
    ("values must be Embed(…), Compute(…), CopyOf(…), Empty()", add(values="text"), SCHEMA),
    ("there is no vector b; did you mean", add(values=CopyOf("b")), CollectionSchema(vectors={"bb": COSINE})),
    ("the size goes from 8 to 9", add(params={"size": 9, "distance": "Cosine"}, values=CopyOf("a")), SCHEMA),
    ("is cosine: only directions", add(params=DOT, values=CopyOf("a")), SCHEMA),
    ("sparse, its values don't fit a dense one", add(values=CopyOf("s")), SCHEMA),
    ("multivector", add(values=CopyOf("m")), SCHEMA),
    ("there is no collection c", add(), None),
    ('strategy must be "in_place", "clone", "copy" or None', add(strategy="fast"), SCHEMA),
    ("there is no vector x", alter("x", COSINE), SCHEMA),
    ("can't become a sparse one", alter("a", {"modifier": "idf"}), SCHEMA),
    ("the size goes from 8 to 16", alter("a", {"size": 16, "distance": "Cosine"}, cutover="immediate"), SCHEMA),
    ("multivector", alter("a", MULTI, cutover="immediate"), SCHEMA),
    ("is cosine: only directions", alter("a", DOT, cutover="immediate"), SCHEMA),
    ("is cosine: only directions", alter("a", DOT, values=CopyOf("a"), cutover="immediate"), SCHEMA),
    ("uint8 keeps whole numbers", alter("d", {**DOT, "datatype": "uint8"}), SCHEMA),
    ("its values are between -1 and 1", add("u", {**COSINE, "datatype": "uint8"}, CopyOf("a")), SCHEMA),
    ("its values are between -1 and 1", alter("a", {**COSINE, "datatype": "uint8"}, values=CopyOf("a")), SCHEMA),
    ("its values are between -1 and 1", alter("a", {**COSINE, "datatype": "uint8"}), SCHEMA),
    ("so the new vector must be uint8", add("u", COSINE, CopyOf("a", scale=Scale(-1, 1))), SCHEMA),
    ("Cosine measures from 0", add("u", {**COSINE, "datatype": "uint8"}, CopyOf("a", scale=Scale(-1, 1))), SCHEMA),
    ("Dot measures from 0", add("u", {**DOT, "datatype": "uint8"}, CopyOf("d", scale=Scale(-1, 1))), SCHEMA),
    ("is cosine: only directions", add("u", {**DOT, "distance": "Manhattan", "datatype": "uint8"}, CopyOf("a", scale=Scale(-1, 1))), SCHEMA),
    ("queries have to be scaled as well", alter("d", {**DOT, "datatype": "uint8"}, values=CopyOf("d", scale=Scale(0, 1))), SCHEMA),
    ("distance of vector d goes from Dot to Cosine", alter("d", COSINE), SCHEMA),
    ("size of vector a goes from 8 to 16", alter("a", {"size": 16, "distance": "Cosine"}, values=WORDS), SCHEMA),
    ("vector a gets other values", alter("a", COSINE, values=WORDS), SCHEMA),
    ("vector a loses its values", alter("a", COSINE, values=Empty()), SCHEMA),
    ('cutover must be "immediate" or "hold"', alter("a", COSINE, cutover="later"), SCHEMA),
    ("no cut-over to hold", op.DropVector("c", "a", cutover="hold", strategy="in_place"), SCHEMA),
    ("vector a is dropped", op.DropVector("c", "a"), SCHEMA),
    ("there is no vector x", op.DropVector("c", "x", cutover="immediate"), SCHEMA),
    ("gets values of another model", op.Reembed("c", "a", values=WORDS), SCHEMA),
    ("expected one of int8, binary, product, got 'bits'", op.Quantize("c", "a", "bits"), SCHEMA),
    ("a sparse vector can't be quantized", op.Quantize("c", "s", "int8"), SCHEMA),
    ("there is no vector x", op.Quantize("c", "x", "int8"), SCHEMA),
    ("on_disk must be True, False or None", op.Quantize("c", "a", "int8", on_disk="yes"), SCHEMA),
    ("quality must be Recall", op.Quantize("c", "a", "int8", quality=0.9), SCHEMA),
    ("values must be Embed(…), Compute(…)", op.Reembed("c", "a", values=Empty(), cutover="immediate"), SCHEMA),
    ("there is no vector x", op.Reembed("c", "x", values=WORDS, cutover="immediate"), SCHEMA),
    ("is renamed to b", op.RenameVector("c", "a", "b"), SCHEMA),
    ("vector d exists already", op.RenameVector("c", "a", "d", cutover="immediate"), SCHEMA),
    ("already has that name", op.RenameVector("c", "a", "a", cutover="immediate"), SCHEMA),
    ("which has to be the only one", op.RenameVector("c", "a", "", cutover="immediate"), SCHEMA),
    ("contains ':'", op.RenameVector("c", "a", "b:c", cutover="immediate"), SCHEMA),
    ("unknown index type 'keywort'; types are keyword,", op.CreatePayloadIndex("c", "f", "keywort"), SCHEMA),
    ("a uuid index has no field 'prefix'", op.CreatePayloadIndex("c", "f", {"type": "uuid", "prefix": True}), SCHEMA),
    ("the index has no type", op.CreatePayloadIndex("c", "f", {"is_tenant": True}), SCHEMA),
    ("the field has no name", op.CreatePayloadIndex("c", " ", "keyword"), SCHEMA),
    ('did you mean "kind"?', op.DropPayloadIndex("c", "kindd"), SCHEMA),
    ("c exists already", op.CreateCollection("c", COSINE), SCHEMA),
    ("vector (unnamed): size must be", op.CreateCollection("c", {"size": 0, "distance": "Dot"}), None),
    ("vector a: params has no size", op.CreateCollection("c", {"a": {"distance": "Dot"}}), None),
    ("there is a dense vector of that name", op.CreateCollection("c", {"a": DOT}, {"a": {}}), None),
    ("sparse vector s: params has no field 'size'", op.CreateCollection("c", {}, {"s": DOT}), None),
    ("payload index f: unknown index type", op.CreateCollection("c", payload_indexes={"f": "words"}), None),
    ('"qmigrate" is reserved', op.CreateCollection("c", metadata={"qmigrate": 1}), None),
    ("shard_number must be 1 or more", op.CreateCollection("c", shard_number=0), None),
    ("custom", op.CreateCollection("c", sharding_method=models.ShardingMethod.CUSTOM), None),
    ("hnsw_config has no field 'mm'", op.CreateCollection("c", hnsw_config={"mm": 1}), None),
    ("qmigrate's own names", op.CreateCollection("c__g0001"), None),
    ("can't contain '/'", op.CreateCollection("c/*"), None),
    ("contains '*'", op.SetAlias("x*", "c"), SCHEMA),
    ("must be a name or a glob", op.CreateCollection(""), None),
    ("there is no collection c", op.DropCollection("c"), None),
    ("changes nothing", op.UpdateCollection("c"), SCHEMA),
    ('did you mean "m"?', op.UpdateCollection("c", hnsw_config={"mm": 1}), SCHEMA),
    ("there is no vector x", op.UpdateCollection("c", vectors_config={"x": {"on_disk": True}}), SCHEMA),
    ("vector a has no field 'size'", op.UpdateCollection("c", vectors_config={"a": {"size": 4}}), SCHEMA),
    ("there is no sparse vector x", op.UpdateCollection("c", sparse_vectors_config={"x": {}}), SCHEMA),
    ("params has no field 'shard_number'", op.UpdateCollection("c", params={"shard_number": 2}), SCHEMA),
    ("removing keys is not supported", op.UpdateCollection("c", metadata={"k": None}), SCHEMA),
    ('"qmigrate" is reserved', op.UpdateCollection("c", metadata={"qmigrate": {}}), SCHEMA),
    ("give shard_number or replication_factor", op.Reshard("c"), SCHEMA),
    ("shard_number must be 1 or more", op.Reshard("c", shard_number=0), SCHEMA),
    ("custom sharding", op.Reshard("c", 2), CollectionSchema(config={"sharding_method": "custom"})),
    ("an alias of itself", op.SetAlias("c", "c"), SCHEMA),
    ("qmigrate's own names", op.SetAlias("c__g0001__e2", "c"), SCHEMA),
    ("contains '*'", op.SetAlias("x", "c*"), SCHEMA),
    ("the alias is empty", op.SetAlias("", "c"), SCHEMA),
    ("the name of a collection can't contain '/'", op.DropVector("c/d", "a", cutover="immediate"), SCHEMA),
    ("expected a function of a point", op.TransformPoints("c", 5), SCHEMA),
    ("inverse must be", op.TransformPoints("c", shout, inverse=5), SCHEMA),
]


@pytest.mark.parametrize(("words", "operation", "schema"), MISUSE, ids=[f"{row[1].label()} {row[0]}" for row in MISUSE])
def test_misuse_is_refused(words, operation, schema):
    """Each misuse is refused with a message that begins with the operation's label."""
    with pytest.raises(PlanError) as caught:
        operation.check(schema)
    assert caught.value.message.startswith(f"{operation.label()}: ")
    assert words in caught.value.message


PROPER = [
    (add(), SCHEMA),
    (add(params=models.SparseVectorParams()), SCHEMA),
    (add(values=CopyOf("a")), SCHEMA),
    (add(params=DOT, values=CopyOf("a", allow_normalised=True)), SCHEMA),
    (add(values=Empty(), strategy="in_place"), SCHEMA),
    (add(), UNNAMED),
    (add(""), CollectionSchema(sparse={"s": {}})),
    (alter("a", {**COSINE, "hnsw_config": {"m": 4}}), SCHEMA),
    (alter("", {**COSINE, "datatype": "float16"}), UNNAMED),
    (alter("d", {"size": 8, "distance": "Euclid"}, cutover="immediate"), SCHEMA),
    (alter("d", {**DOT, "datatype": "uint8"}, values=CopyOf("d")), SCHEMA),
    (alter("a", DOT, values=CopyOf("a", allow_normalised=True), cutover="immediate"), SCHEMA),
    (alter("a", {"size": 99, "distance": "Dot"}, values=Compute(vector), cutover="immediate"), SCHEMA),
    (alter("s", {"modifier": "idf"}), SCHEMA),
    (op.Reembed("c", "a", values=WORDS, cutover="immediate"), SCHEMA),
    (op.DropVector("c", "s", cutover="immediate"), SCHEMA),
    (op.DropVector("c", "", cutover="immediate"), UNNAMED),
    (op.RenameVector("c", "", "a", cutover="immediate"), UNNAMED),
    (op.RenameVector("c", "s", "t", cutover="immediate"), SCHEMA),
    (op.CreatePayloadIndex("c", "f", models.PayloadSchemaType.DATETIME), SCHEMA),
    (op.CreatePayloadIndex("c", "kind", "uuid"), SCHEMA),
    (op.CreatePayloadIndex("c", "a[].b", models.KeywordIndexParams(type="keyword", is_tenant=True)), SCHEMA),
    (op.DropPayloadIndex("c", "kind"), SCHEMA),
    (op.DropPayloadIndex("c", "kind"), SCHEMA.with_(indexes={})),
    (op.CreateCollection("c"), None),
    (op.CreateCollection("c", COSINE, {"s": {}}, {"f": "text"}, metadata={"k": {"deep": None}}), None),
    (op.DropCollection("c"), SCHEMA),
    (op.UpdateCollection("c", quantization_config=models.Disabled.DISABLED), SCHEMA),
    (op.UpdateCollection("c", vectors_config={"a": models.VectorParamsDiff(on_disk=True)}), SCHEMA),
    (op.UpdateCollection("c", params=models.CollectionParamsDiff(read_fan_out_factor=2)), SCHEMA),
    (op.Reshard("c", 4), SCHEMA),
    (op.SetAlias("x", "c"), SCHEMA),
    (op.TransformPoints("c", shout, inverse=shout), SCHEMA),
]


@pytest.mark.parametrize(("operation", "schema"), PROPER, ids=[f"{row[0].label()} {n}" for n, row in enumerate(PROPER)])
def test_proper_use_passes(operation, schema):
    """What Qdrant and the rules allow is not refused."""
    operation.check(schema)


def test_creating_what_exists_points_to_adopt():
    """The refusal names the command that takes a collection over."""
    with pytest.raises(PlanError) as caught:
        op.CreateCollection("c").check(SCHEMA)
    assert "qmigrate adopt c" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "make",
    [
        lambda: op.AddVector("c", "v", "cosine", values=Empty()),
        lambda: op.AddVector("c", "v", object(), values=Empty()),
        lambda: op.CreateCollection("c", [COSINE]),
        lambda: op.CreateCollection("c", payload_indexes=["f"]),
        lambda: op.CreatePayloadIndex("c", "f", 5),
        lambda: op.UpdateCollection("c", hnsw_config=object()),
    ],
)
def test_parameters_of_no_sensible_kind_are_refused_where_they_are_written(make):
    """An argument that is neither an object of the client nor plain JSON is refused by the constructor."""
    with pytest.raises(PlanError, match=r'^(AddVector|CreateCollection|CreatePayloadIndex|UpdateCollection)\("c"'):
        make()


@pytest.mark.parametrize(
    ("operation", "name", "matches"),
    [
        (op.DropVector("docs", "a"), "docs", True),
        (op.DropVector("docs", "a"), "docs2", False),
        (op.DropVector("memory_*", "a"), "memory_ada", True),
        (op.DropVector("memory_*", "a"), "Memory_ada", False),
        (op.DropCollection("memory_?"), "memory_1", True),
        (op.CreateCollection("memory_*"), "memory_ada", True),
        (op.CreateCollection("memory_[1]"), "memory_[1]", True),
        (op.CreateCollection("memory_[1]"), "memory_1", False),
        (op.SetAlias("x", "memory_*"), "memory_ada", False),
        (op.SetAlias("x", "docs"), "docs", True),
        (op.SetAlias("x", "docs"), "x", False),
    ],
)
def test_matching(operation, name, matches):
    """Globs match by case; names match exactly, and brackets alone are part of a name that is created."""
    assert operation.matches(name) is matches


def test_what_is_a_glob():
    """Most operations take globs; one that gives a name doesn't."""
    assert op.DropVector("a*", "v").is_glob
    assert not op.DropVector("a", "v").is_glob
    assert op.CreateCollection("a*").is_glob
    assert not op.CreateCollection("a[1]").is_glob
    assert not op.SetAlias("x", "a*").is_glob
    assert op.SetAlias("x", "a").pattern == "a"


CONTRADICTIONS = [
    ([op.DropVector("c", "a"), alter("a", COSINE)], "the vector a"),
    ([op.CreatePayloadIndex("c", "f", "keyword"), op.CreatePayloadIndex("c", "f", "keyword")], "the payload index f"),
    ([op.CreatePayloadIndex("c", "f", "keyword"), op.DropPayloadIndex("c", "f")], "the payload index f"),
    ([op.RenameVector("c", "a", "b"), add("b")], "the vector b"),
    ([op.UpdateCollection("c", hnsw_config={"m": 1}), op.UpdateCollection("c", hnsw_config={"m": 2})], "hnsw_config m"),
    ([op.UpdateCollection("c", vectors_config={"a": {"on_disk": True}}), alter("a", COSINE)], "the vector a"),
    ([op.UpdateCollection("c", params={"replication_factor": 2}), op.Reshard("c", None, 3)], "replication_factor"),
    ([op.DropCollection("c"), op.SetAlias("x", "c")], "the whole collection"),
    ([op.CreateCollection("c", {"a": DOT}), op.CreateCollection("c", {"b": DOT})], "the creation"),
    ([op.CreateCollection("c", {"a": DOT}), op.DropVector("c", "a")], "the vector a"),
    ([op.TransformPoints("c", shout), op.TransformPoints("c", shout)], "payload"),
    ([op.SetAlias("x", "c"), op.SetAlias("x", "c")], "the alias x"),
    ([add(), op.TransformPoints("c", shout)], "rewrites it afterwards"),
]


@pytest.mark.parametrize(("operations", "words"), CONTRADICTIONS, ids=[row[1] for row in CONTRADICTIONS])
def test_contradictions_are_refused(operations, words):
    """Two operations of one revision that change the same thing are refused, and both are named."""
    with pytest.raises(PlanError) as caught:
        check_contradictions(operations)
    assert words in caught.value.message
    assert all(operation.label() in caught.value.message for operation in operations)


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [op.TransformPoints("c", shout), add()],
        [op.TransformPoints("c", shout), op.TransformPoints("c", vector)],
        [add(values=CopyOf("a")), op.TransformPoints("c", shout), op.DropVector("c", "a")],
        [op.CreateCollection("c", {"a": DOT}), add(), op.CreatePayloadIndex("c", "f", "keyword")],
        [op.UpdateCollection("c", hnsw_config={"m": 1}), op.UpdateCollection("c", hnsw_config={"ef_construct": 2})],
        [add("x"), add("xx"), op.CreatePayloadIndex("c", "x", "keyword")],
    ],
)
def test_operations_that_agree_pass(operations):
    """What changes different things stands side by side."""
    check_contradictions(operations)


DATATYPES = (None, "float32", "float16", "uint8", "turbo4", "turbo8", "turbo16")


@pytest.mark.parametrize("new", DATATYPES, ids=str)
@pytest.mark.parametrize("old", DATATYPES, ids=str)
def test_every_pair_of_datatypes_is_carried_or_refused_in_words(old, new):
    """Into uint8 by a scale or by an assertion that is checked, into a rule of the server's own never; else carried."""
    before, after = ({"size": 8, "distance": "Euclid", **({"datatype": one} if one else {})} for one in (old, new))
    schema = CollectionSchema(vectors={"a": before})
    alike = (old or "float32") == (new or "float32")
    for operation in (op.AlterVector("c", "a", after), op.AlterVector("c", "a", after, values=CopyOf("a"), cutover="immediate"),
                      op.AddVector("c", "b", after, values=CopyOf("a"))):  # fmt: skip
        explicit = operation.values is not None
        refused = not alike and (new in ("turbo4", "turbo8", "turbo16") or (new == "uint8" and not explicit))
        if not refused:
            operation.check(schema)
            target = "b" if isinstance(operation, op.AddVector) else "a"
            assert operation.transform(schema).converted == (frozenset() if alike else {target})
            continue
        with pytest.raises(PlanError, match="bits of a value, so the copy could not be proven|uint8 keeps whole numbers") as found:
            operation.check(schema)
        assert found.value.hint
    scaled = op.AddVector("c", "b", after, values=CopyOf("a", scale=Scale(-1, 1)))
    if new == "uint8" != old:
        scaled.check(schema)
    else:
        with pytest.raises(PlanError, match="so the new vector must be uint8 and the old one must not"):
            scaled.check(schema)
