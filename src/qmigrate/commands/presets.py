"""Presets: fixes with a name, written in qmigrate.yaml. They are read and filled in here, and done elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from qmigrate.commands.names import ALL, within
from qmigrate.errors import ConfigError, UsageError
from qmigrate.model import statement
from qmigrate.model.payload_path import folder_name
from qmigrate.operations.data import SyncPayload
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.rows import Marking
from qmigrate.rows.marks import GIVEN, QUEUED, named_in
from qmigrate.settings.load import Settings
from qmigrate.settings.values import check_keys, choice, duration, is_bare_number, path, text
from qmigrate.text import did_you_mean, quote

#: What a preset may be, under ``kind``, and which verbs take it.
DELETION, ORPHANS, SYNC = "deletion", "orphans", "sync"
_VERBS = {
    DELETION: "qmigrate fix delete",
    ORPHANS: "qmigrate fix orphans",
    SYNC: "qmigrate fix sync",
}
#: Keys of a preset; ``parameters`` are those that are always the same, the last ones are only for a retraining.
_MARKS = ("mark", "queue")
KEYS = (
    *(field.name for field in dataclasses.fields(DeletePoints) if field.name not in ("ids", "export", "target")),
    "tenant",
    *_MARKS,
)
#: Those of one that compares ids with SQL.
ORPHAN_KEYS = (
    *(field.name for field in dataclasses.fields(DeleteOrphans)), "missing", "missing_table", "missing_call"
)
#: Those of one that makes payloads equal to SQL.
SYNC_KEYS = tuple(field.name for field in dataclasses.fields(SyncPayload))
_KEYS_OF = {DELETION: ("kind", *KEYS), ORPHANS: ("kind", *ORPHAN_KEYS), SYNC: ("kind", *SYNC_KEYS)}
#: Keys whose texts may be a ``:parameter``.
_FILLED = ("filter", "prefix", "older_than", "tenant")
#: Keys that select, so that without one of them more points would go.
_SELECTING = ("ids", "sql", *_FILLED)


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
        tenant: whose points, instead of the preset's; see :func:`qmigrate.commands.names.within`.
        over: ``max_share``, ``export``, ``soft`` and ``flag``, where given.

    Raises:
        ConfigError: there is no such preset, or it has unknown keys.
        UsageError: a value is missing, or is used nowhere.
    """
    entry, at = _entry(settings, name, DELETION)
    given = _given(entry, values)
    used: set[str] = set()
    filled = {key: _filled(entry[key], given, used, at) for key in _FILLED if key in entry}
    _check_selection(entry, filled, at)
    if entry.get("sql") is not None:
        used |= statement.parameters(str(entry["sql"]))
    _check_values(name, used, given, values.keys() - set(beside))
    owner = filled.pop("tenant", None) if tenant is None else tenant
    plain = {key: value for key, value in entry.items() if key not in (*_MARKS, "tenant", "kind")}
    chosen = {**plain, **filled, **{key: value for key, value in over.items() if value is not None}}
    chosen["parameters"] = {key: value for key, value in given.items() if key in used} if entry.get("sql") else {}
    chosen["collection"] = _collection(entry, at, collection)
    chosen["reason"] = reason or entry.get("reason") or ""
    chosen["target"] = _said(values)
    return within(settings, DeletePoints(**chosen), owner)


@dataclasses.dataclass(frozen=True, slots=True)
class OrphanPreset:
    """What a preset has for points without a row, and for rows without a point.

    Attributes:
        operation: which points may go, and by which query.
        missing: file that gets the ids of rows without a point, or None.
        missing_table: table of its database that gets them, or None.
        missing_call: function that gets them, as ``module:attr``, or None.
    """

    operation: DeleteOrphans
    missing: str | None = None
    missing_table: str | None = None
    missing_call: str | None = None


def orphan_preset(
    settings: Settings, name: str, values: Mapping[str, Any], *, collection: str | None = None, **over: Any
) -> OrphanPreset:
    """The comparison of a preset.

    Args:
        name: under ``fixes.presets`` in the settings, with ``kind: orphans``.
        values: of the parameters of its query; each must be used.
        collection: instead of the preset's.
        over: ``reason``, ``grace``, ``max_share``, ``export`` and those of the missing ids, where given.

    Raises:
        ConfigError: there is no such preset, it is another kind of fix, or a value of it is wrong.
        UsageError: a value is missing, or is used nowhere.
    """
    entry, at = _entry(settings, name, ORPHANS)
    chosen = _compared(entry, at, name, values, collection) | over
    if "grace" in chosen:
        chosen["grace"] = duration(chosen["grace"], f"{at}.grace")
    there = {field.name for field in dataclasses.fields(DeleteOrphans)}
    to = {key: text(chosen[key], f"{at}.{key}") for key in ("missing_table", "missing_call") if key in chosen}
    file = str(settings.folder / path(chosen["missing"], f"{at}.missing")) if "missing" in chosen else None
    operation = DeleteOrphans(**{key: value for key, value in chosen.items() if key in there})
    return OrphanPreset(operation, file, **to)


