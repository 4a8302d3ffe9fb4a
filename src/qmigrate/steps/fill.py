"""The copy: ranges in parallel, scroll, transform, embed, upsert, checkpoint. It proves nothing; `passes` does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from qmigrate.errors import StoppedError
from qmigrate.ledger import Range
from qmigrate.model.plan import Build
from qmigrate.model.transform import PointId
from qmigrate.ports import PendingWrite, Stored
from qmigrate.steps.base import Entry, PageWriter, base_name
from qmigrate.steps.owned import own
from qmigrate.steps.points import Maker, write
from qmigrate.steps.ranges import in_parallel
from qmigrate.steps.throttle import Throttle
from qmigrate.steps.work import Work
from qmigrate.store import records

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
    last: PointId | None = None
    waiting: int = 0
    saved_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the ranges write to, in pages of how many points, how fast."""

    alias: str
    page: int
    throttle: Throttle


def copy_ranges(work: Work, step: Build, maker: Maker, ranges: Sequence[Range]) -> None:
    """Copy every range that isn't done, from its cursor on.

    A cursor moves only after the writes before it are acknowledged as completed, and the base of the same points is
    stored in the same transaction.
    """
    assert step.source is not None  # noqa: S101  a new collection is not copied
    alias = own(work, step.target)
    page = records.page_size(next(iter(work.store.scan(step.source, page=64)), ()))
    todo = [share for share in ranges if not share.done]
    throttle = Throttle(work.settings.rebuild.max_rate, pause=lambda seconds: pause(work, seconds))
    target = _Target(alias, page, throttle)
    in_parallel(work, todo, lambda share: _copy_range(work, step, maker, share, target))


def pause(work: Work, seconds: float) -> None:
    """Sleep, but hear a stop signal."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        work.tick()
        time.sleep(min(0.2, left))


def _copy_range(work: Work, step: Build, maker: Maker, share: Range, target: _Target) -> None:
    source = str(step.source)
    state = _Progress(cursor=share.cursor, points=share.points, last=share.cursor)
    start = share.start if share.cursor is None else share.cursor
    try:
        for page in work.store.scan(source, start=start, stop=share.stop, page=target.page):
            fresh = _after_cursor(page, share.cursor)
            if fresh:
                target.throttle.take(len(fresh))
                _copy_page(work, step, maker, state, (target.alias, fresh))
            if time.monotonic() - state.saved_at >= CHECKPOINT_EVERY:
                _checkpoint(work, step, share, state, done=False)
    except StoppedError:
        _checkpoint(work, step, share, state, done=False)
        raise
    _checkpoint(work, step, share, state, done=True)


def _copy_page(work: Work, step: Build, maker: Maker, state: _Progress, page: tuple[str, Sequence[Stored]]) -> None:
    alias, fresh = page
    made = maker.make(fresh)
    keys = [(records.order_key(records.point_id(stored)), records.digest(stored)) for stored in fresh]
    _settle(state)
    state.writes = write(work, alias, made, step.target)
    for key, whole in keys:
        state.pages.add(key, Entry(whole, records.ABSENT))
        if state.pages.full:
            state.full += state.pages.take()
    state.last = records.point_id(fresh[-1])
    state.waiting += len(fresh)
    work.tick(len(fresh))


def _after_cursor(page: Sequence[Stored], cursor: PointId | None) -> Sequence[Stored]:
    """Without the point of the cursor itself: a scroll starts with the id it is given."""
    if cursor is None or not page or records.point_id(page[0]) != cursor:
        return page
    return page[1:]


def _settle(state: _Progress) -> None:
    for pending in state.writes:
        pending.wait()
    state.writes = []


def _checkpoint(work: Work, step: Build, share: Range, state: _Progress, *, done: bool) -> None:
    _settle(state)
    pages = state.full + state.pages.take()
    state.points += state.waiting
    state.cursor = state.last
    name = base_name(step.source, step.target, back=False)
    work.lease.checkpoint(work.run, work.step, share.number, state.cursor, state.points, done, name, pages)
    state.full, state.waiting = [], 0
    state.saved_at = time.monotonic()
