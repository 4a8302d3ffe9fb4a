"""A ledger with a long past: its runs, its history and its audit, made of copies of what real runs have left."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from tests.harness import Deployment

from qmigrate.ledger import tables
from qmigrate.ledger.database import Database


def multiplied(made: Deployment, rows: int) -> int:
    """Runs, history and audit with this many rows each, where they have any; how many there are in all.

    Older ones come behind the real ones; what serves since is what served.
    """
    database = Database(made.ledger_url)
    try:
        with database.writing() as connection:
            for table in (tables.runs, tables.history, tables.deletions):
                _multiply(connection, table, rows)
            return sum(connection.scalar(select(func.count()).select_from(table)) for table in (tables.runs, tables.history, tables.deletions))
    finally:
        database.close()


def _multiply(connection, table, rows: int) -> None:
    real = [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]
    if not real:
        return
    # The newest says what serves now, and is not repeated.
    old = real[:-1] or real
    connection.execute(table.delete())
    copies = [{**old[number % len(old)], "id": number + 1} for number in range(rows - len(real))]
    for first in range(0, len(copies), 500):
        connection.execute(insert(table), copies[first : first + 500])
    connection.execute(insert(table), [{**row, "id": rows + place} for place, row in enumerate(real)])
