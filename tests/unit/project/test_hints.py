"""Hints fit the cause: the same refusal for another reason gets another way out."""

from __future__ import annotations

import uuid

import pytest
from tests.harness import by_hand

from qmigrate.engine.fixes.delete import _way_out
from qmigrate.errors import RowsError, StoreError
from qmigrate.model.schema import CollectionSchema
from qmigrate.rows.keys import PointKeys
from qmigrate.store.connect import connect

UUID = str(uuid.UUID(int=7))


@pytest.mark.parametrize(
    ("refusal", "word", "other"),
    [
        (
            "refused a request: Bad request: Index required but not found for 'kind' of one of the following types: …",
            "op.CreatePayloadIndex",
            "limit",
        ),
        (
            "refused a request: Bad request: Limit exceeded 9 > 3 for 'filter_max_conditions'. Help: …",
            "limit of the collection's strict mode",
            "CreatePayloadIndex",
        ),
        (
            "Qdrant at q refused a request: Wrong input: Bad range: gte is larger than lte",
            "the server's message shows what is wrong",
            "CreatePayloadIndex",
        ),
        (
            "Qdrant at q (gRPC) refused a request: Malformed geo polygon: the exterior is not closed",
            "the server's message shows what is wrong",
            "CreatePayloadIndex",
        ),
    ],
)
def test_a_refused_filter_is_told_its_own_way_out(refusal, word, other):
    """An index helps only where the server asks for one."""
    assert word in _way_out(refusal)
    assert other not in _way_out(refusal)


REFUSED = [
    ({"must": [{"key": "n", "match": {"value": 1}}]}, "op.CreatePayloadIndex"),
    ({"must": [{"has_id": [one]} for one in range(9)]}, "limit of the collection's strict mode"),
]


@pytest.mark.server
@pytest.mark.parametrize(("where", "word"), REFUSED)
def test_what_a_server_says_leads_to_its_hint(qdrant_server, where, word):
    """The words of a real server are the ones that the hint goes by."""
    store = connect(qdrant_server.settings())
    name = "refusing filters"
    strict = {"enabled": True, "unindexed_filtering_retrieve": False, "filter_max_conditions": 5}
    schema = CollectionSchema({"": {"size": 2, "distance": "Dot"}}, config={"strict_mode_config": strict})
    store.create_collection(name, schema, seal=None)
    try:
        with pytest.raises(StoreError) as caught:
            list(store.scan(name, where=where))
        assert word in _way_out(caught.value.message), caught.value.message
    finally:
        store.drop_collection(by_hand(name))
        store.close()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["5", "6"], "CAST(id AS BIGINT), where every id is a number"),
        (["5", UUID], "mixes numbers and UUIDs"),
        ([UUID, "x", "5"], "mixes numbers and UUIDs"),
        ([UUID, "x"], "unsigned integers or UUIDs"),
        (["\u00b2"], "unsigned integers or UUIDs"),
    ],
)
def test_a_key_that_is_not_an_id_is_told_a_cast_that_works(values, words):
    """No CAST to a number is advised for a column that holds UUIDs as well."""
    with pytest.raises(RowsError) as caught:
        PointKeys().all_of(values, "id", "the column 'id'")
    assert words in str(caught.value.hint)
