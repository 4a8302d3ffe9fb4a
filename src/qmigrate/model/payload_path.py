"""Values of a payload as Qdrant finds them by a path, and which of them lie in a folder. It reads no point."""

from __future__ import annotations

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
    """A folder without the slash at its end: the one form that points and SQL are compared with."""
    return folder.rstrip("/")


def below(value: Any, folder: str) -> bool:
    """Whether a path is a folder or lies in it: ``/photos/2024/a.jpg`` in ``/photos/2024``, ``/photos/2024-old`` not.

    Texts are compared byte by byte, as a file system does: ``é`` in one character is another name than in two.
    """
    if not isinstance(value, str):
        return False
    name = folder_name(folder)
    return folder_name(value) == name or value.startswith(name + "/")


def below_filter(path: str, folder: str) -> JsonObject:
    """What :func:`below` says as a filter in REST shape; servers from 1.19 on know it."""
    name = folder_name(folder)
    return {
        "should": [
            {"key": path, "match": {"value": name}},
            {"key": path, "match": {"prefix": name + "/"}},
        ]
    }
