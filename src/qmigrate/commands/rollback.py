"""rollback and abort. They print nothing; history grows, nothing is erased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from qmigrate.commands.asking import check_plan
from qmigrate.commands.inline import refuse_part
from qmigrate.commands.names import chosen_names
from qmigrate.commands.parallel import at_once
from qmigrate.commands.results import Outcome, UpgradeResult
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import begun_revisions, finish_open_runs, perform
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.commands.snapshot import address
from qmigrate.commands.upgrade import check_names, undo_commands
from qmigrate.engine.executor import stop_on_signals
from qmigrate.engine.golive.unrelated import RESET
from qmigrate.engine.points.base import base_name
from qmigrate.engine.prove.recorded import Kept, comparable
from qmigrate.errors import CollectionsFailedError, NoVersionsError, QmigrateError, RefusedError, UsageError
from qmigrate.model.facts.stored import known
from qmigrate.model.plan import CollectionPlan, GoLive, InPlace, Plan
from qmigrate.model.state import World
from qmigrate.observe import check_hidden, observe
from qmigrate.planner import plan_abort, plan_rollback
from qmigrate.planner.replaced import bring_back, replaced
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import quote

#: What may become of writes since.
WRITES = ("refuse", "carry", "discard", "now")


def rollback(  # noqa: PLR0913  the options of the verb
    settings: Settings | None = None,
    target: str = "-1",
    *,
    only: Iterable[str] | None = None,
    writes: str = "refuse",
    dry_run: bool = False,
    lock_timeout: float | None = None,
    parallel: int | None = 1,
    without_files: bool = False,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Roll back every applied revision after `target`.

    Args:
        target: a revision id or unique prefix, ``base``, or ``-N``, counted from before a rollback that is finished
            first.
        writes: what becomes of writes since: ``refuse``, ``carry`` (bring them along), ``discard`` (lose them),
            ``now`` (flip first, count afterwards: for an outage).
        parallel: collections at a time; None for as many as suit the server.
        without_files: go also into the middle of what was squashed, where the files that lead on from there are gone.

    Raises:
        RefusedError: something was written since, or can't be undone; nothing was changed.
        UsageError: `writes` is none of the known words.
    """
    settings = settings or Settings.load()
    check_writes(writes)
    how = (writes, without_files)
    if dry_run:
        with _hints_as_typed(target), session(settings, writes=False, readable=True) as opened:
            return _foreseen(opened, target, only, how)
    with (
        _hints_as_typed(target),
        session(settings, writes=True, progress=progress, readable=True, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        opened.parallel = at_once(opened.store, parallel)
        begun = begun_revisions(opened, "rollback", names := chosen_names(opened, only))
        options = RunOptions(stop, lock_timeout, only=names)
        resumed, finished = finish_open_runs(opened, options)
        keep, left = list[frozenset[str]](), list[frozenset[int]]()

        def make(world: World) -> Plan:
            # A relative target is counted once: planning again after a partial run must not go back further. Nor must
            # the same command again, which has just finished what it had begun before.
            if not keep:
                keep.append(_keep(opened, world, target, begun))
            plan = _noted(opened, _planned(opened, world, keep[0], names, how))
            check_hidden(world, plan)
            left.append(_left(opened, world, plan))
            # What was begun before is done by now, so that nothing more is expected.
            return check_plan(opened, plan if resumed else _explained(world, plan, target, names))

        made, outcomes = perform(opened, make, options)
        again = _again(opened, every := (*finished, *outcomes))
    # A downgrade() may declare hold as well.
    held = tuple(outcome.held for outcome in outcomes if outcome.held is not None)
    undo = undo_commands(fix for fixes in left for fix in fixes)
    return UpgradeResult(made, tuple(resumed), every, held, undo=undo, again=again)


def _again(opened: Session, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The commands, in order, that apply again what was undone: first those for files that lead on from there."""
    undone = list(dict.fromkeys(one for outcome in outcomes for one in outcome.revisions))
    if not undone:
        return ()
    applied, wanted = opened.ledger.all_applied(), frozenset(one.id for one in opened.revisions.order())
    files: dict[str, None] = {}
    for name in dict.fromkeys(outcome.collection for outcome in outcomes):
        ids = [one.revision for one in applied.get(name, ())]
        for one, _ in replaced(opened.revisions, name, ids, wanted).lost:
            files[bring_back(one, opened.revisions)] = None
    return (*files, f"qmigrate upgrade {quote(undone[0])}")


#: What becomes of writes since, and whether it may go to where files that lead on are gone.
_How = tuple[str, bool]


def _foreseen(opened: Session, target: str, only: Iterable[str] | None, how: _How) -> UpgradeResult:
    """A rollback that is only planned, with what it would leave as it is."""
    world, names = observe(opened.ledger, opened.store), chosen_names(opened, only)
    plan = _noted(opened, _plan(opened, world, target, names, how))
    undo = undo_commands(_left(opened, world, plan))
    stay = [f"the points stay as the revision has changed them; to undo that: {'; '.join(undo)}"] if undo else []
    plan = replace(plan, notes=(*plan.notes, *_counting(opened, plan), *stay))
    return UpgradeResult(plan=_explained(world, plan, target, names), resumed=(), outcomes=(), undo=undo)


@contextmanager
def _hints_as_typed(target: str) -> Iterator[None]:
    """What is below doesn't know the target, and leaves it open: ``qmigrate rollback … --only docs``."""

    def typed(hint: str | None) -> str | None:
        words = "qmigrate rollback" if target == "-1" else f"qmigrate rollback {quote(target)}"
        return hint and hint.replace("qmigrate rollback …", words)

    try:
        yield
    except CollectionsFailedError as error:
        for one in error.facts["failed"]:  # type: ignore[attr-defined]
            one["hint"] = typed(one["hint"])
        error.hint = typed(error.hint)
        raise
    except QmigrateError as error:
        error.hint = typed(error.hint)
        raise


def revert(
    settings: Settings, revision: str, *, writes: str = "refuse", progress: Progress | None = None
) -> UpgradeResult:
    """Roll one revision back wherever it is applied, and nothing else.

    Args:
        revision: its id, or the beginning of one.
        writes: as for :func:`rollback`.

    Raises:
        RefusedError: a collection has later revisions, or it can't be undone; nothing was changed.
        UsageError: `writes` is none of the known words.
    """
    check_writes(writes)
    with (
        session(settings, writes=True, progress=progress, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        wanted = opened.revisions.get(revision).id
        refuse_part(opened.revisions, opened.ledger, wanted)
        resumed, finished = finish_open_runs(opened, RunOptions(stop))

        def make(world: World) -> Plan:
            keep = world.applied()
            names = [name for name, state in world.collections.items() if wanted in state.applied_revisions()]
            _check_last(world, names, wanted)
            with _past_resets(opened, world):
                plan = plan_rollback(world, opened.revisions, keep - {wanted}, only=names, writes=writes)
            _refuse_filled(opened, plan, writes)
            check_hidden(world, plan)
            return plan

        made, outcomes = perform(opened, make, RunOptions(stop))
    held = tuple(outcome.held for outcome in outcomes if outcome.held is not None)
    return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes), held=held)


def check_writes(writes: object, known: Sequence[str] = WRITES) -> None:
    """Another word would be taken for one of these, somewhere on the way.

    Raises:
        UsageError: it is none of them.
    """
    if writes not in known:
        raise UsageError(f"writes={writes!r} is unknown", hint=f"use one of: {', '.join(known)}")


def _check_last(world: World, names: Iterable[str], wanted: str) -> None:
    for name in names:
        applied = world.collections[name].applied_revisions()
        later = applied[applied.index(wanted) + 1 :]
        if later:
            raise RefusedError(
                f"revision {wanted} can't be rolled back from {name} alone: {', '.join(later)} came after it",
                hint=f"roll those back first: qmigrate rollback {quote(wanted)} --only {quote(name)}",
            )


def abort(
    settings: Settings | None = None,
    collection: str | None = None,
    *,
    run: int | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Undo what unfinished runs have begun since the last completed revision.

    Args:
        collection: its logical name; None for all.
        run: only this one: another that is unfinished by now is refused.

    Raises:
        UnknownNameError: there is no such collection, and no revision speaks of it.
        RefusedError: a name has moved already, or in-place work can't be undone: the run must be finished.
    """
    settings = settings or Settings.load()
    with (
        session(settings, writes=True, progress=progress, readable=True, begins=False) as opened,
        stop_on_signals(opened.progress) as stop,
    ):
        names = None if collection is None else chosen_names(opened, [collection])
        options = RunOptions(stop, lock_timeout, only=names, unfinished=True)
        resumed, finished = finish_open_runs(opened, options, verb="abort")
        begun = {one.id for one in opened.ledger.open_runs() if names is None or one.job.collection in names}
        if run is not None and begun and run not in begun:
            raise RefusedError(
                f"the unfinished run of {collection} is {min(begun)}, and not {run}, which was to be aborted: nothing "
                "was changed",
                hint="qmigrate status",
            )
        made, outcomes = perform(
            opened, lambda world: _noted(opened, plan_abort(world, only=names, runs=begun)), options
        )
    return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes))


def _noted(opened: Session, plan: Plan) -> Plan:
    """The plan with what is wrong with revision files: the way back needs none of them, or is refused."""
    return replace(plan, notes=(*plan.notes, *notes_on(opened.problems)))


def _plan(opened: Session, world: World, target: str, only: Iterable[str] | None, how: _How) -> Plan:
    return _planned(opened, world, _keep(opened, world, target), only, how)


def _planned(
    opened: Session, world: World, keep: frozenset[str], only: Iterable[str] | None, how: _How
) -> Plan:
    """The plan; the names that it is about are where the ledger left them, or all where it is about none."""
    chosen = [name for name, state in world.collections.items() if state.managed and (only is None or name in only)]
    back = [name for name in chosen if not keep.issuperset(world.collections[name].applied_revisions())]
    check_names(world, opened.revisions, back or chosen)
    _refuse_inside(opened, world, keep, back)
    writes, closed = how
    with _past_resets(opened, world):
        plan = plan_rollback(world, opened.revisions, keep, only=only, writes=writes, closed=closed)
    _refuse_filled(opened, plan, writes)
    return plan


def _refuse_inside(opened: Session, world: World, keep: frozenset[str], names: Iterable[str]) -> None:
    """Where several revisions were applied as one, none of them alone is a place to go back to.

    Raises:
        RefusedError: the target is in the middle of what was squashed, and a collection has only the whole.
    """
    for one in opened.revisions.squashed(gone=True):
        inside = [old for old in one.replaces if old in keep]
        having = [name for name in names if one.id in world.collections[name].applied_revisions()]
        if inside and having and one.id not in keep:
            before = one.down[0] if one.down else "base"
            raise RefusedError(
                f"{', '.join(having)} has {inside[-1]} only as a part of {one.id}, which replaces it: a rollback can't "
                "go to the middle of that",
                hint=f"to all of it: qmigrate rollback {quote(one.id)}; to what was before it: qmigrate rollback "
                f"{quote(before)}; or leave {having[0]} out: --only",
                facts={"revision": one.id, "collections": having},
            )


def _refuse_filled(opened: Session, plan: Plan, writes: str) -> None:
    """A vector that a revision added in place goes for good, with all that was written to it since.

    No generation keeps these values, so that nothing but the consent to lose them will do. What a downgrade() drops,
    its author has said.

    Raises:
        RefusedError: points have it, and no user has agreed to lose that.
    """
    if writes == "discard":
        return
    dropped = list(_dropped(plan))
    if not dropped:
        return
    aliases, present = opened.store.aliases(), opened.store.physical_names()
    for item, position, vector in dropped:
        name, target = item.job.collection, str(item.job.steps[position].target)
        place = address(aliases, target) if target in present else None
        filled = opened.store.count(place) - opened.store.count(place, without_vector=vector) if place else 0
        if filled > 0:
            back = ", ".join(closing.revision for closing in item.job.closes if closing.step == position)
            raise RefusedError(
                f"{filled:,} points of {name} have the vector {vector!r}, which is dropped when {back} is undone: what "
                "was written to it since is in no other generation",
                hint=f"qmigrate rollback … --only {quote(name)} --discard-writes loses it",
                facts={"collection": name, "vector": vector, "points": filled},
            )


def _left(opened: Session, world: World, plan: Plan) -> frozenset[int]:
    """Numbers of the data fixes whose revision is undone in the record alone, and that were not undone yet."""
    runs: set[tuple[str, int | None]] = set()
    for item in plan.collections:
        steps, applied = item.job.steps, {one.revision: one for one in world.collections[item.job.collection].applied}
        for closing in item.job.closes:
            entry = applied.get(closing.revision)
            if entry is not None and entry.strategy == "edit" and isinstance(steps[closing.step], InPlace):
                runs.add((item.job.collection, entry.run))
    if not runs:
        return frozenset()
    rows = opened.ledger.deletions()
    undone = {row.told.undoes for row in rows}
    found: set[int] = set()
    for row in rows:
        undo = known(row.told.undo)
        if row.told.run is not None and (row.collection, row.told.run) in runs and row.id not in undone:
            found.update({row.id} if undo is not None and row.told.changed else ())
    return frozenset(found)


def _counting(opened: Session, plan: Plan) -> Iterator[str]:
    """How each collection's writes since are found, and why by reading all of it."""
    store, ledger = opened.store, opened.ledger
    for item in plan.collections:
        for step in item.job.steps:
            if not isinstance(step, GoLive) or not step.back or step.target is None or step.writes == "discard":
                continue
            base, physical = base_name(step.target, step.source, back=False), str(step.source)
            if not ledger.has_base(base) or physical not in store.physical_names():
                continue
            found = f"{item.job.collection}: what was written to {physical} since it went live is found by "
            try:
                comparable(Kept(store, ledger, base, "target", physical, physical))
            except NoVersionsError as error:
                yield f"{found}reading all of it, since {error.message}"
            else:
                yield f"{found}the versions of its points"


def _dropped(plan: Plan) -> Iterator[tuple[CollectionPlan, int, str]]:
    """Every vector that the reverse of a change in place drops: its job, the step, its name."""
    for item in plan.collections:
        for position, step in enumerate(item.job.steps):
            if isinstance(step, InPlace) and not step.ops:
                for change in step.changes:
                    if change.kind in ("vector.drop", "sparse.drop"):
                        yield item, position, change.name


def _explained(world: World, plan: Plan, target: str, only: Iterable[str] | None) -> Plan:
    """Why there is nothing to roll back of the chosen collections, where a relative target is about other ones."""
    if plan.collections or only is None or not target.strip().startswith("-"):
        return plan
    notes = []
    for name in only:
        state = world.collections.get(name)
        applied = state.applied_revisions() if state is not None else ()
        if applied:
            before = applied[-2] if len(applied) > 1 else "base"
            notes.append(
                f"{target} is counted over all collections, and {name} is at {applied[-1]} already: name where it is "
                f"to go back to, as qmigrate rollback {quote(before)} --only {quote(name)}"
            )
    return replace(plan, notes=(*plan.notes, *notes))


@contextmanager
def _past_resets(opened: Session, world: World) -> Iterator[None]:
    """A reset isn't a revision, so that no rollback goes over it: where one lies in between, its undo is the way."""
    try:
        yield
    except RefusedError as error:
        name, generation = str(error.facts.get("collection")), error.facts.get("generation")
        state = world.collections.get(name)
        if state is None or generation is None:
            raise
        left = {row.physical for row in state.generations if row.state == "retired"}
        for row in opened.ledger.deletions():
            mine = (row.collection, row.kind, row.told.generation) == (name, RESET, generation)
            if mine and row.told.left_in in left:
                ways = [error.facts.get("first"), f"qmigrate fix undo {quote(row.id)}", "then the same command again"]
                raise RefusedError(
                    f"{error.message}: fix {row.id} has reset {name} since, and what served before is in "
                    f"{row.told.left_in}",
                    hint="\n".join(str(way) for way in ways if way),
                    facts=error.facts,
                ) from None
        raise


def _keep(
    opened: Session, world: World, target: str, begun: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Revisions that stay applied; a relative target is counted from where a rollback of `begun` has started."""
    return opened.revisions.resolve(target, current=world.applied() | begun)
