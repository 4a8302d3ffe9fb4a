"""fix reset: an empty generation takes the name, and what served is kept. Points are neither copied nor deleted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qmigrate.commands.asking import check_plan
from qmigrate.commands.restore import tried
from qmigrate.commands.results import Outcome, Resumed
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs, perform
from qmigrate.commands.session import Session, session
from qmigrate.engine.executor import stop_on_signals
from qmigrate.errors import PlanError, RefusedError
from qmigrate.ledger import DeletionRow
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.phases import Closed
from qmigrate.model.facts.stored import known
from qmigrate.model.origin import NOTHING, StoredOrigin
from qmigrate.model.plan import Build, Job, Plan
from qmigrate.model.state import World
from qmigrate.observe import check_ownership, observe
from qmigrate.planner.plain_names import way_of
from qmigrate.planner.reset import plan_reset
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import counted

#: What is typed for it, and nothing else.
PHRASE = "DELETE ALL VECTORS"


@dataclass(frozen=True, slots=True)
class ResetReview:
    """What a reset would do.

    Attributes:
        points: that the collection has now, exactly: they would be left behind.
        plan: the steps.
    """

    collection: str
    points: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class ResetResult:
    """`fix reset`.

    Attributes:
        log: its row of the audit, for ``fix undo``.
        left: points that were left behind.
        late: those of them that were written after they had been counted.
        left_in: the generation that has them.
        held_until: how long it is kept.
        generation: the empty one, which serves.
        resumed: interrupted runs that were finished first.
    """

    collection: str
    log: int | None
    left: int
    late: int
    left_in: str
    held_until: datetime | None
    generation: str
    seconds: float
    resumed: tuple[Resumed, ...] = ()


def review(settings: Settings, collection: str, *, reason: str) -> ResetReview:
    """What :func:`reset` would do. Sends no write to Qdrant or SQL.

    Raises:
        As :func:`reset`, but for consent.
    """
    _check_reason(reason)
    with session(settings, writes=False) as opened:
        world = observe(opened.ledger, opened.store)
        made = _plan(opened, world, collection, reason, None)
        check_ownership(world, collection)
        return ResetReview(collection, opened.store.count(collection), made)


def reset(
    settings: Settings | None,
    collection: str,
    *,
    reason: str,
    expect: int,
    confirm: str,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> ResetResult:
    """Have an empty generation of the same schema take the name; the points stay in the one that served.

    What clients write until the swap stays there too, and is counted. An interrupted reset of the collection is
    finished, and then nothing else is done.

    Args:
        reason: for the audit.
        expect: points that the collection has, exactly.
        confirm: :data:`PHRASE`.

    Raises:
        RefusedError: no consent, or another number of points; nothing was changed.
        PlanError: there is no such collection, or no reason.
    """
    settings = settings or Settings.load()
    _check_reason(reason)
    if confirm != PHRASE:
        raise RefusedError(
            f"a reset leaves {collection} without any point, and that needs consent",
            hint=f'review first: --dry-run; then --yes --expect N --confirm "{PHRASE}"',
        )
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        same = {run.id for run in opened.ledger.open_runs() if _resets(run.job, collection)}
        options = RunOptions(stop, lock_timeout, only=[collection])
        resumed, finished = finish_open_runs(opened, options)
        if same & {one.run for one in resumed}:
            return _result(opened, finished[-1], tuple(resumed))
        _check_count(opened, collection, expect)
        _, outcomes = perform(
            opened,
            lambda world: check_plan(
                opened, _plan(opened, tried(opened, world, collection), collection, reason, expect)
            ),
            options,
            names=[collection],
        )
        return _result(opened, outcomes[-1], tuple(resumed))


def _plan(opened: Session, world: World, name: str, reason: str, expect: int | None) -> Plan:
    state = world.collections.get(name) or observe(opened.ledger, opened.store, only=[name]).collections[name]
    plain = way_of(world, setting=opened.settings.rebuild.plain_names, allow_gap=False)
    return plan_reset(world.ledger_id, state, reason=reason, expect=expect, plain=plain)


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise PlanError("a reason is required: it is what the audit shows", hint="--reason WHY")


def _check_count(opened: Session, name: str, expect: int) -> None:
    """Before a plain name is made an alias; the first phase of the reset looks again."""
    points = opened.store.count(name) if opened.store.describe(name) is not None else expect
    if points != expect:
        raise RefusedError(
            f"{name} has {counted(points, 'point')}, and {expect:,} were expected; nothing was changed",
            hint="count again: --dry-run",
            facts={"points": points},
        )


def _resets(job: Job, name: str) -> bool:
    origins = [StoredOrigin.of(step.origin) for step in job.steps if isinstance(step, Build)]
    return job.collection == name and any(origin.kind == NOTHING for origin in origins)


def _result(opened: Session, outcome: Outcome, resumed: tuple[Resumed, ...]) -> ResetResult:
    row = _row(opened, outcome)
    told = row.told if row else Audited()
    return ResetResult(
        collection=outcome.collection,
        log=row.id if row else None,
        left=told.changed or 0,
        late=(told.counts or {}).get("late", 0),
        left_in=told.left_in or "",
        held_until=told.held_until,
        generation=str(outcome.physical),
        seconds=outcome.seconds,
        resumed=resumed,
    )


def _row(opened: Session, outcome: Outcome) -> DeletionRow | None:
    """What the closing phase has written into the audit; one that was done before a resume is known by its number."""
    logs = [log for closed in outcome.learned(Closed) if (log := known(closed.log))]
    return opened.ledger.deletion(logs[-1]) if logs else None
