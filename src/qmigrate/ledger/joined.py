"""The lease of another process, used by a worker of that holder. It never takes, renews or releases a lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import and_, select, update

from qmigrate.errors import LeaseHeldError, LedgerError
from qmigrate.ledger.codec import Range
from qmigrate.ledger.fence import elapsed
from qmigrate.ledger.lease import Lease, Ledger
from qmigrate.ledger.tables import leases

#: How often a worker checks the lease, as a share of its time to live.
_LOOKS = 10


class JoinedLease(Lease):
    """The right to write what the holder of an epoch may write, as long as that holder renews it.

    A range belongs to one worker at a time: a checkpoint is refused when another worker has moved the range since this
    worker read it.
    """

    _gone = "its holder is gone"

    def __init__(self, ledger: Ledger, collection: str, epoch: int, ttl: float) -> None:
        super().__init__(ledger, collection, epoch, None, ttl)
        self._points: dict[int, int] = {}
        held = and_(leases.c.name == collection, leases.c.epoch == epoch, leases.c.expires_at > ledger.database.now())
        # Locks the holder's row and extends nothing; it has expired, or another process has it, where none is found.
        self._guard = update(leases).where(held).values(epoch=epoch)

    def own_range(self, run: int, step: int, number: int) -> Range:
        """The range as it is now: from here on its checkpoints are this worker's."""
        share = next(one for one in self.ledger.ranges(run, step) if one.number == number)
        self._points[number] = share.points
        return share

    def _check_range(self, number: int, points: int) -> None:
        if points != self._points.get(number, points):
            raise LeaseHeldError(
                f"range {number} of {self.collection} was advanced by another worker; nothing is written",
                hint="run the same command again: it continues from here",
            )

    def _range_moved(self, number: int, points: int) -> None:
        self._points[number] = points

    def _renewed(self, asked_at: float, seconds: float | None = None) -> None:
        """A write of a worker renews nothing."""

    def _beat(self) -> None:
        """Look how long the holder's lease is good for: on a connection of its own, so that no work is in the way."""
        database = self.ledger.database.dedicated()
        mine = and_(leases.c.name == self.collection, leases.c.epoch == self.epoch)
        query = select(leases.c.expires_at, database.now().label("now")).where(mine)
        try:
            while not self._ended.wait(self._ttl / _LOOKS):
                asked_at = elapsed()
                try:
                    with database.reading() as connection:
                        row = connection.execute(query).first()
                except LedgerError as error:
                    if self.remaining() <= 0:
                        self._lose(f"it could not be read in time ({error.message})")
                        return
                    continue
                left = 0.0 if row is None else (row.expires_at - row.now).total_seconds()
                if left <= 0:
                    self._lose(self._gone)
                    return
                with self._state:
                    self._deadline = asked_at + left
        finally:
            database.close()

    def _end(self) -> None:
        self._ended.set()
        self._heart.join(self._ttl)
        self._lose("its worker has ended")


@contextmanager
def join(ledger: Ledger, collection: str, epoch: int, *, ttl: float) -> Iterator[JoinedLease]:
    """Work next to the holder of `epoch` while the block runs.

    Args:
        collection: the logical name.
        epoch: of the holder, who must be at work.
        ttl: as the holder's.

    Raises:
        LeaseHeldError: that holder has no lease any more.
    """
    lease = JoinedLease(ledger, collection, epoch, ttl)
    with ledger.database.writing() as connection:
        lease._fence(connection)
    lease._begin()
    try:
        yield lease
    finally:
        lease._end()
