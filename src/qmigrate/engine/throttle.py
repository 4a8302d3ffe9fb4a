"""Keeps work below a rate, over all its threads together; and finds that rate by how long searches take meanwhile.

It writes nothing, and asks nothing but searches, and how long the queue of updates is.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from qmigrate.errors import QmigrateError
from qmigrate.ports import Store
from qmigrate.store.faults import LimitedError, TransientError
from qmigrate.store.server.requests import sent_once
from qmigrate.text import took

_log = logging.getLogger(__name__)
#: Searches that are judged together: of a hundred, the 99th percentile is the slowest but one.
SEARCHES = 100
#: That many at least, before the rate is changed by them; and seconds between two searches, and two changes.
FEWEST, SEARCH_EVERY, CHANGE_EVERY = 10, 0.1, 1.0
#: What the rate becomes of what it was: where searches take too long, where they take well less than they may.
SLOWER, FASTER, WELL = 0.7, 1.2, 0.8
#: How much the newest of :data:`CHANGE_EVERY` counts in how fast the work goes.
RECENT = 0.4
#: The least rate, as a share of the highest that was seen: what takes long without us as well must not end the work.
LEAST = 0.02
#: Points of which no wait is left.
_GONE = 1e-3
#: Updates that wait in the queue of a collection; a server accepts 200, and has its clients wait from there on.
LONGEST_QUEUE = 100


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

    def note(self) -> str:
        """For the progress line; a rate that a person has set needs no explanation."""
        return ""


class Pace(Throttle):
    """A rate that follows how long searches take: it falls where they take too long, and rises again.

    Args:
        most: points per second, whatever the searches; None for no limit.
        latency: that searches may take, in seconds.
        pause: what waits for some seconds.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        most: float | None,
        latency: float,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(most, pause, clock)
        self._most = most
        self._latency = latency
        self._seen: deque[float] = deque(maxlen=SEARCHES)
        self._taken, self._since = 0, clock()
        self._owed, self._at = 0.0, self._since
        self._going, self._highest = 0.0, 0.0
        self._said, self._blind = "", False

    def take(self, points: int) -> None:
        """Wait until `points` more may go; where the rate rises meanwhile, no longer than they take by then."""
        with self._lock:
            self._taken += points
        while (left := self._left(points)) > 0:
            self._pause(min(left, CHANGE_EVERY))

    def _left(self, points: int) -> float:
        """Seconds until those before them have gone; 0 where they have, and these go now."""
        with self._lock:
            self._elapse()
            if self._rate and self._owed > _GONE:
                return self._owed / self._rate
            self._owed = points
            return 0.0

    def _elapse(self) -> None:
        """What went by now at the rate that there was; the lock is held."""
        now = self._clock()
        self._owed = max(0.0, self._owed - self._rate * (now - self._at)) if self._rate else 0.0
        self._at = now

    def saw(self, seconds: float) -> None:
        """A search took this long; one without an answer took forever."""
        with self._lock:
            self._seen.append(seconds)

    def give_up(self, why: str) -> None:
        """Searches can't be measured: from now on nothing but the given rate counts."""
        with self._lock:
            self._elapse()
            self._blind, self._rate, self._said = True, self._most, f"searches can't be measured: {why}"

    def adapt(self, queued: int) -> None:
        """Change the rate by what was seen.

        Args:
            queued: updates that wait in the queue of the live collection.
        """
        with self._lock:
            self._elapse()
            now = self._at
            newest = self._taken / max(now - self._since, 1e-9)
            self._taken, self._since = 0, now
            # Pages come in bursts: of the last seconds, the newest counts most.
            self._going += (newest - self._going) * RECENT if self._going else newest
            self._highest = max(self._highest, self._going)
            # Before any points went, nothing of ours was slow.
            if self._blind or len(self._seen) < FEWEST or not self._highest:
                return
            slowest = sorted(self._seen)[max(0, math.ceil(len(self._seen) * 0.99) - 1)]
            if slowest > self._latency or queued > LONGEST_QUEUE:
                self._rate = max(min(self._rate or math.inf, self._going) * SLOWER, self._highest * LEAST, 1.0)
                # The next change goes by what it has brought.
                self._seen.clear()
            elif self._rate and self._rate != self._most and slowest < self._latency * WELL:
                self._rate = self._raised()
            self._said = self._words(slowest, queued)

    def _raised(self) -> float | None:
        """The next higher rate; the highest there is where it is none that holds anything back."""
        assert self._rate is not None  # noqa: S101  the caller has one
        raised = self._rate * FASTER
        if raised > 2 * self._highest or (self._most is not None and raised >= self._most):
            return self._most
        return raised

    def _words(self, slowest: float, queued: int) -> str:
        time_of = f"searches take {took(slowest)}" if math.isfinite(slowest) else "searches have no answer in time"
        allowed = f"rebuild.max_latency {took(self._latency)}"
        if self._rate == self._most:
            return f"{time_of}, {allowed}"
        why = f"{queued:,} updates are queued" if queued > LONGEST_QUEUE else f"{time_of}, {allowed}"
        return f"slowed to {self._rate:,.0f} points/s: {why}"

    def note(self) -> str:
        """For the progress line: how long searches take, and how slow that has made the work."""
        return self._said


@contextmanager
def watched(pace: Pace, store: Store, name: str, questions: tuple[str, Sequence[object]]) -> Iterator[None]:
    """While the block runs, searches in `name` tell how fast the work may be.

    Args:
        questions: name of a vector, and values of it to search for, in turn.
    """
    vector, values = questions
    over = threading.Event()

    def search() -> None:
        number, changed_at = 0, time.monotonic()
        while not over.wait(SEARCH_EVERY):
            began = time.monotonic()
            try:
                with sent_once():
                    store.nearest(name, vector, [values[number % len(values)]], limit=10, exact=False)
                pace.saw(time.monotonic() - began)
            except TransientError as error:
                if isinstance(error, LimitedError):
                    # Each search of ours would take one away from the clients.
                    pace.give_up(error.message)
                    return
                pace.saw(math.inf)
            except QmigrateError as error:
                pace.give_up(error.message)
                return
            number += 1
            if time.monotonic() - changed_at >= CHANGE_EVERY:
                changed_at = time.monotonic()
                pace.adapt(_queued(store, name))

    thread = threading.Thread(target=search, name=f"searches-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A search that the server doesn't answer holds nothing up.
        thread.join(timeout=1.0)


def _queued(store: Store, name: str) -> int:
    try:
        return store.readiness(name).queue or 0
    except QmigrateError as error:
        _log.debug("the queue of %s is not known: %s", name, error)
        return 0
