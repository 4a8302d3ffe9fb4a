"""Progress of vector steps inside an Alembic run: lines of Alembic's own log. It prints nothing itself."""

from __future__ import annotations

import logging
import time

from qmigrate.text import visible

#: A child of Alembic's logger: shown where Alembic's own lines are, and never silenced by fileConfig().
log = logging.getLogger("alembic.qmigrate")

#: Seconds between two lines of a long phase.
EVERY = 30.0


class Logged:
    """A ``Progress`` that logs."""

    def __init__(self) -> None:
        self._where = ("", "")
        self._total: int | None = None
        self._done = 0
        self._logged_at = self._began_at = 0.0

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """A phase starts."""
        self._where, self._total, self._done = (visible(collection), phase), total, done
        self._logged_at = time.monotonic()
        self._began_at = self._logged_at
        log.debug("%s: %s", *self._where)

    def advance(self, count: int, note: str = "") -> None:
        """`count` more points are done."""
        self._done += count
        now = time.monotonic()
        if now - self._logged_at < EVERY:
            return
        self._logged_at = now
        share = f", {self._done} of {self._total} points" if self._total else f", {self._done} points"
        points = share if self._total or self._done else ""
        log.info("%s: %s%s%s", *self._where, points, f", {visible(note)}" if note else "")

    def end(self, summary: str = "") -> None:
        """The phase is over."""
        seconds = time.monotonic() - self._began_at
        log.info("%s: %s done in %.1f s%s", *self._where, seconds, f", {visible(summary)}" if summary else "")

    def say(self, line: str) -> None:
        """One line that a user should read."""
        log.info("%s", visible(line))
