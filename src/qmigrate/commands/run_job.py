"""One job under its lease: hold, observe, choose, check, run, measure. Which job that is, a choice says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from qmigrate.commands.asking import asked_for
from qmigrate.commands.failures import Failures, MovedError
from qmigrate.commands.held_runs import held_run
from qmigrate.commands.meanings import meanings_of
from qmigrate.commands.results import Held, Outcome, Resumed
from qmigrate.commands.session import Session, UserCode
from qmigrate.commands.workers import workers_of
from qmigrate.engine.executor import Stop, run
from qmigrate.engine.work import Work
from qmigrate.errors import ApprovalNeededError, HeldError, QmigrateError, RefusedError, StoppedError
from qmigrate.ledger import Lease
from qmigrate.model.names import generation_name, own_alias
from qmigrate.model.plan import CollectionPlan, Job, Plan, RecordLoss, Retire
from qmigrate.model.state import DELETING, HOLD, CollectionState, OpenRun, World
from qmigrate.observe import check_ownership, check_unclosed, observe
from qmigrate.planner import plan_abort
from qmigrate.planner.guard import check_not_given_up, check_open_run
from qmigrate.ports import beside
from qmigrate.version import __version__


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How jobs are run: the same for all of one command.

    Attributes:
        stop: see :func:`qmigrate.engine.executor.stop_on_signals`.
        lock_timeout: seconds to wait for another process; None for the setting.
        only: the logical names that the command is about, where it is restricted; other runs are left alone.
        snapshot: whether a source is snapshotted first, where the settings have it.
        unfinished: whether a plan is about unfinished runs (abort); other plans never run next to one.
        owned: check that no other ledger owns the collections; adopting them checks that by itself.
        cutover: whether the go-lives that wait for it are released.
        exact: whether a collection that has moved is refused; else it is planned again.
        failures: what failed already, and whether the others continue; those that failed are skipped.
    """

    stop: Stop
    lock_timeout: float | None = None
    only: Iterable[str] | None = None
    snapshot: bool = True
    unfinished: bool = False
    owned: bool = True
    cutover: bool = False
    exact: bool = False
    failures: Failures | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What is run of a collection, chosen under its lease.

    Attributes:
        state: what the collection was seen to be.
        checksums: of the revisions that a new run uses.
        found: the run to resume; None for a new one.
        resumed: what is reported of that run, where it is.
        new: whether it is work that a user has asked for just now: only then the rights are checked first.
        planned: whether it was planned from revisions, so that their meanings are kept.
        begun_only: see :class:`qmigrate.engine.work.Work`.
        lenient: whether a failure is a line of progress, and stops nothing.
        reported: whether what has run is part of the result.
        consent: what a cut-over releases.
    """

    state: CollectionState
    job: Job
    verb: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    found: OpenRun | None = None
    resumed: Resumed | None = None
    snapshot: bool = False
    new: bool = False
    planned: bool = False
    begun_only: bool = False
    lenient: bool = False
    reported: bool = True
    consent: int | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """What has run, and the interrupted run that it was, where it was one."""

    outcome: Outcome
    resumed: Resumed | None = None


#: Chooses what is run of a collection while its lease is held; None where there is nothing to do.
Choose = Callable[[Session, str, RunOptions], Choice | None]


def run_job(session: Session, name: str, choose: Choose, options: RunOptions) -> Ran | None:
    """Do what is chosen for one collection under its lease.

    Returns:
        What has run; None where nothing was chosen, or it failed and the others continue.

    Raises:
        MovedError: it is not what its job was planned on.
    """
    failures = options.failures or Failures(session.progress)
    if name in failures.found:
        return None
    with failures.of(name), hold_lease(session, name, options.lock_timeout) as lease:
        chosen = choose(session, name, options)
        if chosen is None:
            return None
        work = work_of(session, lease, chosen)
        if chosen.new:
            _check_rights(work)
        if chosen.planned:
            lease.keep_meanings(meanings_of(session.ledger, session.revisions, chosen.job.revisions()))
        began, began_at = time.monotonic(), datetime.now(UTC)
        held: Held | None = None
        try:
            actor = lease.ledger.actor
            run(work, chosen.verb, chosen.checksums, actor=actor, stop=options.stop, found=chosen.found)
        except HeldError as error:
            work.progress.say(f"{error.message}: {error.hint}")
            waiting = lease.ledger.open_run(name)
            held = held_run(waiting) if waiting is not None else None
        except ApprovalNeededError as error:
            raise asked_for(session, error) from error
        except QmigrateError as error:
            if not chosen.lenient or isinstance(error, StoppedError):
                raise
            session.progress.say(f"{name}: {chosen.verb} could not be finished: {error.message}")
            return None
        if not chosen.reported:
            return None
        return Ran(_outcome(work, began_at, time.monotonic() - began, held), chosen.resumed)


@dataclass(frozen=True, slots=True)
class Planned:
    """The job of a plan, where the collection still is what it was planned on."""

    plan: Plan
    item: CollectionPlan

    def __call__(self, session: Session, name: str, options: RunOptions) -> Choice:
        """Choose it.

        Raises:
            MovedError: the collection has moved.
            RefusedError: the same, where nothing is planned again.
        """
        job = self.item.job
        world = observe(session.ledger, session.store, only=[name])
        state = world.collections[name]
        beside = options.unfinished or (state.held and job.beside_held)
        # An unfinished run may have been resumed, and died, while the lease was waited for: more is to be undone then.
        moved = state.basis(journal=options.unfinished) != job.basis
        if moved or (state.open_run is not None and not beside):
            raise moved_since([name]) if options.exact else MovedError()
        if options.owned:
            check_ownership(world, name)
        needed = job.revisions()
        checksums = {one: value for one, value in (self.plan.checksums or {}).items() if one in needed}
        return Choice(
            state, job, self.plan.verb, checksums, snapshot=options.snapshot, new=True, planned=True
        )


@dataclass(frozen=True, slots=True)
class PlannedHere:
    """What is planned under the lease, from a World of this collection alone."""

    make_plan: Callable[[World], Plan]

    def __call__(self, session: Session, name: str, options: RunOptions) -> Choice | None:
        """Choose it; None when the plan is empty."""
        world = observe(session.ledger, session.store, only=[name])
        plan = self.make_plan(world)
        item = next(iter(plan.collections), None)
        if item is None:
            return None
        if not options.unfinished:
            check_ownership(world, name)
        return Choice(world.collections[name], item.job, plan.verb, new=True)


@dataclass(frozen=True, slots=True)
class Begun:
    """The rest of an interrupted run."""

    found: OpenRun

    def __call__(self, session: Session, name: str, options: RunOptions) -> Choice | None:
        """Choose it; None where it was over by then, or waits for a later consent."""
        current = session.ledger.open_run(name)
        if current is None or current.id != self.found.id or (current.state == "held" and not options.cutover):
            return None
        if current.waiting() not in (None, self.found.waiting()) and options.cutover:
            # Another process has let that one on while the lease was waited for, and this is a later one.
            return None
        if current.job.repeatable:
            return _finish_or_end(session, current)
        if current.job.throwaway and current.job.supersedes is None:
            return _take_back(session, name)
        check_open_run(session.files(), current)
        resumed = _resumed(current)
        session.progress.say(_announcement(resumed, cutover=options.cutover))
        state = observe(session.ledger, session.store, only=[name]).collections[name]
        check_unclosed(session.store, state, current)
        check_not_given_up(state, current)
        return Choice(
            state,
            current.job,
            current.verb,
            found=current,
            resumed=resumed,
            snapshot=options.snapshot,
            consent=current.waiting() if options.cutover else None,
        )


def rehearsed(session: Session, name: str, options: RunOptions) -> Choice | None:  # noqa: ARG001  as each Choose
    """Take back what an interrupted rehearsal has made; None when there is none."""
    found = session.ledger.open_run(name)
    return _take_back(session, name) if found is not None and found.job.throwaway else None


def _take_back(session: Session, name: str) -> Choice:
    world = observe(session.ledger, session.store, only=[name])
    job = plan_abort(world, only=[name]).collections[0].job
    return Choice(world.collections[name], job, "abort", reported=False)


def _finish_or_end(session: Session, found: OpenRun) -> Choice:
    """A clean-up that was interrupted: only a deletion that has begun is finished.

    What else it was to delete was agreed to by its caller, and may be the way back of the present one. Where that fails
    it is planned again some day, and nothing is stopped.
    """
    name = found.job.collection
    state = observe(session.ledger, session.store, only=[name]).collections[name]
    rows = [state.generation(step.target) for step in found.job.steps]
    if any(row is not None and row.state == DELETING for row in rows):
        session.progress.say(f"{name}: finishing the {found.verb} of {found.started_at:%H:%M} on host {found.host}")
        return Choice(state, found.job, found.verb, found=found, begun_only=True, lenient=True, reported=False)
    session.progress.say(
        f"{name}: the {found.verb} of {found.started_at:%H:%M} on host {found.host} was interrupted before it deleted "
        "anything more, so that is over"
    )
    return _take_back(session, name)


def moved_since(names: Iterable[str]) -> RefusedError:
    """The refusal of a plan that doesn't fit any more."""
    return RefusedError(
        f"{', '.join(names)} moved since the plan was made: its revisions, schema, generations or runs are not those "
        "that it was made on",
        hint="make it again: qmigrate plan --out FILE",
    )


