"""Old rows of the deletion audit: read whole, and removed in one transaction that records it. It writes no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from qmigrate.errors import RefusedError
from qmigrate.ledger import codec, tables
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.schema import JsonObject

#: Kind of the row that says where older ones are.
ARCHIVED = "AUDIT_ARCHIVED"
#: Rows of one statement.
_AT_ONCE = 500


def whole_rows(ledger: LedgerReader, ids: Sequence[int]) -> list[JsonObject]:
    """Rows as they are stored, by their columns, oldest first."""
    table, found = tables.deletions, list[Any]()
    for first in range(0, len(ids), _AT_ONCE):
        some = ids[first : first + _AT_ONCE]
        found += ledger.rows(select(table).where(table.c.id.in_(some)))
    return [_plain(row) for row in sorted(found, key=lambda row: int(row["id"]))]


def remove_rows(ledger: LedgerReader, rows: Sequence[JsonObject], file: str, facts: JsonObject) -> int:
    """Remove rows that a file holds, and record that; both or neither.

    Args:
        rows: as :func:`whole_rows` has read them.
        file: where they are from now on.
        facts: about the file.

    Returns:
        The number of the row that says so.

    Raises:
        RefusedError: a row is not what was written into the file; nothing was removed.
    """
    table, gone = tables.deletions, 0
    values = {
        "deletion_type": ARCHIVED,
        "deletion_target": codec.readable(file),
        "vector_count": 0,
        "deletion_reason": f"{len(rows):,} rows of the audit, older than {facts['before']}",
        "metadata": {"audit": facts},
        "created_at": ledger.database.now(),
        "actor": codec.readable(ledger.actor),
        "collection": None,
    }
    with ledger.database.writing() as connection:
        # Load-bearing: before they go. SQLite gives the numbers of the newest rows that went again, and a number that a
        # person has noted would be that of another fix.
        key = connection.execute(table.insert().values(**values)).inserted_primary_key
        for first in range(0, len(rows), _AT_ONCE):
            some = {int(row["id"]): row for row in rows[first : first + _AT_ONCE]}
            where = table.c.id.in_(some)
            found = connection.execute(select(table).where(where).with_for_update()).mappings().all()
            if any(_plain(row) != some[int(row["id"])] for row in found):
                raise _changed(file)
            gone += connection.execute(delete(table).where(where)).rowcount
        if gone != len(rows):
            raise _changed(file)
    return int(key[0]) if key is not None else 0


def _plain(row: Any) -> JsonObject:
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}


def _changed(file: str) -> RefusedError:
    return RefusedError(
        f"rows of the audit were changed while they were archived to {file}; none was removed", hint="qmigrate gc again"
    )
