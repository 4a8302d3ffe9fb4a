"""Shares of the id space, fixed once per step and stored, so that a resume continues them. It copies nothing."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from qmigrate.engine.work import Work
from qmigrate.model.transform import PointId
from qmigrate.store.records import order_key

#: Below this many points per range, more ranges cost more than they bring.
POINTS_PER_RANGE = 5000
MOST_RANGES = 16
#: Ids sampled for each border: enough that the shares come out even within some per cent.
SAMPLE_PER_RANGE = 64

Item = TypeVar("Item")


class _AbandonedError(Exception):
    """Another range has failed: this one needn't continue."""


def borders(
    work: Work, source: str, points: int, places: int = 1
) -> list[tuple[PointId | None, PointId | None]]:
    """Borders that split `source` into shares of about equal size, from a random sample of its ids.

    Args:
        places: processes that copy side by side: each is to have as many ranges as one alone.
    """
    wanted = work.settings.rebuild.ranges
    most = MOST_RANGES * max(1, places)
    number = wanted if isinstance(wanted, int) else min(most, max(1, points // POINTS_PER_RANGE))
    if work.store.capabilities.local:
        number = 1
    if number <= 1:
        return [(None, None)]
    sample = sorted(work.store.sample_ids(source, number * SAMPLE_PER_RANGE), key=order_key)
    cuts: list[PointId] = []
    for position in range(1, number):
        cut = sample[position * len(sample) // number] if sample else None
        if cut is not None and (not cuts or order_key(cut) > order_key(cuts[-1])):
            cuts.append(cut)
    edges: list[PointId | None] = [None, *cuts, None]
    return list(itertools.pairwise(edges))


def workers_of(work: Work, items: Sequence[object]) -> int:
    """How many threads :func:`in_parallel` takes for these."""
    return 1 if work.store.capabilities.local else max(1, min(work.settings.rebuild.workers, len(items)))


def in_parallel(
    work: Work, items: Sequence[Item], job: Callable[[Item], None], workers: int | None = None
) -> None:
    """Run `job` for every item with the configured number of workers, or `workers`.

    The first error stops all and is raised.
    """
    workers = workers_of(work, items) if workers is None else workers
    if workers <= 1:
        for item in items:
            job(item)
        return
    todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    errors: list[BaseException] = []
    failed = threading.Event()
    tick = work.tick

    def watchful(count: int = 0, note: str = "") -> None:
        if failed.is_set():
            raise _AbandonedError
        tick(count, note)

    def worker() -> None:
        while not failed.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                job(item)
            except _AbandonedError:
                return
            except BaseException as error:
                errors.append(error)
                failed.set()

    threads = [threading.Thread(target=worker, name=f"range-{number}", daemon=True) for number in range(workers)]
    # A long range learns in its next tick that another one has failed.
    work.tick = watchful
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        work.tick = tick
    if errors:
        raise errors[0]
