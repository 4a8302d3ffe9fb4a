"""upgrade --rehearse: the entire run on a sample of points, of which nothing is left. It moves no name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from qmigrate.commands.estimate import speeds_of
from qmigrate.commands.names import chosen_names
from qmigrate.commands.results import Outcome
from qmigrate.commands.run_job import PlannedHere, RunOptions, moved_since, rehearsed, run_job
from qmigrate.commands.run_plan import finish_open_runs
from qmigrate.commands.session import Session, session
from qmigrate.commands.upgrade import planned
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.errors import QmigrateError, RefusedError
from qmigrate.model.facts.phases import Fill, Proof
from qmigrate.model.names import REHEARSAL
from qmigrate.model.plan import Build, CollectionPlan, Plan
from qmigrate.model.state import World
from qmigrate.observe import holdings
from qmigrate.planner.estimate import Copy, Speed, plan_rehearsal, projected
from qmigrate.planner.gc import GcWish, judge, plan_gc
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How the rehearsal of one collection went.

    Attributes:
        revisions: that were rehearsed.
        sampled: points it was done with.
        points: of the live collection, approximate.
        proven: of the sampled points, in the last generation; None where nothing was copied.
        embedded: of these, points whose new vectors were checked.
        seconds: that it took, with making and removing the throwaway collections.
        per_second: points that went through copy and proof in a second, or None.
        projected_seconds: what the entire collection takes at that speed, or None; the index is assumed.
    """

    collection: str
    revisions: tuple[str, ...]
    sampled: int
    points: int
    proven: int | None
    embedded: int
    seconds: float
    per_second: float | None
    projected_seconds: float | None


@dataclass(frozen=True, slots=True)
class RehearsalResult:
    """`upgrade --rehearse`.

    Attributes:
        plan: what was rehearsed.
        rehearsals: one per collection with something to build or change.
    """

    plan: Plan
    rehearsals: tuple[Rehearsal, ...]


def rehearse(
    settings: Settings | None,
    points: int,
    target: str = "head",
    *,
    only: Iterable[str] | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> RehearsalResult:
    """Play an upgrade on points at random, in throwaway collections that are removed again whatever happens.

    Transformations, embedders, settings of the server and the proof are the real ones; snapshot and go-live are left
    out. Nothing is recorded as applied.

    Args:
        points: how many of each collection; all where it has fewer.
        target: as for `upgrade`.
        only: restrict to these logical names.
        lock_timeout: seconds to wait for another process; None for the setting.

    Raises:
        EmbedError: a sampled point can't be embedded.
        VerificationError: a sampled point is not proven.
        RefusedError: a run of the collection is not finished.
    """
    settings = settings or Settings.load()
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        names = chosen_names(opened, only)
        finish_open_runs(opened, RunOptions(stop, lock_timeout, only=names), verb="rehearse")
        made = planned(opened, target, names)
        done = [_rehearse(opened, item, points, stop, lock_timeout) for item in made.collections]
    return RehearsalResult(plan=made, rehearsals=tuple(one for one in done if one is not None))


def _rehearse(
    opened: Session, item: CollectionPlan, points: int, stop: Stop, lock_timeout: float | None
) -> Rehearsal | None:
    name = item.job.collection
    worlds: list[World] = []

    def make_plan(world: World) -> Plan:
        state = world.collections[name]
        if state.open_run is not None:
            raise RefusedError(
                f"the {state.open_run.verb} of {name} is not finished, so there is nothing to rehearse on",
                hint=f"qmigrate upgrade finishes it, qmigrate abort {quote(name)} undoes it",
            )
        if state.basis() != item.job.basis:
            raise moved_since([name])
        worlds.append(world)
        return plan_rehearsal(state, item, points)

    options = RunOptions(stop, lock_timeout)
    run_job(opened, name, PlannedHere(lambda world: _leftovers(opened, world, name)), options)
    try:
        ran = run_job(opened, name, PlannedHere(make_plan), options)
    except BaseException as error:
        # Also after Ctrl-C: throwaways are never left on purpose. A new stop, since the old one is used up.
        run_job(opened, name, rehearsed, RunOptions(Stop(), lock_timeout))
        if isinstance(error, QmigrateError) and worlds:
            error.hint = "this was a rehearsal: nothing is left of it"
        raise
    return _report(opened, item, worlds[-1], ran.outcome) if ran is not None else None


def _leftovers(opened: Session, world: World, name: str) -> Plan:
    """What a rehearsal left and could not clean up, recognised by name and seal."""
    state = world.collections[name]
    store = opened.store
    found = [
        holding
        for holding in holdings(opened.ledger, store, name, physical=store.physical_names(), aliases=store.aliases())
        if REHEARSAL.match(holding.physical)
    ]
    choice = GcWish(now=datetime.now(UTC))
    return plan_gc(state, judge(state, found, world.ledger_id, choice), choice)


def _report(opened: Session, item: CollectionPlan, world: World, outcome: Outcome) -> Rehearsal:
    live = world.collections[item.job.collection].live
    total = live.points if live else 0
    fills = outcome.learned(Fill)
    sampled = sum(one.sampled or 0 for one in fills)
    proven = [one for one in outcome.learned(Proof) if one.report is not None]
    proofs = [one.report for one in proven if one.report is not None]
    fill = sum(one.seconds or 0.0 for one in fills if one.fresh is not None)
    prove = sum(one.seconds or 0.0 for one in proven)
    measured = bool(sampled and proofs)
    schema = next((step.schema for step in reversed(item.job.steps) if isinstance(step, Build)), None)
    after = None
    if measured and schema is not None:
        speed = Speed(
            sampled, fill, sampled, prove, 0.0, 0, schema.bytes_per_point(), collection=item.job.collection
        )
        wanted = Copy(item.job.collection, total, 0, schema, total, schema.bytes_per_point())
        known, rates = speeds_of(opened), opened.settings.estimates
        after = round(projected(speed, wanted, known, rates, local=world.capabilities.local), 1)
    return Rehearsal(
        collection=item.job.collection,
        revisions=tuple(closing.revision for closing in item.job.closes),
        sampled=sampled,
        points=total,
        proven=proofs[-1].proven if proofs else None,
        embedded=proofs[-1].embedded if proofs else 0,
        seconds=outcome.seconds,
        per_second=round(sampled / max(fill + prove, 0.001), 1) if measured else None,
        projected_seconds=after,
    )
