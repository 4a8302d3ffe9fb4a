"""The copy: ranges in parallel, scroll, transform, embed, upsert, checkpoint. It proves nothing; `prove` does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.points.allocator import pages_reused
from qmigrate.engine.points.base import BaseEntry, PageWriter, base_name, digest_of
from qmigrate.engine.points.budget import Budget
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.pace import paced
from qmigrate.engine.points.ranges import in_parallel, workers_of
from qmigrate.engine.points.streams import Shares, Streams, limit
from qmigrate.engine.points.transformation import Begun, Maker, fill_inputs, send
from qmigrate.engine.throttle import Throttle
from qmigrate.engine.work import Work
from qmigrate.engine.workers.pool import copy_by_workers, places_of
from qmigrate.errors import QuarantineError, StoppedError
from qmigrate.ledger import Quarantined, Range
from qmigrate.model.facts.phases import Fill
from qmigrate.model.names import EpochAlias
from qmigrate.model.plan import Build
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.operations.values import Embed
from qmigrate.ports import PendingWrite, Stored
from qmigrate.store import records


def fits(transform: PointTransform) -> bool:
    """Whether equal payloads have equal vectors, and a point is found under its own id.

    A function may read the old vectors, which the new point doesn't have.
    """
    filled = [transform.values[name] for name in transform.filled]
    return bool(filled) and not transform.rekeys and all(isinstance(one, Embed) for one in filled)


def shows_late(transform: PointTransform) -> bool:
    """Whether the proof sees what a request of an earlier holder leaves in the copy, if it lands before that begins.

    Such a request writes a point as that process has read it: another payload, or another carried vector, is found by
    comparing. A filled vector is not compared: it has to be the same wherever the payload is, as for what such a
    process has written in time (:class:`Written`).
    """
    return not transform.rekeys and (not transform.filled or fits(transform))


def moves_bytes(maker: Maker) -> bool:
    """Whether every point becomes what it is, so that the answers of the server are what is written.

    Of vectors whose datatype doesn't keep every value, each value is read first.
    """
    transform = maker.transform
    unchanged = transform.keeps_payload and transform.keeps_vectors and not transform.filled and not transform.rekeys
    return unchanged and not maker.narrowing()


class Written:
    """What an earlier process has written of one range. Writes are in order, so it ends where nothing is there.

    Args:
        physical: the generation that is filled.
    """

    def __init__(self, work: Work, physical: str, maker: Maker) -> None:
        self._work = work
        self._physical = physical
        self._judge = Judge(maker, None)
        self._over = False

    def without(self, page: Sequence[Stored]) -> Sequence[Stored]:
        """The points of a page that are still to be made: all whose counterpart isn't there, or isn't f of them."""
        if self._over:
            return page
        ids = [records.point_id(stored) for stored in page]
        found = self._work.store.fetch(self._physical, ids)
        there = {records.point_id(stored): stored for stored in found}
        self._over = not there
        return [stored for stored in page if not self._is_there(stored, there.get(records.point_id(stored)))]

    def _is_there(self, stored: Stored, counterpart: Stored | None) -> bool:
        return counterpart is not None and self._judge.why_not(stored, counterpart, VerificationReport("", "")) is None


Page = TypeVar("Page")
#: Pages of a range, at least, whose vectors are being made while the next ones are read.
AHEAD = 3
#: Points whose vectors are being made, of all ranges together, and their bytes of one range: what an embedder sorts at
#: a time is on its way twice, so that the device has the next window when it is through with one.
FLYING = 12_288
FLYING_BYTES = 4 * records.BATCH_BYTES
#: Points of a page whose vectors are made: a device waits for the first page, and the run for the last one's writing.
PAGE = 256
#: Seconds between two checkpoints of a range: what a crash makes us copy again.
CHECKPOINT_EVERY = 1.0


@dataclass(slots=True)
class _Progress:
    """What a range has written but not yet checkpointed."""

    cursor: PointId | None
    points: int
    pages: PageWriter = field(default_factory=PageWriter)
    full: list[bytes] = field(default_factory=list)
    writes: list[PendingWrite] = field(default_factory=list)
    flights: deque[_Flight] = field(default_factory=deque)
    failed: list[Quarantined] = field(default_factory=list)
    last: PointId | None = None
    waiting: int = 0
    saved_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A page whose vectors are being made; `begun` lacks the points that a dead process had written already."""

    page: Sequence[Stored]
    begun: Begun


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the ranges write to, in pages of how many points, how fast, and how many pages are on their way.

    Attributes:
        digest: what makes the digests of the base; None where none is kept: where f computes no vector, a point that is
            f of its source now is proven by that, and the last pass compares them all.
    """

    alias: EpochAlias
    page: int
    throttle: Throttle
    ahead: int
    shares: Shares
    digest: records.Digest | None

    def note(self) -> str:
        """For the progress line."""
        return ", ".join(filter(None, (self.shares.note(), self.throttle.note())))


class Copying:
    """Ranges of one step while they are copied; threads share it. Made by :func:`copying`."""

    def __init__(self, work: Work, step: Build, maker: Maker, target: _Target, streams: Streams) -> None:
        self._work = work
        self._step = step
        self._maker = maker
        self._target = target
        self._streams = streams

    def copy(self, share: Range, *, again: bool) -> None:
        """Copy one range, from its cursor on; see :func:`copy_ranges`.

        Args:
            again: an earlier process may have written points behind the cursor.
        """
        if moves_bytes(self._maker):
            _move_range(self._work, self._step, share, self._target)
            return
        known = Written(self._work, self._step.target, self._maker) if again and fits(self._maker.transform) else None
        _copy_range(self._work, self._step, self._maker, share, self._target, known)

    def stages(self) -> dict[str, float]:
        """How busy each stage was until now; nothing where nothing was embedded."""
        return self._target.shares.now() if self._streams.used else {}


@contextmanager
def copying(
    work: Work, step: Build, maker: Maker, alias: EpochAlias, *, workers: int, rate: float | None
) -> Iterator[Copying]:
    """While the block runs, ranges can be copied through `alias`.

    Args:
        workers: threads that copy at the same time.
        rate: most points per second; None for no limit.
    """
    assert step.source is not None  # noqa: S101  a new collection is not copied
    page, ahead = _pages(next(iter(work.store.scan(step.source, page=64)), ()), maker, workers)
    with maker.streaming() as streams, pages_reused(), paced(work, step.source, rate) as throttle:
        digest = None
        if maker.transform.filled or maker.transform.rekeys:
            digest = digest_of(work.lease.ledger, base_name(step.source, step.target, back=False))
        target = _Target(alias, page, throttle, ahead, Shares(streams, workers), digest)
        with work.showing(target.shares.now):
            yield Copying(work, step, maker, target, streams)


def _pages(sample: Sequence[Stored], maker: Maker, workers: int) -> tuple[int, int]:
    """Points of a page, and how many pages of a range are on their way."""
    page = records.page_size(sample)
    if not fill_inputs(maker.transform):
        return page, AHEAD if maker.on_failure else 0
    page = min(page, PAGE)
    points = records.page_size(sample, limit=FLYING_BYTES, most=FLYING // workers)
    return page, max(AHEAD, points // page)


def copy_ranges(work: Work, step: Build, maker: Maker, ranges: Sequence[Range]) -> Fill:
    """Copy every range that isn't done, from its cursor on.

    A cursor moves only after the writes before it are acknowledged as completed; the base of the same points, and
    which of them could not be embedded, are stored in the same transaction.

    Returns:
        How busy each stage was, and the busiest; neither where nothing was embedded.
    """
    todo = [share for share in ranges if not share.done]
    again = work.facts(Fill).again
    places = places_of(work, maker.transform) if todo else ()
    if places:
        stages = copy_by_workers(work, step, maker.transform, todo, places, again=again)
    else:
        rate, workers = work.settings.rebuild.max_rate, workers_of(work, todo)
        # Load-bearing: by the generation's own name a holder that was replaced could go on filling it.
        with copying(work, step, maker, own(work, step.target), workers=workers, rate=rate) as copies:
            if workers > 1:
                in_parallel(work, todo, lambda share: copies.copy(share, again=again), workers)
            else:
                for share in todo:
                    copies.copy(share, again=again)
            stages = copies.stages()
    return Fill(stages=stages, limited_by=limit(stages)) if stages else Fill()


def _copy_range(
    work: Work, step: Build, maker: Maker, share: Range, target: _Target, written: Written | None
) -> None:
    source = str(step.source)
    state = _Progress(cursor=share.cursor, points=share.points, last=share.cursor)
    start = share.start if share.cursor is None else share.cursor
    pages = iter(work.store.scan(source, start=start, stop=share.stop, page=target.page))
    try:
        while (page := _read(pages, target.shares)) is not None:
            fresh = _after_cursor(page, share.cursor)
            if fresh:
                target.throttle.take(len(fresh))
                wanted = written.without(fresh) if written is not None else fresh
                state.flights.append(_Flight(fresh, maker.begin(wanted)))
            # What is there is written, too: where few points come in a second, a crash would lose many seconds.
            while len(state.flights) > target.ahead or (state.flights and state.flights[0].begun.is_there):
                _land(work, step, maker, state, target)
            if time.monotonic() - state.saved_at >= CHECKPOINT_EVERY:
                _checkpoint(work, step, share, state, done=False, budget=maker.budget)
        while state.flights:
            _land(work, step, maker, state, target)
    except (StoppedError, QuarantineError):
        # What is on its way is left there: it begins again behind the cursor.
        _checkpoint(work, step, share, state, done=False, budget=maker.budget)
        raise
    _checkpoint(work, step, share, state, done=True, budget=maker.budget)


def _move_range(work: Work, step: Build, share: Range, target: _Target) -> None:
    """Copy a range whose points stay what they are: what the server answers is what it gets, with other tags."""
    state = _Progress(cursor=share.cursor, points=share.points, last=share.cursor)
    start = share.start if share.cursor is None else share.cursor
    pages = work.store.scan_ready(str(step.source), start=start, after=share.cursor, stop=share.stop, page=target.page)
    try:
        while (page := _read(pages, target.shares)) is not None:
            target.throttle.take(len(page.points))
            began = time.monotonic()
            _settle(state)
            state.writes = [work.store.upsert(target.alias, page.points)]
            target.shares.add("write", began)
            state.last = page.last
            state.waiting += len(page.points)
            work.tick(len(page.points), target.note())
            if time.monotonic() - state.saved_at >= CHECKPOINT_EVERY:
                _checkpoint(work, step, share, state, done=False)
    except StoppedError:
        _checkpoint(work, step, share, state, done=False)
        raise
    _checkpoint(work, step, share, state, done=True)


def _read(pages: Iterator[Page], shares: Shares) -> Page | None:
    began = time.monotonic()
    page = next(pages, None)
    shares.add("read", began)
    return page


def _land(work: Work, step: Build, maker: Maker, state: _Progress, target: _Target) -> None:
    """Write the page that has been on its way for longest."""
    flight = state.flights.popleft()
    made = maker.finish(flight.begun)
    keys = []
    if target.digest is not None:
        keys = [(records.order_key(records.point_id(stored)), target.digest(stored)) for stored in flight.page]
    began = time.monotonic()
    _settle(state)
    if maker.quarantine is not None:
        cured = maker.quarantine.learn(made.ids, made.failed)
        if cured:
            work.lease.quarantine(step.target, work.run, (), cured)
        state.failed += made.failed
    state.writes = send(work, target.alias, made)
    target.shares.add("write", began)
    for key, whole in keys:
        state.pages.add(key, BaseEntry(whole, records.ABSENT))
        if state.pages.full:
            state.full += state.pages.take()
    state.last = records.point_id(flight.page[-1])
    state.waiting += len(flight.page)
    if made.failed and maker.quarantine is not None:
        maker.quarantine.check()
    work.tick(len(flight.page), target.note())


def _after_cursor(page: Sequence[Stored], cursor: PointId | None) -> Sequence[Stored]:
    """Without the point of the cursor itself: a scroll starts with the id it is given."""
    if cursor is None or not page or records.point_id(page[0]) != cursor:
        return page
    return page[1:]


def _settle(state: _Progress) -> None:
    for pending in state.writes:
        pending.wait()
    state.writes = []


def _checkpoint(
    work: Work, step: Build, share: Range, state: _Progress, *, done: bool, budget: Budget | None = None
) -> None:
    _settle(state)
    if budget is not None:
        # Before the cursor moves: what is embedded once more is spent once more.
        budget.note()
    pages = state.full + state.pages.take()
    state.points += state.waiting
    state.cursor = state.last
    name = base_name(step.source, step.target, back=False)
    cursor, failed = state.cursor, state.failed
    work.lease.checkpoint(work.run, work.step, share.number, cursor, state.points, done, name, pages, failed)
    state.full, state.failed, state.waiting = [], [], 0
    state.saved_at = time.monotonic()
