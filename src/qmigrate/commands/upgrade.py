"""plan and upgrade. They print nothing; what is done is decided by the planner and done by the executor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qmigrate.commands.asking import check_plan
from qmigrate.commands.edits import with_counts
from qmigrate.commands.estimate import refuse_longer, with_estimates, with_pauses
from qmigrate.commands.failures import Failures, plan_each
from qmigrate.commands.foresee import incomplete, transforms_of, with_refusals
from qmigrate.commands.gc import collect_due
from qmigrate.commands.held_runs import held_collections
from qmigrate.commands.names import chosen_names
from qmigrate.commands.parallel import at_once
from qmigrate.commands.results import Outcome, UpgradeResult
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import begun_revisions, finish_open_runs, perform
from qmigrate.commands.session import Session, session
from qmigrate.commands.sql_gate import notes_of, within_reach
from qmigrate.embed import known_kind, known_size
from qmigrate.embed.options import fingerprint_words
from qmigrate.engine.build.preflight import check_kind, check_size
from qmigrate.engine.executor import stop_on_signals
from qmigrate.engine.further_names import names_of, refuse_taken
from qmigrate.errors import QmigrateError, RevisionError, UsageError
from qmigrate.model.facts.fixes import EditChange
from qmigrate.model.facts.phases import Closed
from qmigrate.model.facts.stored import known
from qmigrate.model.plan import Build, CollectionPlan, GoLive, Plan
from qmigrate.model.state import World
from qmigrate.observe import check_hidden, check_ownership, observe, unmanaged
from qmigrate.operations.values import Embed
from qmigrate.planner import plan_upgrade
from qmigrate.planner.members import made_by_glob
from qmigrate.planner.plain_names import way_of
from qmigrate.planner.replaced import newest_of
from qmigrate.ports import Progress
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings
from qmigrate.text import quote


def with_models(opened: Session, world: World, plan: Plan, *, load: bool) -> Plan:
    """The plan with a note for each vector that changes its model, and for each model with random weights.

    Args:
        load: whether embedders are loaded, which is how a change of model is known. Only those are that fill a vector
            whose earlier model is recorded; one that can't be loaded is a note.

    Raises:
        EmbedError: by the settings an embedder makes vectors of another size than declared.
    """
    found = [note for item in plan.collections for note in _notes(opened, world, item, load=load)]
    return replace(plan, notes=tuple(dict.fromkeys([*plan.notes, *found])))


def _notes(opened: Session, world: World, item: CollectionPlan, *, load: bool) -> Iterator[str]:
    name = item.job.collection
    state = world.collections.get(name)
    configured = opened.settings.for_collection(name).embedders
    live = state.live if state else None
    if state is None or live is None:
        return
    recorded = dict(state.embedders)
    for step, transform in transforms_of(opened, state, item.job):
        for vector in transform.filled:
            filling = transform.values[vector]
            if isinstance(filling, Embed):
                config = configured.get(filling.embedder, {})
                check_kind(name, step, vector, filling.embedder, known_kind(config))
                check_size(name, step, vector, filling.embedder, known_size(config))
                yield from _random(name, vector, filling, configured)
                yield from _by_server(name, vector, filling, configured)
                if load and vector in recorded:
                    yield from _change(opened, name, vector, filling, configured, recorded[vector])
        recorded = {target: recorded[source] for target, source in transform.vectors.items() if source in recorded}


def _random(name: str, vector: str, filling: Embed, configured: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    seed = configured.get(filling.embedder, {}).get("random_weights")
    if seed is not None:
        yield (
            f"{name}: vector {vector or '(unnamed)'} is filled by {filling.embedder} with random weights "
            f"(seed {seed}): for trials only, its searches mean nothing"
        )


def _by_server(
    name: str, vector: str, filling: Embed, configured: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    found = configured.get(filling.embedder, {})
    if found.get("type") == "qdrant":
        yield (
            f"{name}: vector {vector or '(unnamed)'} is made by the server itself, by {found.get('model')}: it shows "
            "none of them in advance, so the proof asks for a sample of points by their own texts"
        )


def _change(
    opened: Session,
    name: str,
    vector: str,
    filling: Embed,
    configured: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Any],
) -> Iterator[str]:
    shown = f"{name}: vector {vector or '(unnamed)'}"
    try:
        after = opened.embedder(filling.embedder, configured).fingerprint()
    except QmigrateError:
        # Reported with what an upgrade would refuse.
        return
    if dict(after) == dict(before):
        yield f"{shown} is filled again by the model that it has: {fingerprint_words(after)}"
    else:
        yield f"{shown} changes its model: {fingerprint_words(before, after)} → {fingerprint_words(after, before)}"


#: Collections that one command names.
_NAMED = 20


def ways_back(opened: Session, outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """One command where that is exact: what others have of the same revisions stays as it is; else one per target.

    Nothing where no target leaves just what was there before.
    """
    applied = {name: [one.revision for one in entries] for name, entries in opened.ledger.all_applied().items()}
    done: dict[str, frozenset[str]] = {}
    for outcome in outcomes:
        # What is only recorded as passed is nothing to go back over.
        made = [one for one in outcome.revisions if one in applied.get(outcome.collection, ())]
        if made:
            done[outcome.collection] = done.get(outcome.collection, frozenset()).union(made)
    if not done:
        return ()
    relative = f"-{len(frozenset().union(*done.values()))}"
    if _taken(opened, relative, applied) == done:
        return (f"qmigrate rollback {quote(relative)}",)
    targets: dict[str, list[str]] = {}
    for name, revisions in sorted(done.items()):
        kept = [one for one in applied.get(name, []) if one not in revisions]
        target = kept[-1] if kept else "base"
        if _taken(opened, target, {name: applied.get(name, [])}) == {name: revisions}:
            targets.setdefault(target, []).append(name)
    return tuple(_command(target, names) for target, names in targets.items() if len(names) <= _NAMED)


def reached(opened: Session, outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Collection -> where it is now, of those that something was done with."""
    applied, passed = opened.ledger.all_applied(), opened.ledger.passed()
    found: dict[str, str] = {}
    for name in dict.fromkeys(outcome.collection for outcome in outcomes if outcome.held is None):
        ids = [one.revision for one in applied.get(name, ())]
        newest = newest_of(name, ids, passed.get(name, frozenset()), opened.revisions)
        found |= {name: newest} if newest is not None else {}
    return found


