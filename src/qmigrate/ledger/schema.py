"""Creates and evolves the ledger's tables, once, by the first process. It reads and writes no state.

The revisions in ``versions/`` are Alembic's, under a version table of their own. They are run through
Alembic's objects, not through ``alembic.command``: that would take away the ``op`` and ``context`` of an
Alembic run around it, and migrations of the application may well call qmigrate.
"""

from __future__ import annotations

import secrets
import uuid
import zlib
from pathlib import Path

from sqlalchemy import Connection, column, inspect, select, table, text, update
from sqlalchemy.schema import CreateSchema

from qmigrate.errors import LedgerError
from qmigrate.ledger import tables
from qmigrate.ledger.database import Database
from qmigrate.ledger.engines import LOCK_TIMEOUT

#: Never ``alembic_version``, which is the user's.
VERSION_TABLE = "qdrant_ledger_version"
#: The newest revision in ``versions/``.
HEAD = "0009"
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
        LedgerError: they are of another version.
    """
    if found == HEAD:
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
    script = ScriptDirectory(str(here), version_locations=[str(here / "versions")])
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
