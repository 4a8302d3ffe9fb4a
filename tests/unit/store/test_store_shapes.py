"""Collection info as a schema and changes as requests, without a server."""

from __future__ import annotations

import copy

import pytest

from qmigrate.errors import StoreError
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.store.shapes import count_filter, create_body, described, new_vector, patch_of

PARAMS = {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1, "on_disk_payload": True}


def test_nulls_and_own_metadata_are_left_out_of_a_described_schema():
    """The seal is kept apart, what was put off is hidden, server blocks get the create call's names."""
    config = {
        "params": {**PARAMS, "read_fan_out_factor": None},
        "hnsw_config": {"m": 16, "payload_m": None},
        "optimizer_config": {"indexing_threshold": 1, "memmap_threshold": None},
        "quantization_config": None,
        "metadata": {"qmigrate": {"a": None}, "qmigrate_deferred": {}, "team": None},
    }
    found = described(config, {"n": {"data_type": "integer", "params": None, "points": 3}})
    assert found.seal == {"a": None}
    assert found.unknown == ()
    assert found.schema == CollectionSchema(
        vectors={"": {"size": 4, "distance": "Dot"}},
        indexes={"n": {"type": "integer"}},
        config={
            "shard_number": 1,
            "on_disk_payload": True,
            "hnsw_config": {"m": 16},
            "optimizers_config": {"indexing_threshold": 1},
            "metadata": {"team": None},
        },
    )


def test_fields_of_a_newer_server_are_named():
    """They could not be carried, so they must be seen; unset ones don't count."""
    config = {"params": {**PARAMS, "tiering": "hot", "later": None}, "replicator": {"a": 1}, "unset": None}
    assert described(config, {}).unknown == ("params.tiering", "replicator")


#: A collection info in which every level is there once.
WHOLE = {
    "params": {
        "vectors": {
            "a": {
                "size": 4,
                "distance": "Dot",
                "hnsw_config": {"m": 1, "inline_storage": True},
                "quantization_config": {"scalar": {"type": "int8", "always_ram": True}},
                "multivector_config": {"comparator": "max_sim"},
                "on_disk": None,
            }
        },
        "sparse_vectors": {"s": {"index": {"on_disk": True, "datatype": "float16"}, "modifier": "idf"}},
        "shard_number": 1,
        "payload": {"memory": "cold"},
        "id_tracker": {"memory": "pinned"},
        "on_disk_payload": True,
    },
    "hnsw_config": {"m": 16, "ef_construct": 100, "max_indexing_threads": 0},
    "optimizer_config": {"deleted_threshold": 0.2, "max_optimization_threads": "auto"},
    "wal_config": {"wal_capacity_mb": 32},
    "quantization_config": {"binary": {"encoding": "two_bits"}},
    "strict_mode_config": {"enabled": True, "sparse_config": {"s": {"max_length": 9}}},
    "metadata": {"anything": {"goes": [1, {"here": None}]}},
}
INDEXES = {
    "text": {
        "data_type": "text",
        "params": {
            "type": "text",
            "tokenizer": "word",
            "stopwords": {"languages": ["english"], "custom": ["a"]},
            "stemmer": {"type": "snowball", "language": "english"},
        },
        "points": 3,
    },
    "n.deep[]": {"data_type": "integer", "params": {"type": "integer", "lookup": True}, "points": 0},
}


def test_everything_a_server_tells_today_is_known():
    """Nothing of a complete info is unknown, the user's own metadata least of all."""
    assert described(WHOLE, INDEXES).unknown == ()
    unnamed = {**WHOLE, "params": {"vectors": WHOLE["params"]["vectors"]["a"], "shard_number": 1}}
    assert described(unnamed, {}).unknown == ()


#: Where a newer server may have put a field.
LEVELS = [
    ("config", ""),
    ("config", "params"),
    ("config", "params.vectors.a"),
    ("config", "params.vectors.a.hnsw_config"),
    ("config", "params.vectors.a.quantization_config"),
    ("config", "params.vectors.a.quantization_config.scalar"),
    ("config", "params.vectors.a.multivector_config"),
    ("config", "params.sparse_vectors.s"),
    ("config", "params.sparse_vectors.s.index"),
    ("config", "params.payload"),
    ("config", "params.id_tracker"),
    ("config", "hnsw_config"),
    ("config", "optimizer_config"),
    ("config", "wal_config"),
    ("config", "quantization_config"),
    ("config", "quantization_config.binary"),
    ("config", "strict_mode_config"),
    ("config", "strict_mode_config.sparse_config.s"),
    ("payload_schema", "text"),
    ("payload_schema", "text.params"),
    ("payload_schema", "text.params.stopwords"),
    ("payload_schema", "text.params.stemmer"),
]


