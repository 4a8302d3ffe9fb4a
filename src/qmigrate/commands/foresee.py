"""What an upgrade would refuse before its first write, found while planning. It writes nothing and decides nothing.

The first phase of a job only reads, and is where an upgrade refuses without a trace. A plan runs these very phases,
without a lease, so that none of their conditions is written down twice; what they would wait for is only reported.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from qmigrate.commands.condition import percent
from qmigrate.commands.edits import place_of
from qmigrate.commands.session import Session, UserCode
from qmigrate.commands.workers import workers_of
from qmigrate.embed import check_config
from qmigrate.engine.build.preflight import check_size
from qmigrate.engine.fixes.kinds import check
from qmigrate.engine.phases import phases_of
from qmigrate.engine.work import Work, transform_of
from qmigrate.errors import EmbedderError, LeaseHeldError, QmigrateError, StoreError
from qmigrate.ledger import Ledger
from qmigrate.model.plan import Build, CollectionPlan, EditPoints, GoLive, InPlace, Job, Plan, Refusal, RunCode
from qmigrate.model.state import CollectionState, OpenRun, World
from qmigrate.model.transform import PointTransform
from qmigrate.observe import check_unclosed
from qmigrate.operations.values import Embed
from qmigrate.planner.guard import check_not_given_up, check_open_run
from qmigrate.ports import Embedder, Progress, Silent
from qmigrate.revisions.python_source import PythonSource, not_returned
from qmigrate.store import ConnectionSettings
from qmigrate.store.server.examine import Examiner
from qmigrate.text import number, took
from qmigrate.version import __version__

#: Seconds for the checks of one collection; what reads all points is given up then.
_LONGEST = 10.0


def with_refusals(
    opened: Session, world: World, plan: Plan, wanted: Collection[str], only: Collection[str] | None = None
) -> Plan:
    """The plan with what an upgrade would refuse, and notes on what it would wait for or do first.

    Args:
        wanted: ids of the target and all before it.
        only: the logical names that it is restricted to.
    """
    found = _Found()
    found.notes.extend(incomplete(opened, world, wanted))
    _rights(opened, plan, found)
    for run in opened.ledger.open_runs():
        if run.state != "held" and (only is None or run.job.collection in only):
            _resumed(opened, world, run, found)
    busy = {run.job.collection for run in opened.ledger.open_runs()}
    leased = {row.name: row.host for row in opened.ledger.leases() if not row.expired}
    for item in plan.collections:
        if item.job.collection in leased and item.job.collection not in busy:
            _in_use(opened, "another command", item.job.collection, leased[item.job.collection], found)
    for item in plan.collections:
        state = world.collections.get(item.job.collection)
        # What an interrupted run leaves is planned again.
        if state is not None and item.job.collection not in busy:
            _item(opened, world, state, item, found)
    notes = tuple(dict.fromkeys((*plan.notes, *found.notes)))
    return replace(plan, notes=notes, refusals=tuple(dict.fromkeys(found.refusals)), elsewhere=found.elsewhere)


@dataclass(slots=True)
class _Found:
    refusals: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    elsewhere: bool = False

    def refuse(self, collection: str | None, error: QmigrateError) -> None:
        """An upgrade would raise this."""
        self.refusals.append(Refusal(type(error).__name__, error.message, error.hint, error.exit_code, collection))


def incomplete(opened: Session, world: World, wanted: Collection[str]) -> Iterator[str]:
    """Revisions that are not behind an applied one and do nothing, or less than they say; a merge is meant so."""
    applied = world.applied()
    passed = {older for one in applied for older in opened.revisions.ancestors(one)}
    for one in opened.revisions.order():
        if one.id not in wanted or one.id in passed:
            continue
        if not one.operations and len(one.down) < 2:
            yield f"revision {one.id} ({one.path.name}) is empty: its upgrade() returns no operation"
        for name, call in not_returned(PythonSource.parse(one.path)):
            yield (
                f"revision {one.id} ({one.path.name}), line {call.lineno}: {name}(…) is made, but upgrade() doesn't "
                "return it, so it is not done"
            )


def _rights(opened: Session, plan: Plan, found: _Found) -> None:
    """A key that may only read."""
    settings = opened.settings
    if not plan.collections or not settings.qdrant.api_key or settings.client is not None or settings.qdrant.path:
        return
    with closing(Examiner(ConnectionSettings(**settings.connection()))) as examiner, suppress(StoreError):
        rights = examiner.rights()
        if rights.accepted and not rights.manages:
            found.notes.append("the api key may not manage collections: an upgrade with it is refused (9)")
            found.elsewhere = True


def _resumed(opened: Session, world: World, run: OpenRun, found: _Found) -> None:
    """An unfinished run: an upgrade continues it first, or waits for the process that is at it."""
    name = run.job.collection
    if run.leased:
        _in_use(opened, run.verb, name, run.host, found)
        return
    phase = run.records[-1].phase if run.records else "preflight"
    share = percent(run)
    points = f", {number(run.done_points)} of {number(run.total_points)} points" if share is not None else ""
    found.notes.append(
        f"{name}: the {run.verb} of {run.started_at:%H:%M} on host {run.host} was interrupted in {phase}{points}: an "
        "upgrade finishes it first"
    )
    try:
        if not run.job.repeatable and not (run.job.throwaway and run.job.supersedes is None):
            check_open_run(opened.files(), run)
            if (state := world.collections.get(name)) is not None:
                check_unclosed(opened.store, state, run)
                check_not_given_up(state, run)
    except QmigrateError as error:
        found.refuse(name, error)


def _in_use(opened: Session, what: str, name: str, host: str, found: _Found) -> None:
    patience, code = took(opened.settings.limits.lock_timeout), LeaseHeldError.exit_code
    found.notes.append(
        f"{name}: {what} is running on host {host}: an upgrade waits {patience} for it, then exits with {code}"
    )


def _item(opened: Session, world: World, state: CollectionState, item: CollectionPlan, found: _Found) -> None:
    name = item.job.collection
    code = _Code(opened, opened.settings.for_collection(name))
    try:
        _models(opened, state, item.job, code)
        _first_phase(opened, world, (state, item.job), code, _Noting(found.notes))
    except _HereError as error:
        # What plans needs no model: a pipeline without it may show what another machine does.
        repair = f": {error.hint}, or upgrade where it is installed" if error.hint else ""
        found.notes.append(f"{name}: {error.message}; an upgrade from here is refused ({error.exit_code}){repair}")
        found.elsewhere = True
    except _EnoughError:
        found.notes.append(f"{name}: not all of it could be checked in {took(_LONGEST)}; an upgrade checks the rest")
    except QmigrateError as error:
        found.refuse(name, error)
    if state.live is not None and state.live.status == "yellow" and any(isinstance(s, Build) for s in item.job.steps):
        settle = took(opened.settings.for_collection(name).limits.settle)
        waits = f"an upgrade waits for that, and refuses (10) where nothing moves for {settle}"
        found.notes.append(f"{name} is being optimized: {waits}")


def _models(opened: Session, state: CollectionState, job: Job, code: _Code) -> None:
    """Every embedder of the job is known, loads, and makes vectors of the size that is declared."""
    for step, transform in transforms_of(opened, state, job):
        for vector in transform.filled:
            filling = transform.values[vector]
            if isinstance(filling, Embed):
                size = code.embedder(filling.embedder).size
                check_size(job.collection, step, vector, filling.embedder, size)


def transforms_of(
    opened: Session, state: CollectionState, job: Job
) -> Iterator[tuple[Build, PointTransform]]:
    """Each build of a job that is made from points, with what it makes of one."""
    if state.live is None:
        return
    schema = state.live.schema
    for step in job.steps:
        if isinstance(step, Build) and step.source is not None:
            yield step, transform_of([opened.operation(ref) for ref in step.ops], schema)
            schema = step.schema


def _first_phase(
    opened: Session, world: World, of: tuple[CollectionState, Job], code: _Code, progress: Progress
) -> None:
    """What the first phase of a collection's job refuses."""
    state, job = of
    step = job.steps[0] if job.steps else None
    if isinstance(step, EditPoints) and not isinstance(step, RunCode):
        check(place_of(opened, job.collection, step.ops), step.edit)
    # How a name is hidden is tried with names of its own, which are written.
    tried = isinstance(step, GoLive) and step.place == "shadow"
    if isinstance(step, Build | GoLive | InPlace | RunCode) and not tried:
        settings = opened.settings.for_collection(job.collection)
        until = time.monotonic() + _LONGEST
        work = Work(
            collection=job.collection,
            store=opened.store,
            lease=_NoLease(opened.ledger),  # type: ignore[arg-type]
            code=code,
            settings=settings,
            progress=progress,
            state=state,
            job=job,
            ledger_id=world.ledger_id,
            tool=__version__,
            hands=workers_of(settings),
            looking=True,
        )

        def tick(count: int = 0, note: str = "") -> None:  # noqa: ARG001  as engine.work.Tick
            if time.monotonic() > until:
                raise _EnoughError

        work.tick = tick
        phases_of(step)[0].run(step, work)


