"""Values that a filter asks for, next to those in the payloads: text or number, and where they differ. It reads.

A filter compares types, too: the number 90 is equal to no text ``"90"``, and under ``must_not`` that means every point.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from qmigrate.errors import QmigrateError
from qmigrate.model.facts.edits import RemovalEdit, SyncEdit, edit_of
from qmigrate.model.payload_path import values_at
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Store
from qmigrate.store import records
from qmigrate.text import counted

#: Points whose payloads are read.
_LOOKED_AT = 1000
#: Values of a list that a line names.
_NAMED = 3
#: What one value, and what several of a kind are called.
_PLURAL = {"text": "texts", "number": "numbers", "boolean": "booleans", "object": "objects", "list": "lists"}
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
#: Conditions whose values are named, and all that are about a field.
_MATCH = frozenset({"match"})
_FIELDS = _MATCH | {"range", "values_count", "geo_bounding_box", "geo_radius", "geo_polygon"}
_BOUNDS = ("gt", "gte", "lt", "lte")
_TEXT_MATCHES = ("text", "text_any", "phrase", "prefix")


def asked(edit: JsonObject) -> tuple[str, ...]:
    """What an edit compares fields and parameters with, a line each: ``asset_id: text "90"``."""
    lines = [f"{key}: {_shown(values)}" for key, values in _asked(edit, only=_MATCH)]
    said = edit_of(edit)
    given: Mapping[str, Any] = {}
    if isinstance(said, SyncEdit):
        given = said.parameters
    elif isinstance(said, RemovalEdit) and said.sql is not None:
        given = said.sql.parameters
    lines += [f":{name}: {_shown([value])}" for name, value in (given or {}).items()]
    return tuple(dict.fromkeys(lines))


def misfits(store: Store, address: str, edit: JsonObject) -> tuple[str, ...]:
    """Fields that hold other types than an edit compares them with, a line each; nothing where that is unknown.

    Args:
        store: where the points are.
        address: their collection.
        edit: of a deletion.
    """
    wanted: dict[str, dict[str, list[Any]]] = {}
    for key, values in _asked(edit):
        kinds = wanted.setdefault(key, {})
        for value in values:
            kinds.setdefault(_kind(value), []).append(value)
    if not wanted:
        return ()
    try:
        seen, points = _seen(store, address, list(wanted))
    except QmigrateError:
        # The deletion itself reports what is wrong.
        return ()
    return tuple(line for key, kinds in wanted.items() for line in _misfits(key, kinds, seen[key], points))


def _misfits(key: str, kinds: Mapping[str, list[Any]], seen: Mapping[str, int], points: int) -> Iterator[str]:
    if not points:
        return
    if not seen:
        yield f"`{key}` is in none of the {counted(points, 'point')} that were checked"
        return
    held = " and ".join(_PLURAL[kind] for kind in sorted(seen))
    for kind, values in kinds.items():
        if kind not in seen:
            yield f"`{key}` holds {held}, and is compared with the {_shown(values)}{_hint(values[0], seen)}"


def _hint(value: Any, seen: Mapping[str, int]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and "text" in seen:
        return f": a text is written '\"{value}\"'"
    if isinstance(value, str) and "number" in seen and _WHOLE.fullmatch(value):
        return f": the number is written {int(value)}, without quotes"
    if value in ("true", "false") and "boolean" in seen:
        return f": it is written json:{value}"
    return ""


def _seen(store: Store, address: str, keys: list[str]) -> tuple[dict[str, dict[str, int]], int]:
    """Field -> kinds of its values, and how many points were read."""
    seen: dict[str, dict[str, int]] = {key: {} for key in keys}
    for page in store.scan(address, page=_LOOKED_AT, payload=keys, vectors=False):
        for stored in page:
            payload = records.payload_of(stored)
            for key in keys:
                for value in values_at(payload, key):
                    if value is not None:
                        seen[key][_kind(value)] = seen[key].get(_kind(value), 0) + 1
        return seen, len(page)
    return seen, 0


def _asked(edit: JsonObject, only: Collection[str] = _FIELDS) -> Iterator[tuple[str, list[Any]]]:
    """Fields with the values that they are compared with.

    Args:
        only: kinds of conditions that are meant.
    """
    said = edit_of(edit)
    if not isinstance(said, RemovalEdit):
        return
    if said.filter:
        yield from _of_filter(said.filter, "", only)
    if said.prefix:
        field, folder = said.prefix
        yield field, [folder]


def _of_filter(where: Any, inside: str, only: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    if not isinstance(where, Mapping):
        return
    groups = [where.get(name) for name in ("must", "should", "must_not")]
    least = where.get("min_should")
    groups.append(least.get("conditions") if isinstance(least, Mapping) else None)
    for group in groups:
        for condition in group if isinstance(group, list) else [group]:
            yield from _of_condition(condition, inside, only)


def _of_condition(condition: Any, inside: str, only: Collection[str]) -> Iterator[tuple[str, list[Any]]]:
    if not isinstance(condition, Mapping):
        return
    nested = condition.get("nested")
    if isinstance(nested, Mapping):
        yield from _of_filter(nested.get("filter"), f"{inside}{nested.get('key')}[].".replace("[][]", "[]"), only)
    yield from _of_filter(condition, inside, only)
    key = condition.get("key")
    said = [name for name in only if isinstance(condition.get(name), Mapping)]
    if not isinstance(key, str) or not said:
        return
    values = _values_of(condition, said)
    if values or "match" not in said:
        yield inside + key, values


def _values_of(condition: Mapping[str, Any], said: Collection[str]) -> list[Any]:
    """What a condition compares its field with; of one that asks for something else than its values, nothing."""
    values: list[Any] = []
    if "match" in said:
        match = condition["match"]
        values += [match["value"]] if "value" in match else []
        for name in ("any", "except"):
            values += match[name] if isinstance(match.get(name), list) else []
        values += [match[name] for name in _TEXT_MATCHES if name in match]
    if "range" in said:
        values += [condition["range"][name] for name in _BOUNDS if condition["range"].get(name) is not None]
    return values


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


def _shown(values: list[Any]) -> str:
    """``text "90"``, ``numbers 1, 2, 3 and 4 more``."""
    kind = _kind(values[0]) if values else "value"
    word = kind if len(values) == 1 else _PLURAL.get(kind, kind)
    named = ", ".join(json.dumps(value, ensure_ascii=False, default=str)[:60] for value in values[:_NAMED])
    more = f" and {len(values) - _NAMED:,} more" if len(values) > _NAMED else ""
    return f"{word} {named}{more}"
