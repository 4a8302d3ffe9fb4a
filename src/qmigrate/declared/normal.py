"""Parameters in the one form in which equal ones are equal: twins, shorthands, defaults, inherited settings. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qmigrate.model.schema import DISABLED, JsonObject
from qmigrate.operations.base import merged
from qmigrate.parameters.own import DEFAULTS, SERVER_DEFAULTS

#: Where a server keeps what has no ``memory``: of dense vectors and graphs, and of indexes.
_CACHED, _PINNED, _COLD = "cached", "pinned", "cold"


def same(one: Any, other: Any) -> bool:
    """Whether two normal forms are equal; a number that a server has rounded to 32 bits is the one that it was."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def dense(params: Mapping[str, Any], config: Mapping[str, Any]) -> JsonObject:
    """A dense vector, with the HNSW settings that it inherits.

    Args:
        params: ``VectorParams`` as JSON.
        config: settings of the collection.
    """
    found = _memory(params, _CACHED)
    found["hnsw_config"] = hnsw(params.get("hnsw_config"), config)
    found["quantization_config"] = quantization(params.get("quantization_config"))
    return _without_defaults(found)


def dense_differs(old: Mapping[str, Any], new: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether a dense vector is to have another effect."""
    one, other = (
        {key: value for key, value in dense(params, config).items() if key != "quantization_config"}
        for params in (old, new)
    )
    return not same(one, other) or quantization_differs(old.get("quantization_config"), new.get("quantization_config"))


def quantization_differs(old: Any, new: Any) -> bool:
    """Whether another quantization is declared: another method, or a field of it. What is left out says nothing."""
    before, after = quantization(old), quantization(new)
    if before is None or after is None or before.keys() != after.keys():
        return not same(before, after)
    for method, given in new.items():
        has = before[method]
        for key, value in given.items():
            if value is None:
                continue
            name = "memory" if key == "always_ram" else key
            wanted = after[method].get(name) if name == "memory" else value
            if not same(has.get(name), wanted) and not (value is False and has.get(name) is None):
                return True
    return False


def sparse(params: Mapping[str, Any]) -> JsonObject:
    """A sparse vector."""
    found = {**params, "index": _without_defaults(_memory(params.get("index") or {}, _PINNED))}
    return _without_defaults(found)


def index(params: Mapping[str, Any]) -> JsonObject:
    """A payload index: ``scoring: true`` is its object with the defaults, and the order of stop words means nothing."""
    found = _memory(params, _PINNED)
    if found.get("scoring") is True:
        found["scoring"] = {"type": "bm25"}
    words = found.get("stopwords")
    if isinstance(words, str):
        found["stopwords"] = {"languages": [words]}
    elif isinstance(words, Mapping):
        found["stopwords"] = {key: sorted(one) for key, one in words.items() if one}
    return _without_defaults(found)


def hnsw(own: Mapping[str, Any] | None, config: Mapping[str, Any]) -> JsonObject:
    """HNSW settings as they are in effect: the vector's own, then the collection's, then the server's.

    Args:
        own: of a vector; None for those of the collection.
        config: settings of the collection.
    """
    found: JsonObject = {}
    for part in (SERVER_DEFAULTS["hnsw_config"], config.get("hnsw_config"), own):
        found = merged(found, {key: value for key, value in (part or {}).items() if value is not None})
    return {key: value for key, value in _memory(found, _CACHED).items() if value is not False}


def quantization(value: Any) -> Any:
    """A quantization; None where there is none."""
    if value in (None, DISABLED, {}):
        return None
    kept = {key: _memory(one, None, "always_ram") for key, one in value.items() if isinstance(one, Mapping)}
    return {key: _without_defaults(one) for key, one in kept.items()}


def _memory(params: Mapping[str, Any], usual: str | None, flag: str = "on_disk") -> JsonObject:
    """With ``memory`` in place of its older twin, which it overrides; left out where it is what a server does anyway.

    Args:
        params: of anything that a server keeps in memory or on disk.
        usual: the place where neither is given; None where that depends on something else.
        flag: the twin.
    """
    found = {key: value for key, value in params.items() if value is not None}
    older = found.pop(flag, None)
    placed = found.pop("memory", None)
    if placed is None and older:
        placed = _COLD if flag == "on_disk" else _PINNED
    if placed not in (None, usual):
        found["memory"] = placed
    return found


def _without_defaults(params: Mapping[str, Any]) -> JsonObject:
    return {key: value for key, value in params.items() if not _silent(key, value)}


def _silent(key: str, value: Any) -> bool:
    if value in (None, {}, DISABLED):
        return True
    return bool(value == DEFAULTS[key]) if key in DEFAULTS else value is False
