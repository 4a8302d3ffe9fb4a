"""Waits until a collection is indexed, and which of its settings the server enforces. It changes nothing."""

from __future__ import annotations

import time

from qmigrate.engine.work import Work
from qmigrate.errors import StoreError
from qmigrate.model.schema import Change

#: Readings in a row that must be settled: a server reports green before a config change has begun to act.
SETTLED_READINGS = 3
#: The first readings of a collection that others write to, by which a server has begun with what was changed.
FIRST_READINGS = 8


class Standstill:
    """For how long nothing has got on: a wait ends by that, however long the work takes.

    Args:
        limit: seconds after which it is over.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._seen: object = None
        self._since = time.monotonic()

    def is_over(self, seen: object) -> bool:
        """Whether nothing differs from earlier readings for so long."""
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since >= self._limit


def wait_until_ready(work: Work, physical: str, *, live: bool = False) -> None:
    """Several settled readings in a row, or an error when the optimizer fails, or gets on no more.

    Args:
        live: whether others write to it. Written to steadily it is never settled: what has to be optimized in the first
            readings is waited for, and not what is written meanwhile. A server that doesn't tell that has a fixed time.
    """
    limit = work.settings.limits.ready_timeout
    still, due, left = Standstill(limit), frozenset[str](), FIRST_READINGS
    work.progress.begin(work.collection, "index", None)
    settled, pause = 0, 0.05
    while True:
        reading = work.store.readiness(physical)
        told = not live or reading.waiting is not None
        if reading.failed:
            raise StoreError(f"the optimizer of {physical} failed: {reading.failed}", hint="qmigrate doctor")
        if live and left:
            due, left = due | (reading.waiting or frozenset()), left - 1
        others = live and not left and reading.waiting is not None and not due & reading.waiting
        settled = settled + 1 if reading.settled or others else 0
        if settled >= SETTLED_READINGS or (settled and work.store.capabilities.local):
            work.progress.end(reading.detail)
            return
        if still.is_over((reading.detail, reading.moved) if told else None):
            raise StoreError(
                f"{physical} is not ready, and has not got on for {limit:.0f} s: {reading.detail}",
                hint="run the same command again: it continues to wait; limits.ready_timeout sets the limit",
            )
        work.tick(0, reading.detail)
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def enforced(found: tuple[Change, ...], work: Work) -> list[Change]:
    """Differences that count: local mode declares indexes and settings without enforcing them."""
    if not work.store.capabilities.local:
        return list(found)
    return [change for change in found if change.kind.startswith(("vector.", "sparse."))]
