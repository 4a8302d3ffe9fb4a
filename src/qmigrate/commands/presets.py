"""Presets: deletions with a name, written in qmigrate.yaml. They are read and filled in here, and done elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from qmigrate.errors import ConfigError, UsageError
from qmigrate.model import statement
from qmigrate.operations.deletion import DeletePoints
from qmigrate.settings import Settings
from qmigrate.settings_read import meant

#: Keys of a preset; ``parameters`` are those that are always the same.
KEYS = tuple(
    field.name for field in dataclasses.fields(DeletePoints) if field.name not in ("ids", "export")
)


def preset(
    settings: Settings,
    name: str,
    values: Mapping[str, Any],
    *,
    collection: str | None = None,
    reason: str = "",
    **over: Any,
) -> DeletePoints:
    """The deletion of a preset, with its ``:parameters`` filled in, in SQL, in the filter and in the prefix.

    Args:
        name: under ``fixes.presets`` in the settings.
        values: of its parameters; each must be used, so that a slip can't widen what goes.
        collection: instead of the preset's.
        reason: instead of the preset's.
        over: ``max_share`` and ``export``, where given.

    Raises:
        ConfigError: there is no such preset, or it has unknown keys.
        UsageError: a value is missing, or is used nowhere.
    """
    at = f"fixes.presets.{name}"
    known = settings.fixes.presets
    if name not in known:
        hint = f"there are {', '.join(sorted(known))}" if known else "write it under fixes.presets: in qmigrate.yaml"
        raise ConfigError(f"no preset {name!r} in the settings{meant(name, known)}", hint=hint)
    entry = known[name]
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{at} must be keys and values")
    odd = [key for key in entry if key not in KEYS]
    if odd:
        raise ConfigError(f"{at} has no key {odd[0]!r}{meant(odd[0], KEYS)}", hint=f"known: {', '.join(KEYS)}")
    given = {**(entry.get("parameters") or {}), **values}
    used: set[str] = set()
    filled = {key: _filled(entry[key], given, used, at) for key in ("filter", "prefix") if entry.get(key) is not None}
    if entry.get("sql") is not None:
        used |= statement.parameters(str(entry["sql"]))
    missing, unused = used - given.keys(), values.keys() - used
    if missing:
        raise UsageError(f"the preset {name} needs a value for {min(missing)}", hint=f"--param {min(missing)}=…")
    if unused:
        there = ", ".join(sorted(used)) or "none"
        raise UsageError(f"the preset {name} has no parameter {min(unused)}", hint=f"it has {there}")
    chosen = {**entry, **filled, **{key: value for key, value in over.items() if value is not None}}
    chosen["parameters"] = {key: value for key, value in given.items() if key in used} if entry.get("sql") else {}
    chosen["collection"] = collection or entry.get("collection")
    chosen["reason"] = reason or entry.get("reason") or ""
    if not chosen["collection"]:
        raise ConfigError(f"{at} names no collection", hint="name it there, or on the command line")
    return DeletePoints(**chosen)


def _filled(value: Any, given: Mapping[str, Any], used: set[str], at: str) -> Any:
    """Texts that are ``:name`` as a whole get the value, of whatever type it is."""
    if isinstance(value, Mapping):
        return {key: _filled(item, given, used, at) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, given, used, at) for item in value]
    if isinstance(value, str) and value.startswith(":") and value[1:].isidentifier():
        used.add(value[1:])
        return given.get(value[1:])
    return value
