"""The guard of every write: a transaction that first locks the lease row at its epoch. It holds no lease."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Connection, Select, Table, Update, and_, case, func, select, update

from qmigrate.errors import LeaseHeldError, LedgerError, QmigrateError
from qmigrate.ledger import tables

if TYPE_CHECKING:
    from qmigrate.ledger.codec import Range
    from qmigrate.ledger.database import Database


def elapsed() -> float:
    """Seconds of a clock that is never set, and that counts while the machine is suspended."""
    if sys.platform == "win32":
        now = time.monotonic()
    else:
        # On macOS it is the clock of this name, and not the one that Python's monotonic() reads.
        now = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return now


class Reads(Protocol):
    """What the writing side needs of the ledger that it writes into."""

    @property
    def database(self) -> Database:
        """Where the tables are."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Further facts of the caller, for the audit."""

    def rows(self, query: Select[Any]) -> list[Any]:
        """The rows of a query over the ledger's tables; none while there are no tables."""

    def ranges(self, run: int, step: int) -> tuple[Range, ...]:
        """The ranges of a step, in order."""


class Fenced:
    """What a lease is for SQL: its epoch, its deadline, and the transaction that both guard.

    Attributes:
        collection: the logical name.
        epoch: grows with every acquisition.
        taken_over_from: who held it before and did not end cleanly, or None.
        ledger: for reading.
    """

    #: Why the lease is lost when its row is not there as it was.
    _gone = "another process took it over"

    def __init__(
        self, ledger: Reads, collection: str, epoch: int, taken_over_from: str | None, ttl: float
    ) -> None:
        self.ledger = ledger
        self.collection = collection
        self.epoch = epoch
        self.taken_over_from = taken_over_from
        self._ttl = ttl
        self._deadline = elapsed() + ttl
        self._lost: str | None = None
        self._server: str | None = None
        # One write at a time: threads of one holder would only queue up for the lease row.
        self._writer = threading.RLock()
        mine = and_(tables.leases.c.name == collection, tables.leases.c.epoch == epoch)
        self._mine = mine
        # Every write sends it: given once, it is also looked up once among the statements that are compiled.
        self._guard = self._extension(ttl)
        self._state = threading.Lock()

    def _extension(self, seconds: float) -> Update:
        """Locks the own lease row and lets it last so long at least; one that lasts longer is not cut short."""
        until = self.ledger.database.now(seconds)
        leases = tables.leases
        lasting = case((leases.c.expires_at > until, leases.c.expires_at), else_=until)
        return update(leases).where(self._mine).values(expires_at=lasting)

    def remaining(self) -> float:
        """Seconds until the holder must assume that the lease has expired; 0 when it is lost."""
        with self._state:
            return 0.0 if self._lost else max(0.0, self._deadline - elapsed())

    def _renewed(self, asked_at: float, seconds: float | None = None) -> None:
        """A renewal was granted; the database counted from a later moment than `asked_at`."""
        with self._state:
            self._deadline = max(self._deadline, asked_at + (self._ttl if seconds is None else seconds))

    def _lose(self, why: str) -> None:
        with self._state:
            self._lost = self._lost or why

    def _check(self) -> None:
        """Stop when the lease is lost, or may be by now."""
        if self.remaining() <= 0:
            self._lose("it could not be renewed in time")
            raise self._lost_error()

    def _lost_error(self) -> LeaseHeldError:
        return LeaseHeldError(
            f"the lease of {self.collection} (epoch {self.epoch}) is lost: {self._lost}; nothing is written",
            hint="run the same command again: it continues from here",
            facts={"collection": self.collection, "lost": True},
        )

    def _fence(self, connection: Connection) -> None:
        """Lock and extend the own lease row; fails once another process has taken it."""
        if connection.execute(self._guard).rowcount != 1:
            self._lose(self._gone)
            raise self._lost_error()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A fenced write transaction; see the module's first line.

        Raises:
            LeaseHeldError: the lease is lost; nothing was written.
            LedgerError: the database can't be reached or written; nothing was written.
        """
        with self._writer:
            self._check()
            asked_at = elapsed()
            with self.ledger.database.writing() as connection:
                self._fence(connection)
                yield connection
                if elapsed() - asked_at > self._ttl / 3:
                    # The work took long, and the heartbeat waits behind it.
                    asked_at = elapsed()
                    self._fence(connection)
            self._renewed(asked_at)

    def is_lost(self) -> bool:
        """Whether another process has taken it over, or may have; asks the database where nothing is known yet."""
        try:
            self.renew()
        except LeaseHeldError:
            return True
        except LedgerError:
            return self.remaining() <= 0
        return False

    def renew(self) -> None:
        """A write that changes nothing else: shows that the lease is still held.

        Raises:
            LeaseHeldError: another process has taken it over.
        """
        with self._write():
            pass

    def _run_update(self, connection: Connection, run: int, values: Mapping[str, Any]) -> None:
        """Change a run of the own collection.

        Raises:
            QmigrateError: there is no such run: a caller's mistake.
        """
        runs = tables.runs
        mine = and_(runs.c.id == run, runs.c.collection == self.collection)
        if connection.execute(update(runs).where(mine).values(**values)).rowcount != 1:
            raise QmigrateError(f"run {run} is not a run of {self.collection}")


def upsert(
    connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], **only_new: Any
) -> None:
    """Update the row of `key`, or insert it with `only_new` besides; the fence makes it atomic."""
    where = and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(update(table).where(where).values(**values)).rowcount == 0:
        connection.execute(table.insert().values(**key, **values, **only_new))


def next_number(connection: Connection, column: Any, *where: Any) -> int:
    """One above the largest value of `column` among the rows that fit; 0 when there are none."""
    highest = connection.scalar(select(func.max(column)).where(*where))
    return 0 if highest is None else int(highest) + 1


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a lease.

    Attributes:
        label: for people: user, host and process id.
        host: its name. Machines that are copies of each other in one state may share a boot id.
        boot_id: of the running kernel; None where the system doesn't report it.
        pid_namespace: within which `pid` means something; None as above. Where a process has a clock of its own, by
            which `process_start` is counted, that is named too.
        process_start: in clock ticks since boot, so that a reused process id is not taken for the holder.
    """

    label: str
    host: str
    boot_id: str | None
    pid_namespace: str | None
    pid: int
    process_start: int | None

    @classmethod
    def current(cls, actor: str | None = None) -> Owner:
        """This process.

        Args:
            actor: for whom it works, where that is not the user of the system.
        """
        pid = os.getpid()
        found = _process(pid)
        user = system_user()
        return cls(
            label=f"{actor} ({user}, process {pid})" if actor else f"{user} (process {pid})",
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            process_start=found.start if found else None,
        )

    def proves_dead(self, lease: Mapping[Any, Any]) -> bool:
        """Whether the holder that a lease row names ran here and is gone for certain; False in any doubt.

        Only Linux reports which boot and which set of processes a number belongs to: elsewhere a lease is waited out.
        Of a process that is only stopped the number and the start are still there: it lives.
        """
        here = (self.host, self.boot_id, self.pid_namespace)
        if None in here or here != (lease["host"], lease["boot_id"], lease["pid_namespace"]):
            return False
        pid, start = lease["pid"], lease["process_start"]
        if not pid or start is None:
            return False
        try:
            # Not by /proc alone: it may hide the processes of other users.
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
        found = _process(pid)
        return found is not None and (found.start != start or found.is_dead)


