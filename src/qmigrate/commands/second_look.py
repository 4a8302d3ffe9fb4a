"""The time between the two looks for orphans, in which others may work on the collection. It deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime

from qmigrate.commands.perform import hold_lease
from qmigrate.commands.session import Session
from qmigrate.errors import RefusedError
from qmigrate.executor import Stop
from qmigrate.ledger.clock import clock
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import CollectionState
from qmigrate.observe import check_ownership, observe
from qmigrate.operations.base import Operation
from qmigrate.planner.fix import fixed_by
from qmigrate.steps.fixes import sighting
from qmigrate.steps.fixes.first_look import look
from qmigrate.steps.fixes.orphans import PATIENCE, Orphans
from qmigrate.steps.fixes.protocol import Place
from qmigrate.steps.fixes.sighting import Sighting

#: How often it looks again because the collection was rebuilt.
_MOST = 5


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What was seen of one collection, and is waiting to be seen again.

    Attributes:
        strays: points without a row.
        seen_at: when.
        due_at: from when on the same command continues.
        missing: rows without a point.
    """

    collection: str
    strays: int
    seen_at: datetime
    due_at: datetime
    missing: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    state: CollectionState
    edit: JsonObject
    fix: Orphans
    seen: Sighting

    @property
    def due_at(self) -> datetime:
        return self.seen.due(self.edit)

    def ready(self, now: datetime) -> bool:
        """Whether a second look counts.

        Raises:
            RefusedError: a transaction is open for too long.
        """
        if not self.seen.strays:
            return True
        if now < self.due_at:
            return False
        if not self.fix.may_hide(self.seen.moment):
            return True
        if (now - self.due_at).total_seconds() > PATIENCE:
            raise self.fix.still_open()
        return False


def until_second_look(
    opened: Session,
    edits: Sequence[tuple[Operation, JsonObject]],
    *,
    stop: Stop,
    wait: bool,
    lock_timeout: float | None,
) -> tuple[FirstLook, ...]:
    """See that a first look is kept for each edit that has a ``grace``, and that it is old enough.

    The lease is held while it looks, and not while it waits. A rebuild in between makes it look again.

    Args:
        wait: else it returns at once.

    Returns:
        The collections that are not ready; none after waiting.

    Raises:
        RefusedError: a transaction doesn't end, or the collection is rebuilt again and again.
        StoppedError: a signal came; the first look stays.
    """
    graced = [(operation, edit) for operation, edit in edits if edit.get("grace")]
    for _ in range(_MOST if graced else 0):
        with ExitStack() as stack:
            waiting = _look(opened, graced, stack, stop, lock_timeout)
            if not _sleep(opened, waiting, stop, wait=wait):
                return tuple(_shown(one) for one in waiting)
            if all(_still_serves(opened, one) for one in waiting):
                return ()
    if not graced:
        return ()
    raise RefusedError(
        f"the collection was rebuilt {_MOST} times between two looks for orphans: nothing was deleted",
        hint="run it again when no migration runs",
    )


def _look(
    opened: Session,
    edits: Sequence[tuple[Operation, JsonObject]],
    stack: ExitStack,
    stop: Stop,
    lock_timeout: float | None,
) -> list[_Waiting]:
    world = observe(opened.ledger, opened.store)
    found = []
    for operation, edit in edits:
        for state in fixed_by(world, operation):
            check_ownership(world, state.name)
            place = _place(opened, state.name, stop)
            fix = stack.enter_context(closing(Orphans(place, edit)))
            seen = _kept(opened, state, edit)
            if seen is None:
                opened.progress.begin(state.name, "first look", None)
                with hold_lease(opened, state.name, lock_timeout) as lease:
                    seen = look(lease, place, edit)
                opened.progress.end(f"{seen.strays:,} points without a row")
            found.append(_Waiting(state, edit, fix, seen))
    return found


def _sleep(opened: Session, waiting: Sequence[_Waiting], stop: Stop, *, wait: bool) -> bool:
    """Wait until all are ready; whether they are."""
    begun = False
    while late := [one for one in waiting if not one.ready(clock(opened.ledger))]:
        if not wait:
            return False
        if not begun:
            opened.progress.begin(late[0].state.name, "wait", None)
            begun = True
        left = max((one.due_at - clock(opened.ledger)).total_seconds() for one in late)
        stop.check()
        opened.progress.advance(0, f"second look in {max(0.0, left):.0f} s")
        pause(min(1.0, max(0.05, left)))
    if begun:
        opened.progress.end("every transaction of the first look has ended")
    return True


def pause(seconds: float) -> None:
    """Let time go by."""
    time.sleep(seconds)


def _kept(opened: Session, state: CollectionState, edit: JsonObject) -> Sighting | None:
    kept = sighting.known(opened.ledger, state.name)
    now = clock(opened.ledger)
    return kept if kept is not None and kept.serves(edit, str(state.physical), now) else None


def _still_serves(opened: Session, one: _Waiting) -> bool:
    world = observe(opened.ledger, opened.store, only=[one.state.name])
    state = world.collections.get(one.state.name)
    return state is not None and _kept(opened, state, one.edit) is not None


def _place(opened: Session, name: str, stop: Stop) -> Place:
    def tick(count: int = 0, note: str = "") -> None:
        stop.check()
        if count or note:
            opened.progress.advance(count, note)

    settings = opened.settings.for_collection(name)
    return Place(name, name, opened.store, opened.ledger, settings, tick)


def _shown(one: _Waiting) -> FirstLook:
    seen = one.seen
    return FirstLook(one.state.name, seen.strays, seen.seen_at, one.due_at, seen.counts.get("missing", 0))
