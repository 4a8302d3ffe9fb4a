"""Points that only a digest without a key takes for equal, and bases of the time when digests had none."""

from __future__ import annotations

import math

import pytest
import xxhash
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value
from tests.collisions import colliding_vectors
from tests.harness import write
from tests.scenarios import stale

from qmigrate.commands import gc, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError, StoreError
from qmigrate.ledger import Lease, Ledger, bases
from qmigrate.model.transform import Point
from qmigrate.store import records

SIZE = 128
CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=128, distance=Distance.DOT)}})]
"""
ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=128, distance=Distance.DOT), values=Compute(turned))]


def turned(point):
    return point.vectors["a"][::-1]
"""
#: A rebuild whose point is the old one, so that the same pair of vectors collides on both sides of it.
SAME = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=2, distance=Distance.DOT), values=Empty())]
"""


def values(number: int) -> list[float]:
    """The vector of a point."""
    return [float(number + place) for place in range(SIZE)]


def put(deployment, name: str, *vectors: list[float]) -> None:
    """Write the points 1, 2, … with these vectors."""
    store = deployment.store()
    write(store, name, [Point(number, {"n": number}, {"a": one}) for number, one in enumerate(vectors, start=1)])
    store.close()


def stored(deployment, name: str, identifier: int = 1):
    """A point as it is read."""
    store = deployment.store()
    (found,) = store.fetch(name, [identifier])
    store.close()
    return found


def vector(deployment) -> list[float]:
    """The vector of point 1 that serves, bit by bit."""
    return records.vectors_of(stored(deployment, deployment.name))["a"]


def without_key(patch) -> None:
    """As an earlier version: whatever is begun has digests without a key."""
    patch.setattr(bases, "KEYED", None)
    patch.setattr(Ledger, "digest_key", lambda self, name: None)


@pytest.fixture
def pair(deployment):
    """A loaded collection, and two vectors of its first point that XXH3 can't distinguish there."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    put(deployment, deployment.name, *map(values, range(1, 21)))
    return colliding_vectors(stored(deployment, deployment.name), values(1))


def test_points_can_be_made_to_collide_without_a_key_only(deployment, pair):
    """Two finite vectors, read back from the store, with one XXH3 digest; under a key they have two."""
    found = []
    for one in pair:
        assert all(map(math.isfinite, one))
        put(deployment, deployment.name, one)
        found.append(stored(deployment, deployment.name))
    first, second = found
    assert not records.same(first, second)
    messages = [one.SerializeToString(deterministic=True) for one in found]
    assert xxhash.xxh3_128_digest(messages[0]) == xxhash.xxh3_128_digest(messages[1])
    assert records.digest_under(None)(first) == records.digest_under(None)(second)
    key = bytes(range(32))
    assert records.digest_under(key)(first) != records.digest_under(key)(second)
    assert len(records.digest_under(key)(first)) == records.DIGEST_SIZE
    assert records.digest_under(key)(first) != records.digest_under(key[::-1])(first)


@pytest.mark.parametrize("key", [None, bytes(range(32))])
def test_the_order_of_keys_is_no_difference(key):
    """A digest, with a key or without, and equality are of what a point holds, not of the order of its maps."""
    made = []
    for items in ([("x", {"p": 1, "q": 2}), ("y", 2)], [("y", 2), ("x", {"q": 2, "p": 1})]):
        point = grpc.RetrievedPoint(id=grpc.PointId(num=1))
        for name, value in items:
            point.payload[name].CopyFrom(json_to_value(value))
        made.append(point)
    assert records.same(*made)
    assert len({records.digest_under(key)(point) for point in made}) == 1


def test_a_colliding_write_is_counted_and_carried_back(deployment, pair):
    """The vector of a live point is replaced by one of the same XXH3 digest: a rollback detects the write."""
    first, second = pair
    put(deployment, deployment.name, first)
    deployment.revise("0002", SAME)
    upgrade.upgrade(deployment.settings())
    put(deployment, deployment.name, second)
    with pytest.raises(RefusedError, match="1 point changed"):
        back.rollback(deployment.settings(), "0001")
    back.rollback(deployment.settings(), "0001", writes="carry")
    assert vector(deployment) == second


def test_a_colliding_write_during_a_rebuild_is_redone(deployment, pair, monkeypatch):
    """It comes between the fill and the last pass: what is computed is computed of the newer one."""
    put(deployment, deployment.name, pair[0])
    deployment.revise("0002", stale.TURN)
    ends_once(monkeypatch, deployment)
    put(deployment, deployment.name, pair[1])
    upgrade.upgrade(deployment.settings())
    assert vector(deployment) == pair[1][::-1]


def ends_once(monkeypatch, deployment) -> None:
    """An upgrade that ends before a base is committed."""

    def ends(self, *args, **kwargs):
        raise StoreError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "commit_base", ends)
        with pytest.raises(StoreError, match="ends here"):
            upgrade.upgrade(deployment.settings())


def test_a_rebuild_begun_without_a_key_is_finished_and_taken_back(deployment, pair, monkeypatch):
    """Its base continues as it was started, through proof, rollback with writes and gc; the next rebuild has a key."""
    deployment.revise("0002", ADD)
    with monkeypatch.context() as before:
        without_key(before)
        ends_once(monkeypatch, deployment)
    upgrade.upgrade(deployment.settings())
    put(deployment, deployment.name, values(7))
    with pytest.raises(RefusedError, match="1 point changed"):
        back.rollback(deployment.settings(), "0001")
    back.rollback(deployment.settings(), "0001", writes="carry")
    assert deployment.contents()[1][1] == {"a": values(7)}
    upgrade.upgrade(deployment.settings())
    put(deployment, deployment.name, pair[0])
    with pytest.raises(RefusedError, match="1 point changed"):
        back.rollback(deployment.settings(), "0001")
    collected = [entry.generation for entry in gc.gc(deployment.settings(), deployment.name, now=True).collected]
    assert f"{deployment.name}__g0001" in collected
