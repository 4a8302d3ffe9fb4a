"""Figures over many rows of the ledger, each by one statement, however many rows there are. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from qmigrate.ledger import codec, tables
from qmigrate.ledger.codec import DeletionRow, HistoryRow, RunRow
from qmigrate.ledger.counts import counted_by_day
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.facts.history import Reported
from qmigrate.model.facts.phases import Left
from qmigrate.model.facts.stored import known, loaded
from qmigrate.model.plan import ASIDE

#: Runs whose rows of the audit are asked for at once: databases bound how deep a condition is.
_RUNS_AT_ONCE = 100
#: Rows that are read first where it isn't known how many are needed, and most at once.
_FIRST, _MOST = 50, 800


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds the lease of a collection.

    Attributes:
        owner: user and process.
        host: where it runs.
        expires_at: by the database's clock, unless it is renewed before.
        epoch: of its lease.
    """

    owner: str
    host: str
    expires_at: datetime
    epoch: int


@dataclass(frozen=True, slots=True)
class Day:
    """What was written about one collection on one day, UTC.

    Attributes:
        day: ``2026-11-30``.
        deleted: points that fixes have deleted or changed.
        applied: revisions that were applied or rolled back.
        points: how many there were when they were counted last that day, or else proven last; None where neither was.
    """

    day: str
    deleted: int = 0
    applied: int = 0
    points: int | None = None


def went_live(ledger: LedgerReader) -> dict[str, datetime]:
    """Logical name -> since when it leads to what serves now: the last row of its history with another generation."""
    history, other, first = tables.history, tables.history.alias(), tables.history.alias()
    newest = select(func.max(history.c.id)).where(history.c.physical.is_not(None)).group_by(history.c.collection)
    # Not by a window over all rows: there are many.
    last = (
        select(func.max(other.c.id))
        .where(other.c.collection == history.c.collection, other.c.physical != history.c.physical)
        .correlate(history)
        .scalar_subquery()
    )
    since = (
        select(first.c.created_at)
        .where(
            first.c.collection == history.c.collection,
            first.c.physical == history.c.physical,
            first.c.id > func.coalesce(last, 0),
        )
        .order_by(first.c.id)
        .limit(1)
        .scalar_subquery()
    )
    query = select(history.c.collection, since.label("since")).where(history.c.id.in_(newest))
    return {row["collection"]: row["since"] for row in ledger.rows(query)}


def recent_runs(ledger: LedgerReader, since: datetime, most: int) -> list[RunRow]:
    """Runs that began or ended since a moment, newest first."""
    runs = tables.runs
    query = select(runs).where(or_(runs.c.started_at >= since, runs.c.finished_at >= since))
    return [codec.run_of(row) for row in ledger.rows(query.order_by(runs.c.id.desc()).limit(most))]


def newest_runs(ledger: LedgerReader) -> dict[str, RunRow]:
    """Logical name -> its newest run, whatever came of it."""
    runs = tables.runs
    newest = select(func.max(runs.c.id)).group_by(runs.c.collection)
    return {row["collection"]: codec.run_of(row) for row in ledger.rows(select(runs).where(runs.c.id.in_(newest)))}


def quarantined(ledger: LedgerReader) -> dict[str, int]:
    """Generation -> points that could not be embedded, and are not settled."""
    rows = tables.quarantine.c
    query = (
        select(rows.generation, func.count(rows.point_id.distinct()).label("points"))
        .where(rows.resolved_at.is_(None))
        .group_by(rows.generation)
    )
    return {row["generation"]: int(row["points"]) for row in ledger.rows(query)}


def holders(ledger: LedgerReader) -> dict[str, Held]:
    """Logical name -> who holds its lease now."""
    leases = tables.leases.c
    query = select(tables.leases).where(leases.released.is_(False), leases.expires_at > ledger.database.now())
    return {row["name"]: Held(row["owner"], row["host"], row["expires_at"], row["epoch"]) for row in ledger.rows(query)}


def days(ledger: LedgerReader, collection: str, since: datetime) -> list[Day]:
    """What is known about the points of a collection, by day, oldest first; days without anything are left out."""
    deletions, history = tables.deletions.c, tables.history.c
    on = func.date(deletions.created_at)
    audit = select(on.label("day"), func.sum(deletions.vector_count).label("count")).where(
        deletions.collection == collection, deletions.created_at >= since
    )
    gone = {str(row["day"]): int(row["count"] or 0) for row in ledger.rows(audit.group_by(on))}
    on, mine = func.date(history.created_at), and_(history.collection == collection, history.created_at >= since)
    moves = history.direction.in_(("upgrade", "rollback"))
    applied = select(on.label("day"), func.count().label("count")).where(mine, moves).group_by(on)
    moved = {str(row["day"]): int(row["count"]) for row in ledger.rows(applied)}
    points = {**_proven(ledger, and_(mine, moves)), **counted_by_day(ledger, collection, since)}
    found = sorted({*gone, *moved, *points})
    return [Day(day, gone.get(day, 0), moved.get(day, 0), points.get(day)) for day in found]