def afterwards(opened: Session, outcomes: Sequence[Outcome]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The commands that lead back, and where each collection is now."""
    return ways_back(opened, outcomes), reached(opened, outcomes)


def undo_commands(numbers: Iterable[int]) -> tuple[str, ...]:
    """The commands for fixes by their numbers in the audit, the newest first."""
    return tuple(f"qmigrate fix undo {quote(number)}" for number in sorted(numbers, reverse=True))


def fixes_of(outcomes: Iterable[Outcome]) -> list[int]:
    """The numbers in the audit of the data fixes that can be undone, and have changed anything."""
    found = []
    for outcome in outcomes:
        for name in outcome.report:
            step, _, phase = name.partition(".")
            if phase == Closed.phase:
                closed, changed = outcome.facts(Closed, int(step)), outcome.facts(EditChange, int(step)).changed
                number, undo = known(closed.log), known(closed.undo)
                if number is not None and undo is not None and changed:
                    found.append(number)
    return found


def _taken(opened: Session, target: str, applied: Mapping[str, list[str]]) -> dict[str, frozenset[str]] | None:
    """What a rollback to a target would undo, by collection; None where there is no such target."""
    current = frozenset(one for entries in applied.values() for one in entries)
    try:
        keep = opened.revisions.resolve(target, current=current)
    except RevisionError:
        return None
    found = {name: frozenset(one for one in entries if one not in keep) for name, entries in applied.items()}
    return {name: revisions for name, revisions in found.items() if revisions}


def _command(target: str, names: Iterable[str]) -> str:
    return " ".join(["qmigrate rollback", quote(target), *(f"--only {quote(name)}" for name in names)])


def plan(
    settings: Settings | None = None,
    target: str = "head",
    only: Iterable[str] | None = None,
    *,
    models: bool = True,
    trial: bool | None = False,
) -> Plan:
    """What `upgrade` would do. Sends no write to Qdrant or SQL.

    Args:
        models: load the models that fill vectors, and look for what an upgrade would refuse.
        trial: try embedders that no earlier run shows the speed of on a handful of items; None for those alone that
            send nothing to a service.

    Raises:
        PlanError: an operation can't be done.
        RefusedError: a collection is not under management.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, partial=True) as opened:
        made = planned(opened, target, only, models=models, trial=trial)
        return replace(made, notes=(*opened.store.capabilities.silent, *made.notes))


