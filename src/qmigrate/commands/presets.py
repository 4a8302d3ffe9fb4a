"""Presets: deletions with a name, written in qmigrate.yaml. They are read and filled in here, and done elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from qmigrate.commands.tenants import within
from qmigrate.errors import ConfigError, UsageError
from qmigrate.model import statement
from qmigrate.operations.deletion import DeletePoints
from qmigrate.rows import Marking
from qmigrate.rows.marks import GIVEN
from qmigrate.settings import Settings
from qmigrate.settings_read import meant

#: Keys of a preset; ``parameters`` are those that are always the same, the last ones are only for a retraining.
_MARKS = ("mark", "queue")
KEYS = (
    *(field.name for field in dataclasses.fields(DeletePoints) if field.name not in ("ids", "export")),
    "tenant",
    *_MARKS,
)
#: Keys whose texts may be a ``:parameter``.
_FILLED = ("filter", "prefix", "older_than", "tenant")


def preset(
    settings: Settings,
    name: str,
    values: Mapping[str, Any],
    *,
    collection: str | None = None,
    reason: str = "",
    beside: Collection[str] = (),
    tenant: str | int | None = None,
    **over: Any,
) -> DeletePoints:
    """The deletion of a preset, with its ``:parameters`` filled in: in SQL, the filter, the prefix and the age.

    Args:
        name: under ``fixes.presets`` in the settings.
        values: of its parameters; each must be used, so that a slip can't widen what goes.
        collection: instead of the preset's.
        reason: instead of the preset's.
        beside: names of values that something else uses.
        tenant: whose points, instead of the preset's; see :func:`qmigrate.commands.tenants.within`.
        over: ``max_share``, ``export``, ``soft`` and ``flag``, where given.

    Raises:
        ConfigError: there is no such preset, or it has unknown keys.
        UsageError: a value is missing, or is used nowhere.
    """
    entry, at = _entry(settings, name)
    given = {**(entry.get("parameters") or {}), **values}
    used: set[str] = set()
    filled = {key: _filled(entry[key], given, used, at) for key in _FILLED if entry.get(key) is not None}
    if entry.get("sql") is not None:
        used |= statement.parameters(str(entry["sql"]))
    missing, unused = used - given.keys(), values.keys() - used - set(beside)
    if missing:
        raise UsageError(f"the preset {name} needs a value for {min(missing)}", hint=f"--param {min(missing)}=…")
    if unused:
        there = ", ".join(sorted(used)) or "none"
        raise UsageError(f"the preset {name} has no parameter {min(unused)}", hint=f"it has {there}")
    if isinstance(filled.get("prefix"), int):
        # A folder may be called 2024.
        filled["prefix"] = str(filled["prefix"])
    owner = filled.pop("tenant", None) if tenant is None else tenant
    plain = {key: value for key, value in entry.items() if key not in (*_MARKS, "tenant")}
    chosen = {**plain, **filled, **{key: value for key, value in over.items() if value is not None}}
    chosen["parameters"] = {key: value for key, value in given.items() if key in used} if entry.get("sql") else {}
    chosen["collection"] = collection or entry.get("collection")
    chosen["reason"] = reason or entry.get("reason") or ""
    if not chosen["collection"]:
        raise ConfigError(f"{at} names no collection", hint="name it there, or on the command line")
    return within(settings, DeletePoints(**chosen), owner)


def marking(settings: Settings, name: str, values: Mapping[str, Any]) -> Marking:
    """What a preset says of the rows that are to be marked when its points are deleted.

    Args:
        values: of its parameters.

    Raises:
        ConfigError: there is no such preset, it marks nothing, or a statement of it is none.
        UsageError: a value is missing.
    """
    entry, at = _entry(settings, name)
    given = {**(entry.get("parameters") or {}), **values}
    written, queue = entry.get("mark") or (), entry.get("queue")
    statements = (written,) if isinstance(written, str) else tuple(written)
    if not statements and queue is None:
        hint = "mark: [UPDATE … WHERE … = :value], or queue: TABLE"
        raise ConfigError(f"{at} marks nothing, so nothing would be trained again", hint=hint)
    if queue is not None and not (isinstance(queue, str) and queue.strip()):
        raise ConfigError(f"{at}.queue must name a table, not {queue!r:.40}")
    needed = {"value"} if queue is not None else set()
    for sql in statements:
        trouble = statement.problem_of_change(sql)
        if trouble:
            raise ConfigError(f"{at}.mark: {trouble}", hint="write one UPDATE or INSERT per entry, with :parameters")
        needed |= statement.parameters(sql)
    taken = sorted(GIVEN & given.keys())
    if taken:
        raise ConfigError(f"{at} has a parameter {taken[0]}, which statements get anyway", hint="call it otherwise")
    missing = needed - given.keys() - GIVEN
    if missing:
        raise UsageError(f"the preset {name} needs a value for {min(missing)}", hint=f"--param {min(missing)}=…")
    used = {key: value for key, value in given.items() if key in needed}
    return Marking(str(entry.get("database") or "app"), statements, queue, used)


def _entry(settings: Settings, name: str) -> tuple[Mapping[str, Any], str]:
    """A preset as it is written, and where it stands.

    Raises:
        ConfigError: there is none, or it has unknown keys.
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
    return entry, at


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
