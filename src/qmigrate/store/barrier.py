"""Operation ids and barriers: what was written to a collection, by shard and node. It judges nothing.

A barrier deletes a payload index that doesn't exist: that changes nothing, passes through the queue of every shard and
past the write limiter. In a cluster one such request is two operations, and other nodes apply the first of them
(consensus) later. So every node gets a request of its own, and its ids are read right after: by then it has applied
all requests before its own, and all of its own. That makes every reading exact, and two rounds differ by a constant.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress

from qmigrate.errors import NotFoundError, ServerTooOldError, StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.store.collection import path_of, waited
from qmigrate.store.nodes import Nodes, aliases
from qmigrate.store.rest import Rest


def barrier(nodes: Nodes, name: str) -> dict[str, int]:
    """A waited write that changes nothing, through every shard and node; the operation ids it left behind.

    `name` is used as it is for the writes: once an own alias is gone, they answer 404.

    Returns:
        The ids; none of a collection that an alias of its own name hides: telemetry looks collections up by name.

    Raises:
        StoreError: a node, or a shard of the collection, can't be seen.
    """
    physical, hidden = _meant(nodes, name)
    found: dict[str, int] = {}
    for node in nodes.watched:
        _pass_through(node, name)
        if not hidden:
            found.update(_ids_of(node, physical))
    if not hidden:
        _all_shards_seen(nodes.main, name, found)
    return found


def flush(nodes: Nodes, name: str) -> None:
    """The same writes alone; nodes that haven't heard yet of a name that was made a moment ago are left out."""
    _pass_through(nodes.main, name)
    for node in nodes.watched:
        if node is not nodes.main:
            with suppress(NotFoundError):
                _pass_through(node, name)


def _pass_through(node: Rest, name: str) -> None:
    waited(node, "DELETE", f"{path_of(name)}/index/qmigrate_barrier_{uuid.uuid4().hex}")


def operation_ids(nodes: Nodes, name: str) -> dict[str, int]:
    """Operation ids as they stand now: ``host:port/shard`` -> id of the last applied write; see :func:`barrier`."""
    physical, hidden = _meant(nodes, name)
    if hidden:
        return {}
    found: dict[str, int] = {}
    for node in nodes.watched:
        found.update(_ids_of(node, physical))
    _all_shards_seen(nodes.main, name, found)
    return found


def _meant(nodes: Nodes, name: str) -> tuple[str, bool]:
    """The collection that a name stands for, and whether an alias of its own name hides it, by one look at the aliases.

    Whether there is such a collection shows in what is asked of it next.
    """
    known = aliases(nodes.main)
    physical = known.get(name, name)
    return physical, physical in known


def _ids_of(node: Rest, physical: str) -> dict[str, int]:
    telemetry = node.get("/telemetry", details_level=3)
    shards = _shards(telemetry, physical)
    found = {}
    for shard in shards:
        local = shard.get("local")
        if not local:
            continue
        queue = local.get("update_queue") or {}
        if "op_num" not in queue:
            raise ServerTooOldError(
                f"Qdrant at {node.label} doesn't report the operation ids of shards, so late writes can't be detected",
                hint="upgrade Qdrant to 1.17 or newer",
            )
        # Null until the shard has taken its first write.
        found[f"{node.label}/{shard['id']}"] = int(queue["op_num"] or 0)
    return found


def _shards(telemetry: JsonObject, physical: str) -> Iterable[JsonObject]:
    for entry in (telemetry.get("collections") or {}).get("collections") or ():
        if entry.get("id") == physical:
            shards: Iterable[JsonObject] = entry.get("shards") or ()
            return shards
    raise NotFoundError(f"collection {physical!r} is not in the server's telemetry")


def _all_shards_seen(node: Rest, name: str, found: dict[str, int]) -> None:
    """Every shard of the collection must be local to a watched node, or a write to it would go unseen."""
    cluster = node.get(f"{path_of(name)}/cluster")
    shards = [*cluster.get("local_shards", ()), *cluster.get("remote_shards", ())]
    replicas = {(shard["shard_id"], shard.get("peer_id", cluster.get("peer_id"))) for shard in shards}
    if len(replicas) != len(found):
        raise StoreError(
            f"{name} has {len(replicas)} shard replicas, but the watched nodes hold {len(found)} of them, "
            "so writes to the others can't be detected",
            hint="name every node of the cluster in qdrant.nodes",
        )
