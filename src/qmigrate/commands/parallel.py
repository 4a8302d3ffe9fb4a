"""Several collections at a time: each in a thread, under its own lease. It depends on neither planning nor steps."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from qmigrate.commands.failures import MovedError
from qmigrate.commands.session import Session
from qmigrate.errors import QmigrateError, StoppedError, UsageError
from qmigrate.model.plan import Job
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Progress, Store


def paced(max_rate: float | None) -> JsonObject:
    """The part of an edit for how fast it may go; empty where nothing is given.

    Args:
        max_rate: most points per second; None for no limit.

    Raises:
        UsageError: it is not a number above 0; NaN and infinity, which the ledger can't hold, are not.
    """
    if max_rate is None:
        return {}
    try:
        rate = math.nan if isinstance(max_rate, bool) or not isinstance(max_rate, int | float) else float(max_rate)
    except OverflowError:
        rate = math.inf
    if not (math.isfinite(rate) and rate > 0):
        raise UsageError(
            f"max_rate must be a number above 0 (points per second), not {repr(max_rate)[:40]}",
            hint="leave it out for no limit",
        )
    return {"max_rate": max_rate}


Item = TypeVar("Item")
Result = TypeVar("Result")

#: Most collections at a time without --parallel: more were hardly faster, see docs/performance.md.
MOST = 4


def at_once(store: Store, wanted: int | None) -> int:
    """How many collections are worked on at a time.

    Args:
        wanted: as many; None for as many as suit the server: its cores, at most :data:`MOST`, and 1 in local mode.
    """
    if wanted is not None:
        return max(1, wanted)
    return 1 if store.capabilities.local else max(1, min(MOST, store.cores() or MOST))


def chains(items: Sequence[Item], job: Callable[[Item], Job]) -> list[list[Item]]:
    """What may run at the same time: whose jobs touch a common name stay in one chain, in the order of the items."""
    found: list[tuple[set[str], list[int]]] = []
    for place, item in enumerate(items):
        names, chain = set(job(item).names()), [place]
        for other in [one for one in found if one[0] & names]:
            names |= other[0]
            chain += other[1]
            found.remove(other)
        found.append((names, sorted(chain)))
    return [[items[place] for place in chain] for _, chain in sorted(found, key=lambda one: one[1])]


class HasJob(Protocol):
    """What a job belongs to."""

    @property
    def job(self) -> Job:
        """It shows which names are touched."""


Task = TypeVar("Task", bound=HasJob)


def in_threads(tasks: Sequence[Task], work: Callable[[Task], None], session: Session) -> Sequence[Task]:
    """Do the work of every task, as many at a time as the session allows, where several may run at the same time.

    Returns:
        What is left to the caller, one after the other: all of them where only one may run at a time, else nothing.
    """
    groups = chains(tasks, lambda task: task.job) if session.parallel > 1 else []
    if len(groups) <= 1:
        return tasks
    session.several = True
    try:
        each(groups, work, session.parallel, session.progress)
    finally:
        session.several = False
    return ()


def each(groups: Iterable[Sequence[Item]], work: Callable[[Item], None], many: int, progress: Progress) -> None:
    """Do the work for every item: of a group one after the other, of different groups at the same time.

    When one fails, no further one is begun, and those under way are finished; a stop ends each at its next checkpoint.

    Args:
        many: groups at a time.

    Raises:
        StoppedError: a stop was asked for.
        QmigrateError: the first one, by the order of the items, that failed.
    """
    ended = threading.Event()

    def one(group: Sequence[Item]) -> BaseException | None:
        for item in group:
            if ended.is_set():
                break
            try:
                work(item)
            except BaseException as error:
                ended.set()
                return error
        return None

    listed = list(groups)
    with ThreadPoolExecutor(min(many, len(listed)), thread_name_prefix="collection") as pool:
        answers = _all_of([pool.submit(one, group) for group in listed], ended)
    errors = [error for error in answers if error is not None]
    if errors:
        raise _foremost(errors, progress)


def _all_of(futures: Sequence[Future[Result]], ended: threading.Event) -> list[Result]:
    """Their results once all have ended: also where a second signal asks for an end at once."""
    interrupted: KeyboardInterrupt | None = None
    for future in futures:
        while True:
            try:
                future.exception()
                break
            except KeyboardInterrupt as error:
                # The threads stop at their next checkpoint, since the first signal; a request can't be cut off.
                interrupted = error
                ended.set()
    if interrupted is not None:
        raise interrupted
    return [future.result() for future in futures]


def _foremost(errors: Sequence[BaseException], progress: Progress) -> BaseException:
    """The one to raise; the others are reported."""

    def weight(error: BaseException) -> int:
        return 0 if not isinstance(error, Exception) else 1 if isinstance(error, StoppedError) else (
            3 if isinstance(error, MovedError) else 2
        )

    first = min(errors, key=weight)
    for error in errors:
        if error is not first and isinstance(error, QmigrateError) and not isinstance(error, StoppedError):
            progress.say(f"also failed: {error.message}")
    return first
