"""Values that a filter asks for, beside those that the payloads hold: text or number, and where they differ. It reads.

A filter compares types, too: the number 90 is equal to no text ``"90"``, and under ``must_not`` that means every point.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from qmigrate.errors import QmigrateError
from qmigrate.model.payload_path import values_at
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Store
from qmigrate.store import records

#: Points whose payloads are looked at.
_LOOKED_AT = 1000
#: Values of a list that a line names.
_NAMED = 3
#: What one value, and what several of a kind are called.
_PLURAL = {"text": "texts", "number": "numbers", "boolean": "booleans", "object": "objects", "list": "lists"}
#: Seconds since 1970 that are a time: from 1973 on, and so far ahead that milliseconds are none.
_LEAST, _MOST = 100_000_000, 100_000_000_000
_WHOLE = re.compile(r"0|-?[1-9][0-9]*")
_TEXT_MATCHES = ("text", "text_any", "phrase", "prefix")


def asked(edit: JsonObject) -> tuple[str, ...]:
    """What an edit compares fields and parameters with, a line each: ``asset_id: text "90"``."""
    lines = [f"{key}: {_shown(values)}" for key, values in _asked(edit)]
    sql = edit.get("sql")
    given = sql.get("parameters") if isinstance(sql, Mapping) else edit.get("parameters")
    lines += [f":{name}: {_shown([value])}" for name, value in (given or {}).items()]
    return tuple(dict.fromkeys(lines))


def misfits(store: Store, address: str, edit: JsonObject) -> tuple[str, ...]:
    """Fields that hold other types than an edit compares them with, a line each; nothing where that can't be told.

    Args:
        store: where the points are.
        address: their collection.
        edit: of a deletion.
    """
    wanted: dict[str, dict[str, list[Any]]] = {}
    for key, values in _asked(edit):
        for value in values:
            wanted.setdefault(key, {}).setdefault(_kind(value), []).append(value)
    aged = (edit.get("older_than") or {}).get("field")
    if not wanted and aged is None:
        return ()
    try:
        seen, points = _seen(store, address, [*wanted, *([aged] if aged is not None else [])])
    except QmigrateError:
        # The deletion itself says what is wrong.
        return ()
    of_values = (line for key, kinds in wanted.items() for line in _misfits(key, _kinds_of(seen[key]), kinds, points))
    return (*of_values, *(_timeless(aged, seen[aged], points) if aged is not None else ()))


def _timeless(key: str, seen: Sequence[Any], points: int) -> Iterator[str]:
    """Why an age selects nothing: the field is not there, or holds what is no time."""
    if not points:
        return
    if not seen:
        yield _in_none(key, points)
    elif not any(map(_is_time, seen)):
        yield (
            f"`{key}` holds {json.dumps(seen[0], ensure_ascii=False, default=str)[:60]}, for example, which is neither "
            "a text of a time nor seconds since 1970: no age selects it"
        )


def _is_time(value: Any) -> bool:
    if isinstance(value, str):
        try:
            return bool(datetime.fromisoformat(value.strip()))
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool) and _LEAST <= value < _MOST


def _in_none(key: str, points: int) -> str:
    return f"`{key}` is in none of the {points:,} points that were looked at"


def _kinds_of(values: Sequence[Any]) -> Mapping[str, int]:
    return Counter(map(_kind, values))


def _misfits(key: str, seen: Mapping[str, int], kinds: Mapping[str, list[Any]], points: int) -> Iterator[str]:
    if not points:
        return
    if not seen:
        yield _in_none(key, points)
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


def _seen(store: Store, address: str, keys: list[str]) -> tuple[dict[str, list[Any]], int]:
    """Field -> its values, and how many points were looked at."""
    seen: dict[str, list[Any]] = {key: [] for key in keys}
    for page in store.scan(address, page=_LOOKED_AT, payload=keys, vectors=False):
        for stored in page:
            payload = records.payload_of(stored)
            for key in keys:
                seen[key] += [value for value in values_at(payload, key) if value is not None]
        return seen, len(page)
    return seen, 0


def _asked(edit: JsonObject) -> Iterator[tuple[str, list[Any]]]:
    """Fields with the values that they are compared with."""
    if edit.get("filter"):
        yield from _of_filter(edit["filter"], "")
    if edit.get("prefix"):
        field, folder = edit["prefix"]
        yield field, [folder]


def _of_filter(where: Any, inside: str) -> Iterator[tuple[str, list[Any]]]:
    if not isinstance(where, Mapping):
        return
    groups = [where.get(name) for name in ("must", "should", "must_not")]
    least = where.get("min_should")
    groups.append(least.get("conditions") if isinstance(least, Mapping) else None)
    for group in groups:
        for condition in group if isinstance(group, list) else [group]:
            yield from _of_condition(condition, inside)


def _of_condition(condition: Any, inside: str) -> Iterator[tuple[str, list[Any]]]:
    if not isinstance(condition, Mapping):
        return
    nested, match = condition.get("nested"), condition.get("match")
    if isinstance(nested, Mapping):
        yield from _of_filter(nested.get("filter"), f"{inside}{nested.get('key')}[].".replace("[][]", "[]"))
    yield from _of_filter(condition, inside)
    key = condition.get("key")
    if not isinstance(key, str) or not isinstance(match, Mapping):
        return
    values = [match["value"]] if "value" in match else []
    for name in ("any", "except"):
        values += match[name] if isinstance(match.get(name), list) else []
    values += [match[name] for name in _TEXT_MATCHES if name in match]
    if values:
        yield inside + key, values


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