def system_user() -> str:
    """User and host of this process, as ``user@host``: who does something, where no other actor is named."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container's user without a name; on Windows users have no number.
        user = _number_of_user()
    return f"{user}@{socket.gethostname()}"


def _number_of_user() -> str:
    if sys.platform == "win32":
        user = "unknown"
    else:
        user = str(os.getuid())
    return user


@dataclass(frozen=True, slots=True)
class _Process:
    state: str
    threads: int
    start: int

    @property
    def is_dead(self) -> bool:
        """Killed, and only waiting for its parent; with more threads some may still be on their way out."""
        return self.state in "ZX" and self.threads <= 1


def _process(pid: int) -> _Process | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold blanks and brackets.
    fields = line.rpartition(")")[2].split()
    return _Process(state=fields[0], threads=int(fields[17]), start=int(fields[19]))


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


#: The clock that every process has that was given none of its own: a constant of the kernel.
_COMMON_CLOCK = 0xEFFFFFFA


def _pid_namespace() -> str | None:
    """Where a process id means one process, and a start one moment; None where /proc shows another place's."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        pids = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
    try:
        clock = os.stat("/proc/self/ns/time").st_ino
    except FileNotFoundError:
        # A kernel that has one clock for all.
        clock = _COMMON_CLOCK
    except OSError:
        return None
    return str(pids) if clock == _COMMON_CLOCK else f"{pids}/{clock}"
