"""The write fence of an old generation: one write per minute and shard, and proof that even that one is gone."""

from __future__ import annotations

import time

from qmigrate.errors import RateLimitedError, StoreError
from qmigrate.model.schema import JsonObject
from qmigrate.store.collection import path_of
from qmigrate.store.nodes import Nodes
from qmigrate.store.rest import Rest

#: The fence: the smallest limit that Qdrant takes.
FENCE: JsonObject = {"enabled": True, "write_rate_limit": 1}
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
        nodes.main.call("PATCH", path_of(name), {"strict_mode_config": FENCE})
    deadline = time.monotonic() + timeout
    for node in nodes.watched:
        pause = 0.01
        while not _fenced(strict_mode(node, name)):
            if time.monotonic() > deadline:
                raise StoreError(f"the node {node.label} doesn't show the fence of {name} after {timeout:g} s")
            time.sleep(pause)
            pause = min(0.5, pause * 2)
    return prior


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


def lift(nodes: Nodes, name: str, prior: JsonObject) -> None:
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