def hold_lease(session: Session, name: str, lock_timeout: float | None) -> AbstractContextManager[Lease]:
    """The lease of a collection while the block runs, within the bounds of the settings."""
    limits = session.settings.limits
    return session.ledger.hold(
        name,
        timeout=limits.lock_timeout if lock_timeout is None else lock_timeout,
        ttl=limits.lease_ttl,
        progress=session.progress.say,
    )


def work_of(session: Session, lease: Lease, chosen: Choice) -> Work:
    """The work of a job, by the settings of its collection."""
    settings = session.settings.for_collection(chosen.state.name)
    work = Work(
        collection=chosen.state.name,
        store=session.store,
        lease=lease,
        code=UserCode(session, settings),
        settings=settings,
        progress=beside(session.progress) if session.several else session.progress,
        state=chosen.state,
        job=chosen.job,
        ledger_id=session.ledger_id,
        snapshot=chosen.snapshot and settings.rebuild.snapshot != "off",
        tool=__version__,
        hands=workers_of(settings),
    )
    work.consent, work.begun_only = chosen.consent, chosen.begun_only
    return work


def _check_rights(work: Work) -> None:
    """A key that may only read must show before a run is recorded: it is asked to remove an alias that isn't there.

    Raises:
        StoreError: the server refuses writes.
    """
    if not work.store.capabilities.local:
        # An own alias of this epoch, so no other process can have made it yet.
        work.store.drop_alias(own_alias(generation_name(work.collection, 0), work.lease.epoch))


