"""How long a look at points is worth something: a change must not come long after it. It looks at nothing itself.

Nor is a look worth anything while writes wait that the server has accepted before: who doesn't wait for theirs was
told that they are safe, and a change that comes behind them in the queue would meet what nobody has looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds after a check in which requests may follow the first one: others write at the same time.
WORTH = 5.0
#: A check that takes longer may be one in which the process was stopped: it is done again, and then it is slow.
LONGEST = 60.0
#: Points that are checked together at first, and how long their change should take, in seconds.
FIRST, QUICK, SLOW = 2000, 0.5, 1.5


class OldLookError(Exception):
    """Points were checked too long ago to be changed: work was slow, or the process was stopped for a while.

    Args:
        portion: how many of them can be changed in time is the question; else the look itself took long.
    """

    def __init__(self, portion: bool) -> None:
        super().__init__(portion)
        self.portion = portion


class Look:
    """When points were checked."""

    def __init__(self) -> None:
        self._began = _clocks()

    @property
    def age(self) -> float:
        """Seconds since, by the clock that went on most: one of them stands still while a machine sleeps."""
        return max(now - then for now, then in zip(_clocks(), self._began, strict=True))

    def check(self, limit: float, *, portion: bool) -> None:
        """See that it is not longer ago than `limit` seconds.

        Raises:
            OldLookError: it is.
        """
        if self.age > limit:
            raise OldLookError(portion)


def settle(flush: Callable[[], object]) -> None:
    """Have everything done that the server has accepted for a collection: asked right before a look.

    Args:
        flush: waits for it.

    Raises:
        OldLookError: it took so long that as much may wait again.
    """
    asked = Look()
    flush()
    asked.check(WORTH, portion=False)


class Pace:
    """How many points to check together, so that little time lies between a check and the last change after it.

    A check may be slow whatever it is about; what counts is the time after it.
    """

    def __init__(self) -> None:
        self._most = FIRST

    def portion(self, most: int) -> int:
        """As many as go in about a second, and no more than `most`."""
        return min(most, self._most)

    def took(self, points: int, seconds: float) -> None:
        """The change of this many points has taken this long."""
        if seconds > SLOW:
            self._most = max(1, min(self._most, points) // 2)
        elif seconds < QUICK and points >= self._most:
            self._most *= 2


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()