class _Noting(Silent):
    """What a phase says to people while it checks is a note of the plan."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def say(self, line: str) -> None:
        """Keep it."""
        self._notes.append(line)


class _EnoughError(Exception):
    """What would take long, or would need a lease, is left to the upgrade."""


class _HereError(QmigrateError):
    """What depends on this machine: a library that is not installed, a server that can't be reached from it."""


@dataclass(frozen=True, slots=True)
class _NoLease:
    """In place of a lease: without an epoch no own alias can be made, and without that nothing can be written."""

    ledger: Ledger

    def __getattr__(self, name: str) -> Any:
        raise _EnoughError(name)


@dataclass(frozen=True, slots=True)
class _Code(UserCode):
    """The user's code, which tells an embedder that can't be loaded here from one that is not configured."""

    def embedder(self, name: str) -> Embedder:
        """See the base class."""
        if name in self.settings.embedders:
            # What the settings get wrong is wrong on every machine.
            check_config(name, self.settings.embedders[name])
        try:
            return UserCode.embedder(self, name)
        except EmbedderError as error:
            raise _here(error) from error
        except QmigrateError as error:
            if name not in self.settings.embedders:
                raise
            raise _here(error) from error


def _here(error: QmigrateError) -> _HereError:
    found = _HereError(error.message, hint=error.hint)
    found.exit_code = error.exit_code
    return found