def planned(
    opened: Session, target: str, only: Iterable[str] | None, *, models: bool = False, trial: bool | None = False
) -> Plan:
    """The same in a session that is open, with an estimate for each collection.

    Args:
        models: load the models that fill vectors, so that the plan says what changes, and what an upgrade would refuse
            before its first write.
        trial: as :func:`plan` has it.

    Raises:
        UsageError: the target lies behind.
    """
    _check_target(target)
    world = observe(opened.ledger, opened.store)
    _refuse_unmanaged(opened, world, only)
    made = _plan(opened, world, target, chosen_names(opened, only))
    for item in made.collections:
        check_ownership(world, item.job.collection)
    counted = with_counts(opened, world, with_pauses(opened, world, with_estimates(opened, world, made, trial=trial)))
    noted = with_models(opened, world, counted, load=models)
    if not models:
        return noted
    wanted = opened.revisions.resolve(target, current=world.applied(), forward=True)
    return with_refusals(opened, world, noted, wanted, chosen_names(opened, only))


def irreversible(settings: Settings, target: str = "head", only: Iterable[str] | None = None) -> dict[str, str]:
    """Revision -> why there is no way back, of those that an upgrade would apply and that declare it; it only reads."""
    with session(settings, writes=False, partial=True) as opened:
        made = _plan(opened, observe(opened.ledger, opened.store), target, chosen_names(opened, only))
        pending = {one for item in made.collections for one in item.job.revisions()}
        declared = {one: opened.revisions.get(one).irreversible for one in sorted(pending)}
    return {revision: why for revision, why in declared.items() if why}


def guard(settings: Settings, target: str, only: Iterable[str] | None, limit: float) -> None:
    """Refuse an upgrade that is expected to take longer than `limit` seconds, interrupted runs included; it only reads.

    Raises:
        PendingError: exit code 3, naming estimate and limit.
    """
    with session(settings, writes=False) as opened:
        world = observe(opened.ledger, opened.store)
        refuse_longer(opened, world, planned(opened, target, only), limit, chosen_names(opened, only))


