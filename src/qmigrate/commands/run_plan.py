"""Plans made real: hold the lease, look again, run. Shared by every changing verb; it doesn't decide what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from qmigrate.commands.failures import Failures, MovedError, telling
from qmigrate.commands.held_runs import held_run
from qmigrate.commands.meanings import meanings_of
from qmigrate.commands.parallel import chains, each
from qmigrate.commands.results import Held, Outcome, Resumed
from qmigrate.commands.session import Session, UserCode
from qmigrate.commands.workers import workers_of
from qmigrate.engine.epoch_aliases import revoke_earlier
from qmigrate.engine.executor import Stop, run
from qmigrate.engine.golive.freeze import thaw
from qmigrate.engine.work import Work
from qmigrate.errors import HeldError, QmigrateError, RefusedError, StoppedError
from qmigrate.ledger import Lease
from qmigrate.model.names import generation_name, own_alias
from qmigrate.model.plan import CollectionPlan, Job, Plan, RecordLoss, Retire
from qmigrate.model.state import DELETING, HOLD, CollectionState, OpenRun, World
from qmigrate.observe import check_ownership, observe
from qmigrate.planner import plan_abort
from qmigrate.planner.guard import check_not_given_up, check_open_run
from qmigrate.ports import beside
from qmigrate.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")

#: How often it is planned again because another process was faster.
MOST_PLANS = 5


def perform(  # noqa: PLR0913  what the verbs may choose
    session: Session,
    make_plan: Callable[[World], Plan],
    *,
    stop: Stop,
    lock_timeout: float | None = None,
    snapshot: bool = True,
    unfinished: bool = False,
    names: Iterable[str] | None = None,
    owned: bool = True,
    only: Iterable[str] | None = None,
    failures: Failures | None = None,
) -> tuple[Plan, list[Outcome]]:
    """Plan, then run every job under its lease; when a state has moved, plan again.

    Args:
        make_plan: from a fresh World.
        unfinished: whether the plan is about unfinished runs (abort); other plans never run next to one.
        names: read these logical names only, where the plan is about no others.
        owned: check that no other ledger owns the collections; adopting them checks that by itself.
        only: the logical names that the plan is about, where it is restricted; other runs are left alone.
        failures: what failed already, and whether the others continue; those that failed are skipped.

    Returns:
        The first plan, and the outcome of every job that ran.
    """
    chosen = tuple(names) if names is not None else None
    failures = failures or Failures(session.progress)
    outcomes: list[Outcome] = []
    first: Plan | None = None
    patience = session.settings.limits.lock_timeout if lock_timeout is None else lock_timeout
    tried, until, ran = 0, time.monotonic() + patience, set[str]()
    # Several that wait for each other move the state one after the other: each of them may have to plan again.
    while tried < MOST_PLANS or time.monotonic() < until:
        tried += 1
        world = observe(session.ledger, session.store, only=chosen)
        # What has run is done: a fix would find there what has been written since, and no user has agreed to that.
        plan = without(make_plan(world), ran)
        first = first or plan
        for item in plan.collections:
            with failures.of(item.job.collection):
                if owned:
                    check_ownership(world, item.job.collection)
        options = {"snapshot": snapshot, "unfinished": unfinished, "owned": owned}
        before = len(outcomes)
        try:
            _run_all(session, plan, failures, outcomes, (stop, lock_timeout, options))
        except MovedError:
            ran |= {outcome.collection for outcome in outcomes[before:]}
            session.progress.say("another client changed a collection meanwhile: planning again")
            if not unfinished:
                again = only if only is not None else chosen
                outcomes += finish_open_runs(
                    session, stop=stop, only=again, lock_timeout=lock_timeout, snapshot=snapshot, failures=failures
                )[1]
            continue
        return first, outcomes
    raise QmigrateError(
        f"the state moved {tried} times while planning", hint="is another deployment running? qmigrate status"
    )


def without(plan: Plan, names: Collection[str]) -> Plan:
    """A plan for the other collections alone."""
    return replace(plan, collections=tuple(item for item in plan.collections if item.job.collection not in names))


def _run_all(
    session: Session,
    plan: Plan,
    failures: Failures,
    outcomes: list[Outcome],
    how: tuple[Stop, float | None, Mapping[str, bool]],
) -> None:
    """Every job of a plan, several collections at a time; what ran is in `outcomes`, in the order of the plan.

    Raises:
        MovedError: a collection is not what the plan was made on; the others that were begun have run.
    """
    stop, lock_timeout, options = how
    places = {item.job.collection: place for place, item in enumerate(plan.collections)}
    begun: list[Outcome] = []
    done = [outcome.collection for outcome in outcomes]

    def one(item: CollectionPlan) -> None:
        if item.job.collection not in failures.found:
            with failures.of(item.job.collection):
                begun.append(_run_planned(session, plan, item, stop, lock_timeout, **options))
                done.append(item.job.collection)

    try:
        with telling(done):
            _each(session, plan.collections, lambda item: item.job, one)
    finally:
        outcomes += sorted(begun, key=lambda outcome: places.get(outcome.collection, len(places)))


def _each(
    session: Session, items: Sequence[Item], job: Callable[[Item], Job], work: Callable[[Item], Result]
) -> list[Result]:
    """The work for every item, as many at a time as the session allows; the results in the order of the items."""
    groups = chains(items, job) if session.parallel > 1 else [list(items)]
    session.several = len(groups) > 1
    places = {id(item): place for place, item in enumerate(items)}
    try:
        found = each(groups, lambda item: (places[id(item)], work(item)), session.parallel, session.progress)
    finally:
        session.several = False
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def finish_open_runs(
    session: Session,
    *,
    stop: Stop,
    only: Iterable[str] | None = None,
    lock_timeout: float | None = None,
    verb: str | None = None,
    snapshot: bool = True,
    cutover: bool = False,
    failures: Failures | None = None,
) -> tuple[list[Resumed], list[Outcome]]:
    """Resume every interrupted or failed run from its stored job; nothing is planned again.

    A held run stays held, and one that reaches its hold waits there, unless its cut-over is asked for.

    Args:
        only: restrict to these logical names.
        verb: restrict to runs of this verb.
        cutover: whether the go-lives that wait for it are released.
        failures: what failed already, and whether the others continue; those that failed are skipped.
    """
    failures = failures or Failures(session.progress)
    chosen = frozenset(only) if only is not None else None
    _end_left_over(session, lock_timeout)
    # What runs next to a held run is newer, and hides it until it is over.
    found = sorted(session.ledger.open_runs(), key=lambda run: not run.job.beside_held)
    mine = [
        begun
        for begun in found
        if (chosen is None or begun.job.collection in chosen)
        and verb in (None, begun.verb)
        and (begun.state != "held" or cutover)
    ]

    done: list[str] = []

    def one(begun: OpenRun) -> tuple[Resumed, Outcome] | None:
        name = begun.job.collection
        if name in failures.found:
            return None
        with failures.of(name):
            pair = _finish_one(session, begun, stop, lock_timeout, snapshot=snapshot, cutover=cutover)
            done.extend([name] if pair is not None else [])
            return pair

    with telling(done):
        made = [pair for pair in _each(session, mine, lambda begun: begun.job, one) if pair is not None]
    return [resumed for resumed, _ in made], [outcome for _, outcome in made]


def begun_revisions(opened: Session, verb: str, only: Iterable[str] | None) -> frozenset[str]:
    """What interrupted runs of a verb apply, or undo; of these logical names, or of all."""
    chosen = frozenset(only) if only is not None else None
    return frozenset(
        closing.revision
        for run in opened.ledger.open_runs()
        if run.verb == verb and run.state != "held" and (chosen is None or run.job.collection in chosen)
        for closing in run.job.closes
        if closing.direction == verb
    )


def _finish_one(
    session: Session, found: OpenRun, stop: Stop, lock_timeout: float | None, *, snapshot: bool, cutover: bool
) -> tuple[Resumed, Outcome] | None:
    """Resume one run; None where it was over by then, or left nothing to report."""
    name = found.job.collection
    with hold_lease(session, name, lock_timeout) as lease:
        current = session.ledger.open_run(name)
        if current is None or current.id != found.id or (current.state == "held" and not cutover):
            return None
        if current.waiting() not in (None, found.waiting()) and cutover:
            # Another process has let that one on while the lease was waited for, and this is a later one.
            return None
        if current.job.repeatable:
            _finish_or_end(session, lease, current, stop)
            return None
        if current.job.throwaway and current.job.supersedes is None:
            _end_rehearsal(session, lease, name, stop)
            return None
        check_open_run(session.files(), current)
        resumed = _resumed(current)
        session.progress.say(_announcement(resumed, cutover=cutover))
        state = observe(session.ledger, session.store, only=[name]).collections[name]
        check_not_given_up(state, current)
        work = _work(session, lease, state, current.job, snapshot=snapshot)
        work.consent = current.waiting() if cutover else None
        return resumed, _timed(work, current.verb, {}, stop, current)


def _end_left_over(session: Session, lock_timeout: float | None) -> None:
    """Writes are allowed again where a process froze a collection and died, and none holds its lease (rule 8)."""
    working = {run.job.collection for run in session.ledger.open_runs() if run.leased}
    for name, view in session.ledger.collections().items():
        if name in working or not _is_frozen(session, view.physical, name):
            continue
        with hold_lease(session, name, lock_timeout) as lease:
            state = observe(session.ledger, session.store, only=[name]).collections[name]
            shown = None if state.kind == "plain" else state.physical
            everywhere = all(aliases.get(name) == shown for aliases in session.store.aliases_of_nodes())
            if state.physical is None or not everywhere or not _is_frozen(session, state.physical, name):
                continue
            work = _work(session, lease, state, Job(name, state.basis(), ()), snapshot=False)
            session.progress.say(f"{name}: a leftover freeze was lifted; it takes writes again")
            revoke_earlier(work, [state.physical])
            thaw(work, state.physical)


def _is_frozen(session: Session, physical: str | None, name: str) -> bool:
    rows = session.ledger.generations(name)
    return any(row.physical == physical and row.state == "live" and row.fence is not None for row in rows)


def perform_exactly(
    session: Session, plan: Plan, *, stop: Stop, lock_timeout: float | None = None, snapshot: bool = True
) -> list[Outcome]:
    """Run the jobs of a plan as they are; nothing is planned again.

    Raises:
        RefusedError: a collection is not what its job was planned on; the jobs that were begun before are done.
    """
    options = {"snapshot": snapshot, "unfinished": False, "owned": True}

    done: list[str] = []

    def one(item: CollectionPlan) -> Outcome:
        try:
            outcome = _run_planned(session, plan, item, stop, lock_timeout, **options)
        except MovedError:
            raise moved_since([item.job.collection]) from None
        done.append(item.job.collection)
        return outcome

    with telling(done):
        return _each(session, plan.collections, lambda item: item.job, one)


def moved_since(names: Iterable[str]) -> RefusedError:
    """The refusal of a plan that doesn't fit any more."""
    return RefusedError(
        f"{', '.join(names)} moved since the plan was made: its revisions, schema, generations or runs are not those "
        "that it was made on",
        hint="make it again: qmigrate plan --out FILE",
    )


