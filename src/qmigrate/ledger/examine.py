"""What can be known of the ledger's database without writing: clock, version, rights, place. It judges nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select, text

from qmigrate.ledger import schema, tables
from qmigrate.ledger.database import Database, open_file

#: Seconds that the look for the right to write waits for another writer of a SQLite file.
PATIENCE = 2.0
#: What every table of the ledger needs.
_TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """One check of the database.

    Attributes:
        server: product and version, e.g. ``PostgreSQL 16.3``.
        seconds: how long one small statement took.
        skew: how many seconds its clock is ahead of this machine's; None where it is this machine's.
        version: of the ledger's tables, or None while there are none.
    """

    server: str
    seconds: float
    skew: float | None
    version: str | None


@dataclass(frozen=True, slots=True)
class SqlRights:
    """What the ledger's user may do.

    Attributes:
        lacking: missing rights, as ``INSERT on qdrant_leases``; empty when it may write.
        creates: whether it may make tables: needed by the first upgrade, and by a newer qmigrate.
        busy: another writer kept a SQLite file locked, so nothing is known.
    """

    lacking: tuple[str, ...] = ()
    creates: bool = True
    busy: bool = False


def examine_ledger(database: Database) -> LedgerReport:
    """Reach the database, and compare its clock.

    Raises:
        LedgerError: it can't be reached or read.
    """
    if not database.exists:
        return LedgerReport(f"SQLite {sqlite3.sqlite_version}", 0.0, None, None)
    with database.reading() as connection:
        # The first statement opens the connection, which takes longer than any other.
        server = _server(connection, database)
        before, started = datetime.now(UTC), time.monotonic()
        there: datetime = connection.execute(select(database.now())).scalar_one()
        seconds = time.monotonic() - started
        ahead = (there - before).total_seconds() - seconds / 2
        return LedgerReport(
            server, seconds, None if database.is_sqlite else ahead, schema.version(connection, database.schema)
        )


def rights(database: Database) -> SqlRights:
    """What the user may do with the ledger's tables, as the database itself reports; nothing is tried out.

    Raises:
        LedgerError: it can't be reached.
    """
    if database.file is not None:
        return _rights_of_file(database.file)
    with database.reading() as connection:
        if connection.scalar(text("SELECT pg_is_in_recovery()")):
            return SqlRights(lacking=("writing: it is a read-only replica",), creates=False)
        if connection.scalar(text("SHOW transaction_read_only")) == "on":
            return SqlRights(lacking=("writing: its transactions are read-only",), creates=False)
        return SqlRights(tuple(_lacking(connection, database.schema)), _creates(connection, database.schema))


def free_disk(database: Database) -> tuple[Path, int] | None:
    """Folder of a SQLite ledger, and the bytes free there; None for a server, which doesn't report it."""
    if database.file is None:
        return None
    folder = _nearest(database.file.parent)
    return folder, shutil.disk_usage(folder).free


def _server(connection: Connection, database: Database) -> str:
    if database.is_sqlite:
        return f"SQLite {sqlite3.sqlite_version}"
    return f"PostgreSQL {connection.scalar(text('SHOW server_version'))}"


def _lacking(connection: Connection, schema_name: str | None) -> Iterator[str]:
    """Rights that are missing on the tables that are there, and on what numbers their rows."""
    present = set(inspect(connection).get_table_names(schema=schema_name))
    for name in sorted({schema.VERSION_TABLE, *tables.metadata.tables} & present):
        quoted = _quoted(connection, schema_name, name)
        for right in _TABLE_RIGHTS:
            asked = text("SELECT has_table_privilege(CAST(:name AS regclass), :right)")
            if not connection.scalar(asked, {"name": quoted, "right": right}):
                yield f"{right} on {name}"
        numbered = text(
            "SELECT found.relname FROM pg_depend JOIN pg_class AS found ON found.oid = pg_depend.objid "
            "WHERE pg_depend.refobjid = CAST(:name AS regclass) AND pg_depend.deptype = 'a' "
            "AND CASE WHEN found.relkind = 'S' THEN NOT has_sequence_privilege(found.oid, 'USAGE') ELSE false END"
        )
        for sequence in connection.scalars(numbered, {"name": quoted}):
            yield f"USAGE on {sequence}"


def _creates(connection: Connection, schema_name: str | None) -> bool:
    wanted = schema_name if schema_name is not None else connection.scalar(text("SELECT current_schema()"))
    if wanted is None:
        return False
    if not inspect(connection).has_schema(wanted):
        found = connection.scalar(text("SELECT has_database_privilege(current_database(), 'CREATE')"))
    else:
        found = connection.scalar(text("SELECT has_schema_privilege(:name, 'CREATE')"), {"name": wanted})
    return bool(found)


def _quoted(connection: Connection, schema_name: str | None, name: str) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema_name)}.{quote(name)}" if schema_name else quote(name)


def _rights_of_file(file: Path) -> SqlRights:
    """A write transaction is begun and rolled back: it holds nothing, so the file stays as it is."""
    if not file.exists():
        folder = _nearest(file.parent)
        writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
        return SqlRights() if writable else SqlRights((f"writing in {folder}",), creates=False)
    if not os.access(file.parent, os.W_OK):
        # SQLite keeps its log and its locks in files next to the database.
        return SqlRights((f"writing in {file.parent}",), creates=False)
    try:
        with _patient(file) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            return SqlRights(busy=True)
        return SqlRights((f"writing {file} ({error})",), creates=False)
    except sqlite3.Error as error:
        return SqlRights((f"writing {file} ({error})",), creates=False)
    return SqlRights()


@contextmanager
def _patient(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_file(file)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")
        yield connection


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
