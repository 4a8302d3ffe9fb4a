"""A file that appears under its name only when it is complete and on the disk. It handles no format.

While it is written it has `PART` behind its name and is locked, so what a killed process left is not taken for what is
being written. Only the owner can read it, by default.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import portalocker

from qmigrate.errors import UnavailableError

#: The end of the name of a file that is not complete.
PART = ".part"


@contextmanager
def writing(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file to write; it takes the place of `path` at the end of the block, and is gone after an error.

    Args:
        mode: who may read it once it is complete: its owner only, where it holds data.

    Raises:
        UnavailableError: it can't be written, or another process is writing it.
    """
    try:
        private_folder(path.parent)
        part = path.with_name(path.name + PART)
        with _locked(part) as out:
            try:
                out.truncate()
                yield out
                out.flush()
                restrict(out, mode)
                os.fsync(out.fileno())
                _let_go(out)
                part.replace(path)
            except BaseException:
                _let_go(out)
                part.unlink(missing_ok=True)
                raise
        _sync(path.parent)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnavailableError(
            f"{path} can't be written: {reason}", hint="choose another folder, or make room"
        ) from error


def private_folder(folder: Path) -> None:
    """Make a folder, and what is missing above it, for this user alone; what exists keeps its rights.

    Raises:
        OSError: it can't be made.
    """
    # One by one: of several that `parents` makes, only the last would get the mode.
    for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path, *, empty: bool = False) -> int:
    """Open a file to read and write it; one that isn't there is made for this user alone.

    Args:
        empty: what it holds is dropped.

    Returns:
        Its descriptor, for :func:`os.fdopen`.

    Raises:
        OSError: it can't be opened.
    """
    # By default, Windows would write two bytes in place of one at the end of every line.
    binary = getattr(os, "O_BINARY", 0)
    return os.open(path, os.O_RDWR | os.O_CREAT | binary | (os.O_TRUNC if empty else 0), 0o600)


def restrict(file: IO[Any], mode: int = 0o600) -> None:
    """Set who may read an open file; on Windows it has the rights of its folder."""
    if sys.platform != "win32":
        os.fchmod(file.fileno(), mode)


def _let_go(file: IO[Any]) -> None:
    """On Windows a file that is open can be neither renamed nor removed; elsewhere its lock is held until then."""
    if sys.platform == "win32":
        file.close()


def clean(folder: Path, suffix: str) -> None:
    """Remove parts of files of this suffix whose writers have died; what is being written is locked and stays."""
    for left in folder.glob(f"*{suffix}{PART}"):
        with suppress(OSError, portalocker.exceptions.LockException), left.open("r+b") as file:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            _let_go(file)
            left.unlink()


def _locked(part: Path) -> IO[bytes]:
    while True:
        out = os.fdopen(private_file(part), "wb")
        try:
            portalocker.lock(out, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            if part.exists() and os.path.samestat(os.fstat(out.fileno()), part.stat()):
                return out
        except portalocker.exceptions.LockException as error:
            out.close()
            raise UnavailableError(f"another process is writing {part}", hint="wait until it has ended") from error
        # A process that cleaned up was faster than the lock.
        out.close()


def _sync(folder: Path) -> None:
    """The new name is on the disk too. Windows can't be asked for that."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
