"""Operation ids of shards: a replica that is moved or recovered leaves its own out for a while."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qmigrate.errors import ServerTooOldError, StoreError
from qmigrate.store.server import fencing

#: As a server answers for a replica that is there, for one that was not written to, and for one that is recovered.
THERE, FRESH, GONE = {"update_queue": {"length": 0, "op_num": 7}}, {"update_queue": {"op_num": None}}, {"variant_name": "dummy shard"}


class Node:
    """As much of a node as is asked for: one answer after the other, the last one again and again."""

    label = "node:6333"

    def __init__(self, *answers: dict, version: str = "1.19.0") -> None:
        self.answers: Iterator[dict] = iter(answers)
        self.newest = answers[-1]
        self.version = version

    def get(self, path: str, **_how: object) -> dict:
        """Telemetry."""
        assert path == "/telemetry"
        shards = next(self.answers, self.newest)
        rows = [{"id": number, "local": local} for number, local in shards.items()]
        return {"app": {"version": self.version}, "collections": {"collections": [{"id": "c", "shards": rows}]}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Time passes as fast as it is waited for."""
    clock = [0.0]
    monkeypatch.setattr(fencing.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(fencing.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))


def test_ids_of_the_shards_that_a_node_has():
    """One that is elsewhere has none here; one that was never written to has 0."""
    assert fencing._ids_of(Node({0: THERE, 1: None, 2: FRESH}), "c") == {"node:6333/0": 7, "node:6333/2": 0}


def test_a_replica_that_is_recovered_is_waited_for():
    """It has its id again when it is back."""
    assert fencing._ids_of(Node({0: GONE}, {0: GONE}, {0: THERE}), "c") == {"node:6333/0": 7}


def test_one_that_does_not_come_back_is_named():
    """Nothing advises to update a server that is new enough."""
    with pytest.raises(StoreError, match="shard 1 of c at node:6333 is being moved or recovered") as refused:
        fencing._ids_of(Node({0: THERE, 1: GONE}), "c")
    assert not isinstance(refused.value, ServerTooOldError)
    assert "qmigrate doctor" in str(refused.value.hint)


@pytest.mark.parametrize("version", ["1.16.3", "?"])
def test_a_server_that_knows_none_is_too_old(version):
    """Waiting would not help."""
    with pytest.raises(ServerTooOldError, match="doesn't report the operation ids"):
        fencing._ids_of(Node({0: {"variant_name": "local"}}, version=version), "c")
