"""Values of a payload by a path: as Qdrant finds them, and as a fix changes one of them. It reads no point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qmigrate.model.schema import JsonObject

#: What a filter holds conditions under.
CONDITIONS = ("must", "should", "must_not", "min_should")
#: What a condition may say of a field; Qdrant reads one of them.
_SAID = ("match", "range", "geo_bounding_box", "geo_radius", "geo_polygon", "values_count", "is_empty", "is_null")
_BOUNDED = ("range", "values_count")
_TEXTS = ("text", "text_any", "phrase", "prefix")
_SHOWN = 60


def has_conditions(where: Mapping[str, Any]) -> bool:
    """Whether a filter holds any condition."""
    return any(True for _ in _conditions(where))


def problem(where: Mapping[str, Any]) -> str | None:
    """What in a filter selects less than it seems to, in words; None where every condition counts.

    Args:
        where: in REST shape; what is not valid for Qdrant is left to the request.
    """
    return next(_of_filter(where, turned=False), None)


def _of_filter(where: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    for group, condition in _conditions(where):
        if isinstance(condition, Mapping):
            yield from _of_condition(condition, turned=turned != (group == "must_not"))


def _conditions(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for group in CONDITIONS:
        held = where.get(group)
        if group == "min_should":
            held = held.get("conditions") if isinstance(held, Mapping) else None
        for condition in [held] if isinstance(held, Mapping) and held else held or ():
            yield group, condition


def _of_condition(condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    """The problems of one condition; `turned` where what it selects is left out."""
    nested = condition.get("nested")
    inner = nested.get("filter") if isinstance(nested, Mapping) else None
    if isinstance(inner, Mapping):
        yield from _of_inner(inner, condition, turned=turned)
    elif "key" in condition:
        yield from _of_field(condition, turned=turned)
    elif "has_id" in condition:
        yield from _of_list("has_id", condition["has_id"], condition, turned=turned)
    elif not condition or set(condition) <= set(CONDITIONS):
        yield from _of_inner(condition, condition, turned=turned)


def _of_inner(where: Mapping[str, Any], condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    if not has_conditions(where):
        yield f"the condition {_shown(condition)} is empty, so it has no effect"
    yield from _of_filter(where, turned=turned)


def _of_field(condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    said = [name for name in _SAID if condition.get(name) is not None]
    if not said and set(condition) <= {"key", *_SAID}:
        yield f"the condition {_shown(condition)} has no test for its field"
    elif len(said) > 1:
        yield f"the condition {_shown(condition)} has {' and '.join(said)}, and only one is read: write one for each"
    for name in _BOUNDED:
        bounds = condition.get(name)
        if isinstance(bounds, Mapping) and all(bound is None for bound in bounds.values()):
            yield f"the condition {_shown(condition)} has no bound, so it has no effect"
    match = condition.get("match")
    if not isinstance(match, Mapping):
        return
    if any(match.get(name) == "" for name in _TEXTS):
        yield f"the condition {_shown(condition)} searches for an empty text, which every text contains"
    if "any" in match:
        yield from _of_list("any", match["any"], condition, turned=turned)
    if "except" in match:
        yield from _of_list("except", match["except"], condition, turned=not turned)


def _of_list(name: str, values: Any, condition: Mapping[str, Any], *, turned: bool) -> Iterator[str]:
    """Nothing is among no values: left out on purpose, that means every point."""
    if turned and isinstance(values, list) and not values:
        yield f"the list of {name} in {_shown(condition)} is empty, so it excludes nothing"


def _shown(condition: Mapping[str, Any]) -> str:
    text = str(dict(condition))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def values_at(payload: Mapping[str, Any], path: str) -> Iterator[Any]:
    """What a payload has at a path: ``a``, ``a.b`` inside an object, ``a[].b`` inside each object of a list.

    Of a list at the end each item comes; what lies in a list inside it is not a value for Qdrant.
    """
    found: list[Any] = [payload]
    if path in payload:
        found = [payload[path]]
    else:
        for part in path.split("."):
            key = part.removesuffix("[]")
            found = [one[key] for one in found if isinstance(one, Mapping) and key in one]
            if part != key:
                found = [item for one in found if isinstance(one, list) for item in one]
    for one in found:
        yield from one if isinstance(one, list) else (one,)


def folder_name(folder: str) -> str:
    """A folder without the trailing separator: the one form that points and SQL are compared with."""
    return folder.rstrip(_separators(folder))


def below(value: Any, folder: str) -> bool:
    r"""Whether a path is a folder or lies in it: ``/photos/2024/a.jpg`` in ``/photos/2024``, ``/photos/2024-old`` not.

    ``C:\photos\a.jpg`` lies in ``C:\photos``. Texts are compared byte by byte, as a file system does: ``é`` in one
    character is another name than in two.
    """
    if not isinstance(value, str):
        return False
    marks = _separators(folder)
    name = folder_name(folder)
    return value.rstrip(marks) == name or value.startswith(tuple(name + mark for mark in marks))


def below_filter(path: str, folder: str) -> JsonObject:
    """What :func:`below` selects as a filter in REST shape; servers from 1.19 on know it."""
    marks = _separators(folder)
    name = folder_name(folder)
    return {
        "should": [
            {"key": path, "match": {"value": name}},
            *({"key": path, "match": {"prefix": name + mark}} for mark in marks),
        ]
    }


def _separators(folder: str) -> str:
    """What parts the names of a path: a slash, and where the folder is one of Windows a backslash too."""
    windows = re.match(r"[A-Za-z]:\\|\\\\", folder) or ("\\" in folder and "/" not in folder)
    return "/\\" if windows else "/"


class Blocked:
    """What takes the place of a value whose path leads through something that is not an object."""

    def __repr__(self) -> str:
        return "(not an object)"


BLOCKED = Blocked()


def value_at(payload: Mapping[str, Any], path: str) -> Any:
    """The one value at ``a`` or ``a.b``, None where there is none; :data:`BLOCKED` where `a` is not an object."""
    *parents, last = path.split(".")
    found: Any = payload
    for part in parents:
        found = found.get(part)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            return BLOCKED
    return found.get(last)


def picked(payload: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Path -> value of those that are there, as :func:`value_at` finds them; null counts as there."""
    found = {}
    for path in paths:
        value = value_at(payload, path) if "." in path else payload.get(path)
        if value is not None or _is_null(payload, path):
            found[path] = value
    return found


