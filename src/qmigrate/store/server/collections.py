"""Collections of a server over REST: describe, create, change in place, readiness. No points, no policy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import xxhash

from qmigrate.errors import NotFoundError, StoreError
from qmigrate.model.names import Permit
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.state import LiveCollection
from qmigrate.ports import Placement, Readiness
from qmigrate.store.faults import SlowError, TransientError
from qmigrate.store.server.nodes import Nodes, aliases, physical_of
from qmigrate.store.server.rest import Rest, segment
from qmigrate.store.shapes import DEFERRED, SEAL, create_body, described, new_vector, patch_of

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


def placement(node: Rest, name: str) -> Placement:
    """Where the shards are; shards that move, and collections that get more or fewer of them, are named."""
    told: JsonObject = node.get(f"{path_of(name)}/cluster")
    shards = shards_of(told)
    moving = [f"shard {shard.number} from peer {way}" for shard in shards for way in shard.transfers]
    moving += [f"resharding {entry}" for entry in told.get("resharding_operations") or ()]
    replicas = sorted((shard.number, peer, state) for shard in shards for peer, state in shard.replicas.items())
    return Placement(tuple(replicas), tuple(sorted(moving)))


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


#: Collections that are described at the same time: latency is what takes long, not the server's work.
AT_ONCE = 8


def path_of(name: str) -> str:
    """The path of a collection."""
    return f"/collections/{segment(name)}"


def waited(node: Rest, method: str, path: str, body: Any = None) -> None:
    """A write that is repeated until the server reports it *completed*; only for what may be repeated."""

    def once() -> bool:
        result = node.envelope(node.send(method, path, body, params={"wait": "true"}))
        if result["status"] != "completed":
            status = result["status"]
            raise SlowError(f"Qdrant at {node.label} has accepted {method} {path}, but it is not done: {status}")
        return True

    node.repeat(once)


def patch(node: Rest, name: str, body: JsonObject) -> None:
    """Change settings of a collection."""
    node.call("PATCH", path_of(name), body)


def info_of(node: Rest, name: str) -> JsonObject | None:
    """The collection info, or None when there is none of that name."""
    try:
        found: JsonObject = node.get(path_of(name))
    except NotFoundError:
        return None
    return found


def describe_all(
    nodes: Nodes, names: Sequence[str], known: Mapping[str, str] | None = None
) -> dict[str, LiveCollection | None]:
    """What :func:`describe` returns for each name; the aliases, unless they are `known`, are read once before all."""
    if not names:
        return {}
    known = aliases(nodes.main) if known is None else known
    with ThreadPoolExecutor(min(AT_ONCE, len(names))) as pool:
        return dict(zip(names, pool.map(lambda name: _described(nodes, name, known), names), strict=True))


def describe(nodes: Nodes, name: str) -> LiveCollection | None:
    """The collection as Qdrant reports it, or None when there is none of that name."""
    return _described(nodes, name, aliases(nodes.main))


def _described(nodes: Nodes, name: str, known: Mapping[str, str]) -> LiveCollection | None:
    physical = known.get(name, name)
    try:
        info = info_of(nodes.main, name)
    except TransientError as error:
        if not nodes.silent:
            raise
        return _told_by_telemetry(nodes.main, physical, known, error)
    if info is None:
        return None
    found = described(info["config"], info["payload_schema"])
    pointing = tuple(sorted(alias for alias, target in known.items() if target == physical))
    config = found.schema.config
    shards = shards_of(_spread(nodes.main, name))
    return LiveCollection(
        physical=physical,
        schema=found.schema.with_(aliases=pointing),
        seal=found.seal,
        status=info["status"],
        problem=_problem(info),
        points=info.get("points_count") or 0,
        hidden=(info.get("update_queue") or {}).get("deferred_points") or 0,
        prevents_unoptimized=bool(config.get("optimizers_config", {}).get("prevent_unoptimized")),
        inactive=_inactive(shards),
        replicas=min((len(shard.replicas) for shard in shards), default=None),
        custom_sharding=config.get("sharding_method") == "custom",
        unknown=found.unknown,
        unknown_values=found.unknown_values,
    )


def _told_by_telemetry(
    node: Rest, physical: str, known: Mapping[str, str], error: TransientError
) -> LiveCollection:
    """The settings and the seal, which every node has, of a collection whose shards can't all be asked."""
    told = node.get("/telemetry", details_level=3).get("collections") or {}
    config = next((one.get("config") for one in told.get("collections") or () if one.get("id") == physical), None)
    if config is None:
        raise error
    found = described(config, {})
    pointing = tuple(sorted(alias for alias, target in known.items() if target == physical))
    return LiveCollection(
        physical, found.schema.with_(aliases=pointing), seal=found.seal, status="grey", unread=error.message
    )