def sync_preset(
    settings: Settings, name: str, values: Mapping[str, Any], *, collection: str | None = None, **over: Any
) -> SyncPayload:
    """The payload sync of a preset.

    Args:
        name: under ``fixes.presets`` in the settings, with ``kind: sync``.
        values: of the parameters of its query; each must be used.
        collection: instead of the preset's.
        over: ``reason`` and ``max_share``, where given.

    Raises:
        ConfigError: there is no such preset, it is another kind of fix, or a value of it is wrong.
        UsageError: a value is missing, or is used nowhere.
    """
    entry, at = _entry(settings, name, SYNC)
    chosen = _compared(entry, at, name, values, collection) | over
    chosen.pop("kind")
    if not chosen.get("fields"):
        raise ConfigError(f"{at} names no field", hint="fields: [KEY, …], or KEY: COLUMN")
    return SyncPayload(**chosen)


def _compared(
    entry: Mapping[str, Any], at: str, name: str, values: Mapping[str, Any], collection: str | None
) -> dict[str, Any]:
    """The keys of a preset that compares points with a query, with the values of its parameters.

    Raises:
        ConfigError: it has no query.
        UsageError: a value is missing, or is used nowhere.
    """
    if not isinstance(entry.get("sql"), str):
        raise ConfigError(f"{at} has no query", hint="sql: a SELECT that returns the id of every point")
    if "id_field" in entry and entry["id_field"] is None:
        hint = "name the payload field, or leave the key out"
        raise ConfigError(f"{at}.id_field has no value, and without it points are compared by their own ids", hint=hint)
    given = {**(entry.get("parameters") or {}), **values}
    used = set(statement.parameters(entry["sql"]))
    _check_values(name, used, given, values.keys())
    return {
        **{key: value for key, value in entry.items() if value is not None},
        "parameters": {key: value for key, value in given.items() if key in used},
        "collection": _collection(entry, at, collection),
    }


def marking(settings: Settings, name: str, values: Mapping[str, Any]) -> Marking:
    """What a preset has for the rows that are to be marked when its points are deleted.

    Args:
        values: of its parameters.

    Raises:
        ConfigError: there is no such preset, it marks nothing, or a statement of it is none.
        UsageError: a value is missing.
    """
    entry, at = _entry(settings, name, DELETION)
    given = _given(entry, values)
    written = entry.get("mark") or ()
    queue, columns = _queue(entry.get("queue"), f"{at}.queue")
    names = tuple(map(str, written)) if isinstance(written, Mapping) else ()
    listed = written.values() if isinstance(written, Mapping) else written
    statements = (listed,) if isinstance(listed, str) else tuple(listed)
    if not statements and queue is None:
        hint = "mark: [UPDATE … WHERE … = :value], or queue: TABLE"
        raise ConfigError(f"{at} marks nothing, so nothing would be trained again", hint=hint)
    needed = {"value"} | named_in(columns) if queue is not None else set()
    for sql in statements:
        trouble = statement.problem_of_change(sql)
        if trouble:
            raise ConfigError(f"{at}.mark: {trouble}", hint="write one UPDATE or INSERT per entry, with :parameters")
        needed |= statement.parameters(sql)
    taken = sorted(GIVEN & given.keys())
    if taken:
        raise ConfigError(f"{at} has a parameter {taken[0]}, which statements get anyway", hint="rename it")
    missing = needed - given.keys() - GIVEN
    if missing:
        raise UsageError(f"the preset {name} needs a value for {min(missing)}", hint=f"--param {min(missing)}=VALUE")
    used = {key: value for key, value in given.items() if key in needed}
    return Marking(str(entry.get("database") or "app"), statements, queue, used, names, columns)


def parameters_of(settings: Settings, name: str) -> frozenset[str]:
    """Names of the values that a deletion's preset takes, those of its statements and its queue too.

    Raises:
        ConfigError: there is no such preset, or it is another kind of fix.
    """
    entry, at = _entry(settings, name, DELETION)
    used: set[str] = set()
    for key in _FILLED:
        _filled(entry.get(key), {}, used, at)
    written = entry.get("mark") or ()
    listed = written.values() if isinstance(written, Mapping) else written
    statements = [listed] if isinstance(listed, str) else list(listed)
    for sql in [*statements, *([entry["sql"]] if entry.get("sql") is not None else [])]:
        used |= statement.parameters(str(sql))
    queue, columns = _queue(entry.get("queue"), f"{at}.queue")
    return frozenset(used | named_in(columns) | ({"value"} if queue is not None else set())) - GIVEN