def _outcome(work: Work, began_at: datetime, seconds: float, held: Held | None) -> Outcome:
    steps = work.job.steps
    ended = len(steps) if held is None else work.step
    serves = _serving(work)
    if held is not None:
        serves = getattr(steps[work.step], "source", None)
    return Outcome(
        collection=work.collection,
        revisions=tuple(closing.revision for closing in work.job.closes if closing.step < ended),
        physical=serves,
        seconds=round(seconds, 3),
        report={f"{step}.{phase}": facts for (step, phase), facts in sorted(work.learned.items()) if facts},
        notes=(),
        held=held,
        started_at=began_at,
    )


def _serving(work: Work) -> str | None:
    """What serves in the end: what the job has moved the name to, else what served before."""
    for step in reversed(work.job.steps):
        if not isinstance(step, Retire | RecordLoss):
            return step.target
    return work.state.physical


def _resumed(found: OpenRun) -> Resumed:
    last = found.records[-1] if found.records else None
    return Resumed(
        collection=found.job.collection,
        run=found.id,
        phase=last.phase if last else "preflight",
        started_at=found.started_at,
        host=found.host,
        done=found.done_points,
        total=found.total_points,
    )


def _announcement(found: Resumed, *, cutover: bool) -> str:
    if cutover and found.phase == HOLD:
        return f"Cutting over {found.collection}, built by the run of {found.started_at:%b %d %H:%M}."
    share = f", {100 * found.done // found.total} %" if found.total else ""
    return (
        f"Found an interrupted run of {found.started_at:%H:%M} on host {found.host}: "
        f"{found.collection}, {found.phase}{share}. Resuming from there."
    )