def _is_null(payload: Mapping[str, Any], path: str) -> bool:
    parent, _, last = path.rpartition(".")
    inside = value_at(payload, parent) if parent else payload
    return isinstance(inside, Mapping) and last in inside


def roots(paths: Iterable[str]) -> list[str]:
    """The keys at the top that paths begin with, each once: what has to be read to know whether a path is blocked."""
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


def covers(path: str, other: str) -> bool:
    """Whether a value at `path` holds what is at `other`."""
    return other == path or other.startswith(f"{path}.")


def placed(payload: Mapping[str, Any], path: str, value: Any, changes: dict[str, Any]) -> str:
    """Put a value where it goes in `changes` (path -> new value), with the objects that `payload` lacks around it.

    Returns:
        The path that changes: that of the first object that is not there yet, else `path` itself.
    """
    parts = path.split(".")
    deep = 1
    while deep < len(parts) and isinstance(value_at(payload, ".".join(parts[:deep])), Mapping):
        deep += 1
    key, inner = ".".join(parts[:deep]), parts[deep:]
    if not inner:
        changes[key] = value
        return key
    put(changes.setdefault(key, {}), ".".join(inner), value)
    return key


def put(payload: dict[str, Any], path: str, value: Any) -> None:
    """Set a value in a payload, with the objects around it; what is not an object on the way is replaced by one."""
    *parents, last = path.split(".")
    into = payload
    for part in parents:
        inner = into.get(part)
        if not isinstance(inner, dict):
            inner = into[part] = {}
        into = inner
    into[last] = value


def drop(payload: dict[str, Any], path: str) -> None:
    """Take a value out of a payload; nothing happens where it is not there."""
    parent, _, last = path.rpartition(".")
    inside = value_at(payload, parent) if parent else payload
    if isinstance(inside, dict):
        inside.pop(last, None)


def spelled(path: str) -> str:
    """A path as Qdrant reads it: parts with other signs than letters, digits, ``_`` and ``-`` in quotes."""
    return ".".join(map(quoted, path.split(".")))


def quoted(key: str) -> str:
    """One key as Qdrant reads it in a path, whatever signs it has: ``a.b`` in quotes is a key, and no path."""
    return key if _PLAIN.fullmatch(key) else f'"{key}"'


def selected(keys: Iterable[str]) -> list[str] | bool:
    """What to ask for, to get these keys at the top of a payload: they as Qdrant reads them, or all where it can't."""
    found = sorted(set(keys))
    return True if any('"' in key or "\\" in key for key in found) else list(map(quoted, found))
