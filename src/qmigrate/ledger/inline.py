"""Revisions that stand in a revision of Alembic, kept with their operations. It decides nothing and takes no code."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from qmigrate.ledger import tables
from qmigrate.ledger.codec import readable
from qmigrate.ledger.reader import Ledger


@dataclass(frozen=True, slots=True)
class InlineRow:
    """One of them.

    Attributes:
        revision: its key.
        checksum: of `operations`.
        operations: as text; see ``operations.stored``.
        down: the newest revisions that no collection waited for when it was recorded.
        source: the Alembic revision that holds it, for people.
        actor: who ran it first.
        wanted: whether it counts as pending where it isn't applied.
    """

    revision: str
    checksum: str
    operations: str
    down: tuple[str, ...]
    source: str
    actor: str
    wanted: bool = True


def inline_rows(ledger: Ledger) -> tuple[InlineRow, ...]:
    """Every one, in the order in which they were recorded."""
    table = tables.inline_revisions
    return tuple(_row(found) for found in ledger.rows(select(table).order_by(table.c.id)))


def record_inline(ledger: Ledger, row: InlineRow) -> None:
    """Record it, in the place of one of the same key."""
    database = ledger.database
    with database.writing() as connection:
        _forget(connection, row.revision)
        values = {name: getattr(row, name) for name in ("revision", "checksum", "operations", "source")}
        connection.execute(
            tables.inline_revisions.insert().values(
                **values, down=list(row.down), wanted=row.wanted, actor=readable(row.actor), created_at=database.now()
            )
        )


def want_inline(ledger: Ledger, revision: str, *, wanted: bool) -> None:
    """Whether it counts as pending where it isn't applied; nothing happens where it isn't recorded."""
    table = tables.inline_revisions
    if not any(row.revision == revision and row.wanted != wanted for row in inline_rows(ledger)):
        # No write, where none is needed: an Alembic transaction may keep a SQLite file locked.
        return
    with ledger.database.writing() as connection:
        connection.execute(update(table).where(table.c.revision == revision).values(wanted=wanted))


def _forget(connection: Connection, revision: str) -> None:
    table = tables.inline_revisions
    connection.execute(delete(table).where(table.c.revision == revision))


def _row(found: dict[str, object]) -> InlineRow:
    values = {name: str(found[name]) for name in ("revision", "checksum", "operations", "source", "actor")}
    down = found["down"]
    return InlineRow(**values, down=tuple(down) if isinstance(down, list) else (), wanted=bool(found["wanted"]))
