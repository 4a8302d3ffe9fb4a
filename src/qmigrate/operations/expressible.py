"""Which part of a value an operation can express, and which part it can leave out. It writes no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmigrate.model import known
from qmigrate.model.schema import JsonObject, declared_differs
from qmigrate.operations.checks import value_problem

#: No part of a value can be expressed.
NOTHING = object()


def without_defaults(key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """A field of the create call without what equals the server's default; None or empty when nothing is left."""
    if key == "strict_mode_config" and value == {"enabled": False}:
        # Alone it has no effect; with limits it means that they are off.
        return None
    default = defaults.get(key)
    if default is None:
        return value
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return {
            name: item
            for name, item in value.items()
            if item is not None and (name not in default or declared_differs(item, default[name]))
        }
    return value if declared_differs(value, default) else None


def known_part(value: Any, kind: Any, where: str) -> tuple[Any, list[str]]:
    """The part of a value that is of a kind of `known`, and what is not, by its path."""
    if value_problem(value, kind, where) is None:
        return value, []
    if not isinstance(kind, known.Fields | known.Each) or not isinstance(value, Mapping):
        return NOTHING, [f"{where} = {value!r}"]
    kept: JsonObject = {}
    lost: list[str] = []
    for key, item in value.items():
        inner = kind.of if isinstance(kind, known.Each) else kind.known.get(key, NOTHING)
        if inner is NOTHING:
            lost.append(f"{where}.{key} = {item!r}")
            continue
        part, gone = known_part(item, inner, f"{where}.{key}")
        lost += gone
        if part is not NOTHING:
            kept[key] = part
    if value_problem(kept, kind, where):
        return NOTHING, [f"{where} = {value!r}"]
    return kept, lost
