"""How many points there are per value and per folder, from one reading of a few payload fields. It changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmigrate.model.payload_path import folder_name
from qmigrate.model.schema import CollectionSchema
from qmigrate.ports import Store
from qmigrate.store import records
from qmigrate.store.faults import RefusedRequestError

#: Points of a page: they have a few fields only.
_PAGE = 10_000
#: Most values that the server is asked to count; of a field with more, every point is read.
_MOST = 10_000
#: Types of payload index by which a server counts values.
_COUNTABLE = frozenset({"keyword", "integer", "bool", "uuid"})

Value = str | int | float | bool


@dataclass(slots=True)
class Tally:
    """Points by one field.

    Attributes:
        by: the field.
        folders: whether paths were counted by their folder.
        counts: a point that has several values counts once for each.
        without: points that have no value there.
    """

    by: str
    folders: bool = False
    counts: Counter[tuple[str, Value]] = field(default_factory=Counter)
    without: int = 0

    def add(self, values: set[tuple[str, Value]]) -> None:
        """One more point."""
        self.counts.update(values)
        self.without += not values


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is counted.

    Attributes:
        fields: payload fields, by value; nested ones with dots.
        paths: the field with paths that are counted by folder, or None.
        depth: number of parts of a folder; None for complete folders.
        prefix: only what lies in this folder, or None.
    """

    fields: Sequence[str] = ()
    paths: str | None = None
    depth: int | None = None
    prefix: str | None = None


def tally(store: Store, name: str, schema: CollectionSchema, wanted: Wanted) -> tuple[int, list[Tally]]:
    """Count the points of a collection.

    If only values are requested, and the server has an index of them, it counts itself; else all points are read once,
    with the requested fields only.

    Returns:
        How many points were counted, and a tally per field: folders first.
    """
    known = {} if wanted.paths is not None else _by_server(store, name, schema, wanted.fields)
    left = [one for one in wanted.fields if one not in known]
    folders = Tally(wanted.paths, folders=True) if wanted.paths is not None else None
    read = {one: Tally(one) for one in left}
    if folders is None and not left:
        return store.count(name), [known[one] for one in wanted.fields]
    points = 0
    selected = sorted({*left, *([wanted.paths] if wanted.paths is not None else [])})
    for page in store.scan(name, page=_PAGE, payload=selected, vectors=False):
        for stored in page:
            payload = records.payload_of(stored)
            if folders is not None:
                paths = [one for one in _values(payload, folders.by) if isinstance(one, str)]
                inside = {("str", one) for one in map(folder_of, paths) if _is_in(one, wanted.prefix)}
                if wanted.prefix is not None and not inside:
                    continue
                folders.add({(kind, _cut(one, wanted.depth)) for kind, one in inside})
            points += 1
            for one in left:
                read[one].add({_key(value) for value in _values(payload, one)})
    tallies = [known.get(one) or read[one] for one in wanted.fields]
    return points, [*([folders] if folders is not None else []), *tallies]


def _by_server(store: Store, name: str, schema: CollectionSchema, fields: Sequence[str]) -> Mapping[str, Tally]:
    """Tallies of the fields whose values the server can count, and whose counts account for every point."""
    found: dict[str, Tally] = {}
    for one in fields:
        if schema.indexes.get(one, {}).get("type") not in _COUNTABLE:
            continue
        counts = store.facet(name, one, _MOST)
        if counts is None:
            continue
        without = store.count(name, missing_field=one)
        # Values that the index doesn't hold, and lists, are counted by reading them: a list could make up for another.
        if sum(counts.values()) + without == store.count(name) and not _has_several(store, name, one):
            found[one] = Tally(one, counts=Counter({_key(value): n for value, n in counts.items()}), without=without)
    return found


def _has_several(store: Store, name: str, field: str) -> bool:
    """Whether a point has more than one value there, or that can't be told."""
    where = {"must": [{"key": field, "values_count": {"gt": 1}}]}
    try:
        return any(store.scan(name, page=1, payload=False, vectors=False, where=where))
    except RefusedRequestError:
        return True


def folder_of(path: str) -> str:
    """``/photos/2024`` of ``/photos/2024/a.jpg``; ``/`` of ``/a.jpg``, and nothing of ``a.jpg``."""
    folder, mark, _ = path.rpartition("/")
    return folder_name(folder) or mark


def _cut(folder: str, depth: int | None) -> str:
    """The first parts of a folder; one that is not so deep stays as it is."""
    if depth is None:
        return folder
    root = "/" if folder.startswith("/") else ""
    return root + "/".join([part for part in folder.split("/") if part][:depth])


def _is_in(folder: str, prefix: str | None) -> bool:
    """Whether it is the folder or lies in it: ``/photos/2024-old`` is not in ``/photos/2024``."""
    if prefix is None:
        return True
    wanted = folder_name(prefix)
    return folder == wanted or folder.startswith(wanted + "/")


def _values(payload: Mapping[str, Any], name: str) -> Iterator[Any]:
    """The values at a field, of lists each one; ``a.b`` is a key of an object, unless there is such a key."""
    if name in payload:
        yield from _each(payload[name])
        return
    head, mark, rest = name.partition(".")
    for inner in _each(payload.get(head.removesuffix("[]"))) if mark else ():
        if isinstance(inner, Mapping):
            yield from _values(inner, rest)


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _each(one)
    elif value is not None:
        yield value


def _key(value: Any) -> tuple[str, Value]:
    """With its type, since 1, 1.0 and true are the same key of a dict; an object counts as its text."""
    if isinstance(value, Mapping):
        return "object", json.dumps(value, sort_keys=True, ensure_ascii=False)
    return type(value).__name__, value
