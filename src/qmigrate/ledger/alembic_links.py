"""Revisions inside a revision of Alembic, kept with their operations. It decides nothing and takes no code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, delete, select, text, update

from qmigrate.ledger import tables
from qmigrate.ledger.codec import readable
from qmigrate.ledger.database import Database
from qmigrate.ledger.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class InlineRow:
    """One of them.

    Attributes:
        revision: its key.
        checksum: of `operations`.
        operations: as text; see ``operations.text.stored``.
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


def inline_rows(ledger: LedgerReader) -> tuple[InlineRow, ...]:
    """Every one, in the order in which they were recorded."""
    table = tables.inline_revisions
    return tuple(_row(found) for found in ledger.rows(select(table).order_by(table.c.id)))


def record_inline(ledger: LedgerReader, row: InlineRow) -> None:
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


def want_inline(ledger: LedgerReader, revision: str, *, wanted: bool) -> None:
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


#: Recorded with the SQL revision: the vector step was done then.
LINKED = "linked"
#: The SQL revision was only stamped, not checked.
STAMPED = "stamped"
#: A user asked to pass although the vector step was not done.
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Link:
    """One step of a SQL revision.

    Attributes:
        version_table: of Alembic, with its schema where it has one: distinguishes several Alembic environments.
        sql_revision: Alembic's id.
        step: our revision, or the key of an inline one.
        directive: ``require | run | apply | revert | fix``.
        state: ``linked | stamped | skipped``.
        actor: who ran Alembic.
        created_at: when; None for one that is still to be written.
    """

    version_table: str
    sql_revision: str
    step: str
    directive: str
    state: str
    actor: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LinkTable:
    """Where the ledger's tables are as another connection sees them.

    Attributes:
        database: of the ledger: its clock counts.
        schema: of its tables there; None for SQLite.
    """

    database: Database
    schema: str | None

    def put(self, connection: Connection, links: Iterable[Link]) -> None:
        """Write links in a transaction of the caller; the same ones again replace their rows."""
        table, options = tables.alembic_links, self._options()
        for link in links:
            key = and_(
                table.c.version_table == link.version_table,
                table.c.sql_revision == link.sql_revision,
                table.c.step == link.step,
            )
            connection.execute(delete(table).where(key), execution_options=options)
            values = {
                "version_table": link.version_table,
                "sql_revision": link.sql_revision,
                "step": link.step,
                "directive": link.directive,
                "state": link.state,
                "actor": readable(link.actor),
                "created_at": self.database.now(),
            }
            connection.execute(table.insert().values(**values), execution_options=options)

    def remove(self, connection: Connection, version_table: str, sql_revisions: Iterable[str]) -> None:
        """Remove the links of SQL revisions that are undone, in a transaction of the caller."""
        table = tables.alembic_links
        gone = and_(table.c.version_table == version_table, table.c.sql_revision.in_(list(sql_revisions)))
        connection.execute(delete(table).where(gone), execution_options=self._options())

    def _options(self) -> dict[str, object]:
        return {"schema_translate_map": {None: self.schema}} if self.schema else {}


def place_in(ledger: LedgerReader, connection: Connection) -> LinkTable | None:
    """The ledger's tables through another connection, or None when that is another database or may not write them.

    It begins a transaction on that connection: pass one that is not in use.
    """
    database = ledger.database
    if database.is_sqlite or connection.dialect.name != "postgresql":
        return LinkTable(database, None) if database.is_sqlite and _same_file(database, connection) else None
    with database.reading() as own:
        if _fingerprint(own) != _fingerprint(connection):
            return None
        schema = database.schema or own.scalar(text("SELECT current_schema()"))
    entered = connection.scalar(text("SELECT has_schema_privilege(:schema, 'USAGE')"), {"schema": schema})
    if not entered:
        return None
    quote = connection.dialect.identifier_preparer.quote
    name = f"{quote(str(schema))}.{quote(tables.alembic_links.name)}"
    asked = text("SELECT has_table_privilege(:name, :right)")
    rights = ("SELECT", "INSERT", "DELETE")
    allowed = all(connection.scalar(asked, {"name": name, "right": right}) for right in rights)
    return LinkTable(database, str(schema)) if allowed else None


def all_links(ledger: LedgerReader) -> tuple[Link, ...]:
    """Every link, in the order of the SQL revisions' names; nothing while the ledger has no tables."""
    table = tables.alembic_links
    query = select(table).order_by(table.c.created_at, table.c.sql_revision, table.c.step)
    return tuple(Link(**dict(row)) for row in ledger.rows(query))


def _same_file(database: Database, connection: Connection) -> bool:
    if connection.dialect.name != "sqlite" or database.file is None:
        return False
    files = [row[2] for row in connection.execute(text("PRAGMA database_list")) if row[1] == "main"]
    return bool(files and files[0]) and database.file.exists() and database.file.samefile(files[0])


def _fingerprint(connection: Connection) -> tuple[object, ...]:
    """What no other database has: the server's start, and the number of the database there."""
    query = "SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()"
    return tuple(connection.execute(text(query)).one())
