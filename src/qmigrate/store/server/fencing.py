"""The write fence of an old generation: one write per minute and shard, and proof that even that one is gone."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from qmigrate.errors import NotFoundError, RateLimitedError, ServerTooOldError, StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import OPERATION_IDS_SINCE, version_of
from qmigrate.model.transform import PointId
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.server.collections import path_of, waited
from qmigrate.store.server.nodes import Nodes, aliases
from qmigrate.store.server.rest import Rest
from qmigrate.store.shapes import count_filter

#: Seconds for which a replica that is moved or recovered may leave out its operation id.
MOVING = 30.0


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
    """The same writes alone; nodes that don't know yet a name that was made a moment ago are left out."""
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
    """The collection that a name stands for, and whether an alias of its own name hides it, by one request.

    Whether there is such a collection shows in what is asked of it next.
    """
    known = aliases(nodes.main)
    physical = known.get(name, name)
    return physical, physical in known


def _ids_of(node: Rest, physical: str) -> dict[str, int]:
    """Operation ids of the shards that a node has; a replica that is moved or recovered is waited for.

    Raises:
        ServerTooOldError: it doesn't know them.
        StoreError: a replica is not back within :data:`MOVING`.
    """
    deadline = time.monotonic() + MOVING
    while True:
        telemetry = node.get("/telemetry", details_level=3)
        found, silent = {}, []
        for shard in _shards(telemetry, physical):
            local = shard.get("local")
            queue = (local or {}).get("update_queue") or {}
            if "op_num" in queue:
                # Null until the shard has taken its first write.
                found[f"{node.label}/{shard['id']}"] = int(queue["op_num"] or 0)
            elif local:
                silent.append(str(shard["id"]))
        if not silent:
            return found
        if not _reports_ids(telemetry):
            raise ServerTooOldError(
                f"Qdrant at {node.label} doesn't report the operation ids of shards, so late writes can't be detected",
                hint="upgrade Qdrant to 1.17 or newer",
            )
        if time.monotonic() >= deadline:
            raise StoreError(
                f"shard {', '.join(silent)} of {physical} at {node.label} is being moved or recovered, and doesn't "
                "report its operation id",
                hint="wait until every replica is active: qmigrate doctor shows them; then run the same command again",
            )
        time.sleep(0.2)


def _reports_ids(telemetry: JsonObject) -> bool:
    """Whether the server is one that knows operation ids, by the version that it tells."""
    known = version_of((telemetry.get("app") or {}).get("version"))
    return known is not None and known >= OPERATION_IDS_SINCE


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


#: The fence: the smallest limit that Qdrant takes.
FENCE: JsonObject = {"enabled": True, "write_rate_limit": 1}
#: The other limit by rate: like that of writes it is in force even where strict mode is off.
READS = "read_rate_limit"
#: A limit that no client reaches, where there was none before: strict mode has no way to unset a value.
NO_LIMIT = 1_000_000_000
#: Writes that may pass before it is reported that there is no fence.
MOST_TOKENS = 64


def fence(nodes: Nodes, name: str, timeout: float) -> JsonObject:
    """Limit writes to one per minute and shard, seen on every watched node.

    It is sent once: sending it again would hand out new tokens.

    Returns:
        The earlier strict mode, without nulls.

    Raises:
        StoreError: a node doesn't show it within `timeout` seconds.
    """
    prior = strict_mode(nodes.main, name)
    if not _fenced(prior):
        nodes.main.call("PATCH", path_of(name), {"strict_mode_config": fence_beside(prior)})
    deadline = time.monotonic() + timeout
    for node in nodes.watched:
        pause = 0.01
        while not _fenced(strict_mode(node, name)):
            if time.monotonic() > deadline:
                raise StoreError(f"the node {node.label} doesn't show the fence of {name} after {timeout:g} s")
            time.sleep(pause)
            pause = min(0.5, pause * 2)
    return prior


def fence_beside(prior: JsonObject) -> JsonObject:
    """The fence as it is sent: what is switched off must not come into force with it, so that reads go on.

    Args:
        prior: the earlier strict mode, without nulls.
    """
    limits = {} if prior.get("enabled") else {key: _none(value) for key, value in prior.items() if key != READS}
    return {**limits, **FENCE}


