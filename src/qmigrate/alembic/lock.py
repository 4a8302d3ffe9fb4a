"""One Alembic run at a time: Alembic itself has no lock. It holds nothing on Alembic's own connection."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import portalocker
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from qmigrate.alembic.progress import log
from qmigrate.atomic_file import private_file, private_folder
from qmigrate.errors import LeaseHeldError, LedgerError

#: Seconds between two tries.
POLL = 0.2


@contextmanager
def only_one(engine: Engine, version_table: str, timeout: float) -> Iterator[None]:
    """Hold the lock of one Alembic version table while the block runs.

    PostgreSQL keeps it with a connection of its own outside any transaction, SQLite with a file next to the database:
    both let it go by themselves when the process dies.

    Args:
        engine: of Alembic's connection.
        version_table: with its schema.
        timeout: seconds to wait for another run.

    Raises:
        LeaseHeldError: another run kept it.
        LedgerError: the database can't be reached.
    """
    if engine.dialect.name == "postgresql":
        with _connected(engine) as connection:
            yield from _held(lambda: _advisory(connection, version_table), timeout, version_table)
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(version_table)})
    elif engine.dialect.name == "sqlite" and is_file(engine):
        file = Path(f"{engine.url.database}.alembic-lock")
        private_folder(file.parent)
        with os.fdopen(private_file(file), "r+b") as handle:
            yield from _held(lambda: _locked(handle), timeout, version_table)
    else:
        log.warning("no lock on %s: run one Alembic at a time", engine.dialect.name)
        yield


def is_file(engine: Engine) -> bool:
    """Whether a SQLite engine has a plain file that other connections see too."""
    name = engine.url.database or ""
    return name not in ("", ":memory:") and not name.startswith("file:")


def _held(take: Callable[[], bool], timeout: float, version_table: str) -> Iterator[None]:
    deadline, said = time.monotonic() + timeout, False
    while not take():
        left = deadline - time.monotonic()
        if left <= 0:
            raise LeaseHeldError(
                f"another Alembic run is working on {version_table} and did not finish within {timeout:g} s",
                hint="wait for it, or wait longer: alembic -x qdrant_lock_timeout=30m upgrade head",
            )
        if not said:
            log.info("another Alembic run is working on %s: waiting up to %g s", version_table, timeout)
            said = True
        time.sleep(min(POLL, left))
    yield


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise LedgerError(
            f"Alembic's database gives no second connection for the lock: {type(error).__name__}",
            hint="make the engine of env.py with poolclass=pool.NullPool, as Alembic's templates do",
        ) from error
    try:
        # Outside a transaction: an idle one would be ended by the server in the middle of a long step.
        yield connection.execution_options(isolation_level="AUTOCOMMIT")
    finally:
        # Closed for good, not pooled: the lock goes with the connection, also when it could not be given back.
        connection.invalidate()
        connection.close()


def _advisory(connection: Connection, version_table: str) -> bool:
    return bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(version_table)}))


def _key(version_table: str) -> int:
    return zlib.crc32(f"qmigrate alembic {version_table}".encode())


def _locked(handle: IO[bytes]) -> bool:
    try:
        portalocker.lock(handle, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.exceptions.LockException:
        return False
    return True
