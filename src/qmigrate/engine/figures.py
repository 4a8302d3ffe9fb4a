"""Figures of a run for those who watch it, taken seldom and kept in the ledger. It never stops or slows work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from qmigrate.engine.work import Work
from qmigrate.errors import QmigrateError
from qmigrate.ledger.watching import figures_of
from qmigrate.model.facts.figures import Figures, Sample
from qmigrate.model.facts.phases import Fill, Index, Proof
from qmigrate.model.plan import Build
from qmigrate.ports import Progress

#: Seconds between the first samples; each time that they are too many, every second one goes and the pause doubles.
FIRST_PAUSE = 2.0
#: Phases of a build in which the server has updates to do.
_LOADED = (Fill.phase, Index.phase, Proof.phase)


class Recorder:
    """The progress of a run, passed on to its display and kept in the ledger now and then.

    Args:
        work: whose display it takes the place of, and whose lease it writes with.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._shown: Progress = work.progress
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._kept: Figures | None = None
        self._doing, self._done = "", 0
        self._total: int | None = None
        self._part = 0
        self._before: tuple[int, float, int] | None = None
        self._busy: tuple[object, float, float, Mapping[str, float]] | None = None
        self._next = time.monotonic() + FIRST_PAUSE

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """A piece of work starts."""
        with self._lock:
            self._doing, self._total, self._done = phase, total, done
            self._part += 1
            self._before = (self._part, time.monotonic(), done)
        self._shown.begin(collection, phase, total, done)

    def advance(self, count: int, note: str = "") -> None:
        """`count` more points are done."""
        with self._lock:
            self._done += count
        self._shown.advance(count, note)

    def end(self, summary: str = "") -> None:
        """It is over."""
        self._shown.end(summary)

    def say(self, line: str) -> None:
        """One line that a user should read."""
        self._shown.say(line)

    def look(self) -> None:
        """Take a sample where it is time; one thread does, and the others go on."""
        now = time.monotonic()
        if now < self._next or not self._taking.acquire(blocking=False):
            return
        try:
            known = self._known()
            self._next = now + known.pause
            self._kept = known.with_one(self._sample(known.last + 1, now))
            # Who works meanwhile meets the same trouble, and knows what to do about it.
            with suppress(QmigrateError):
                self._work.lease.keep_figures(self._work.run, self._kept)
        finally:
            self._taking.release()

    def _known(self) -> Figures:
        """Those of this process, else of those that had the run before."""
        if self._kept is None:
            self._kept = Figures(pause=FIRST_PAUSE)
            with suppress(QmigrateError):
                found = figures_of(self._work.lease.ledger, self._work.run)
                self._kept = found if found.samples else self._kept
        return self._kept

    def _sample(self, number: int, now: float) -> Sample:
        with self._lock:
            part, doing, total, done = self._part, self._doing, self._total, self._done
            before, self._before = self._before, (part, now, done)
        rate = None
        if before is not None and before[0] == part and now > before[1]:
            rate = round((done - before[2]) / (now - before[1]), 1)
        return Sample(
            number=number,
            at=round(time.time(), 1),
            phase=self._work.phase,
            doing=doing,
            done=done,
            total=total,
            rate=rate,
            busy=self._shares(now),
            queue=self._queue(),
            memory=memory(),
        )

    def _shares(self, now: float) -> dict[str, float]:
        """How busy each stage was since the sample before; it reports an average since the fill began."""
        tell = self._work.busy
        if tell is None:
            self._busy = None
            return {}
        told = tell()
        known = self._busy if self._busy is not None and self._busy[0] == tell else None
        if known is None:
            # When it began is not known: within the pause before.
            self._busy = (tell, now - FIRST_PAUSE, now, told)
            return dict(told)
        _, began, seen, said = known
        self._busy = (tell, began, now, told)
        whole, past = now - began, seen - began
        found = {name: (share * whole - said.get(name, 0.0) * past) / (whole - past) for name, share in told.items()}
        return {name: round(min(1.0, max(0.0, share)), 3) for name, share in found.items()}

    def _queue(self) -> int | None:
        work = self._work
        step = work.job.steps[work.step] if work.step < len(work.job.steps) else None
        if work.store.capabilities.local or work.phase not in _LOADED or not isinstance(step, Build):
            return None
        with suppress(QmigrateError):
            return work.store.readiness(step.target).queue
        return None


def memory() -> int | None:
    """Bytes that this process has in memory; None where the system doesn't tell."""
    if sys.platform != "linux":
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
