"""Collection info as a schema and changes as requests, without a server."""

from __future__ import annotations

import pytest

from qmigrate.errors import StoreError
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.store.shapes import count_filter, create_body, described, new_vector, patch_of

PARAMS = {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": 1, "on_disk_payload": True}


def test_nulls_and_own_metadata_are_left_out_of_a_described_schema():
    """The seal is told apart, what was put off is hidden, server blocks get the create call's names."""
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
    """Nothing asked is no filter."""
    assert count_filter(missing_field=None, without_vector=None) == {}
    assert count_filter(missing_field="t", without_vector="") == {
        "must": [{"is_empty": {"key": "t"}}],
        "must_not": [{"has_vector": ""}],
    }
