"""Why a change is done next to the live collection, in words for people. It makes no choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qmigrate.model.schema import FIXED_CONFIG, Change, CollectionSchema
from qmigrate.model.state import Capabilities
from qmigrate.operations.checks import effective


def shown(name: object) -> str:
    """A name for people; the unnamed vector has a word of its own."""
    return str(name) if name != "" else "(unnamed)"


def why_heavy(change: Change) -> str:
    """Why a change that is not light is made next to the live collection."""
    if change.kind == "config.set":
        reasons = {
            "hnsw_config": "rebuilds the HNSW graph of every segment: done next to the live collection",
            "quantization_config": "quantizes every segment again: done next to the live collection",
        }
        fixed = f"{change.name} can only be chosen when a collection is created"
        return reasons.get(change.name, fixed)
    name = shown(change.name)
    if change.kind == "index.alter":
        return f"field {name} has no index while it is rebuilt: done next to the live collection"
    if not change.possible_in_place():
        return f"the stored form of vector {name} changes"
    verb = change.kind.split(".")[1]
    reasons = {
        "add": f"vector {name} gets room in every segment: done next to the live collection",
        "drop": f"vector {name} is removed from every segment: done next to the live collection",
        "alter": f"rebuilds vector {name} in every segment: done next to the live collection",
    }
    return reasons[verb]


def why_heavy_when_big(change: Change, points: int) -> str:
    """Why a change that a small collection takes at once is made next to a big one."""
    what = {
        "index.add": f"the index {shown(change.name)} is built over {points:,} points while writes wait",
        "config.set": f"{change.name} makes the server rewrite the segments of {points:,} points",
    }
    return what[change.kind]


def why_no_clone(schema: CollectionSchema, capabilities: Capabilities) -> str | None:
    """Why this server can't clone this collection from a snapshot, or None when it can, as far as a plan can see."""
    if not capabilities.snapshots:
        return f"{capabilities.label} has no snapshots"
    if capabilities.peers != 1:
        nodes = f"{capabilities.peers} nodes" if capabilities.peers else "an unknown number of nodes"
        return f"{capabilities.label} has {nodes}, and a snapshot holds the shards of one"
    if schema.config.get("sharding_method") == "custom":
        return "the collection uses custom sharding, which a recovered snapshot loses"
    return None


def why_unset(before: CollectionSchema, after: CollectionSchema) -> str | None:
    """A parameter that is left out now: a server can't unset it, only a new collection is without it."""
    families = (
        ("vector", before.vectors, after.vectors),
        ("sparse vector", before.sparse, after.sparse),
        ("payload index", before.indexes, after.indexes),
    )
    for family, old, new in families:
        for name in sorted(set(old) & set(new)):
            if family == "payload index" and old[name].get("type") != new[name].get("type"):
                continue
            gone = _left_out(old[name], new[name])
            if gone:
                return f"{gone} of {family} {shown(name)} is removed, which takes a new collection"
    return None


def _left_out(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    for key, value in sorted(effective(old).items()):
        if new.get(key) is None:
            return key
        if isinstance(value, Mapping) and isinstance(new[key], Mapping) and key != "quantization_config":
            inner = _left_out(value, new[key])
            if inner:
                return f"{key}.{inner}"
    return None


def obstacle(schema: CollectionSchema, found: Sequence[Change], capabilities: Capabilities) -> str | None:
    """Why these changes can't be made on the live collection."""
    for change in found:
        if change.kind == "config.set" and change.name in FIXED_CONFIG:
            return why_heavy(change)
        if not change.possible_in_place():
            return f"the stored form of vector {shown(change.name)} changes"
        family, verb = change.kind.split(".")
        if family not in ("vector", "sparse") or verb == "alter":
            continue
        if not capabilities.vector_names:
            return f"{capabilities.label} can't {verb} a vector of a live collection (1.18 and newer can)"
        if family == "vector" and "" in schema.vectors:
            return "the collection has an unnamed vector: its clients would no longer understand the config"
    return None