def _problem(info: JsonObject) -> str | None:
    status = info.get("optimizer_status")
    return str(status["error"]) if isinstance(status, dict) and status.get("error") else None


def _spread(node: Rest, name: str) -> JsonObject:
    """Where the shards are."""
    try:
        found: JsonObject = node.get(f"{path_of(name)}/cluster")
    except NotFoundError:
        # Deleted since its info was read: whatever works on it finds that out, and nothing else cares.
        return {}
    return found


def _inactive(shards: Iterable[Shard]) -> tuple[str, ...]:
    return tuple(
        f"shard {shard.number} on peer {peer}: {state}"
        for shard in shards
        for peer, state in shard.replicas.items()
        if state != ACTIVE
    )


def create(node: Rest, name: str, schema: CollectionSchema, *, seal: JsonObject | None) -> None:
    """Make a collection, by one request: a second one might meet what another process has made of it by then.

    Raises:
        ConflictError: a collection or alias of that name exists.
    """
    body, _ = create_body(schema, seal)
    node.call("PUT", path_of(name), body)


def complete(node: Rest, name: str, schema: CollectionSchema, *, defer_index: bool) -> None:
    """What :func:`create` leaves out, and the deferral of the index; may be repeated until :func:`build_index`."""
    _, later = create_body(schema, None)
    if later:
        patch(node, name, {"params": later})
    if defer_index:
        _defer(node, name)
    for key, params in sorted(schema.indexes.items()):
        waited(node, "PUT", f"{path_of(name)}/index", {"field_name": key, "field_schema": params})


def _defer(node: Rest, name: str) -> None:
    """Turn indexing off, after what it was is kept in the metadata: another process may have to turn it on again."""
    config = node.get(path_of(name))["config"]
    was, kept = config["optimizer_config"], (config.get("metadata") or {}).get(DEFERRED)
    off: JsonObject = {"indexing_threshold": 0}
    if was.get("prevent_unoptimized") or "prevent_unoptimized" in (kept or {}):
        # It would hide every point until the index is built.
        off["prevent_unoptimized"] = False
    if kept is None:
        # An attempt before this one has seen what it was; now it may be off already.
        patch(node, name, {"metadata": {DEFERRED: {key: was[key] for key in off if was.get(key) is not None}}})
    patch(node, name, {"optimizers_config": off})


def build_index(node: Rest, name: str, schema: CollectionSchema) -> None:
    """Restore the optimizer settings that :func:`complete` put off; may be repeated.

    Raises:
        StoreError: indexing is off and its earlier value is not recorded.
    """
    info = info_of(node, name)
    if info is None:
        raise NotFoundError(f"Qdrant at {node.label}: there is no collection {name!r}")
    kept: JsonObject = (info["config"].get("metadata") or {}).get(DEFERRED) or {}
    declared = schema.config.get("optimizers_config") or {}
    wanted = {**kept, **{key: value for key, value in declared.items() if value is not None}}
    now = info["config"]["optimizer_config"]
    if now.get("indexing_threshold") == 0 and "indexing_threshold" not in wanted:
        raise StoreError(
            f"indexing of {name} is turned off, and its earlier threshold is not recorded",
            hint="declare optimizers_config.indexing_threshold in the revision",
        )
    # Even an empty one makes the optimizers look again, after a restart too.
    patch(node, name, {"optimizers_config": wanted})
    if kept:
        patch(node, name, {"metadata": {DEFERRED: None}})


