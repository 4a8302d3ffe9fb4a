"""How fast points may be read and written: by a given rate, and by how long searches of others take. It moves none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.throttle import Pace, Throttle, waiting, watched
from qmigrate.engine.work import Work
from qmigrate.model.transform import VectorValue
from qmigrate.store import records

#: Points whose vectors are searched for, in turn.
QUESTIONS = 50


@contextmanager
def paced(work: Work, live: str, rate: float | None) -> Iterator[Throttle]:
    """While the block runs, searches in the live collection are measured, where ``rebuild.max_latency`` asks for that.

    In local mode there is no other client, and a collection without a vector that can be searched has no searches.
    While writes are refused nothing is slowed: they would be refused for longer.

    Args:
        live: physical name of the collection that serves.
        rate: most points per second; None for no limit.
    """
    latency, pause = work.settings.rebuild.max_latency, waiting(work.tick)
    questions = None
    if latency is not None and not work.store.capabilities.local and work.frozen is None:
        questions = _questions(work, live)
    if latency is None or questions is None:
        yield Throttle(rate, pause=pause)
        return
    pace = Pace(rate, latency, pause=pause)
    with watched(pace, work.store, reach(work, live), questions):
        yield pace


def _questions(work: Work, live: str) -> tuple[str, Sequence[VectorValue]] | None:
    """The vector that most points of a sample have, and values of it."""
    ids = work.store.sample_ids(reach(work, live), QUESTIONS)
    found: dict[str, list[VectorValue]] = {}
    for stored in work.store.fetch(reach(work, live), ids, payload=False) if ids else ():
        for name, value in records.vectors_of(stored).items():
            found.setdefault(name, []).append(value)
    return max(found.items(), key=lambda one: len(one[1]), default=None)
