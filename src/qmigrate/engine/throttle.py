"""Keeps work below a rate, over all its threads together. It measures nothing of the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def waiting(tick: Callable[[], object]) -> Callable[[float], None]:
    """A pause that calls `tick` several times a second, so that a stop signal ends it."""

    def pause(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            tick()
            time.sleep(min(0.2, left))

    return pause


class Throttle:
    """At most `rate` points per second; None for no limit.

    Args:
        rate: points per second.
        pause: what waits for some seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        rate: float | None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0

    def portion(self, most: int) -> int:
        """How many points to take at a time: a second's worth, so that no change comes long after a check of them."""
        return most if not self._rate else max(1, min(most, int(self._rate)))

    def take(self, points: int) -> None:
        """Wait until `points` more may go."""
        if not self._rate:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + points / self._rate
        if start > now:
            self._pause(start - now)
