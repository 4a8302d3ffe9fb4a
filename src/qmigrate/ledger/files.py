"""Where a SQLite ledger may lie, and with which rights its file is made. It keeps no connection."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from qmigrate.errors import LedgerError
from qmigrate.whole import private_folder

#: Seconds that a SQLite statement waits for another writer of the same file.
BUSY_TIMEOUT = 60.0

#: File systems of one machine, whose locks and shared memory SQLite relies on. On any other, of a network, of a virtual
#: machine's host or of a program, two holders could both believe that they are alone.
LOCAL_FILE_SYSTEMS = frozenset(
    # On disks; in memory; layers over those; only to be read.
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2", "ufs", "apfs"}
    | {"hfs", "hfsplus", "ntfs", "ntfs3", "vfat", "exfat", "fuseblk"}
    | {"tmpfs", "ramfs", "rootfs"}
    | {"overlay", "aufs", "ecryptfs"}
    | {"squashfs", "erofs", "iso9660"}
)


def unlisted_mount(path: str, mounts: str, allowed: Collection[str] = ()) -> str | None:
    """The file system that `path` lies on, unless it is known to be local; None too where that is unknown.

    Args:
        path: absolute and without links.
        mounts: the text of ``/proc/mounts``.
        allowed: further types of file systems that are taken for local ones.

    Returns:
        For people: ``nfs4 at /mnt/share``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescaped(fields[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one covers the earlier.
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return f"{kind} at {best}" if kind and kind not in LOCAL_FILE_SYSTEMS and kind not in allowed else None


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def refuse_unlisted(file: Path, allowed: Collection[str] = ()) -> None:
    """Stop before a SQLite file is touched on a file system that is not known to be local.

    Args:
        file: it need not exist yet.
        allowed: further types of file systems that are taken for local ones.

    Raises:
        LedgerError: it lies on another one.
    """
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    found = unlisted_mount(str(file.resolve()), mounts, allowed)
    if found is not None:
        kind = found.partition(" ")[0]
        raise LedgerError(
            f"the SQLite ledger {file} lies on a file system that is not known to be local ({found}): others may not "
            "see its locks",
            hint="set ledger.url to a file on a local disk, or to a PostgreSQL database when several hosts migrate; "
            f"if no other machine reaches this file system: ledger.file_systems: [{kind}] in qmigrate.yaml",
        )


def make_file(file: Path) -> None:
    """Create an empty database file (0600) and its missing folders (0700); what exists keeps its rights.

    Raises:
        LedgerError: the folder or the file can't be made or written.
    """
    try:
        private_folder(file.parent)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise LedgerError(
            f"the SQLite ledger {file} can't be written: {error.strerror or error}",
            hint="give this user the right to write there, or set ledger.url to another place",
        ) from error
    if not os.access(file.parent, os.W_OK):
        # SQLite keeps its log and its locks in files next to the database.
        raise LedgerError(
            f"the folder {file.parent} of the SQLite ledger can't be written by this user",
            hint="give this user the right to write there, or set ledger.url to another place",
        )


def use_log(file: Path) -> None:
    """Switch the file to write-ahead logging, for good: readers and the writer don't block each other then.

    Raises:
        LedgerError: it is not a SQLite database, or others keep it locked.
    """
    try:
        # SQLite doesn't wait by itself for the lock that this switch needs.
        for attempt in Retrying(
            retry=retry_if_exception_type(sqlite3.OperationalError),
            stop=stop_after_delay(BUSY_TIMEOUT),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        ):
            with attempt, closing(open_file(file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(
            f"the SQLite ledger {file} can't be used: {error}",
            hint="set ledger.url to a file of the ledger's own, or end the process that keeps it locked",
        ) from error


def open_file(file: Path) -> sqlite3.Connection:
    """A connection to a file that exists; it begins no transaction by itself."""
    # Never "rwc": only make_file makes a file. A read-only file can still be read.
    mode = "rw" if os.access(file, os.W_OK) else "ro"
    return sqlite3.connect(
        f"{file.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
