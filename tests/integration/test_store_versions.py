"""Point versions on a real server: what raises them, what doesn't, and that every way of listing shows the same."""

from __future__ import annotations

import uuid

import httpx
import pytest
from tests.harness import write

from qmigrate.errors import NotFoundError, NoVersionsError
from qmigrate.model.ids import points_of
from qmigrate.model.names import EpochAlias
from qmigrate.model.schema import Change, CollectionSchema
from qmigrate.model.transform import Point
from qmigrate.ports import PayloadEdit
from qmigrate.store import connect
from qmigrate.store.server import versions

pytestmark = pytest.mark.server

VECTOR = {"size": 4, "distance": "Cosine"}
SCHEMA = CollectionSchema(vectors={"a": VECTOR, "b": {"size": 2, "distance": "Dot"}}, config={"shard_number": 2})


def identifier(number: int):
    """Every third id is a UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) if number % 3 == 0 else number


def point(number: int, **vectors):
    """One with both vectors."""
    found = vectors or {"a": [1.0, 2.0, 3.0, float(number)], "b": [float(number), 1.0]}
    return Point(identifier(number), {"n": number, "kind": "odd" if number % 2 else "even"}, found)


@pytest.fixture
def filled(server_store, fresh_name):
    """A collection of 60 points on two shards."""
    server_store.create_collection(fresh_name, SCHEMA, seal=None)
    write(server_store, fresh_name, [point(number) for number in range(60)])
    return fresh_name


def numbers(store, name, vector="a", ids=None):
    """Number by id, each listed once."""
    pages = list(store.versions(name, vector, ids=ids))
    ids = [one for page in pages for one in points_of(page.ids)]
    assert len(ids) == len(set(ids))
    return dict(zip(ids, (int(one) for page in pages for one in page.numbers), strict=True))


def changed(before, now):
    """Ids whose number differs."""
    return {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}


def rest(server, method, path, body=None):
    """One request as an application sends it."""
    answer = httpx.request(method, f"{server.url}{path}", json=body, params={"wait": "true"}, timeout=30)
    answer.raise_for_status()
    return answer.json()["result"]


WRITES = {
    "upsert": ("PUT", "points", {"points": [{"id": 1, "vector": {"a": [1, 2, 3, 1], "b": [1, 1]}}]}, {1}),
    "set_payload": ("POST", "points/payload", {"payload": {"n": 1}, "points": [1]}, {1}),
    "overwrite_payload": ("PUT", "points/payload", {"payload": {"n": 1}, "points": [1]}, {1}),
    "delete_payload": ("POST", "points/payload/delete", {"keys": ["n"], "points": [1]}, {1}),
    "delete_payload_absent": ("POST", "points/payload/delete", {"keys": ["absent"], "points": [1]}, {1}),
    "clear_payload": ("POST", "points/payload/clear", {"points": [1]}, {1}),
    "update_vectors": ("PUT", "points/vectors", {"points": [{"id": 1, "vector": {"b": [1, 1]}}]}, {1}),
    "delete_vectors": ("POST", "points/vectors/delete", {"points": [1], "vector": ["b"]}, {1}),
    "delete": ("POST", "points/delete", {"points": [1]}, {1}),
}


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_of_every_kind_moves_the_number_of_its_point_and_of_no_other(server_store, qdrant_server, filled, kind):
    """Also where the value stays the same."""
    method, path, body, expected = WRITES[kind]
    before = numbers(server_store, filled)
    assert len(before) == 60
    rest(qdrant_server, method, f"/collections/{filled}/{path}", body)
    assert changed(before, numbers(server_store, filled)) == expected


def test_a_write_by_filter_moves_exactly_what_it_has_met(server_store, qdrant_server, filled):
    """Of two shards."""
    before = numbers(server_store, filled)
    even = {"must": [{"key": "kind", "match": {"value": "even"}}]}
    rest(qdrant_server, "POST", f"/collections/{filled}/points/payload", {"payload": {"x": 1}, "filter": even})
    assert changed(before, numbers(server_store, filled)) == {identifier(number) for number in range(0, 60, 2)}


def test_deleted_and_added_again_is_another_number(server_store, qdrant_server, filled):
    """With the very same content."""
    before = numbers(server_store, filled)
    server_store.delete(filled, [identifier(4)])
    write(server_store, filled, [point(4)])
    assert changed(before, numbers(server_store, filled)) == {identifier(4)}


def test_what_writes_no_point_moves_no_number(server_store, filled, fresh_name):
    """Payload indexes, seals, settings, aliases and barriers."""
    before = numbers(server_store, filled)
    server_store.apply(EpochAlias(filled), Change("index.add", "kind", {"type": "keyword"}))
    server_store.write_seal(EpochAlias(filled), {"x": 1})
    server_store.create_alias(EpochAlias(f"{fresh_name}_alias"), filled)
    server_store.barrier(filled)
    server_store.apply(EpochAlias(filled), Change("index.drop", "kind", None, {"type": "keyword"}))
    assert numbers(server_store, f"{fresh_name}_alias") == before


def test_a_killed_server_shows_the_same_numbers(qdrant_with, fresh_name):
    """The shards are where they were, too."""
    server = qdrant_with()
    store = connect(server.settings())
    store.create_collection(fresh_name, SCHEMA, seal=None)
    write(store, fresh_name, [point(number) for number in range(60)])
    store.edit_payloads(EpochAlias(fresh_name), [PayloadEdit([identifier(5)], {"n": 7})])
    before, placed = numbers(store, fresh_name), store.placement(fresh_name)
    server.restart()
    assert numbers(store, fresh_name) == before
    assert store.placement(fresh_name) == placed
    store.close()


def test_every_way_of_listing_shows_the_same(server_store, qdrant_server, filled, monkeypatch):
    """By slices, whole, by ids, by pages of ids, by another vector, and over REST."""
    whole = numbers(server_store, filled)
    assert len(whole) == 60
    assert numbers(server_store, filled, "b") == whole
    assert numbers(server_store, filled, ids=list(whole)) == whole
    assert numbers(server_store, filled, ids=[identifier(3), identifier(4), 10**9]) == {
        one: whole[one] for one in (identifier(3), identifier(4))
    }
    assert numbers(server_store, filled, ids=[]) == {}
    monkeypatch.setattr(versions, "SLICE", 7)
    assert versions.slices_of(60) == 9
    monkeypatch.setattr(versions, "IDS", 7)
    assert numbers(server_store, filled) == whole
    assert numbers(server_store, filled, ids=list(whole)) == whole
    monkeypatch.setattr(server_store._versions, "_slices", False)
    assert numbers(server_store, filled) == whole
    over_rest = connect(qdrant_server.settings(prefer_rest=True))
    assert numbers(over_rest, filled) == whole
    over_rest.close()


def test_a_count_that_is_too_low_cuts_nothing_off(server_store, fresh_name, monkeypatch):
    """The server's count is approximate: an answer as long as its limit is asked for again."""
    server_store.create_collection(fresh_name, SCHEMA, seal=None)
    write(server_store, fresh_name, [Point(number, {}, {"b": [1.0, 1.0]}) for number in range(5000)])
    known = versions.info_of
    monkeypatch.setattr(versions, "info_of", lambda node, name: {**known(node, name), "points_count": 0})
    assert sorted(numbers(server_store, fresh_name, "b")) == list(range(5000))


def test_what_can_not_be_listed_says_so(server_store, filled):
    """Without a vector of that name, and without a collection."""
    with pytest.raises(NoVersionsError, match="no dense vector 'c'"):
        numbers(server_store, filled, "c")
    with pytest.raises(NotFoundError, match="absent"):
        numbers(server_store, f"{filled}_absent")


def test_points_without_the_vector_are_not_listed(server_store, filled):
    """Nor by their ids."""
    write(server_store, filled, [Point(1000, {}, {"b": [1.0, 1.0]})])
    assert 1000 not in numbers(server_store, filled, "a")
    assert numbers(server_store, filled, "a", ids=[1000]) == {}
    assert 1000 in numbers(server_store, filled, "b")
