"""Values of a payload as Qdrant finds them by a path, and which of them lie in a folder. It reads no point."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from qmigrate.model.schema import JsonObject


def values_at(payload: Mapping[str, Any], path: str) -> Iterator[Any]:
    """What a payload has at a path: ``a``, ``a.b`` inside an object, ``a[].b`` inside each object of a list.

    Of a list at the end each item comes; what lies in a list inside it is none of Qdrant's values.
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
    """A folder without the separator at its end: the one form that points and SQL are compared with."""
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
    """What :func:`below` says as a filter in REST shape; servers from 1.19 on know it."""
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
