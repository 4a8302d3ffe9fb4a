"""Plans made real, and interrupted runs finished. Shared by every changing verb; it doesn't decide what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from qmigrate.commands.failures import Failures, MovedError, telling
from qmigrate.commands.parallel import in_threads
from qmigrate.commands.results import Outcome, Resumed
from qmigrate.commands.run_job import Begun, Choice, Choose, Planned, Ran, RunOptions, hold_lease, run_job, work_of
from qmigrate.commands.session import Session
from qmigrate.engine.epoch_aliases import revoke_earlier
from qmigrate.engine.golive.freeze import thaw
from qmigrate.errors import QmigrateError
from qmigrate.model.plan import Job, Plan
from qmigrate.model.state import World
from qmigrate.observe import check_ownership, observe

#: How often it is planned again because another process was faster.
MOST_PLANS = 5


def perform(
    session: Session, make_plan: Callable[[World], Plan], options: RunOptions, *, names: Iterable[str] | None = None
) -> tuple[Plan, list[Outcome]]:
    """Plan, then run every job under its lease, several at a time; when a state has moved, plan again.

    Args:
        make_plan: from a fresh World.
        names: read these logical names only, where the plan is about no others.

    Returns:
        The first plan, and the outcome of every job that ran.
    """
    chosen = tuple(names) if names is not None else None
    failures = options.failures or Failures(session.progress)
    options = replace(options, failures=failures, only=chosen if options.only is None else tuple(options.only))
    outcomes: list[Outcome] = []
    first: Plan | None = None
    patience = session.settings.limits.lock_timeout if options.lock_timeout is None else options.lock_timeout
    tried, until, over = 0, time.monotonic() + patience, set(session.passed)
    # Several that wait for each other move the state one after the other: each of them may have to plan again.
    while tried < MOST_PLANS or time.monotonic() < until:
        tried += 1
        world = observe(session.ledger, session.store, only=chosen)
        # What has run is done: a fix would find there what has been written since, and no user has agreed to that.
        plan = without(make_plan(world), over)
        first = first or plan
        for item in plan.collections:
            with failures.of(item.job.collection):
                if options.owned:
                    check_ownership(world, item.job.collection)
        running = _Running(session, _planned(plan), options, done=outcomes)
        try:
            # The loop of `run_all`, written out: that method and `run` would be two frames more in every traceback
            # between a command and Qdrant, whose length is limited (tests/scenarios/test_call_depth.py).
            with telling(running.done):
                for task in in_threads(running.tasks, running.run, session):
                    running.keep(task, run_job(session, task.name, task.choose, options))
        except MovedError:
            over |= {ran.outcome.collection for ran in running.ran()}
            outcomes += [ran.outcome for ran in running.ran()]
        else:
            return first, outcomes + [ran.outcome for ran in running.ran()]
        session.progress.say("another client changed a collection meanwhile: planning again")
        if not options.unfinished:
            outcomes += finish_open_runs(session, options)[1]
    raise QmigrateError(
        f"the state moved {tried} times while planning", hint="is another deployment running? qmigrate status"
    )


def perform_exactly(session: Session, plan: Plan, options: RunOptions) -> list[Outcome]:
    """Run the jobs of a plan as they are; nothing is planned again.

    Raises:
        RefusedError: a collection is not what its job was planned on; the jobs that were begun before are done.
    """
    options = replace(options, exact=True)
    return [ran.outcome for ran in _Running(session, _planned(plan), options).run_all()]


@dataclass(frozen=True, slots=True)
class _Task:
    """What is chosen for a collection, and the job that shows which names it touches."""

    job: Job
    choose: Choose

    @property
    def name(self) -> str:
        return self.job.collection


class _Running:
    """Tasks, and what has become of them.

    Attributes:
        done: the collections whose task has run, after those of `done`.
    """

    def __init__(
        self, session: Session, tasks: Sequence[_Task], options: RunOptions, *, done: Iterable[Outcome] = ()
    ) -> None:
        self._session, self._options = session, options
        self.tasks = tasks
        self.done = [outcome.collection for outcome in done]
        self._ran: list[tuple[_Task, Ran]] = []

    def run_all(self) -> list[Ran]:
        """Run them all, as many at a time as the session allows; what has run, in the order of the tasks."""
        with telling(self.done):
            for task in in_threads(self.tasks, self.run, self._session):
                self.run(task)
        return self.ran()

    def run(self, task: _Task) -> None:
        """Run one."""
        self.keep(task, run_job(self._session, task.name, task.choose, self._options))

    def keep(self, task: _Task, ran: Ran | None) -> None:
        """Keep what has run."""
        if ran is not None:
            self._ran.append((task, ran))
            self.done.append(task.name)

    def ran(self) -> list[Ran]:
        """What has run, in the order of the tasks."""
        places = {id(task): place for place, task in enumerate(self.tasks)}
        return [ran for task, ran in sorted(self._ran, key=lambda pair: places[id(pair[0])])]


def _planned(plan: Plan) -> list[_Task]:
    return [_Task(item.job, Planned(plan, item)) for item in plan.collections]


def without(plan: Plan, names: Collection[str]) -> Plan:
    """A plan for the other collections alone."""
    return replace(plan, collections=tuple(item for item in plan.collections if item.job.collection not in names))


def finish_open_runs(
    session: Session, options: RunOptions, *, verb: str | None = None
) -> tuple[list[Resumed], list[Outcome]]:
    """Resume every interrupted or failed run from its stored job; nothing is planned again.

    A held run stays held, and one that reaches its hold waits there, unless its cut-over is asked for.

    Args:
        verb: restrict to runs of this verb.
    """
    options = replace(options, failures=options.failures or Failures(session.progress))
    chosen = frozenset(options.only) if options.only is not None else None
    _end_left_over(session, options.lock_timeout)
    # What runs next to a held run is newer, and hides it until it is over.
    found = sorted(session.ledger.open_runs(), key=lambda run: not run.job.beside_held)
    mine = [
        _Task(begun.job, Begun(begun))
        for begun in found
        if (chosen is None or begun.job.collection in chosen)
        and verb in (None, begun.verb)
        and (begun.state != "held" or options.cutover)
    ]
    ran = _Running(session, mine, options).run_all()
    pairs = [(one.resumed, one.outcome) for one in ran if one.resumed is not None]
    return [resumed for resumed, _ in pairs], [outcome for _, outcome in pairs]


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
            work = work_of(session, lease, Choice(state, Job(name, state.basis(), ()), ""))
            session.progress.say(f"{name}: a leftover freeze was lifted; it takes writes again")
            revoke_earlier(work, [state.physical])
            thaw(work, state.physical)


def _is_frozen(session: Session, physical: str | None, name: str) -> bool:
    rows = session.ledger.generations(name)
    return any(row.physical == physical and row.state == "live" and row.fence is not None for row in rows)
