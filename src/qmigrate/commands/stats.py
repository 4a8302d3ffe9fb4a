"""fix stats: how many points there are per folder and per value, next to what SQL has of those. It only reads."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from qmigrate.commands.session import session
from qmigrate.errors import RowsError, UsageError
from qmigrate.model.names import unknown
from qmigrate.model.payload_path import folder_name
from qmigrate.model.schema import CollectionSchema
from qmigrate.observe import known_names
from qmigrate.ports import Store
from qmigrate.rows import Query, Rows
from qmigrate.settings.load import Settings
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
    """Whether a point has more than one value there, or that is unknown."""
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


@dataclass(frozen=True, slots=True)
class Group:
    """Points with one value.

    Attributes:
        value: the folder, or the value.
        points: that have it.
        columns: what SQL has of it; empty where it has no row.
    """

    value: Any
    points: int
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grouped:
    """Points by one field.

    Attributes:
        by: the payload field.
        folders: whether its paths were counted by folder.
        groups: the largest first.
        without: points that have no value there.
        columns: names of the columns of SQL, where they were joined.
        unmatched: rows of SQL whose value no point has.
    """

    by: str
    folders: bool
    groups: tuple[Group, ...]
    without: int
    columns: tuple[str, ...] = ()
    unmatched: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """`fix stats`.

    Attributes:
        points: that were counted: all, or those in the folder of `prefix`.
    """

    collection: str
    points: int
    prefix: str | None
    depth: int | None
    grouped: tuple[Grouped, ...]
    seconds: float


def stats(
    settings: Settings | None,
    collection: str,
    wanted: Wanted,
    *,
    sql: str | None = None,
    key: str | None = None,
    database: str = "app",
) -> Statistics:
    """Count the points of a collection, and join what SQL has of each folder, or of each value.

    Args:
        collection: its name or an alias; it need not be under management.
        sql: one SELECT with a row per folder (or per value of the only field that is counted).
        key: its column with the folder or value; None for the name of the field.

    Raises:
        UsageError: it isn't clear what is to be counted, or joined.
        NotFoundError: there is no such collection.
        RowsError: the query can't be used.
    """
    settings = settings or Settings.load()
    _check(wanted, sql)
    started = time.monotonic()
    with session(settings, writes=False, partial=True, readable=True) as opened:
        live = opened.store.describe(collection)
        if live is None:
            raise unknown("collection", collection, known_names(opened.ledger, opened.store))
        points, tallies = tally(opened.store, collection, live.schema, wanted)
    found = [_grouped(one, None) for one in tallies]
    if sql is not None:
        column = key or tallies[0].by
        with closing(Rows(settings.database(database), Query(sql, column), name=database)) as rows:
            found[0] = _grouped(tallies[0], _joined(rows, column, folders=tallies[0].folders))
    seconds = round(time.monotonic() - started, 3)
    return Statistics(collection, points, wanted.prefix, wanted.depth, tuple(found), seconds)


def _check(wanted: Wanted, sql: str | None) -> None:
    if wanted.paths is None and not wanted.fields:
        raise UsageError("name what is counted: a field with paths, or fields by value")
    if wanted.paths is None and (wanted.depth is not None or wanted.prefix is not None):
        raise UsageError("a depth and a prefix need folders", hint="name the field with the paths: --folders path")
    if sql is not None and wanted.paths is None and len(wanted.fields) != 1:
        raise UsageError("SQL is joined to folders, or to one field by value", hint="count one field at a time")


def _joined(rows: Rows, column: str, *, folders: bool) -> dict[str, dict[str, Any]]:
    """The value as a text -> the other columns of its row.

    Raises:
        RowsError: a value has two rows.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in rows.every():
        value = row.pop(column)
        name = _text(value, folders=folders)
        if value is not None and found.setdefault(name, row) is not row:
            raise RowsError(f"the query on {rows.name} returns {value!r} more than once", hint="GROUP BY it")
    return found


def _grouped(one: Tally, joined: dict[str, dict[str, Any]] | None) -> Grouped:
    left = dict(joined or {})
    groups = [
        Group(value, points, left.pop(_text(value, folders=one.folders), {}))
        for (_, value), points in sorted(one.counts.items(), key=lambda item: (-item[1], str(item[0][1])))
    ]
    names = _names(list((joined or {}).values()))
    return Grouped(one.by, one.folders, tuple(groups), one.without, names, len(left))


def _names(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(rows[0]) if rows else ()


def _text(value: Any, *, folders: bool) -> str:
    """As both sides write it: a folder may end in a slash, a number may be a text."""
    said = str(value)
    return folder_name(said) or said[:1] if folders else said
