"""Values of a payload by a path: as Qdrant finds them, and as a fix changes one of them. It reads no point."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from qmigrate.model.schema import JsonObject

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
    """What stands in the place of a value whose path leads through something that is not an object."""

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
