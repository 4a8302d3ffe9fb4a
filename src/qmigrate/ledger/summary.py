"""Figures over many rows of the ledger, each by one statement, however many rows there are. It writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import case, func, or_, select

from qmigrate.ledger import codec, tables
from qmigrate.ledger.codec import RunRow
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.plan import ASIDE


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
    """

    day: str
    deleted: int
    applied: int


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
    """What was written about a collection, by day, oldest first; days without anything are left out."""
    found: dict[str, list[int]] = {}
    deletions, history = tables.deletions.c, tables.history.c
    audit = select(deletions.created_at, deletions.vector_count.label("points")).where(
        deletions.collection == collection, deletions.created_at >= since
    )
    for row in ledger.rows(audit):
        found.setdefault(_day(row), [0, 0])[0] += int(row["points"] or 0)
    one = case((history.direction.in_(("upgrade", "rollback")), 1), else_=0)
    applied = select(history.created_at, one.label("counts")).where(
        history.collection == collection, history.created_at >= since
    )
    for row in ledger.rows(applied):
        found.setdefault(_day(row), [0, 0])[1] += int(row["counts"])
    return [Day(day, *counts) for day, counts in sorted(found.items())]


def _day(row: Mapping[str, Any]) -> str:
    return f"{row['created_at']:%Y-%m-%d}"


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
