"""Taking, renewing and giving back the lease of a collection. What it allows is in ``writer``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, and_, select, update
from sqlalchemy.exc import IntegrityError

from qmigrate.errors import LeaseHeldError, LedgerError
from qmigrate.ledger.approvals import ApprovalWrites
from qmigrate.ledger.bases import BaseWrites
from qmigrate.ledger.erasing import ErasureWrites
from qmigrate.ledger.fence import Owner, elapsed
from qmigrate.ledger.quarantine import QuarantineWrites
from qmigrate.ledger.reader import LedgerReader
from qmigrate.ledger.tables import leases
from qmigrate.ledger.writer import RunWrites
from qmigrate.text import quote

#: Seconds between two checks of a lease that another process holds.
POLL = 0.2


class Lease(RunWrites, BaseWrites, QuarantineWrites, ErasureWrites, ApprovalWrites):
    """The right to write about one collection. Made by :meth:`Ledger.hold`; threads may share it."""

    ledger: Ledger

    def __init__(self, ledger: Ledger, collection: str, epoch: int, taken_over_from: str | None, ttl: float) -> None:
        super().__init__(ledger, collection, epoch, taken_over_from, ttl)
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lease {collection}", daemon=True)

    def __repr__(self) -> str:
        return f"Lease({self.collection!r}, epoch={self.epoch})"

    def _beat(self) -> None:
        """Renew until the end: on a connection of its own, so that no work can be in the way."""
        database = self.ledger.database.dedicated()
        pause = self._ttl / 3
        try:
            while not self._ended.wait(pause):
                asked_at = elapsed()
                try:
                    with database.writing() as connection:
                        self._fence(connection)
                    self._renewed(asked_at)
                    pause = self._ttl / 3
                except LeaseHeldError:
                    return
                except LedgerError as error:
                    if self.remaining() <= 0:
                        self._lose(f"it could not be renewed in time ({error.message})")
                        return
                    pause = min(1.0, self._ttl / 10)
        finally:
            database.close()

    def _begin(self) -> None:
        self._heart.start()

    def _end(self) -> None:
        """Stop renewing and let the next one in. A database that is gone lets it expire instead."""
        self._ended.set()
        # Not forever: a heartbeat that hangs in a dead network is a daemon and ends with the process.
        self._heart.join(self._ttl)
        mine = and_(leases.c.name == self.collection, leases.c.epoch == self.epoch)
        database = self.ledger.database
        with self._writer, suppress(LedgerError), database.writing() as connection:
            connection.execute(update(leases).where(mine).values(expires_at=database.now(), released=True))
        self._lose("it was released")


class Ledger(LedgerReader):
    """The ledger: it reads by itself, and hands out the lease that writes."""

    def hold(
        self,
        collection: str,
        *,
        timeout: float,
        ttl: float = 30.0,
        progress: Callable[[str], None] | None = None,
    ) -> AbstractContextManager[Lease]:
        """Hold the lease of a collection while the block runs; only its holder may write.

        Args:
            collection: the logical name.
            timeout: how many seconds to wait for another holder; 0 tries once.
            ttl: how many seconds the lease outlives its last renewal.
            progress: called with one line when the wait begins.

        Raises:
            LeaseHeldError: another process kept it.
            LedgerError: the tables are missing, or the database can't be written.
        """
        return _hold(self, collection, timeout=timeout, ttl=ttl, progress=progress)


@contextmanager
def _hold(
    ledger: Ledger, collection: str, *, timeout: float, ttl: float, progress: Callable[[str], None] | None
) -> Iterator[Lease]:
    """See :meth:`Ledger.hold`."""
    if not ledger.ready():
        raise LedgerError(f"the ledger ({ledger.url_label}) has no tables yet", hint="call Ledger.prepare() first")
    lease = _acquire(ledger, collection, timeout, ttl, progress)
    lease._begin()
    try:
        yield lease
    finally:
        lease._end()


def _acquire(
    ledger: Ledger, collection: str, timeout: float, ttl: float, progress: Callable[[str], None] | None
) -> Lease:
    owner = Owner.current(ledger.named)
    deadline = elapsed() + timeout
    said = False
    while True:
        holder = _holder(ledger, collection, owner)
        if holder is None:
            asked_at = elapsed()
            taken = _take(ledger, collection, owner, ttl)
            if taken is not None:
                lease = Lease(ledger, collection, taken.epoch, taken.before, ttl)
                lease._deadline = asked_at + ttl
                if taken.is_dead and progress is not None:
                    progress(f"{collection}: {taken.before} is dead: taken over at once")
                return lease
            continue
        left = deadline - elapsed()
        if left <= 0:
            raise _held(collection, holder)
        if progress is not None and not said:
            progress(f"waiting for {collection}: {_described(holder)}")
            said = True
        time.sleep(min(POLL, left))


def _holder(ledger: Ledger, collection: str, owner: Owner) -> RowMapping | None:
    """The row of a living holder, or None when the lease can be taken."""
    with ledger.database.reading() as connection:
        row = _row(connection, ledger, collection)
    return None if row is None or _is_free(row, owner) else row


def _row(connection: Connection, ledger: Ledger, collection: str) -> RowMapping | None:
    now = ledger.database.now().label("now")
    return connection.execute(select(leases, now).where(leases.c.name == collection)).mappings().first()


def _is_free(row: RowMapping, owner: Owner) -> bool:
    return row["expires_at"] <= row["now"] or owner.proves_dead(row)


class _Taken(NamedTuple):
    """A lease that was free.

    Attributes:
        before: who held it before without releasing it, or None.
        is_dead: whether that one is dead for certain; else its lease had ended, or was ended by a person.
    """

    epoch: int
    before: str | None = None
    is_dead: bool = False


def _take(ledger: Ledger, collection: str, owner: Owner, ttl: float) -> _Taken | None:
    """Take a free lease; None when another process was faster."""
    database = ledger.database
    values = {
        "owner": owner.label,
        **{name: value for name, value in asdict(owner).items() if name != "label"},
        "acquired_at": database.now(),
        "expires_at": database.now(ttl),
        "released": False,
        "unlocked_by": None,
        "unlocked_at": None,
    }
    with database.writing() as connection:
        row = _row(connection, ledger, collection)
        if row is None:
            try:
                with connection.begin_nested():
                    connection.execute(leases.insert().values(name=collection, epoch=1, **values))
            except IntegrityError:
                return None
            return _Taken(1)
        if not _is_free(row, owner):
            return None
        # Between the check and the change the row may have been taken or renewed: both show here.
        seen = and_(
            leases.c.name == collection,
            leases.c.epoch == row["epoch"],
            leases.c.expires_at == row["expires_at"],
        )
        epoch = row["epoch"] + 1
        if connection.execute(update(leases).where(seen).values(epoch=epoch, **values)).rowcount != 1:
            return None
        if row["released"]:
            return _Taken(epoch)
        return _Taken(epoch, row["owner"], owner.proves_dead(row))


def _described(holder: RowMapping) -> str:
    return (
        f"held by {holder['owner']} on host {holder['host']} "
        f"since {holder['acquired_at']:%Y-%m-%d %H:%M:%S} UTC, "
        f"until {holder['expires_at']:%H:%M:%S} UTC unless renewed"
    )


def _held(collection: str, holder: RowMapping) -> LeaseHeldError:
    return LeaseHeldError(
        f"another process works on {collection}: {_described(holder)}",
        hint=f"qmigrate status shows it; if it is certainly dead: qmigrate repair --unlock {quote(collection)}",
        facts={
            "collection": collection,
            "owner": holder["owner"],
            "host": holder["host"],
            "epoch": holder["epoch"],
        },
    )
