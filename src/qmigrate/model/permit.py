"""Leave to send the one request that deletes a collection: only a lease gives it. It sends and looks up nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

from qmigrate.errors import LeaseHeldError, QmigrateError
from qmigrate.model.names import PROBE_PREFIX


@final
class Permit:
    """Leave to delete one physical collection, for one request.

    A deletion can't be made conditional on the server, so it is asked for by this alone: the lease gives it in the
    transaction that records that the deletion has begun (``Lease.begin_deletion``), and lasts longer than the request.

    Args:
        physical: the collection.
        remaining: seconds for which no other process can take the lease.
    """

    __slots__ = ("_remaining", "_used", "physical")

    def __init__(self, physical: str, remaining: Callable[[], float]) -> None:
        self.physical = physical
        self._remaining = remaining
        self._used = False

    @classmethod
    def of_probe(cls, name: str) -> Permit:
        """For a collection that a probe of the server has made: its name is random, and no other client has it.

        Raises:
            QmigrateError: the name is not that of a probe.
        """
        if not name.startswith(PROBE_PREFIX):
            raise QmigrateError(f"{name} is not a probe's collection")
        return cls(name, lambda: math.inf)

    def use(self, seconds: float) -> str:
        """The physical name, right before the request is sent; once.

        Args:
            seconds: the longest that the request can take.

        Raises:
            LeaseHeldError: the lease may end before the request does; nothing may be sent.
            QmigrateError: it was used before.
        """
        if self._used:
            raise QmigrateError(f"the permit to delete {self.physical} was used already")
        if self._remaining() <= seconds:
            raise LeaseHeldError(
                f"{self.physical} was not deleted: too little time is left of the lease for the request",
                hint="run the same command again: it continues from here",
            )
        self._used = True
        return self.physical