def perform_held(
    session: Session,
    name: str,
    make_plan: Callable[[World], Plan],
    *,
    stop: Stop,
    lock_timeout: float | None = None,
    unfinished: bool = False,
) -> Outcome | None:
    """Plan one collection under its lease and run it at once: for what is planned from what is there, not from code.

    Args:
        name: the logical name, also of a collection that only the ledger has.
        make_plan: from a World of this collection alone.
        unfinished: whether the plan is about an unfinished run.

    Returns:
        The outcome, or None when the plan is empty.
    """
    with hold_lease(session, name, lock_timeout) as lease:
        world = observe(session.ledger, session.store, only=[name])
        plan = make_plan(world)
        item = next(iter(plan.collections), None)
        if item is None:
            return None
        if not unfinished:
            check_ownership(world, name)
        work = _work(session, lease, world.collections[name], item.job, snapshot=False)
        _check_rights(work)
        return _timed(work, plan.verb, {}, stop, None)


def end_rehearsals(session: Session, name: str, *, stop: Stop, lock_timeout: float | None = None) -> None:
    """Remove what an interrupted rehearsal of a collection has made; nothing happens when there is none."""
    with hold_lease(session, name, lock_timeout) as lease:
        found = session.ledger.open_run(name)
        if found is not None and found.job.throwaway:
            _end_rehearsal(session, lease, name, stop)


