"""The write fence of an old generation on a real server: that it holds, that tokens prove it, that it is lifted."""

from __future__ import annotations

import httpx
import pytest
from tests.integration.test_store_server import VECTOR, fill, make, moved, ready

from qmigrate.engine.barriers import barrier, measure
from qmigrate.errors import RateLimitedError, StoreError
from qmigrate.model.schema import CollectionSchema
from qmigrate.store import connect
from qmigrate.store.server.fencing import NO_LIMIT

pytestmark = pytest.mark.server

SWITCHED_OFF = {
    "enabled": False,
    "max_query_limit": 5,
    "search_allow_exact": False,
    "unindexed_filtering_retrieve": False,
    "search_max_oversampling": 1.5,
}


def test_the_fence_refuses_writes_and_the_tokens_prove_it(server_store, qdrant_server, fresh_name):
    """After take_tokens every kind of write is answered 429 and barriers show that none was applied."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    step = moved(server_store.barrier(fresh_name), server_store.barrier(fresh_name))
    assert server_store.fence(fresh_name) == {}
    before = server_store.barrier(fresh_name)
    passed = server_store.take_tokens(fresh_name)
    assert passed == 1
    path = f"{qdrant_server.url}/collections/{fresh_name}/points"
    for method, url, body in (
        ("PUT", path, {"points": [{"id": 777, "vector": {"a": [1, 2, 3, 4]}}]}),
        ("POST", f"{path}/delete", {"points": [1]}),
        ("POST", f"{path}/payload", {"payload": {"x": 1}, "points": [1]}),
    ):
        assert httpx.request(method, f"{url}?wait=true", json=body).status_code == 429
    assert server_store.take_tokens(fresh_name) == 0
    after = server_store.barrier(fresh_name)
    assert moved(before, after) == [found + passed for found in step]
    assert server_store.count(fresh_name) == 60


def test_a_barrier_passes_through_every_queue_as_a_write_of_its_own(server_store, fresh_name):
    """A write that was accepted before it is done when it returns, and the ids move by it, the same each time."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    reach = measure(server_store, fresh_name)
    before = barrier(server_store, fresh_name)
    assert reach > 0
    assert set(moved(before, barrier(server_store, fresh_name))) == {reach}


def test_one_refusal_takes_the_tokens_of_every_shard(server_store, qdrant_server, fresh_name):
    """Where one shard has spent its token on a write, the others lose theirs to the refused one: none passes later."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    server_store.fence(fresh_name)
    path = f"{qdrant_server.url}/collections/{fresh_name}/points?wait=true"

    def answer(number):
        return httpx.put(path, json={"points": [{"id": number, "vector": {"a": [1, 2, 3, 4]}}]}).status_code

    assert answer(0) == 200
    assert server_store.take_tokens(fresh_name) == 0
    assert {answer(number) for number in range(40)} == {429}


def test_a_collection_that_was_never_written_to_is_fenced_too(server_store, qdrant_server, fresh_name):
    """Its first write is refused at once; whatever the limiter counted, nothing passes and no id moves."""
    make(server_store, fresh_name)
    server_store.fence(fresh_name)
    before = server_store.operation_ids(fresh_name)
    passed = server_store.take_tokens(fresh_name)
    assert set(moved(before, server_store.operation_ids(fresh_name))) == {passed}
    body = {"points": [{"id": 1, "vector": {"a": [1, 2, 3, 4]}}]}
    assert httpx.put(f"{qdrant_server.url}/collections/{fresh_name}/points?wait=true", json=body).status_code == 429


def test_the_fence_is_sent_once(server_store, fresh_name):
    """A second fence hands out no new token, and returns what is set."""
    make(server_store, fresh_name)
    server_store.fence(fresh_name)
    server_store.take_tokens(fresh_name)
    assert server_store.fence(fresh_name) == {"enabled": True, "write_rate_limit": 1}
    assert server_store.take_tokens(fresh_name) == 0


def test_tokens_of_an_unfenced_collection_are_an_error(server_store, fresh_name):
    """What has no limit can't be proven quiet."""
    make(server_store, fresh_name)
    with pytest.raises(StoreError, match="not fenced"):
        server_store.take_tokens(fresh_name)


def test_our_own_write_does_not_wait_for_a_limiter_that_asks_for_too_much(qdrant_server, server_store, fresh_name):
    """A minute is more than twice the timeout: the limiter's refusal is raised at once."""
    make(server_store, fresh_name)
    server_store.fence(fresh_name)
    server_store.take_tokens(fresh_name)
    impatient = connect(qdrant_server.settings(timeout=2.0))
    try:
        with pytest.raises(RateLimitedError):
            impatient.upsert(fresh_name, [ready(1)]).wait()
        with pytest.raises(RateLimitedError):
            impatient.delete(fresh_name, [1])
    finally:
        impatient.close()


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ({}, {"enabled": False, "write_rate_limit": NO_LIMIT}),
        (
            {"enabled": True, "max_query_limit": 500},
            {"enabled": True, "write_rate_limit": NO_LIMIT, "max_query_limit": 500},
        ),
        ({"enabled": True, "write_rate_limit": 900}, {"enabled": True, "write_rate_limit": 900}),
        ({"enabled": False, "write_rate_limit": 5}, {"enabled": False, "write_rate_limit": 5}),
        (SWITCHED_OFF, SWITCHED_OFF | {"write_rate_limit": NO_LIMIT}),
    ],
    ids=["none", "other limits", "a limit of its own", "switched off", "other limits, switched off"],
)
def test_lifting_the_fence_gives_back_the_strict_mode_of_before(server_store, fresh_name, prior, expected):
    """Values that were there return; where there was none, one too large to matter; writes pass again."""
    config = {"strict_mode_config": prior} if prior else {}
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config=config))
    assert server_store.fence(fresh_name) == prior
    server_store.take_tokens(fresh_name)
    for _ in range(2):
        server_store.lift_fence(fresh_name, prior)
    assert server_store.describe(fresh_name).schema.config["strict_mode_config"] == expected
    for number in range(3):
        server_store.upsert(fresh_name, [ready(number)]).wait()


def test_limits_that_are_switched_off_stay_without_effect(server_store, qdrant_server, fresh_name):
    """A fence needs strict mode; what else that would limit must not make reads fail while writes are refused."""
    make(server_store, fresh_name, CollectionSchema(vectors={"a": VECTOR}, config={"strict_mode_config": SWITCHED_OFF}))
    fill(server_store, fresh_name)
    path = f"{qdrant_server.url}/collections/{fresh_name}/points"
    asked = {
        "exact": ("query", {"query": [1, 2, 3, 4], "using": "a", "limit": 50, "params": {"exact": True}}),
        "filter": ("scroll", {"limit": 50, "filter": {"must": [{"key": "n", "match": {"value": 1}}]}}),
        "count": ("count", {"exact": True}),
    }

    def answers() -> dict[str, int]:
        return {name: httpx.post(f"{path}/{verb}", json=body).status_code for name, (verb, body) in asked.items()}

    assert set(answers().values()) == {200}
    server_store.fence(fresh_name)
    server_store.take_tokens(fresh_name)
    assert set(answers().values()) == {200}


def test_a_fence_through_an_own_alias_fences_the_generation(server_store, fresh_name):
    """The steps use own aliases for it."""
    make(server_store, fresh_name)
    fill(server_store, fresh_name)
    server_store.create_alias(f"{fresh_name}__e1", fresh_name)
    server_store.fence(f"{fresh_name}__e1")
    assert server_store.take_tokens(f"{fresh_name}__e1") == 1
    assert server_store.take_tokens(fresh_name) == 0
