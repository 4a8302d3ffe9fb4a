"""Creates and evolves the ledger's tables, once, by the first process. It reads and writes no state.

The revisions in ``migrations/`` are Alembic's, under a version table of their own. They are run through
Alembic's objects, not through ``alembic.command``: that would take away the ``op`` and ``context`` of an
Alembic run around it, and migrations of the application may well call qmigrate.
"""

from __future__ import annotations

import secrets
import uuid
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Enum,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    column,
    inspect,
    select,
    table,
    text,
    update,
)
from sqlalchemy.schema import CreateSchema, SchemaConst
from sqlalchemy.types import TypeEngine

from qmigrate.errors import LedgerError
from qmigrate.ledger import tables
from qmigrate.ledger.database import LOCK_TIMEOUT, Database

#: Kinds of columns that can stand for each other, most special first.
KINDS: tuple[tuple[str, type[TypeEngine[Any]]], ...] = (
    ("enumeration", Enum),
    ("text", String),
    ("number", Integer),
    ("fraction", Float),
    ("time", DateTime),
    ("JSON", JSON),
    ("bytes", LargeBinary),
    ("flag", Boolean),
)


def create_or_extend(operations: Operations, table: Table, schema: str | None) -> None:
    """Create `table`, or add what is missing (nullable) to the user's table of that name.

    Args:
        operations: of the Alembic revision that needs it.
        table: as the ledger needs it, without a schema.
        schema: PostgreSQL schema, or None.

    Raises:
        LedgerError: a column of the existing table can't take what the ledger writes.
    """
    connection = operations.get_bind()
    inspector = inspect(connection)
    if not inspector.has_table(table.name, schema=schema):
        # A MetaData of its own: a revision may run again in the same process, for another schema.
        table.to_metadata(MetaData(schema=schema), schema=schema or SchemaConst.RETAIN_SCHEMA).create(connection)
        return
    found = {existing["name"]: existing for existing in inspector.get_columns(table.name, schema=schema)}
    numbered = set(inspector.get_pk_constraint(table.name, schema=schema)["constrained_columns"])
    for needed in table.columns:
        if needed.name in found:
            problem = _mismatch(connection, needed, found[needed.name], numbered)
            if problem is not None:
                raise _refused(table.name, needed.name, problem)
    for name, existing in found.items():
        if name not in table.columns and _must_be_given(existing):
            raise _refused(table.name, name, "is NOT NULL without a default, and the ledger doesn't fill it")
    for needed in table.columns:
        if needed.name not in found:
            operations.add_column(table.name, Column(needed.name, needed.type, nullable=True), schema=schema)


def _mismatch(
    connection: Connection, wanted: Column[Any], existing: Mapping[str, Any], numbered: set[str]
) -> str | None:
    """Why an existing column can't be used as `wanted`, or None."""
    sqlite = connection.dialect.name == "sqlite"
    have, need = _kind(existing["type"]), _kind(wanted.type)
    if have != need and not (sqlite and (have, need) in {("text", "JSON"), ("number", "flag")}):
        return f"holds {have} ({existing['type']}) where the ledger writes {need} ({wanted.type})"
    if need == "text" and not sqlite:
        have_length, need_length = existing["type"].length, getattr(wanted.type, "length", None)
        if have_length is not None and (need_length is None or have_length < need_length):
            return f"takes {have_length} characters where the ledger writes {need_length or 'any number'}"
    if wanted.primary_key and wanted.autoincrement is True:
        if not _numbers_itself(existing, sqlite=sqlite, is_key=numbered == {wanted.name}):
            return "doesn't number its rows by itself"
    elif wanted.nullable and _must_be_given(existing):
        return "is NOT NULL without a default, and the ledger leaves it empty at times"
    return None


def _kind(found: TypeEngine[Any]) -> str:
    return next((name for name, kind in KINDS if isinstance(found, kind)), type(found).__name__)


def _must_be_given(column: Mapping[str, Any]) -> bool:
    filled = column.get("default") is not None or column.get("identity") or column.get("computed")
    return not column["nullable"] and not filled


