"""Several collections at a time: each in a thread, under its own lease. It depends on neither planning nor steps."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from qmigrate.commands.failures import MovedError
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


def each(
    groups: Iterable[Sequence[Item]], work: Callable[[Item], Result], many: int, progress: Progress
) -> list[Result]:
    """Do the work for every item: of a group one after the other, of different groups at the same time.

    When one fails, no further one is begun, and those under way are finished; a stop ends each at its next checkpoint.

    Args:
        many: groups at a time.

    Returns:
        The results in the order of the items.

    Raises:
        StoppedError: a stop was asked for.
        QmigrateError: the first one, by the order of the items, that failed.
    """
    listed = [list(group) for group in groups]
    if many <= 1 or len(listed) <= 1:
        return [work(item) for group in listed for item in group]
    ended = threading.Event()

    def one(group: Sequence[Item]) -> tuple[list[Result], BaseException | None]:
        made: list[Result] = []
        for item in group:
            if ended.is_set():
                break
            try:
                made.append(work(item))
            except BaseException as error:
                ended.set()
                return made, error
        return made, None

    with ThreadPoolExecutor(min(many, len(listed)), thread_name_prefix="collection") as pool:
        answers = _all_of([pool.submit(one, group) for group in listed], ended)
    errors = [error for _, error in answers if error is not None]
    if errors:
        raise _foremost(errors, progress)
    return [result for made, _ in answers for result in made]


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
