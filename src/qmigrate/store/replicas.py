"""Replicas of a collection's shards on a cluster: how many there are, and one more or less. It waits for nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from qmigrate.model.schema import JsonObject
from qmigrate.store.faults import TransientError
from qmigrate.store.nodes import Nodes, physical_of
from qmigrate.store.rest import Rest, segment

ACTIVE = "Active"


@dataclass(slots=True)
class Shard:
    """One shard: state by peer, and the transfers that are under way, as ``1 to 2``."""

    number: int
    replicas: dict[int, str] = field(default_factory=dict)
    transfers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent for one shard; ``to`` None takes the replica on ``peer`` away."""

    shard: int
    peer: int
    to: int | None = None

    def body(self) -> JsonObject:
        """Of ``POST /collections/{name}/cluster``."""
        if self.to is None:
            return {"drop_replica": {"shard_id": self.shard, "peer_id": self.peer}}
        return {"replicate_shard": {"shard_id": self.shard, "from_peer_id": self.peer, "to_peer_id": self.to}}


def shards_of(told: JsonObject) -> list[Shard]:
    """The shards in a node's answer about a collection's cluster."""
    found: dict[int, Shard] = {}
    here = told.get("peer_id")
    local = [{**shard, "peer_id": here} for shard in told.get("local_shards", ())]
    for entry in (*local, *told.get("remote_shards", ())):
        shard = found.setdefault(entry["shard_id"], Shard(entry["shard_id"]))
        shard.replicas[entry["peer_id"]] = entry["state"]
    for entry in told.get("shard_transfers", ()):
        if entry["shard_id"] in found:
            found[entry["shard_id"]].transfers.append(f"{entry['from']} to {entry['to']}")
    return [found[number] for number in sorted(found)]


def place(nodes: Nodes, name: str, factor: int) -> tuple[str, ...]:
    """Order what is missing or too much, one thing per shard; see :meth:`qmigrate.ports.Store.place_replicas`."""
    cluster = nodes.main.get("/cluster")
    if cluster.get("status") == "disabled":
        return ()
    peers = sorted(int(peer) for peer in cluster.get("peers") or {})
    physical = physical_of(nodes, name)
    told = nodes.main.get(f"/collections/{segment(physical)}/cluster")
    waiting, orders = judge(shards_of(told), peers, factor)
    for order in orders:
        # By the name that was given: through an own alias nothing is ordered any more once that is gone.
        _send(nodes.main, f"/collections/{segment(name)}/cluster", order)
    return tuple(waiting)


def _send(node: Rest, path: str, order: Order) -> None:
    try:
        node.call("POST", path, order.body(), retry=False)
    except TransientError:
        # The next round shows whether it was taken.
        return


def judge(shards: Iterable[Shard], peers: Iterable[int], factor: int) -> tuple[list[str], list[Order]]:
    """What is not as it should be, in words, and what to order for it. Pure.

    A shard that is on its way, or has a replica that doesn't take part yet, is waited for. No peer holds two replicas
    of a shard, so that there are never more than peers; the last active replica is never removed.
    """
    known = list(shards)
    everyone = list(peers)
    wanted = min(factor, len(everyone))
    load = Counter(dict.fromkeys(everyone, 0))
    load.update(peer for shard in known for peer in shard.replicas)
    waiting: list[str] = []
    orders: list[Order] = []
    for shard in known:
        # Of too many, one that takes no part goes first, whether its node comes back or not.
        surplus = len(shard.replicas) > wanted and not shard.transfers
        words = None if surplus and ACTIVE in shard.replicas.values() else _busy(shard)
        if words is not None:
            waiting.append(words)
        elif len(shard.replicas) != wanted:
            waiting.append(f"shard {shard.number} has {len(shard.replicas)} of {wanted} replicas")
            order = _more(shard, everyone, load) if len(shard.replicas) < wanted else _less(shard, load)
            if order is not None:
                orders.append(order)
    return waiting, orders


def _busy(shard: Shard) -> str | None:
    if shard.transfers:
        return f"shard {shard.number} is on its way from peer {shard.transfers[0]}"
    for peer, state in sorted(shard.replicas.items()):
        if state != ACTIVE:
            return f"shard {shard.number} on peer {peer} is {state}"
    return None


def _more(shard: Shard, peers: Iterable[int], load: Counter[int]) -> Order | None:
    free = [peer for peer in peers if peer not in shard.replicas]
    if not free:
        return None
    to = min(free, key=lambda peer: (load[peer], peer))
    load[to] += 1
    return Order(shard.number, min(shard.replicas), to)


def _less(shard: Shard, load: Counter[int]) -> Order | None:
    idle = [peer for peer, state in shard.replicas.items() if state != ACTIVE]
    peer = max(idle or shard.replicas, key=lambda one: (load[one], one))
    load[peer] -= 1
    return Order(shard.number, peer) if len(shard.replicas) > 1 else None
