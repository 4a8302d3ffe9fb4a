"""What is put aside while something is read: files in TMPDIR that have no name, or go with their block.

Where there is no room for them, an error names the folder. It handles no format, and nothing but this uses TMPDIR.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from qmigrate.errors import UnavailableError

_PREFIX = "qmigrate-"
#: Codes by which SQLite reports that its file can't be made, written or read.
_NO_ROOM = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)


@contextmanager
def room() -> Iterator[None]:
    """Around what makes, writes or reads such a file, and nothing else: another OSError would be taken for its own.

    Raises:
        UnavailableError: there is no room for it.
    """
    try:
        yield
    except OSError as error:
        raise _unavailable(error.strerror or str(error)) from error


def folder() -> str:
    """Where such files lie.

    Raises:
        UnavailableError: there is none.
    """
    with room():
        return tempfile.gettempdir()


@contextmanager
def file() -> Iterator[IO[bytes]]:
    """A file without a name, that only this user can read; see :func:`room`."""
    with room():
        made = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115  closed below
    try:
        yield made
    finally:
        # What it still has to write is never read.
        with suppress(OSError):
            made.close()


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder that only this user can read, gone at the end of the block."""
    with room():
        made = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    with made as path:
        yield Path(path)


@contextmanager
def tables(*statements: str) -> Iterator[sqlite3.Connection]:
    """Tables of SQLite in a file without a name, in one transaction that is never committed.

    Args:
        statements: that make them.

    Raises:
        UnavailableError: there is no room for them, at any time in the block.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as made:
            for one in ("PRAGMA journal_mode = OFF", *statements, "BEGIN"):
                made.execute(one)
            yield made
    except sqlite3.Error as error:
        # The last byte of an extended code is the code.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_ROOM:
            raise
        raise _unavailable(str(error)) from error


def _unavailable(reason: str) -> UnavailableError:
    where = "the folder for temporary files"
    with suppress(OSError):
        where = f"{where}, {tempfile.gettempdir()},"
    return UnavailableError(
        f"{where} can't take temporary files: {reason}",
        hint="make room there, or name another folder in TMPDIR; then run the same command again",
    )
