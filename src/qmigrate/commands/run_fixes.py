"""Runs of data fixes: what was interrupted is finished, what is planned is done, what became of it. It plans none."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime

from qmigrate.commands.asking import check_plan
from qmigrate.commands.edits import check_all
from qmigrate.commands.results import Erasure, Outcome, Resumed, erased_of
from qmigrate.commands.run_job import RunOptions, hold_lease
from qmigrate.commands.run_plan import finish_open_runs, perform, without
from qmigrate.commands.session import Session
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.engine.fixes import first_look
from qmigrate.engine.fixes.first_look import Sighting
from qmigrate.engine.fixes.orphans import PATIENCE, Orphans, find_orphans
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.errors import RefusedError
from qmigrate.ledger.reader import clock
from qmigrate.model.facts.edits import Edit, OrphansEdit, edit_of
from qmigrate.model.facts.fixes import EditChange, EditVerify, Select
from qmigrate.model.facts.phases import Closed
from qmigrate.model.facts.stored import known
from qmigrate.model.plan import EditPoints, Job, Plan, Step
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_ownership, observe
from qmigrate.operations.base import Operation
from qmigrate.planner.fix import fixed_by
from qmigrate.text import counted

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
    graced = [(operation, edit) for operation, edit in edits if _grace(edit)]
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
                    seen = find_orphans(lease, place, edit)
                opened.progress.end(f"{counted(seen.strays, 'point')} without a row")
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
    kept = first_look.known(opened.ledger, state.name)
    now = clock(opened.ledger)
    return kept if kept is not None and kept.serves(edit, str(state.physical), now) else None


def _still_serves(opened: Session, one: _Waiting) -> bool:
    world = observe(opened.ledger, opened.store, only=[one.state.name])
    state = world.collections.get(one.state.name)
    return state is not None and _kept(opened, state, one.edit) is not None


def _place(opened: Session, name: str, stop: Stop) -> FixSource:
    def tick(count: int = 0, note: str = "") -> None:
        stop.check()
        if count or note:
            opened.progress.advance(count, note)

    settings = opened.settings.for_collection(name)
    return FixSource(name, name, opened.store, opened.ledger, settings, tick)


def _shown(one: _Waiting) -> FirstLook:
    seen = one.seen
    return FirstLook(one.state.name, seen.strays, seen.seen_at, one.due_at, seen.counts.get("missing", 0))


#: The exit code of what was stopped at a checkpoint on purpose.
_TO_BE_CONTINUED = 12


@dataclass(frozen=True, slots=True)
class Done:
    """What a fix has done to one collection.

    Attributes:
        log: its id in the audit, for ``fix undo``; None where nothing was to be changed.
        changed: points that were changed.
        changed_meanwhile: points that were skipped, since another client changed them or their row while it ran.
        gone: points that were deleted since the preview.
        verified: points that were read back as they should be.
        counts: what was found, in figures.
        erasure: what else it has done, where it was one.
        undo: whether anything was kept to undo it by.
    """

    collection: str
    log: int | None
    changed: int
    changed_meanwhile: int
    gone: int
    verified: int
    seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)
    erasure: Erasure | None = None
    undo: bool = True


@dataclass(frozen=True, slots=True)
class FixResult:
    """`fix`.

    Attributes:
        done: one entry per step, in the order of execution.
        resumed: interrupted runs that were finished first.
        looked: collections that were only checked, for the first time: the same command continues when they are due.
        notes: fields that held other types than they were compared with.
    """

    done: tuple[Done, ...]
    resumed: tuple[Resumed, ...] = ()
    looked: tuple[FirstLook, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """12 when it has to be called again, else 0."""
        return _TO_BE_CONTINUED if self.looked else 0

    @property
    def changed(self) -> int:
        """Points that were changed, over all collections."""
        return sum(one.changed for one in self.done)

    @property
    def log(self) -> int | None:
        """The newest row of the audit; None where nothing was there."""
        return next((one.log for one in reversed(self.done) if one.log is not None), None)


def run_fix(
    opened: Session,
    make: Callable[[World], Plan],
    lock_timeout: float | None,
    *,
    same: Callable[[Job], bool] = lambda _: False,
    names: Sequence[str] | None = None,
    begin: Callable[[], None] | None = None,
    edits: Sequence[tuple[Operation, JsonObject]] = (),
    wait: bool = True,
) -> FixResult:
    """Finish interrupted runs of the collections that `make` plans for, then do what it plans.

    One that was just finished with its consent to an exact number is done.

    Args:
        same: whether an interrupted job is this very fix: then it is done, too.
        names: of the collections; None for those that the plan is about.
        begin: called before anything new is planned, where something new is done.
        edits: what it plans from, where it may have to look twice.
        wait: for the second look.
    """
    with stop_on_signals(opened.progress) as stop:
        planned = make(observe(opened.ledger, opened.store)) if names is None else None
        if planned is not None:
            names = [item.job.collection for item in planned.collections]
        wanted = tuple(names or ())
        begun = {
            run.id
            for run in opened.ledger.open_runs()
            # One that waited had seen its orphans twice already.
            if same(run.job) or _has_waited(run.job, edits) or (planned is not None and _consented(run.job, planned))
        }
        unfinished = {run.job.collection: run.job for run in opened.ledger.open_runs()}
        options = RunOptions(stop, lock_timeout, only=wanted)
        resumed, finished = finish_open_runs(opened, options)
        # What was just finished is in the audit: that its repetition finds nothing more is expected.
        repeated = frozenset(one.collection for one in resumed if _repeats(planned, unfinished.get(one.collection)))
        done = [one for outcome in finished for one in _done(outcome)]
        over = {one.collection for one in resumed if one.run in begun}
        if wanted and over.issuperset(wanted):
            return FixResult(tuple(done), tuple(resumed))
        if begin is not None:
            begin()
        if opened.settings.asks_approvals:
            # Before the first of two looks is waited for.
            check_plan(opened, without(make(observe(opened.ledger, opened.store)), over))
        looked = until_second_look(opened, edits, stop=stop, wait=wait, lock_timeout=lock_timeout)
        if looked:
            return FixResult(tuple(done), tuple(resumed), looked)
        if len(wanted) > 1:
            # What is deleted of the first one can't be undone by a refusal of the second.
            check_all(opened, without(make(observe(opened.ledger, opened.store)), over))
        _, outcomes = perform(opened, lambda world: _unlogged(without(make(world), over), repeated), options)
    done += [one for outcome in outcomes for one in _done(outcome)]
    return FixResult(tuple(done), tuple(resumed))


def _repeats(plan: Plan | None, job: Job | None) -> bool:
    """Whether a plan does to the collection of an interrupted job just what that did."""
    items = plan.collections if plan is not None and job is not None else ()
    return any(
        job is not None
        and item.job.collection == job.collection
        and same_edits(job, [step.edit for step in item.job.steps if isinstance(step, EditPoints)])
        for item in items
    )


def _unlogged(plan: Plan, names: Collection[str]) -> Plan:
    """The same, with nothing in the audit of these collections where nothing is found."""
    return replace(
        plan,
        collections=tuple(
            replace(item, job=replace(item.job, steps=tuple(map(_without_log, item.job.steps))))
            if item.job.collection in names
            else item
            for item in plan.collections
        ),
    )


def _without_log(step: Step) -> Step:
    return replace(step, edit={**step.edit, "log_empty": False}) if isinstance(step, EditPoints) else step


def _grace(edit: JsonObject) -> float:
    """Seconds that a fix waits between two looks; 0 where it looks once."""
    said = edit_of(edit)
    return said.grace if isinstance(said, OrphansEdit) else 0.0


def _has_waited(job: Job, edits: Sequence[tuple[Operation, JsonObject]]) -> bool:
    """Whether an interrupted job did the only edit, and had to wait for it."""
    if len(edits) != 1 or not _grace(edits[0][1]):
        return False
    wanted = first_look.query_of(edits[0][1])
    known = [step.edit for step in job.steps if isinstance(step, EditPoints)]
    return any(_grace(edit) and first_look.query_of(edit) == wanted for edit in known)


def _consented(job: Job, plan: Plan) -> bool:
    """Whether an interrupted job does what is planned for its collection, each for an exact number of points.

    That many were agreed to once: when the run is finished, there is nothing left that the number could be about.
    """
    begun = [_at_any_rate(getattr(step, "edit", {})) for step in job.steps]
    found = [item.job.steps for item in plan.collections if item.job.collection == job.collection]
    wanted = [_at_any_rate(getattr(step, "edit", {})) for steps in found for step in steps]
    return bool(wanted) and wanted == begun and all(Edit.of(edit).expect is not None for edit in wanted)


def _at_any_rate(edit: JsonObject) -> JsonObject:
    """What an edit does, however fast, however agreed to, wherever its ids go, and without what was added here."""
    return {name: value for name, value in edit.items() if name not in ("max_rate", "most", "ids_to", "log_empty")}


def same_edits(job: Job, edits: Sequence[JsonObject]) -> bool:
    """Whether a job does just these edits, whatever number of points and speed was agreed to."""
    return [_bare(step.edit) for step in job.steps if isinstance(step, EditPoints)] == [_bare(one) for one in edits]


def _bare(edit: JsonObject) -> JsonObject:
    return {name: value for name, value in _said(edit).items() if name not in ("expect", "most", "max_rate")}


def _said(edit: JsonObject) -> JsonObject:
    """Without what was added to it here."""
    return {name: value for name, value in edit.items() if name != "log_empty"}


def _done(outcome: Outcome) -> list[Done]:
    """What the data fixes among the steps of a job have done."""
    found = []
    for phase in outcome.report:
        at, _, name = phase.partition(".")
        step, closed = int(at), outcome.facts(Closed, int(at))
        log, points = known(closed.log), closed.back_again
        if name == Closed.phase and points is not None:
            kept = known(closed.undo) is not None
            found.append(Done(outcome.collection, log, points, 0, 0, points, outcome.seconds, undo=kept))
        if name != Select.phase:
            continue
        changed = outcome.facts(EditChange, step)
        found.append(
            Done(
                collection=outcome.collection,
                log=log,
                changed=changed.changed,
                changed_meanwhile=changed.moved,
                gone=changed.gone,
                verified=outcome.facts(EditVerify, step).verified,
                seconds=outcome.seconds,
                counts=dict(outcome.facts(Select, step).counts or {}),
                erasure=erased_of(outcome, step),
                undo=closed.undo is not None,
            )
        )
    return found