def _given(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all parameters; a folder has one form, for points and for SQL."""
    given = {**(entry.get("parameters") or {}), **values}
    name = _parameter(entry.get("prefix"))
    if given.get(str(name)) is not None:
        # A folder may be called 2024.
        given[name] = folder_name(str(given[name]))
    return given


def _said(values: Mapping[str, Any]) -> str | None:
    """What a person asked for, as it was given: the value, and what else was given by name."""
    others = [f"{name}={value}" for name, value in values.items() if name != "value"]
    return "; ".join([*([str(values["value"])] if "value" in values else []), *others]) or None


def _parameter(value: Any) -> str | None:
    """The name in a text that is ``:name`` alone."""
    named = isinstance(value, str) and value.startswith(":") and value[1:].isidentifier()
    return value[1:] if named else None


def _queue(said: Any, at: str) -> tuple[str | None, Mapping[str, Any]]:
    """The table of a queue, and what else its rows get: ``TABLE``, or ``{table: TABLE, columns: {NAME: VALUE}}``.

    Raises:
        ConfigError: it is neither.
    """
    if said is None:
        return None, {}
    table: Any = said
    columns: Any = {}
    if isinstance(said, Mapping):
        check_keys(said, ("table", "columns"), at)
        table, columns = said.get("table"), said.get("columns") or {}
    if not (isinstance(table, str) and table.strip()):
        raise ConfigError(f"{at} must name a table, not {table!r:.40}")
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) and name for name in columns):
        raise ConfigError(f"{at}.columns must be names and values", hint='columns: {category_id: ":category_id"}')
    taken = sorted(QUEUED.intersection(name.lower() for name in columns))
    if taken:
        raise ConfigError(f"{at}.columns has {taken[0]}, which every row gets anyway", hint="leave it out")
    odd = [name for name, value in columns.items() if not isinstance(value, str | int | float | None)]
    if odd:
        raise ConfigError(f"{at}.columns.{odd[0]} must be a :parameter, a string or a number")
    return table, columns


def _entry(settings: Settings, name: str, kind: str) -> tuple[Mapping[str, Any], str]:
    """A preset as it is written, and its place.

    Raises:
        ConfigError: there is none, it is of another kind, or it has unknown keys.
    """
    at = f"fixes.presets.{name}"
    known = settings.fixes.presets
    if name not in known:
        hint = f"there are {', '.join(sorted(known))}" if known else "write it under fixes.presets: in qmigrate.yaml"
        raise ConfigError(f"no preset {name!r} in the settings{did_you_mean(name, known)}", hint=hint)
    entry = known[name]
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{at} must be keys and values")
    said = choice(DELETION, ORPHANS, SYNC)(entry.get("kind", DELETION), f"{at}.kind")
    keys = _KEYS_OF[said]
    odd = [key for key in entry if key not in keys]
    if odd:
        others = [f"kind: {other}" for other, has in _KEYS_OF.items() if odd[0] in has]
        where = f"; one with {others[0]} has it" if others else did_you_mean(odd[0], keys)
        raise ConfigError(f"{at} has no key {odd[0]!r}{where}", hint=f"known: {', '.join(keys)}")
    if said != kind:
        hint = f"{_VERBS[said]} --preset {quote(name)}"
        raise ConfigError(f"the preset {name} has kind: {said}, not {kind}", hint=hint)
    return entry, at


def _check_values(name: str, used: Collection[str], given: Collection[str], own: Collection[str]) -> None:
    """Every parameter has a value, and none of those that a person gave is used nowhere."""
    missing, unused = set(used) - set(given), set(own) - set(used)
    if missing:
        raise UsageError(f"the preset {name} needs a value for {min(missing)}", hint=f"--param {min(missing)}=VALUE")
    if unused:
        there = ", ".join(sorted(used)) or "none"
        raise UsageError(f"the preset {name} has no parameter {min(unused)}", hint=f"it has {there}")


def _collection(entry: Mapping[str, Any], at: str, wanted: str | None) -> str:
    found = wanted or entry.get("collection")
    if not found:
        raise ConfigError(f"{at} names no collection", hint="name it there, or on the command line")
    return str(found)


def _filled(value: Any, given: Mapping[str, Any], used: set[str], at: str) -> Any:
    """Texts that are ``:name`` alone get the value, of whatever type it is."""
    if isinstance(value, Mapping):
        return {key: _filled(item, given, used, at) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, given, used, at) for item in value]
    name = _parameter(value)
    if name is None:
        return value
    used.add(name)
    if name in given and given[name] is None:
        raise UsageError(
            f"{at} has null for {name}, which would drop its condition, and more points would go",
            hint=f"--param {name}=VALUE",
        )
    return given.get(name)


def _check_selection(entry: Mapping[str, Any], filled: Mapping[str, Any], at: str) -> None:
    """No condition is left out by a slip: written without a value, by a time without its unit, or for all tenants.

    Raises:
        ConfigError: a key that selects has no value, or the age no unit.
        UsageError: the same of a parameter.
    """
    empty = [key for key in _SELECTING if key in entry and entry[key] is None]
    if empty:
        raise ConfigError(
            f"{at}.{empty[0]} has no value, and without that condition more points would go",
            hint="write one, or leave the key out",
        )
    older = filled.get("older_than")
    age = older.get("age") if isinstance(older, Mapping) else None
    if is_bare_number(age):
        raise UsageError(f"{at}.older_than: the age {age!r} has no unit", hint="90d, 24h, 5m or 60s")
    if filled.get("tenant") == ALL != entry["tenant"]:
        raise UsageError(
            f"{at}.tenant would be {ALL!r}, and a parameter does not mean the points of all tenants",
            hint=f"--tenant '{ALL}' does (tenant= in Python)",
        )