def upgrade(  # noqa: PLR0913  the options of the verb
    settings: Settings | None = None,
    target: str = "head",
    *,
    only: Iterable[str] | None = None,
    dry_run: bool = False,
    lock_timeout: float | None = None,
    no_snapshot: bool = False,
    allow_gap: bool = False,
    hold: bool = False,
    keep_going: bool = False,
    parallel: int | None = 1,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Bring every collection that a pending revision names to `target`.

    Interrupted runs are finished first, from their stored jobs, and with ``rebuild.gc: auto`` what is past its holdover
    is retired: a failure there is a note. Each is planned, built, proven, and swapped in, or held until `cutover`.

    Args:
        target: ``head``, a revision id or unique prefix, or ``+N``, counted from before a run that is finished first.
        only: restrict to these logical names, exact ones or globs.
        dry_run: plan only; nothing is written.
        lock_timeout: seconds to wait for another process; None for the setting.
        no_snapshot: don't make a snapshot of the source first.
        allow_gap: consent to some milliseconds in which reads fail, where a plain name can't become an alias without.
        hold: what is rebuilt waits for `cutover` before its name moves, as where a revision says ``hold``.
        keep_going: when a collection fails, go on with the others, and raise at the end.
        parallel: collections at a time, None for as many as suit; without `keep_going` a failure begins no further one.

    Raises:
        VerificationError: the proof failed; the live collection is untouched.
        LeaseHeldError: another process kept the lease.
        CollectionsFailedError: with `keep_going`, for all that failed; it holds the result of the others.
        UsageError: the target lies behind.
    """
    settings = settings or Settings.load()
    _check_target(target)
    if dry_run:
        return UpgradeResult(plan(settings, target, only), (), ())
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        opened.parallel = at_once(opened.store, parallel)
        names, failures = chosen_names(opened, only), Failures(opened.progress, keep_going=keep_going)
        counted = _Counted(begun_revisions(opened, "upgrade", names))

        def make(world: World) -> Plan:
            current = counted.once(world)
            _refuse_unmanaged(opened, world, only)
            made = _plan_each(opened, world, target, names, allow_gap=allow_gap, failures=failures, current=current)
            return check_plan(opened, _with_hold(_with_reason(opened, world, made, target, current), hold=hold))

        options = RunOptions(stop, lock_timeout, only=names, snapshot=not no_snapshot, failures=failures)
        resumed, finished = finish_open_runs(opened, options)
        notes = collect_due(opened, stop=stop, only=names, lock_timeout=lock_timeout)
        made, outcomes = perform(opened, make, options)
        held, (back, at) = held_collections(opened, names), afterwards(opened, every := (*finished, *outcomes))
    made, undo = replace(made, notes=(*notes, *made.notes)), undo_commands(fixes_of(every))
    result = UpgradeResult(made, tuple(resumed), every, held, back, undo, at)
    failures.raise_any(result)
    return result


def _with_reason(opened: Session, world: World, made: Plan, target: str, current: frozenset[str]) -> Plan:
    """Where there is nothing to do, with the files that were not filled in, since these may be why."""
    if made.collections:
        return made
    wanted = opened.revisions.resolve(target, current=current, forward=True)
    return replace(made, notes=(*made.notes, *incomplete(opened, world, wanted)))


def _with_hold(made: Plan, *, hold: bool) -> Plan:
    """The plan; with `hold` every rebuild waits for its cut-over, but a new name, which serves no user yet, doesn't."""
    return replace(made, collections=tuple(map(_held_before, made.collections))) if hold else made


def _held_before(item: CollectionPlan) -> CollectionPlan:
    built = {step.target for step in item.job.steps if isinstance(step, Build)}
    steps = tuple(
        replace(step, hold=True) if isinstance(step, GoLive) and step.source and step.target in built else step
        for step in item.job.steps
    )
    if steps == item.job.steps:
        return item
    return replace(item, job=replace(item.job, steps=steps), holds=True)


def _check_target(target: str) -> None:
    """An earlier revision can't be the target: everything would count as done.

    Raises:
        UsageError: it is ``base``, or relative and backwards.
    """
    if target.strip() == "base" or target.strip().startswith("-"):
        raise UsageError(f"an upgrade doesn't go back to {target}", hint="qmigrate rollback does")


def _refuse_unmanaged(opened: Session, world: World, only: Iterable[str] | None) -> None:
    """Who names a collection wants it changed: a glob of a revision alone would leave it alone, with a note.

    Raises:
        RefusedError: it is not under management, and a revision speaks of it.
    """
    operations = [operation for revision in opened.revisions.order() for operation in revision.operations]
    for name in only or ():
        state = world.collections.get(name)
        if state is None or state.managed or state.live is None or state.open_run is not None:
            continue
        about = [operation for operation in operations if operation.matches(name)]
        # An exact name is refused with the revision that says it.
        if about and all(operation.is_glob for operation in about):
            raise unmanaged(world.ledger_id, state, "is not under management, so it is not changed")


class _Counted:
    """From where a relative target is counted, once: neither planning again nor the same command again goes further.

    Args:
        begun: revisions of the run that the command has just finished: it had begun them before.
    """

    def __init__(self, begun: frozenset[str]) -> None:
        self._begun = begun
        self._found: frozenset[str] | None = None

    def once(self, world: World) -> frozenset[str]:
        """The applied revisions when it was asked first."""
        if self._found is None:
            self._found = world.applied() - self._begun
        return self._found


def _plan_each(
    opened: Session,
    world: World,
    target: str,
    only: Iterable[str] | None,
    *,
    allow_gap: bool,
    failures: Failures,
    current: frozenset[str],
) -> Plan:
    """The plan; of those that can be planned, where the others may fail."""
    tried = _tried(opened, world)

    def make(some: Iterable[str] | None) -> Plan:
        made = _plan(opened, tried, target, some, allow_gap=allow_gap, current=current)
        return with_models(opened, tried, made, load=False)

    return plan_each(make, _all_names(opened, world), only, failures)


def _all_names(opened: Session, world: World) -> list[str]:
    """Every collection that a plan may be about: those that are there, and those that revisions name."""
    operations = [operation for revision in opened.revisions.order() for operation in revision.operations]
    named = {operation.pattern for operation in operations if not operation.is_glob}
    return sorted(named | set(world.collections))


def _plan(
    opened: Session,
    world: World,
    target: str,
    only: Iterable[str] | None,
    *,
    allow_gap: bool = True,
    current: frozenset[str] | None = None,
) -> Plan:
    """The plan; a relative target is counted from `current`, or from what is applied."""
    counted = world.applied() if current is None else current
    wanted, waiting = within_reach(opened, world, opened.revisions.resolve(target, current=counted, forward=True))
    # First of all: what is planned over another collection than the recorded one misleads, whatever it contains.
    check_names(world, opened.revisions, only)
    plain = way_of(world, setting=opened.settings.rebuild.plain_names, allow_gap=allow_gap)
    overrides = {name: one.rebuild for name, one in opened.settings.collections.items()}
    fuse = {name: bool(keys["fuse"]) for name, keys in overrides.items() if "fuse" in keys}
    made = plan_upgrade(
        world,
        opened.revisions,
        wanted,
        only=only,
        plain=plain,
        fuse=opened.settings.rebuild.fuse,
        fuse_by_name=fuse,
    )
    check_hidden(world, made)
    _check_further(opened, made)
    return replace(made, waiting=waiting, notes=(*made.notes, *notes_of(waiting)))


def _check_further(opened: Session, made: Plan) -> None:
    """No further name is taken away from another collection, but from one that this very plan takes away.

    Raises:
        RefusedError: one would be.
    """
    gone = {item.job.collection for item in made.collections for step in item.job.steps if step.target is None}
    for item in made.collections:
        names = [name for step in item.job.steps for name in names_of(step) if name not in gone]
        refuse_taken(opened.store, opened.ledger, opened.ledger_id, item.job.collection, names)


def check_names(world: World, revisions: Revisions, only: Iterable[str] | None) -> None:
    """Nothing to do is not an answer while a name isn't where the ledger left it.

    A collection that only a glob speaks of may come and go: the application makes it, and may delete it.

    Raises:
        RepairNeededError: another client moved or removed the name, or the collection behind it is gone.
        ForeignLedgerError: another ledger has sealed it, or a newer state of this one.
    """
    for name, state in sorted(world.collections.items()):
        if not state.managed or (only is not None and name not in only):
            continue
        lost = world.physical is not None and all(row.physical not in world.physical for row in state.generations)
        if not (state.live is None and lost and made_by_glob(revisions, name)):
            check_ownership(world, name)


def _tried(opened: Session, world: World) -> World:
    """The world with what this server does about plain names, tried again in every run that may need it."""
    plain = any(state.kind == "plain" and state.managed for state in world.collections.values())
    if not plain or opened.settings.rebuild.plain_names == "gap" or world.capabilities.local:
        return world
    return replace(world, hiding=opened.store.hides_collections())