def _end_rehearsal(session: Session, lease: Lease, name: str, stop: Stop) -> None:
    _take_back(session, lease, name, stop)


def _take_back(session: Session, lease: Lease, name: str, stop: Stop) -> None:
    world = observe(session.ledger, session.store, only=[name])
    job = plan_abort(world, only=[name]).collections[0].job
    _timed(_work(session, lease, world.collections[name], job, snapshot=False), "abort", {}, stop, None)


def _finish_or_end(session: Session, lease: Lease, found: OpenRun, stop: Stop) -> None:
    """A clean-up that was interrupted: only a deletion that has begun is finished.

    What else it was to delete was agreed to by its caller, and may be the way back of the present one.
    """
    name = found.job.collection
    state = observe(session.ledger, session.store, only=[name]).collections[name]
    rows = [state.generation(step.target) for step in found.job.steps]
    if any(row is not None and row.state == DELETING for row in rows):
        _finish_repeatable(session, lease, found, stop)
        return
    session.progress.say(
        f"{name}: the {found.verb} of {found.started_at:%H:%M} on host {found.host} was interrupted before it deleted "
        "anything more, so that is over"
    )
    _take_back(session, lease, name, stop)


def _finish_repeatable(session: Session, lease: Lease, found: OpenRun, stop: Stop) -> None:
    """Finish what was only being cleaned up; where that fails it is planned again some day, and nothing is stopped."""
    name = found.job.collection
    session.progress.say(f"{name}: finishing the {found.verb} of {found.started_at:%H:%M} on host {found.host}")
    state = observe(session.ledger, session.store, only=[name]).collections[name]
    try:
        work = _work(session, lease, state, found.job, snapshot=False)
        work.begun_only = True
        _timed(work, found.verb, {}, stop, found)
    except StoppedError:
        raise
    except QmigrateError as error:
        session.progress.say(f"{name}: {found.verb} could not be finished: {error.message}")


