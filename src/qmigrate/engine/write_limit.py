"""How long a write of points may take while a generation is built: less than any request, and known to who takes over.

Who takes over from a dead process has to wait until nothing of it can arrive any more. Batches of points are written
within a second or so, so a limit of their own makes that wait short. It is recorded before it is used, and before it
is raised where a write has taken longer. It sends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qmigrate.engine.epoch_aliases import late_for
from qmigrate.engine.work import Work
from qmigrate.model.facts.phases import Fill, Proof, WriteLimit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.names import own_alias
from qmigrate.model.plan import Build
from qmigrate.model.state import OpenRun

#: Seconds that a batch may take at first; a server that is loaded may need longer.
START = 15.0
#: Phases of a build whose only requests that change points are those that the limit is for.
_LIMITED = (Fill.phase, Proof.phase)


class Limit:
    """The limit of one process; threads share it. See :meth:`qmigrate.ports.Store.limited_writes`.

    Args:
        seconds: at first.
        most: beyond which it isn't raised.
    """

    def __init__(self, work: Work, seconds: float, most: float) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._most = most
        self._note(seconds)

    @property
    def seconds(self) -> float:
        """That a write which is sent now may take."""
        return self._seconds

    def exceeded(self, used: float) -> None:
        """A write has taken longer than `used` seconds: the next one gets twice as long, which is recorded first.

        Raises:
            LeaseHeldError: another holder has taken over, which waits for as long as was recorded.
        """
        with self._lock:
            if used >= self._seconds < self._most:
                self._note(min(2 * self._seconds, self._most))

    def lift(self) -> None:
        """What is sent next takes up to the longest request time."""
        with self._lock:
            if self._seconds < self._most:
                self._note(self._most)

    def _note(self, seconds: float) -> None:
        # Load-bearing: who takes over waits for what is recorded, so that comes before any write that may take as long.
        self._work.note(WriteLimit(seconds))
        self._seconds = seconds


@contextmanager
def limited(work: Work, physical: str, *, delegated: bool = False) -> Iterator[None]:
    """While the block runs, writes of points through our own alias take no longer than is recorded with the phase.

    Args:
        physical: the generation that is built.
        delegated: whether processes of their own write, which know nothing of the limit.
    """
    most = work.store.request_timeout
    if not most:
        # Nothing continues after a call has returned.
        yield
        return
    rows = (work.learned.get((work.step, phase), {}) for phase in _LIMITED)
    known = max(loaded(WriteLimit, row).write_limit or 0.0 for row in rows)
    # What an earlier holder has sent may still land: who takes over from this one counts from then on.
    limit = Limit(work, most if delegated else min(most, max(START, known, late_for(work))), most)
    with work.store.limited_writes(own_alias(physical, work.lease.epoch), limit):
        yield


def longest(run: OpenRun, most: float) -> float:
    """Seconds for which a request of the last holder of a run may still take effect.

    Args:
        most: those of any request.
    """
    newest = max((record.epoch for record in run.records), default=None)
    running = [record for record in run.records if record.epoch == newest and record.state == "running"]
    if len(running) != 1 or running[0].phase not in _LIMITED or not isinstance(run.job.steps[running[0].step], Build):
        return most
    recorded = loaded(WriteLimit, running[0].facts).write_limit
    return most if recorded is None else recorded