def _numbers_itself(column: Mapping[str, Any], *, sqlite: bool, is_key: bool) -> bool:
    if sqlite:
        return is_key and str(column["type"]).upper() == "INTEGER"
    return column.get("default") is not None or bool(column.get("identity"))


def _refused(table: str, column: str, why: str) -> LedgerError:
    return LedgerError(
        f"the database has a table {table} of its own that the ledger can't share: column {column} {why}",
        hint="rename it, or give the ledger its own place: ledger.url, or ledger.schema on PostgreSQL",
    )


#: Never ``alembic_version``, which is the user's.
VERSION_TABLE = "qdrant_ledger_version"
#: The newest revision in ``migrations/``.
HEAD = "0013"
#: The oldest that can be read: later ones have more tables, and no other columns.
READABLE = "0009"
_LOCK = zlib.crc32(VERSION_TABLE.encode())
#: Bytes of the key of the digests.
KEY_SIZE = 32


def version(connection: Connection, schema: str | None) -> str | None:
    """The revision that the tables are at, or None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    found = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE, schema=schema)))
    return str(found) if found is not None else None


def check_version(found: str, label: str) -> None:
    """Stop before tables are read that this code doesn't know.

    Raises:
        LedgerError: they are of a version that can't be read.
    """
    if READABLE <= found <= HEAD:
        return
    if found < HEAD:
        raise LedgerError(
            f"the ledger ({label}) is at version {found}, older than the version {HEAD} of this qmigrate",
            hint="the next qmigrate upgrade upgrades it, and so does alembic upgrade",
        )
    raise LedgerError(
        f"the ledger ({label}) is at version {found}, and this qmigrate works with version {HEAD}",
        hint="install the qmigrate that created it, or a newer one",
    )


def prepare(database: Database) -> str:
    """Create or evolve the tables and the identity row; nothing happens when they are there.

    Returns:
        The ledger's id.

    Raises:
        LedgerError: unreachable, not writable, of a newer qmigrate, or a table of the user is in the way.
    """
    found = _prepared(database)
    if found is not None:
        return found
    database.create()
    with database.writing() as connection:
        _lock(connection, database)
        _evolve(connection, database)
        return _identity(connection, database)


def _prepared(database: Database) -> str | None:
    """The identity when nothing is left to do: the common case takes no lock."""
    if not database.exists:
        return None
    with database.reading() as connection:
        if version(connection, database.schema) != HEAD:
            return None
        return connection.scalar(select(tables.ledger.c.id))


def _lock(connection: Connection, database: Database) -> None:
    """One process at a time; on SQLite the transaction itself is the lock."""
    if not database.is_sqlite:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _evolve(connection: Connection, database: Database) -> None:
    schema = database.schema
    if schema is not None and not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema, if_not_exists=True))
    found = version(connection, schema)
    if found == HEAD:
        return
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    here = Path(__file__).parent
    script = ScriptDirectory(str(here), version_locations=[str(here / "migrations")])
    if found is not None and found not in {one.revision for one in script.walk_revisions()}:
        check_version(found, database.label)
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": schema}
    )
    pending = list(script.iterate_revisions("head", found or "base"))
    for revision in reversed(pending):
        revision.module.upgrade(Operations(context), schema)
        context.stamp(script, revision.revision)


def _identity(connection: Connection, database: Database) -> str:
    """The row of the ledger itself: made once, and given a key where an earlier version has made it without one."""
    found = connection.execute(select(tables.ledger.c.id, tables.ledger.c.digest_key)).first()
    if found is None:
        values = {"id": uuid.uuid4().hex, "created_at": database.now(), "digest_key": secrets.token_bytes(KEY_SIZE)}
        connection.execute(tables.ledger.insert().values(**values))
        return str(values["id"])
    if found.digest_key is None:
        connection.execute(update(tables.ledger).values(digest_key=secrets.token_bytes(KEY_SIZE)))
    return str(found.id)