def readiness(nodes: Nodes, name: str) -> Readiness:
    """One reading of the optimizers, of every watched node."""
    info = nodes.main.get(path_of(name))
    queue = info.get("update_queue") or {}
    waiting, deferred = queue.get("length") or 0, queue.get("deferred_points") or 0
    running, queued, segments, moved = 0, 0, set[str](), [info.get("indexed_vectors_count"), info.get("segments_count")]
    told = [_optimizations(node, name) for node in nodes.watched]
    for one in filter(None, told):
        running += len(one.get("running") or ())
        queued += int((one.get("summary") or {}).get("queued_optimizations") or 0)
        for optimization in (*(one.get("running") or ()), *(one.get("queued") or ())):
            segments |= {segment["uuid"] for segment in optimization.get("segments") or ()}
        # With how far each of its stages is.
        moved.append(one.get("running"))
    parts = [info["status"]]
    counted = (
        (running, "optimizations running"),
        (queued, "optimizations queued"),
        (waiting, "updates queued"),
        (deferred, "points not visible yet"),
    )
    parts += [f"{count:,} {what}" for count, what in counted if count]
    if info["status"] == "grey":
        parts.append("optimizers wait for the next write")
    return Readiness(
        settled=info["status"] == "green" and len(parts) == 1,
        detail=", ".join(parts),
        failed=_problem(info),
        points=info.get("points_count") or 0,
        queue=queue.get("length"),
        indexed=info.get("indexed_vectors_count"),
        segments=info.get("segments_count"),
        moved=xxhash.xxh3_64_hexdigest(json.dumps(moved).encode()),
        waiting=None if None in told else frozenset(segments),
    )


def _optimizations(node: Rest, name: str) -> JsonObject | None:
    """Optimizations that run and that are queued; None of a server before 1.17, which doesn't report them."""
    try:
        found: JsonObject = node.get(f"{path_of(name)}/optimizations?with=queued")
    except NotFoundError:
        return None
    return found


def write_seal(node: Rest, name: str, seal: JsonObject | None) -> None:
    """Set or remove the seal."""
    patch(node, name, {"metadata": {SEAL: seal}})


def drop(node: Rest, permit: Permit) -> None:
    """Delete a physical collection; an alias is left alone by the server, and a missing one is not an error.

    Sent once: to send it again, check first, and be sure of the lease.
    """
    name = permit.use(node.longest)
    node.envelope(node.send("DELETE", path_of(name), timeout=node.bounded))


def apply(node: Rest, name: str, change: Change) -> None:
    """One piece of in-place work on a collection, repeatable; alias changes are not made here.

    Raises:
        StoreError: the server can't do it on an existing collection.
    """
    path = path_of(name)
    match change.kind:
        case "index.add" | "index.alter":
            waited(node, "PUT", f"{path}/index", {"field_name": change.name, "field_schema": change.after})
        case "index.drop":
            waited(node, "DELETE", f"{path}/index/{segment(change.name)}")
        case "vector.add" | "sparse.add":
            body, settings = new_vector(change)
            waited(node, "PUT", f"{path}/vectors/{segment(change.name)}", body)
            if settings is not None:
                patch(node, name, settings)
        case "vector.drop" | "sparse.drop":
            waited(node, "DELETE", f"{path}/vectors/{segment(change.name)}")
        case "vector.alter" | "sparse.alter" | "config.set":
            patch(node, name, patch_of(change))
        case _:
            raise StoreError(f"{change.kind} is not a change of a collection")
