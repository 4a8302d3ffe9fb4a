"""What revisions meant when they were applied, by the checksums of their files. It compares nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from qmigrate.ledger import tables
from qmigrate.ledger.database import Database
from qmigrate.model.schema import JsonObject

if TYPE_CHECKING:
    from qmigrate.ledger.fence import Reads

#: Revision and checksum of its file.
Key = tuple[str, str]


def meaning(ledger: Reads, revision: str, checksum: str) -> JsonObject | None:
    """What a file of this checksum meant; None where an earlier qmigrate has applied it."""
    table = tables.meanings
    query = select(table.c.meaning).where(table.c.revision == revision, table.c.checksum == checksum)
    found: JsonObject | None = next((row["meaning"] for row in ledger.rows(query)), None)
    return found


def known_meanings(ledger: Reads) -> frozenset[Key]:
    """Of which files it is known."""
    table = tables.meanings
    rows = ledger.rows(select(table.c.revision, table.c.checksum))
    return frozenset((row["revision"], row["checksum"]) for row in rows)


def keep(connection: Connection, database: Database, found: Mapping[Key, JsonObject]) -> None:
    """Record what isn't recorded yet; several processes may do so at once."""
    table = tables.meanings
    for (revision, checksum), said in sorted(found.items()):
        here = select(table.c.revision).where(table.c.revision == revision, table.c.checksum == checksum)
        if connection.scalar(here) is not None:
            continue
        try:
            with connection.begin_nested():
                values = {"revision": revision, "checksum": checksum, "meaning": said, "created_at": database.now()}
                connection.execute(table.insert().values(**values))
        except IntegrityError:
            # Another process was faster; it writes the same for the same file.
            continue