def _run_planned(
    session: Session,
    plan: Plan,
    item: CollectionPlan,
    stop: Stop,
    lock_timeout: float | None,
    *,
    snapshot: bool,
    unfinished: bool,
    owned: bool,
) -> Outcome:
    name = item.job.collection
    with hold_lease(session, name, lock_timeout) as lease:
        world = observe(session.ledger, session.store, only=[name])
        state = world.collections[name]
        beside = unfinished or (state.held and item.job.beside_held)
        # An unfinished run may have been resumed, and died, while the lease was waited for: more is to be undone then.
        moved = state.basis(journal=unfinished) != item.job.basis
        if moved or (state.open_run is not None and not beside):
            raise MovedError
        if owned:
            check_ownership(world, name)
        work = _work(session, lease, state, item.job, snapshot=snapshot)
        _check_rights(work)
        lease.keep_meanings(meanings_of(session.ledger, session.revisions, item.job.revisions()))
        needed = item.job.revisions()
        checksums = {one: value for one, value in (plan.checksums or {}).items() if one in needed}
        return _timed(work, plan.verb, checksums, stop, None)


def _check_rights(work: Work) -> None:
    """A key that may only read must show before a run is recorded: it is asked to remove an alias that isn't there.

    Raises:
        StoreError: the server refuses writes.
    """
    if not work.store.capabilities.local:
        # An own alias of this epoch, so no other process can have made it yet.
        work.store.drop_alias(own_alias(generation_name(work.collection, 0), work.lease.epoch))


def hold_lease(session: Session, name: str, lock_timeout: float | None) -> AbstractContextManager[Lease]:
    """The lease of a collection while the block runs, within the bounds of the settings."""
    limits = session.settings.limits
    return session.ledger.hold(
        name,
        timeout=limits.lock_timeout if lock_timeout is None else lock_timeout,
        ttl=limits.lease_ttl,
        progress=session.progress.say,
    )


def _work(session: Session, lease: Lease, state: CollectionState, job: Job, *, snapshot: bool) -> Work:
    settings = session.settings.for_collection(state.name)
    return Work(
        collection=state.name,
        store=session.store,
        lease=lease,
        code=UserCode(session, settings),
        settings=settings,
        progress=beside(session.progress) if session.several else session.progress,
        state=state,
        job=job,
        ledger_id=session.ledger_id,
        snapshot=snapshot and settings.rebuild.snapshot != "off",
        tool=__version__,
        hands=workers_of(settings),
    )


def _timed(work: Work, verb: str, checksums: dict[str, str], stop: Stop, found: OpenRun | None) -> Outcome:
    started, started_at = time.monotonic(), datetime.now(UTC)
    held: Held | None = None
    try:
        run(work, verb, checksums, actor=work.lease.ledger.actor, stop=stop, found=found)
    except HeldError as error:
        work.progress.say(f"{error.message}: {error.hint}")
        waiting = work.lease.ledger.open_run(work.collection)
        held = held_run(waiting) if waiting is not None else None
    steps = work.job.steps
    ended = len(steps) if held is None else work.step
    serves = _serving(work)
    if held is not None:
        serves = getattr(steps[work.step], "source", None)
    return Outcome(
        collection=work.collection,
        revisions=tuple(closing.revision for closing in work.job.closes if closing.step < ended),
        physical=serves,
        seconds=round(time.monotonic() - started, 3),
        report={f"{step}.{phase}": facts for (step, phase), facts in sorted(work.learned.items()) if facts},
        notes=(),
        held=held,
        started_at=started_at,
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
