"""fix stats: how many points there are per folder and per value, next to what SQL has of those. It only reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from qmigrate.commands.session import session
from qmigrate.errors import RowsError, UsageError
from qmigrate.model.payload_path import folder_name
from qmigrate.model.unknown import unknown
from qmigrate.observe import known_names
from qmigrate.rows import Query, Rows
from qmigrate.settings import Settings
from qmigrate.steps.stats import Tally, Wanted, tally


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
    settings: Settings,
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
    _check(wanted, sql)
    started = time.monotonic()
    with session(settings, writes=False, looking=True, partial=True) as opened:
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
