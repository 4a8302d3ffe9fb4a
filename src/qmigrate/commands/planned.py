"""upgrade --plan: exactly the jobs that were reviewed, or none. It never plans again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qmigrate.commands.estimate import refuse_longer, with_estimates
from qmigrate.commands.held import held_collections
from qmigrate.commands.parallel import at_once
from qmigrate.commands.perform import finish_open_runs, moved_since, perform_exactly
from qmigrate.commands.plan_file import SavedPlan, check_place, load, save
from qmigrate.commands.results import UpgradeResult
from qmigrate.commands.session import Session, session
from qmigrate.commands.sql_gate import waits, within_reach
from qmigrate.commands.upgrade import check_names, planned
from qmigrate.commands.ways_back import ways_back
from qmigrate.errors import RefusedError
from qmigrate.executor import stop_on_signals
from qmigrate.model.plan import CollectionPlan, GoLive, Plan
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_hidden, observe
from qmigrate.ports import Progress
from qmigrate.settings import Settings


def plan_to(settings: Settings, path: Path, target: str = "head", only: tuple[str, ...] | None = None) -> Plan:
    """`plan`, and the plan in a file for :func:`upgrade_planned`. Sends no write to Qdrant or SQL.

    Args:
        path: of the file; only its owner can read it.

    Raises:
        UsageError: the file can't be written.
    """
    with session(settings, writes=False) as opened:
        made = planned(opened, target, only, models=True)
        save(opened, made, path)
        return made


def upgrade_planned(
    settings: Settings,
    path: Path,
    *,
    lock_timeout: float | None = None,
    no_snapshot: bool = False,
    allow_gap: bool = False,
    max_estimate: float | None = None,
    parallel: int | None = 1,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Run the jobs of a plan file. The same file again resumes after a crash, and does nothing when all is done.

    What is past its holdover is not collected first, since that would move the state that was planned on.

    Args:
        path: of the file.
        lock_timeout: seconds to wait for another process; None for the setting.
        no_snapshot: don't make a snapshot of the sources first.
        allow_gap: consent to some milliseconds in which reads fail, where the plan has such a step.
        max_estimate: refuse what is expected to take longer than these seconds.
        parallel: collections at a time; None for as many as suit the server.

    Raises:
        UsageError: the file can't be read, or was changed.
        ForeignLedgerError: it was made for another Qdrant or ledger.
        DriftError: a revision file was changed since.
        RefusedError: the state of a collection has moved since.
        PendingError: a revision waits for one of SQL, or it is expected to take longer than `max_estimate`.
    """
    saved = load(path)
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals() as stop:
        opened.parallel = at_once(opened.store, parallel)
        check_place(opened, saved)
        if not opened.store.capabilities.local:
            _check_consent(saved.plan, allow_gap)
        interrupted = [item.job.collection for item in saved.plan.collections if _is_begun(opened, item)]
        left = _not_begun(opened, saved)
        if max_estimate is not None:
            world = observe(opened.ledger, opened.store)
            # As it is today: what was planned on may have grown since.
            today = with_estimates(opened, world, _of(saved.plan, left))
            refuse_longer(opened, world, today, max_estimate, [*interrupted, *_names(left)])
        resumed, finished = finish_open_runs(
            opened, stop=stop, only=interrupted, lock_timeout=lock_timeout, snapshot=not no_snapshot
        )
        outcomes = perform_exactly(
            opened, _of(saved.plan, left), stop=stop, lock_timeout=lock_timeout, snapshot=not no_snapshot
        )
        held = held_collections(opened, tuple(_names(list(saved.plan.collections))))
        every = (*finished, *outcomes)
        back = ways_back(opened, every)
    return UpgradeResult(plan=saved.plan, resumed=tuple(resumed), outcomes=every, held=held, back=back)


def _not_begun(opened: Session, saved: SavedPlan) -> list[CollectionPlan]:
    """The jobs that neither an interrupted nor a finished run of this very plan has; all of them must fit."""
    left = [item for item in saved.plan.collections if not _is_begun(opened, item) and not _is_done(opened, item)]
    world = observe(opened.ledger, opened.store)
    check_names(world, opened.revisions, _names(list(saved.plan.collections)))
    check_hidden(world, _of(saved.plan, left))
    moved = [item.job.collection for item in left if _basis(world, item) != item.job.basis]
    if moved:
        raise moved_since(moved)
    _check_sql(opened, world, left)
    return left


def _check_sql(opened: Session, world: World, left: list[CollectionPlan]) -> None:
    """SQL may have gone back since the plan was made.

    Raises:
        PendingError: a revision of the plan waits for one of SQL.
    """
    revisions = frozenset(closing.revision for item in left for closing in item.job.closes)
    waiting = within_reach(opened, world, revisions)[1]
    if waiting:
        raise waits(waiting, "the plan")


def _names(items: list[CollectionPlan]) -> list[str]:
    return [item.job.collection for item in items]


def _basis(world: World, item: CollectionPlan) -> str:
    name = item.job.collection
    return world.collections.get(name, CollectionState(name=name, kind="absent", managed=False)).basis()


def _is_begun(opened: Session, item: CollectionPlan) -> bool:
    """Whether an interrupted run has this very job."""
    run = opened.ledger.open_run(item.job.collection)
    return run is not None and run.job == item.job


def _is_done(opened: Session, item: CollectionPlan) -> bool:
    """Whether the newest run of the collection has finished this very job."""
    return opened.ledger.newest_job(item.job.collection) == item.job


def _of(plan: Plan, items: list[CollectionPlan]) -> Plan:
    return replace(plan, collections=tuple(items))


def _check_consent(plan: Plan, allow_gap: bool) -> None:
    gaps = [
        item.job.collection
        for item in plan.collections
        if any(isinstance(step, GoLive) and step.place == "gap" for step in item.job.steps)
    ]
    if gaps and not allow_gap:
        raise RefusedError(
            f"{', '.join(gaps)}: reads fail for some milliseconds while the plain name becomes an alias",
            hint="qmigrate upgrade --plan FILE --allow-gap",
        )