def _proven(ledger: LedgerReader, wanted: ColumnElement[bool]) -> dict[str, int]:
    """Day -> points of the last proof of that day."""
    history = tables.history.c
    proven, on = history.report[("verification", "points")].as_integer(), func.date(history.created_at)
    newest = select(func.max(history.id)).where(wanted, proven.is_not(None)).group_by(on)
    query = select(on.label("day"), proven.label("points")).where(history.id.in_(newest))
    return {str(row["day"]): int(row["points"]) for row in ledger.rows(query)}


def newest_entries(ledger: LedgerReader, collection: str) -> list[HistoryRow]:
    """The newest row of the history of each revision, newest first."""
    history = tables.history
    newest = select(func.max(history.c.id)).where(history.c.collection == collection).group_by(history.c.revision)
    query = select(history).where(history.c.id.in_(newest)).order_by(history.c.id.desc())
    return [codec.history_of(row) for row in ledger.rows(query)]


def left_as(ledger: LedgerReader, collection: str, physical: str) -> Left | None:
    """What a generation was like when it went live last, if nothing at all was written to it since its proof."""
    history = tables.history
    mine = and_(history.c.collection == collection, history.c.physical == physical, history.c.direction != "rollback")
    for row in _newest_first(ledger, select(history.c.id, history.c.report).where(mine), history.c.id):
        closing = known(loaded(Reported, row["report"] or {}).closing)
        if closing is not None:
            return closing
    return None


def audit_of(ledger: LedgerReader, runs: Sequence[RunRow]) -> dict[int, list[DeletionRow]]:
    """Run -> what it has written into the audit, newest first."""
    table = tables.deletions
    found: dict[int, DeletionRow] = {}
    for first in range(0, len(runs), _RUNS_AT_ONCE):
        # Which run has written a row is inside of a text that an application may have written, too.
        while_it_ran = or_(*(_while(table.c.created_at, run) for run in runs[first : first + _RUNS_AT_ONCE]))
        found.update((row["id"], codec.deletion_of(row)) for row in ledger.rows(select(table).where(while_it_ran)))
    wanted, written = {run.id for run in runs}, dict[int, list[DeletionRow]]()
    for entry in sorted(found.values(), key=lambda one: one.id, reverse=True):
        if entry.told.run in wanted:
            written.setdefault(entry.told.run, []).append(entry)
    return written


def _while(column: ColumnElement[Any], run: RunRow) -> ColumnElement[bool]:
    return column >= run.started_at if run.finished_at is None else column.between(run.started_at, run.finished_at)


def audit(
    ledger: LedgerReader,
    collection: str | None = None,
    *,
    kind: str | None = None,
    since: datetime | None = None,
    after: int = 0,
    deleting: bool = False,
) -> Iterator[DeletionRow]:
    """The audit, newest first, read as far as it is asked for.

    Args:
        collection: only of this logical name.
        kind: of this type, whatever its case.
        since: not before this moment.
        after: only rows with larger numbers.
        deleting: only rows that took points away.
    """
    table = tables.deletions
    wanted = [table.c.id > after]
    if deleting:
        wanted.append(table.c.vector_count > 0)
    if collection is not None:
        wanted.append(table.c.collection == collection)
    if kind is not None:
        wanted.append(func.lower(table.c.deletion_type) == kind.lower())
    if since is not None:
        wanted.append(table.c.created_at >= since)
    for row in _newest_first(ledger, select(table).where(*wanted), table.c.id):
        yield codec.deletion_of(row)


def _newest_first(ledger: LedgerReader, query: Select[Any], number: ColumnElement[int]) -> Iterator[Any]:
    """Rows by descending numbers, some at a time."""
    most, at = _FIRST, None
    while True:
        page = query if at is None else query.where(number < at)
        rows = ledger.rows(page.order_by(number.desc()).limit(most))
        yield from rows
        if len(rows) < most:
            return
        at, most = rows[-1]["id"], min(2 * most, _MOST)


def last_migrations(ledger: LedgerReader) -> dict[str, datetime]:
    """Logical name -> when a revision of it was last applied or undone, in UTC; data fixes don't count."""
    history = tables.history
    newest = func.max(history.c.created_at).label("newest")
    query = (
        select(history.c.collection, newest)
        .where(history.c.direction.not_in(ASIDE))
        .group_by(history.c.collection)
        .order_by(history.c.collection)
    )
    return {row["collection"]: row["newest"] for row in ledger.rows(query)}