@pytest.mark.parametrize("value", ["new", {"deep": 1}, [1], 0, False], ids=repr)
@pytest.mark.parametrize(("part", "path"), LEVELS, ids=[f"{part}.{path}" for part, path in LEVELS])
def test_an_unknown_field_is_seen_at_every_level(part, path, value):
    """Whatever a newer server puts anywhere into the info is named with its path, with its value; null says nothing."""
    parts = {"config": copy.deepcopy(WHOLE), "payload_schema": copy.deepcopy(INDEXES)}
    place = parts[part]
    for key in path.split(".") if path else ():
        place = place[key]
    place["tiering"] = None
    assert described(parts["config"], parts["payload_schema"]).unknown == ()
    place["tiering"] = value
    found = described(parts["config"], parts["payload_schema"])
    named = ".".join(one for one in ("payload_schema" if part == "payload_schema" else "", path, "tiering") if one)
    assert (found.unknown, found.unknown_values) == ((named,), {named: value})


@pytest.mark.parametrize(
    ("part", "key", "value", "path"),
    [
        ("hnsw_config", "on_disk", {"policy": "cold"}, "hnsw_config.on_disk"),
        ("optimizer_config", "max_optimization_threads", [1, 2], "optimizer_config.max_optimization_threads"),
        ("params", "payload", "cold", "params.payload"),
    ],
)
def test_a_known_field_of_another_shape_is_unknown(part, key, value, path):
    """An object where a number was may hold what this version doesn't understand."""
    config = copy.deepcopy(WHOLE)
    config[part][key] = value
    assert described(config, {}).unknown_values == {path: value}


def test_an_index_of_an_unknown_type_is_unknown_as_a_whole():
    """What its parameters mean is unknown."""
    entry = {"data_type": "trigram", "params": {"type": "trigram"}, "points": 1}
    assert described(WHOLE, {"name": entry}).unknown_values == {"payload_schema.name": entry}


def test_the_create_call_leaves_out_what_it_does_not_know():
    """Fan-out settings are a PATCH afterwards; the seal joins the metadata, whose nulls are the user's own."""
    schema = CollectionSchema(
        vectors={"a": {"size": 4, "distance": "Dot", "on_disk": None}},
        config={"read_fan_out_factor": 2, "shard_number": 3, "metadata": {"x": {"y": None}}},
    )
    body, later = create_body(schema, {"g": 1})
    assert body == {
        "vectors": {"a": {"size": 4, "distance": "Dot"}},
        "shard_number": 3,
        "metadata": {"x": {"y": None}, "qmigrate": {"g": 1}},
    }
    assert later == {"read_fan_out_factor": 2}
    assert "metadata" not in create_body(CollectionSchema(vectors={}), None)[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change("config.set", "hnsw_config", after={"m": 8, "payload_m": None}), {"hnsw_config": {"m": 8}}),
        (Change("config.set", "replication_factor", after=2), {"params": {"replication_factor": 2}}),
        (Change("config.set", "quantization_config", before={}), {"quantization_config": "Disabled"}),
        (
            Change("config.set", "metadata", after={"a": 1}, before={"a": 0, "b": 2}),
            {"metadata": {"a": 1, "b": None}},
        ),
        (Change("config.set", "metadata", before={"b": 2}), {"metadata": {"b": None}}),
        (
            Change("vector.alter", "", after={"size": 4, "on_disk": True}, before={"size": 4}),
            {"vectors": {"": {"on_disk": True}}},
        ),
        (
            Change("sparse.alter", "s", after={"index": {"on_disk": True}}, before={}),
            {"sparse_vectors": {"s": {"index": {"on_disk": True}}}},
        ),
    ],
)
def test_a_change_of_settings_is_one_patch(change, expected):
    """Each kind of setting has its own place in the request."""
    assert patch_of(change) == expected


@pytest.mark.parametrize(
    "change",
    [
        Change("config.set", "shard_number", after=2),
        Change("config.set", "hnsw_config", before={"m": 8}),
        Change("vector.alter", "a", after={"distance": "Cosine"}, before={"distance": "Dot"}),
    ],
)
def test_what_a_server_can_not_change_is_an_error(change):
    """Fixed settings, unset values, and what decides the stored vectors."""
    with pytest.raises(StoreError):
        patch_of(change)


def test_a_new_vector_is_made_first_and_tuned_afterwards():
    """The call that adds a vector takes only what can't be changed later."""
    dense = {"size": 4, "distance": "Dot", "datatype": "float16", "hnsw_config": {"m": 4}, "on_disk": True}
    assert new_vector(Change("vector.add", "v", after=dense)) == (
        {"dense": {"size": 4, "distance": "Dot", "datatype": "float16"}},
        {"vectors": {"v": {"hnsw_config": {"m": 4}, "on_disk": True}}},
    )
    sparse = {"modifier": "idf", "index": {"datatype": "float16", "on_disk": True}}
    assert new_vector(Change("sparse.add", "s", after=sparse)) == (
        {"sparse": {"modifier": "idf", "datatype": "float16"}},
        {"sparse_vectors": {"s": {"index": {"on_disk": True}}}},
    )
    assert new_vector(Change("sparse.add", "s", after={})) == ({"sparse": {}}, None)


def test_a_count_filter_joins_its_conditions():
    """An empty request has no filter."""
    assert count_filter(missing_field=None, without_vector=None) == {}
    assert count_filter(missing_field="t", without_vector="") == {
        "must": [{"is_empty": {"key": "t"}}],
        "must_not": [{"has_vector": ""}],
    }
