"""Which replicas of which shard are ordered next, and what is waited for."""

from __future__ import annotations

import pytest

from qmigrate.store.server.collections import judge, shards_of


def told(shards: dict[int, dict[int, str]], transfers=()) -> dict:
    """What node 1 answers: shard -> peer -> state."""
    local = [{"shard_id": number, "state": peers[1]} for number, peers in shards.items() if 1 in peers]
    remote = [
        {"shard_id": number, "peer_id": peer, "state": state}
        for number, peers in shards.items()
        for peer, state in peers.items()
        if peer != 1
    ]
    moving = [{"shard_id": shard, "from": source, "to": to, "sync": True} for shard, source, to in transfers]
    return {"peer_id": 1, "local_shards": local, "remote_shards": remote, "shard_transfers": moving}


ON = "Active"
#: (what, shards, transfers, factor, requests, what is waited for)
ROUNDS = (
    ("as declared", {0: {1: ON, 2: ON}}, (), 2, [], 0),
    ("one more, on the emptier node", {0: {1: ON}, 1: {2: ON}}, (), 2,
     [{"replicate_shard": {"shard_id": 0, "from_peer_id": 1, "to_peer_id": 3}},
      {"replicate_shard": {"shard_id": 1, "from_peer_id": 2, "to_peer_id": 1}}], 2),
    ("one less, on the fuller node", {0: {1: ON, 2: ON}, 1: {2: ON}}, (), 1,
     [{"drop_replica": {"shard_id": 0, "peer_id": 2}}], 1),
    ("one after the other", {0: {1: ON}}, (), 3, [{"replicate_shard": {"shard_id": 0, "from_peer_id": 1, "to_peer_id": 2}}], 1),
    ("no more than nodes", {0: {1: ON, 2: ON, 3: ON}}, (), 7, [], 0),
    ("under way", {0: {1: ON, 2: "Partial"}}, ((0, 1, 2),), 2, [], 1),
    ("not active yet", {0: {1: ON, 2: "Dead"}}, (), 2, [], 1),
    ("not active, and too many", {0: {1: ON, 2: "Dead"}}, (), 1, [{"drop_replica": {"shard_id": 0, "peer_id": 2}}], 1),
    ("none active, and too many", {0: {1: "Dead", 2: "Dead"}}, (), 1, [], 1),
    ("too many, and one on its way", {0: {1: ON, 2: ON, 3: "Partial"}}, ((0, 1, 3),), 1, [], 1),
)  # fmt: skip


@pytest.mark.parametrize(("shards", "transfers", "factor", "requests", "waits"), [row[1:] for row in ROUNDS], ids=[row[0] for row in ROUNDS])
def test_one_round(shards, transfers, factor, requests, waits):
    """Each shard gets at most one request at a time, and is named until it is as declared."""
    waiting, orders = judge(shards_of(told(shards, transfers)), [1, 2, 3], factor)
    assert [order.body() for order in orders] == requests
    assert len(waiting) == waits


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("begins", [1, 2, 3])
def test_rounds_end_with_as_many_replicas_as_declared(begins, factor):
    """Whatever there was, every order done brings it nearer, on different nodes."""
    shards = {number: dict.fromkeys(range(1, begins + 1), ON) for number in range(4)}
    for _ in range(10):
        waiting, orders = judge(shards_of(told(shards)), [1, 2, 3], factor)
        if not waiting:
            break
        for order in orders:
            if order.to is None:
                del shards[order.shard][order.peer]
            else:
                assert order.peer in shards[order.shard]
                shards[order.shard][order.to] = ON
    assert {len(peers) for peers in shards.values()} == {factor}
