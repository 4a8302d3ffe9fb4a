"""How many points collections had, a row a day. It needs no lease: the last count is kept. It counts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from qmigrate.ledger import tables
from qmigrate.ledger.reader import LedgerReader, present

#: How long rows are kept: as long as one may want to compare with the year before.
KEPT = timedelta(days=400)


def keep_counts(ledger: LedgerReader, counts: Mapping[str, int]) -> None:
    """Record how many points there are today, UTC, by the clock of the database; an earlier count of today is replaced.

    Args:
        counts: by logical name.

    Raises:
        LedgerError: the database can't be written.
    """
    ledger.prepare()
    now, table = present(ledger), tables.counts
    today = {"day": _day(now), "counted_at": now}
    rows = [{"collection": name, "points": points, **today} for name, points in counts.items()]
    insert: Any = sqlite.insert if ledger.database.is_sqlite else postgresql.insert
    query = insert(table)
    newer = {name: query.excluded[name] for name in ("points", "counted_at")}
    with ledger.database.writing() as connection:
        connection.execute(delete(table).where(table.c.day < _day(now - KEPT)))
        if rows:
            connection.execute(query.on_conflict_do_update(index_elements=["collection", "day"], set_=newer), rows)


def counted_by_day(ledger: LedgerReader, collection: str, since: datetime) -> dict[str, int]:
    """Day, UTC -> how many points a collection had when it was counted last; none where it wasn't."""
    table = tables.counts
    if not ledger.database.has(table):
        return {}
    query = select(table.c.day, table.c.points).where(table.c.collection == collection, table.c.day >= _day(since))
    return {row["day"]: int(row["points"]) for row in ledger.rows(query)}


def counted_last(ledger: LedgerReader) -> datetime | None:
    """When any collection was counted last; None where none was."""
    if not ledger.database.has(tables.counts):
        return None
    rows = ledger.rows(select(func.max(tables.counts.c.counted_at).label("at")))
    found: datetime | None = rows[0]["at"] if rows else None
    return found


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"
