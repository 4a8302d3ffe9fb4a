"""A parameter of every object of the catalogue, through the operations to a real server and back."""

from __future__ import annotations

import pytest

from qmigrate import op
from qmigrate.drift import differences
from qmigrate.model.schema import CollectionSchema, changes

pytestmark = pytest.mark.server

VECTOR = {"size": 8, "distance": "Cosine"}


def vector(**params):
    """A collection with one vector of further parameters."""
    return {"vectors": {"a": {**VECTOR, **params}}}


def index(**params):
    """A collection with one payload index."""
    return {"vectors": {"a": VECTOR}, "payload_indexes": {"f": params}}


#: Object -> what the create call says, what an update says then (None: nothing of it can be updated).
ROWS = {
    "HnswConfigDiff": (
        {"hnsw_config": {"m": 24, "ef_construct": 200, "full_scan_threshold": 2000, "max_indexing_threads": 1, "on_disk": True, "payload_m": 8, "inline_storage": False}},
        {"hnsw_config": {"m": 8, "payload_m": 4}},
    ),
    "OptimizersConfigDiff": (
        {"optimizers_config": {"deleted_threshold": 0.3, "vacuum_min_vector_number": 2000, "default_segment_number": 2, "max_segment_size": 100000, "memmap_threshold": 30000, "indexing_threshold": 5000, "flush_interval_sec": 7, "max_optimization_threads": 1}},
        {"optimizers_config": {"max_optimization_threads": "auto", "flush_interval_sec": 3, "prevent_unoptimized": True}},
    ),
    "WalConfigDiff": ({"wal_config": {"wal_capacity_mb": 16, "wal_segments_ahead": 1, "wal_retain_closed": 2}}, None),
    "StrictModeConfig": (
        {"strict_mode_config": {"enabled": True, "max_query_limit": 500, "search_max_oversampling": 2.5, "max_payload_index_count": 9, "multivector_config": {"a": {"max_vectors": 9}}, "sparse_config": {"s": {"max_length": 9}}}},
        {"strict_mode_config": {"max_query_limit": 600, "read_rate_limit": 100000, "multivector_config": {"a": {"max_vectors": 3}}}},
    ),
    "ScalarQuantization": (
        {"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}},
        {"quantization_config": {"product": {"compression": "x16"}}},
    ),
    "BinaryQuantization": (
        {"quantization_config": {"binary": {"encoding": "two_bits", "query_encoding": "scalar8bits", "always_ram": False}}},
        {"quantization_config": "Disabled"},
    ),
    "TurboQuantization": ({"quantization_config": {"turbo": {"bits": "bits4", "always_ram": True}}}, {"quantization_config": {"binary": {}}}),
    "CreateCollection": (
        {"shard_number": 2, "sharding_method": "auto", "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": False, "metadata": {"team": "search"}},
        {"metadata": {"team": "shop"}},
    ),
    "CollectionParamsDiff": ({}, {"params": {"replication_factor": 2, "read_fan_out_factor": 2, "read_fan_out_delay_ms": 30, "on_disk_payload": False}}),
    "VectorParams": (
        vector(on_disk=True, datatype="float16", hnsw_config={"m": 12}, quantization_config={"scalar": {"type": "int8"}}, multivector_config={"comparator": "max_sim"}),
        {"vectors_config": {"a": {"on_disk": False, "hnsw_config": {"m": 20}, "quantization_config": "Disabled"}}},
    ),
    "VectorParams of turbo": (vector(datatype="turbo4"), {"vectors_config": {"a": {"quantization_config": {"binary": {}}}}}),
    "memory": (vector(memory="cold"), {"vectors_config": {"a": {"memory": "cached"}}, "hnsw_config": {"memory": "pinned"}}),
    "SparseVectorParams": (
        {"sparse_vectors": {"s": {"modifier": "idf", "index": {"on_disk": True, "datatype": "float16", "full_scan_threshold": 3000}}}},
        {"sparse_vectors_config": {"s": {"index": {"on_disk": False, "full_scan_threshold": 4000}}}},
    ),
    "KeywordIndexParams": (index(type="keyword", is_tenant=True, on_disk=True, prefix=True), {"type": "keyword", "enable_hnsw": False}),
    "IntegerIndexParams": (index(type="integer", lookup=False, range=True, is_principal=True), {"type": "integer", "memory": "cold"}),
    "FloatIndexParams": (index(type="float", is_principal=True), {"type": "float", "on_disk": True}),
    "GeoIndexParams": (index(type="geo", on_disk=True), {"type": "geo"}),
    "TextIndexParams": (
        index(type="text", tokenizer="multilingual", min_token_len=2, max_token_len=20, lowercase=False, ascii_folding=True, phrase_matching=True, stopwords={"languages": ["german"], "custom": ["qdrant"]}, stemmer={"type": "snowball", "language": "german"}),
        {"type": "text", "stopwords": "english", "stemmer": {"type": "none"}},
    ),
    "BoolIndexParams": (index(type="bool", on_disk=True), {"type": "bool"}),
    "DatetimeIndexParams": (index(type="datetime", is_principal=True), {"type": "datetime", "on_disk": True}),
    "UuidIndexParams": (index(type="uuid", is_tenant=True), {"type": "uuid", "enable_hnsw": False}),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_operations_say_is_what_the_server_has(server_store, fresh_name, name):
    """Nothing that the catalogue takes is refused by the server, lost on the way, or unknown on the way back."""
    said, more = ROWS[name]
    creation = op.CreateCollection("docs", **{"vectors": {"a": VECTOR}, **said})
    creation.check(None)
    schema = creation.apply(None)
    server_store.create_collection(fresh_name, schema, seal=None)
    server_store.complete_collection(fresh_name, schema, defer_index=False)
    live = server_store.describe(fresh_name)
    assert (live.unknown, differences(schema, live.schema, local=False)) == ((), ())
    if more is None:
        return
    update = op.CreatePayloadIndex("docs", "f", more) if "type" in more else op.UpdateCollection("docs", **more)
    update.check(schema)
    wanted = update.apply(schema)
    assert isinstance(wanted, CollectionSchema)
    for change in changes(schema, wanted):
        server_store.apply(fresh_name, change)
    live = server_store.describe(fresh_name)
    assert (live.unknown, differences(wanted, live.schema, local=False)) == ((), ())
