"""How long a look at points is worth something: a change must not come long after it. It looks at nothing itself."""

from __future__ import annotations

import time

#: Seconds after which points are looked at again before they are changed: others write meanwhile.
WORTH = 5.0
#: Points that are looked at together at first, and how long such a portion should take, in seconds.
FIRST, QUICK, SLOW = 2000, 0.5, 1.5


class OldLookError(Exception):
    """Points were looked at too long ago to be changed: work was slow, or the process was stopped for a while."""


class Look:
    """When points were looked at."""

    def __init__(self) -> None:
        self._began = _clocks()

    @property
    def age(self) -> float:
        """Seconds since, by the clock that went on most: one of them stands still while a machine sleeps."""
        return max(now - then for now, then in zip(_clocks(), self._began, strict=True))

    def check(self) -> None:
        """See that it is still worth something.

        Raises:
            OldLookError: it is not.
        """
        if self.age > WORTH:
            raise OldLookError


class Pace:
    """How many points to look at together, so that little time lies between a look and the last change behind it."""

    def __init__(self) -> None:
        self._most = FIRST

    def portion(self, most: int) -> int:
        """As many as go in about a second, and no more than `most`."""
        return min(most, self._most)

    def took(self, points: int, seconds: float) -> None:
        """A portion of so many points has taken so long."""
        if seconds > SLOW:
            self._most = max(1, min(self._most, points) // 2)
        elif seconds < QUICK and points >= self._most:
            self._most *= 2


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()