def _none(limit: Any) -> Any:
    """A value of a limit of strict mode that limits nothing; those of single vectors stay, since they limit writes."""
    if isinstance(limit, bool):
        return True
    return NO_LIMIT if isinstance(limit, int | float) else limit


def take_tokens(nodes: Nodes, name: str) -> int:
    """Use up what the limiter of each shard still lets pass, on every watched node.

    One refusal is enough for a node: the write went to every shard, which had either no token or has none now.

    Returns:
        How many of these writes passed on every shard; each moved its ids by one.

    Raises:
        StoreError: nothing refuses: there is no fence.
    """
    passed = 0
    for node in nodes.watched:
        for _ in range(MOST_TOKENS):
            if not _passes(node, name):
                break
            passed += 1
        else:
            raise StoreError(f"{name} still takes writes after {passed}: it is not fenced on {node.label}")
    return passed


def lift_fence(nodes: Nodes, name: str, prior: JsonObject) -> None:
    """Restore the earlier strict mode; what was not set then gets a value too large to matter."""
    wanted = {**prior, "enabled": bool(prior.get("enabled", False))}
    wanted["write_rate_limit"] = prior.get("write_rate_limit") or NO_LIMIT
    nodes.main.call("PATCH", path_of(name), {"strict_mode_config": wanted})


def strict_mode(node: Rest, name: str) -> JsonObject:
    """The strict mode that a node shows, without nulls."""
    found = node.get(path_of(name))["config"].get("strict_mode_config") or {}
    return {key: value for key, value in found.items() if value is not None}


def _fenced(config: JsonObject) -> bool:
    return all(config.get(key) == value for key, value in FENCE.items())


def _passes(node: Rest, name: str) -> bool:
    """Whether a delete by a filter that matches nothing passes the limiter; a refusal is not waited for."""
    body: JsonObject = {"filter": {"must": [{"has_id": []}]}}

    def once() -> bool:
        try:
            node.send("POST", f"{path_of(name)}/points/delete", body, params={"wait": "true"})
        except RateLimitedError:
            return False
        return True

    return node.repeat(once)


def count(node: Rest, name: str, *, missing_field: str | None, without_vector: str | None) -> int:
    """Exact count; both conditions together when both are given."""
    body: JsonObject = {"exact": True}
    wanted = count_filter(missing_field=missing_field, without_vector=without_vector)
    if wanted:
        body["filter"] = wanted
    return int(node.call("POST", f"{path_of(name)}/points/count", body)["count"])


def facet(node: Rest, name: str, field: str, most: int) -> dict[str | int | bool, int] | None:
    """Value -> points that have it, by the payload index; None where there are more, or strict mode forbids it."""
    try:
        found = node.call("POST", f"{path_of(name)}/facet", {"key": field, "limit": most + 1, "exact": True})
    except RefusedRequestError:
        return None
    hits = found["hits"]
    return {hit["value"]: int(hit["count"]) for hit in hits} if len(hits) <= most else None


def exact_is_refused(node: Rest, name: str) -> bool:
    """Whether strict mode forbids exact counts; the ids can still be read one by one."""
    found = strict_mode(node, name)
    return bool(found.get("enabled")) and found.get("search_allow_exact") is False


def sample_ids(node: Rest, name: str, number: int, having: str | None) -> list[PointId]:
    """Up to `number` ids at random; fewer where strict mode limits a query.

    Args:
        having: a vector that the points must have; None for any point.
    """
    if number <= 0:
        return []
    try:
        return _sample(node, name, number, having)
    except RefusedRequestError:
        found = strict_mode(node, name)
        most = found.get("max_query_limit")
        if not found.get("enabled") or not isinstance(most, int) or not 0 < most < number:
            raise
        return _sample(node, name, most, having)


def _sample(node: Rest, name: str, number: int, having: str | None) -> list[PointId]:
    body: JsonObject = {"query": {"sample": "random"}, "limit": number, "with_payload": False, "with_vector": False}
    if having is not None:
        body["filter"] = {"must": [{"has_vector": having}]}
    return [point["id"] for point in node.call("POST", f"{path_of(name)}/points/query", body)["points"]]
