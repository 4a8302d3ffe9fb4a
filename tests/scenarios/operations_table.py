"""Every operation as a row: where it starts, what the revision has, what is true afterwards. It runs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.scenarios.operations_points import (
    SPACE,
    After,
    Points,
    bare,
    calls,
    dense,
    gets,
    loses,
    points,
    rewrites,
    same,
    takes,
    three_vectors,
    unit,
    unnamed,
    whole,
    words,
)

from qmigrate.model.transform import Point

COSINE = "VectorParams(size=8, distance=Distance.COSINE)"
PLAIN = f'op.CreateCollection(NAME, {{"a": {COSINE}}})'
UNNAMED = f"op.CreateCollection(NAME, {COSINE})"
THREE = f"""op.CreateCollection(NAME,
    {{"a": {COSINE}, "m": VectorParams(size=4, distance=Distance.COSINE, multivector_config=MultiVectorConfig(comparator="max_sim"))}},
    {{"s": SparseVectorParams(modifier=Modifier.IDF)}})"""
INDEXED = f'{PLAIN}, op.CreatePayloadIndex(NAME, "n", PayloadSchemaType.INTEGER)'
STRICT = PLAIN[:-1] + """, strict_mode_config=StrictModeConfig(enabled=True, upsert_max_batchsize=5, max_query_limit=7,
    unindexed_filtering_retrieve=False, unindexed_filtering_update=False, filter_max_conditions=1, condition_max_size=1,
    search_allow_exact=False, search_max_hnsw_ef=300, max_points_count=25, max_timeout=1, write_rate_limit=500000))"""
SCALAR = "ScalarQuantization(scalar=ScalarQuantizationConfig(type=ScalarType.INT8, always_ram=True))"
QUANTIZED = PLAIN[:-1] + f", quantization_config={SCALAR})"
LABELLED = PLAIN[:-1] + ', metadata={"kept": {"deep": [1, None]}, "old": 1})'
ADD = 'op.AddVector(NAME, "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))'


#: What local mode only declares, or does like a row next to it.
SERVER = ("server",)


@dataclass(frozen=True)
class Row:
    """One operation.

    Attributes:
        change: what revision 0002 has: operations, as Python source; NAME is the collection.
        start: the same of revision 0001.
        points: what is loaded in between.
        prepare: REST requests after that, as (method, path behind the collection, body); server only.
        strategy: what the history has; a ``clone`` is a ``copy`` in local mode, which has no snapshots.
        has: what the schema gets, in its JSON form; None where something goes. The rest stays as it was, exactly.
        after: id, payload and vectors before -> payload and vectors after.
        loose: tolerance of vectors that are recomputed or stored in another form.
        refused: words of the refusal to go back in place.
        stores: where it runs.
    """

    name: str
    change: str
    start: str = PLAIN
    points: Points = field(default_factory=points)
    prepare: tuple[tuple[str, str, Any], ...] = ()
    strategy: str = "copy"
    has: Mapping[str, Any] = field(default_factory=dict)
    after: After = same
    loose: float = 1e-6
    refused: str | None = None
    stores: tuple[str, ...] = ("local", "server")


def vector(name: str = "b", size: int = 16, distance: str = "Cosine", **more: Any) -> dict[str, Any]:
    """A dense vector that the schema gets."""
    return {"vectors": {name: {"size": size, "distance": distance, **more}}}


def add(params: str, function: str) -> str:
    """AddVector of a computed vector."""
    return f'op.AddVector(NAME, "b", {params}, values=Compute({function}))'


EMBEDDED = gets("b", words)
ADDED = (
    Row("add_embed", ADD, has=vector(), after=EMBEDDED),
    Row("add_embed_to_no_point", ADD, points=points(0), has=vector(), after=EMBEDDED),
    Row("add_embed_to_one_point", ADD, points=points(1), has=vector(), after=EMBEDDED, stores=SERVER),
    Row("add_embed_template", ADD.replace('"text")', '"{kind}: {text}")'), has=vector(),
        after=gets("b", lambda payload: words({"text": f"{payload['kind']}: {payload['text']}"})), stores=SERVER),
    Row("add_dense", add('VectorParams(size=3, distance="Euclid")', "dense"), has=vector("b", 3, "Euclid"), after=calls("b", "dense"), stores=SERVER),
    Row("add_dense_of_a_vector", add('VectorParams(size=3, distance="Manhattan")', "from_vector"),
        has=vector("b", 3, "Manhattan"), after=calls("b", "from_vector")),
    Row("add_sparse", add("SparseVectorParams(modifier=Modifier.IDF, index=SparseIndexParams(on_disk=True))", "sparse"),
        has={"sparse": {"b": {"modifier": "idf", "index": {"on_disk": True}}}}, after=calls("b", "sparse")),
    Row("add_multivector", add('VectorParams(size=4, distance="Dot", multivector_config=MultiVectorConfig(comparator="max_sim"))', "multi"),
        has=vector("b", 4, "Dot", multivector_config={"comparator": "max_sim"}), after=calls("b", "multi")),
    Row("add_copy_of", f'op.AddVector(NAME, "b", {COSINE}, values=CopyOf("a"))', has=vector("b", 8), after=takes("b", "a")),
    Row("add_empty", f'op.AddVector(NAME, "b", {COSINE}, values=Empty())', strategy="clone", has=vector("b", 8)),
    Row("add_empty_in_place", f'op.AddVector(NAME, "b", {COSINE}, values=Empty(), strategy="in_place")',
        has=vector("b", 8), strategy="in_place", stores=SERVER),
    Row("add_sparse_empty_in_place", 'op.AddVector(NAME, "b", SparseVectorParams(modifier=Modifier.IDF), values=Empty(), strategy="in_place")',
        has={"sparse": {"b": {"modifier": "idf"}}}, strategy="in_place"),
    Row("add_beside_unnamed", ADD, start=UNNAMED, points=unnamed(), has=vector(), after=EMBEDDED),
    Row("add_sparse_beside_unnamed", add("SparseVectorParams()", "sparse"), start=UNNAMED, points=unnamed(),
        has={"sparse": {"b": {}}}, after=calls("b", "sparse")),
    Row("add_beside_three", ADD, start=THREE, points=three_vectors, has=vector(), after=EMBEDDED),
    Row("add_tuned", ADD.replace("COSINE)", f"COSINE, on_disk=True, hnsw_config=HnswConfigDiff(m=24, ef_construct=77), quantization_config={SCALAR})"),
        has=vector("b", on_disk=True, hnsw_config={"m": 24, "ef_construct": 77}, quantization_config={"scalar": {"type": "int8", "always_ram": True}}),
        after=EMBEDDED),
    Row("add_float16", add('VectorParams(size=3, distance="Dot", datatype="float16")', "small"),
        has=vector("b", 3, "Dot", datatype="float16"), after=calls("b", "small")),
    Row("add_uint8", add('VectorParams(size=3, distance="Euclid", datatype="uint8")', "whole"),
        has=vector("b", 3, "Euclid", datatype="uint8"), after=calls("b", "whole")),
)


def alter(params: str, more: str = "") -> str:
    """AlterVector of ``a``."""
    return f'op.AlterVector(NAME, "a", {params}{more})'


HNSW8 = PLAIN.replace("COSINE)", "COSINE, hnsw_config=HnswConfigDiff(m=8))")
HNSW32 = "VectorParams(size=8, distance=Distance.COSINE, hnsw_config=HnswConfigDiff(m=32))"
ALTERED = (
    Row("alter_size", alter('VectorParams(size=16, distance="Cosine")', ', values=Embed("words", text="text"), cutover="immediate"'),
        has=vector("a", 16), after=gets("a", words)),
    Row("alter_distance", alter('VectorParams(size=8, distance="Dot")', ', values=CopyOf("a", allow_normalised=True), cutover="immediate"'),
        has=vector("a", 8, "Dot")),
    Row("alter_to_float16", alter('VectorParams(size=8, distance="Cosine", datatype="float16")'),
        has=vector("a", 8, datatype="float16"), after=gets("a", lambda payload: unit(dense(payload["n"], 8))), points=points(bare=False), loose=2e-3),
    Row("alter_hnsw", alter(HNSW32), strategy="clone", has=vector("a", 8, hnsw_config={"m": 32}), stores=SERVER),
    Row("alter_hnsw_in_place", alter(HNSW32, ', strategy="in_place"'), start=HNSW8, has=vector("a", 8, hnsw_config={"m": 32}), strategy="in_place", stores=SERVER),
    Row("alter_hnsw_in_place_for_good", alter(HNSW32, ', strategy="in_place"'), has=vector("a", 8, hnsw_config={"m": 32}),
        strategy="in_place", refused="can't be unset"),
    Row("quantize", 'op.Quantize(NAME, "a", "int8", on_disk=True)', strategy="clone",
        has=vector("a", 8, on_disk=True, quantization_config={"scalar": {"type": "int8", "always_ram": True}})),
    Row("quantize_in_place", 'op.Quantize(NAME, "a", "product", strategy="in_place")', strategy="in_place", start=PLAIN.replace("COSINE)", f"COSINE, quantization_config={SCALAR})"),
        has=vector("a", 8, quantization_config={"product": {"compression": "x16", "always_ram": True}}), stores=SERVER),
    Row("reembed", 'op.Reembed(NAME, "a", values=Embed("words", text="text"), cutover="immediate")',
        start=PLAIN.replace("size=8", "size=16"), points=points(a=lambda number: dense(number, 16)), after=gets("a", words)),
    Row("reembed_compute", 'op.Reembed(NAME, "a", values=Compute(dense), cutover="immediate")',
        start=PLAIN.replace("size=8", "size=3").replace("Distance.COSINE", '"Dot"'), points=points(a=lambda number: dense(number, 3)),
        after=calls("a", "dense"), stores=SERVER),
    Row("drop", 'op.DropVector(NAME, "m", cutover="immediate")', strategy="clone", start=THREE, points=three_vectors, has={"vectors": {"m": None}}, after=loses("m")),
    Row("drop_sparse", 'op.DropVector(NAME, "s", cutover="immediate")', strategy="clone", start=THREE, points=three_vectors, has={"sparse": {"s": None}}, after=loses("s"), stores=SERVER),
    Row("drop_the_last", 'op.DropVector(NAME, "a", cutover="immediate")', strategy="clone", has={"vectors": {"a": None}}, after=loses("a")),
    Row("drop_in_place", 'op.DropVector(NAME, "m", cutover="immediate", strategy="in_place")', start=THREE, points=three_vectors,
        has={"vectors": {"m": None}}, after=loses("m"), strategy="in_place", refused="what was dropped is gone"),
    Row("rename", 'op.RenameVector(NAME, "a", "z", cutover="immediate")', start=THREE, points=three_vectors,
        has={"vectors": {"a": None, "z": {"size": 8, "distance": "Cosine"}}}, after=takes("z", "a", keep=False), stores=SERVER),
    Row("rename_sparse", 'op.RenameVector(NAME, "s", "z", cutover="immediate")', start=THREE, points=three_vectors,
        has={"sparse": {"s": None, "z": {"modifier": "idf"}}}, after=takes("z", "s", keep=False), stores=SERVER),
    Row("rename_unnamed", 'op.RenameVector(NAME, "", "z", cutover="immediate")', start=UNNAMED, points=unnamed(),
        has={"vectors": {"": None, "z": {"size": 8, "distance": "Cosine"}}}, after=takes("z", "", keep=False)),
)

EVERY_INDEX = """
op.CreatePayloadIndex(NAME, "kind", KeywordIndexParams(type="keyword", is_tenant=True)),
op.CreatePayloadIndex(NAME, "n", IntegerIndexParams(type="integer", lookup=True, range=False)),
op.CreatePayloadIndex(NAME, "x", PayloadSchemaType.FLOAT),
op.CreatePayloadIndex(NAME, "place", "geo"),
op.CreatePayloadIndex(NAME, "text", TextIndexParams(type="text", tokenizer=TokenizerType.PREFIX, min_token_len=2, max_token_len=12, lowercase=False)),
op.CreatePayloadIndex(NAME, "flag", PayloadSchemaType.BOOL),
op.CreatePayloadIndex(NAME, "when", DatetimeIndexParams(type="datetime", on_disk=True)),
op.CreatePayloadIndex(NAME, "key", UuidIndexParams(type="uuid", is_tenant=False)),
op.CreatePayloadIndex(NAME, "nested.list[]", "float"),
"""
INDEXES = {
    "kind": {"type": "keyword", "is_tenant": True},
    "n": {"type": "integer", "lookup": True, "range": False},
    "x": {"type": "float"},
    "place": {"type": "geo"},
    "text": {"type": "text", "tokenizer": "prefix", "min_token_len": 2, "max_token_len": 12, "lowercase": False},
    "flag": {"type": "bool"},
    "when": {"type": "datetime", "on_disk": True},
    "key": {"type": "uuid"},
    "nested.list[]": {"type": "float"},
}
INDEX = (
    Row("index_every_type", EVERY_INDEX, has={"indexes": INDEXES}, strategy="in_place", stores=SERVER),
    Row("index_every_type_by_copy", EVERY_INDEX + ADD,
        has={"indexes": INDEXES, **vector()}, after=EMBEDDED, stores=SERVER),
    Row("index_by_copy", 'op.CreatePayloadIndex(NAME, "kind", "keyword", strategy="copy")', has={"indexes": {"kind": {"type": "keyword"}}}, stores=SERVER),
    Row("retype", 'op.CreatePayloadIndex(NAME, "n", PayloadSchemaType.FLOAT)', strategy="clone", start=INDEXED, has={"indexes": {"n": {"type": "float"}}}, stores=SERVER),
    Row("retype_in_place", 'op.CreatePayloadIndex(NAME, "n", PayloadSchemaType.FLOAT, strategy="in_place")', start=INDEXED,
        has={"indexes": {"n": {"type": "float"}}}, strategy="in_place"),
    Row("drop_index", 'op.DropPayloadIndex(NAME, "n")', start=INDEXED, has={"indexes": {"n": None}}, strategy="in_place"),
)


def update(settings: str, strategy: str = "") -> str:
    """UpdateCollection."""
    return f"op.UpdateCollection(NAME, {settings}{strategy})"


IN_PLACE = ', strategy="in_place"'
BINARY = 'BinaryQuantization(binary=BinaryQuantizationConfig(always_ram=True, encoding="two_bits"))'
PRODUCT = 'ProductQuantization(product=ProductQuantizationConfig(compression="x16"))'
BOTH_DISABLED = "quantization_config=Disabled.DISABLED"
UPDATED = (
    Row("metadata", update('metadata={"old": 2, "new": {"list": [1, None, "ü"]}}'), start=LABELLED, strategy="in_place",
        has={"config": {"metadata": {"kept": {"deep": [1, None]}, "old": 2, "new": {"list": [1, None, "ü"]}}}}),
    Row("metadata_first", update('metadata={"new": 1}'), strategy="in_place", has={"config": {"metadata": {"new": 1}}}, stores=SERVER),
    Row("metadata_by_copy", update('metadata={"old": 2}', ', strategy="copy"'), start=LABELLED,
        has={"config": {"metadata": {"kept": {"deep": [1, None]}, "old": 2}}}, stores=SERVER),
    Row("optimizers", update("optimizers_config=OptimizersConfigDiff(indexing_threshold=12345, flush_interval_sec=7)"), strategy="in_place",
        has={"config": {"optimizers_config": {"indexing_threshold": 12345, "flush_interval_sec": 7}}}, stores=SERVER),
    Row("optimizers_for_good", update("optimizers_config=OptimizersConfigDiff(max_segment_size=50000)"), strategy="in_place",
        has={"config": {"optimizers_config": {"max_segment_size": 50000}}}, refused="can't be unset"),
    Row("hnsw", update("hnsw_config=HnswConfigDiff(m=24, payload_m=8)"), strategy="clone", has={"config": {"hnsw_config": {"m": 24, "payload_m": 8}}}, stores=SERVER),
    Row("hnsw_in_place", update("hnsw_config=HnswConfigDiff(m=24)", IN_PLACE), strategy="in_place", has={"config": {"hnsw_config": {"m": 24}}},
        stores=SERVER),
    Row("scalar", update(f"quantization_config={SCALAR}"), strategy="clone", has={"config": {"quantization_config": {"scalar": {"type": "int8", "always_ram": True}}}}),
    Row("binary", update(f"quantization_config={BINARY}"), strategy="clone", has={"config": {"quantization_config": {"binary": {"always_ram": True, "encoding": "two_bits"}}}}, stores=SERVER),
    Row("product", update(f"quantization_config={PRODUCT}"), strategy="clone", start=QUANTIZED, has={"config": {"quantization_config": {"product": {"compression": "x16"}}}},
        stores=SERVER),
    Row("scalar_in_place", update(f"quantization_config={SCALAR}", IN_PLACE), strategy="in_place",
        has={"config": {"quantization_config": {"scalar": {"type": "int8", "always_ram": True}}}}, stores=SERVER),
    Row("product_in_place", update(f"quantization_config={PRODUCT}", IN_PLACE), start=QUANTIZED, strategy="in_place",
        has={"config": {"quantization_config": {"product": {"compression": "x16"}}}}, stores=SERVER),
    Row("disabled", update(BOTH_DISABLED), strategy="clone", start=QUANTIZED, has={"config": {"quantization_config": None}}, stores=SERVER),
    Row("disabled_in_place", update(BOTH_DISABLED, IN_PLACE), start=QUANTIZED, strategy="in_place", has={"config": {"quantization_config": None}},
        stores=SERVER),
    Row("strict_mode", update("strict_mode_config=StrictModeConfig(max_query_limit=6)"), start=STRICT, strategy="in_place",
        has={"config": {"strict_mode_config": {"enabled": True, "upsert_max_batchsize": 5, "max_query_limit": 6, "max_points_count": 25}}}, stores=SERVER),
    Row("strict_mode_for_good", update("strict_mode_config=StrictModeConfig(enabled=True, max_query_limit=50)"), strategy="in_place",
        has={"config": {"strict_mode_config": {"enabled": True, "max_query_limit": 50}}}, refused="can't be unset", stores=SERVER),
    Row("strict_mode_survives", ADD, start=STRICT, has=vector(), after=EMBEDDED, stores=SERVER),
    Row("params", update("params=CollectionParamsDiff(on_disk_payload=False)"), strategy="in_place", has={"config": {"on_disk_payload": False}}, stores=SERVER),
    Row("params_for_good", update("params=CollectionParamsDiff(read_fan_out_factor=2)"), strategy="in_place",
        has={"config": {"read_fan_out_factor": 2}}, refused="can't be unset", stores=SERVER),
    Row("vector_on_disk", update('vectors_config={"a": VectorParamsDiff(on_disk=True)}'), strategy="clone", has=vector("a", 8, on_disk=True), stores=SERVER),
    Row("sparse_on_disk", update('sparse_vectors_config={"s": SparseVectorParams(index=SparseIndexParams(on_disk=True))}'), strategy="clone", start=THREE,
        points=three_vectors, has={"sparse": {"s": {"modifier": "idf", "index": {"on_disk": True}}}}),
    Row("reshard", "op.Reshard(NAME, shard_number=3)", has={"config": {"shard_number": 3}}),
    Row("replicas", "op.Reshard(NAME, write_consistency_factor=2, replication_factor=2)", strategy="in_place",
        has={"config": {"write_consistency_factor": 2, "replication_factor": 2}}, stores=SERVER),
)
OTHERS = (
    Row("transform", "op.TransformPoints(NAME, renamed, inverse=back)", start=THREE, points=three_vectors, after=rewrites("renamed")),
    Row("transform_without_inverse", "op.TransformPoints(NAME, cut)", after=rewrites("cut")),
    Row("transform_no_point", "op.TransformPoints(NAME, cut)", points=points(0), after=rewrites("cut"), stores=SERVER),
    Row("transform_then_embed", f'op.TransformPoints(NAME, renamed), {ADD.replace(chr(34) + "text" + chr(34) + ")", chr(34) + "{sort}" + chr(34) + ")")}',
        has=vector(), after=lambda key, payload, vectors: gets("b", lambda found: words({"text": found["sort"]}))(
            key, SPACE["renamed"](Point(key, payload, vectors)), vectors)),
    Row("alias", 'op.SetAlias(NAME + "_read", NAME)', has={"aliases": ("_read",)}, strategy="in_place"),
    Row("alias_with_rebuild", 'op.SetAlias(NAME + "_read", NAME), ' + ADD, has={"aliases": ("_read",), **vector()}, after=EMBEDDED),
    Row("everything_at_once", "op.TransformPoints(NAME, renamed), " + ADD.replace('"text")', '"{text} {sort}")') +
        ', op.RenameVector(NAME, "a", "z", cutover="immediate"), op.DropVector(NAME, "m", cutover="immediate"),'
        ' op.CreatePayloadIndex(NAME, "sort", "keyword"), op.UpdateCollection(NAME, metadata={"k": 1}, hnsw_config=HnswConfigDiff(m=24))',
        start=THREE, points=three_vectors,
        has={"vectors": {"b": {"size": 16, "distance": "Cosine"}, "z": {"size": 8, "distance": "Cosine"}, "a": None, "m": None},
             "indexes": {"sort": {"type": "keyword"}}, "config": {"metadata": {"k": 1}, "hnsw_config": {"m": 24}}},
        after=lambda key, payload, vectors: (
            SPACE["renamed"](Point(key, payload, vectors)),
            {**({"z": vectors["a"]} if "a" in vectors else {}), **({"s": vectors["s"]} if "s" in vectors else {}),
             "b": words({"text": f"{payload['text']} {payload['kind']}"})})),
    Row("tuned_by_hand", ADD, prepare=(
            ("PATCH", "", {"hnsw_config": {"m": 37}, "optimizers_config": {"indexing_threshold": 11111, "max_segment_size": 44444},
                           "vectors": {"a": {"hnsw_config": {"m": 41}, "on_disk": True}}, "params": {"read_fan_out_delay_ms": 12},
                           "strict_mode_config": {"enabled": True, "max_query_limit": 9}, "metadata": {"by": {"hand": [None, 1]}}}),
            ("PUT", "/index?wait=true", {"field_name": "text", "field_schema": {"type": "text", "tokenizer": "word", "max_token_len": 9}}),
            ("PUT", "/index?wait=true", {"field_name": "kind", "field_schema": {"type": "keyword", "is_tenant": True}})),
        has=vector(), after=EMBEDDED, stores=SERVER),
)
HALF = """op.CreateCollection(NAME, {"a": VectorParams(size=8, distance="Cosine", datatype="float16"),
    "d": VectorParams(size=8, distance="Dot", datatype="float16"), "u": VectorParams(size=8, distance="Euclid", datatype="uint8"),
    "c": VectorParams(size=8, distance="Cosine", datatype="uint8"),
    "m": VectorParams(size=8, distance="Cosine", datatype="float16", multivector_config=MultiVectorConfig(comparator="max_sim"))})"""


def odd(number: int, size: int = 8) -> list[float]:
    """Values that no short form holds exactly."""
    return [math.sin(number * 12.9898 + place * 78.233) * 3.7 for place in range(size)]


half = points(40, a=odd, d=odd, u=lambda number: whole(number, 8), c=lambda number: whole(number, 8), m=lambda number: [odd(number), odd(number + 1)])
EDGES = (
    Row("add_beside_short_forms", ADD, start=HALF, points=half, has=vector(), after=EMBEDDED),
    Row("alter_to_uint8", alter('VectorParams(size=8, distance="Euclid", datatype="uint8")', ', values=CopyOf("a")'),
        start=PLAIN.replace("Distance.COSINE", '"Euclid"'), points=points(a=lambda number: whole(number, 8)), has=vector("a", 8, "Euclid", datatype="uint8")),
    Row("alter_from_float16", alter('VectorParams(size=8, distance="Cosine")'), start=HALF, points=half,
        has={"vectors": {"a": {"size": 8, "distance": "Cosine"}}}, loose=2e-3, stores=SERVER),
    Row("alter_sparse", 'op.AlterVector(NAME, "s", SparseVectorParams(index=SparseIndexParams(on_disk=True)))', start=THREE, points=three_vectors,
        has={"sparse": {"s": {"index": {"on_disk": True}}}}, stores=SERVER),
    Row("alter_multivector_to_dense", 'op.AlterVector(NAME, "m", VectorParams(size=3, distance="Dot"), values=Compute(dense), cutover="immediate")',
        start=THREE, points=three_vectors, has=vector("m", 3, "Dot"), after=calls("m", "dense")),
    Row("sparse_modifier", update('sparse_vectors_config={"s": SparseVectorParams(modifier=Modifier.NONE)}'), start=THREE, points=three_vectors,
        has={"sparse": {"s": {}}}, stores=SERVER),
    Row("drop_unnamed", 'op.DropVector(NAME, "", cutover="immediate")', start=UNNAMED, points=unnamed(), has={"vectors": {"": None}}, after=loses("")),
    Row("rename_to_unnamed", 'op.RenameVector(NAME, "a", "", cutover="immediate")',
        has={"vectors": {"a": None, "": {"size": 8, "distance": "Cosine"}}}, after=takes("", "a", keep=False)),
    Row("add_unnamed", 'op.AddVector(NAME, "", VectorParams(size=16, distance="Cosine"), values=Embed("words", text="text"))',
        start="op.CreateCollection(NAME)", points=bare,
        has=vector(""), after=gets("", words)),
    Row("index_again", 'op.CreatePayloadIndex(NAME, "n", PayloadSchemaType.INTEGER)', start=INDEXED, has={"indexes": {"n": {"type": "integer"}}}, strategy="in_place", stores=SERVER),
    Row("no_change", update("hnsw_config=HnswConfigDiff(m=16), optimizers_config=OptimizersConfigDiff(deleted_threshold=0.2)"), strategy="in_place", stores=SERVER),
    Row("transform_to_nothing", "op.TransformPoints(NAME, nothing)", after=lambda key, payload, vectors: ({}, vectors), stores=SERVER),
    Row("reshard_and_index", 'op.Reshard(NAME, shard_number=2), op.CreatePayloadIndex(NAME, "n", PayloadSchemaType.FLOAT), ' + update('metadata={"k": 1}'),
        start=INDEXED, has={"config": {"shard_number": 2, "metadata": {"k": 1}}, "indexes": {"n": {"type": "float"}}}, stores=SERVER),
)
ROWS = (*EDGES, *ADDED, *ALTERED, *INDEX, *UPDATED, *OTHERS)
