"""snapshot restore: points of an earlier time become the next generation. What serves is never written over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Summary, WholeFacts
from qmigrate.commands.agreed import as_shown
from qmigrate.commands.failures import Failures
from qmigrate.commands.meanings import says_the_same
from qmigrate.commands.results import SnapshotEntry, UpgradeResult
from qmigrate.commands.rollback import check_writes
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import finish_open_runs, perform
from qmigrate.commands.session import Session, session
from qmigrate.commands.snapshot import (
    address,
    entries,
    foreign_archives,
    may_be_whole,
    moment_of,
    of_archive,
    of_what_served,
)
from qmigrate.engine.executor import Stop, stop_on_signals
from qmigrate.engine.export import WHOLE, described
from qmigrate.errors import RefusedError, UnknownNameError, UsageError
from qmigrate.model.names import ExactName, check_known, is_glob, met, unknown
from qmigrate.model.origin import ARCHIVE, SNAPSHOT, Known, Origin, StoredOrigin
from qmigrate.model.plan import Build, GoLive, Job, Plan
from qmigrate.model.state import CollectionState, Moment, World, moments_of
from qmigrate.observe import known_names, observe
from qmigrate.operations.checks import logical_name_problem
from qmigrate.planner import plan_restore, plan_undo
from qmigrate.planner.plain_names import way_of
from qmigrate.planner.restore import was_restored
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import quote

#: Verb of the runs.
VERB = "restore"


def plan(
    settings: Settings,
    collection: str,
    snapshot: str | None = None,
    *,
    into: str | None = None,
    folder: Path | None = None,
) -> Plan:
    """What :func:`restore` would do. Sends no write to Qdrant or SQL.

    Raises:
        As :func:`restore`, but for consent.
    """
    with session(settings, writes=False) as opened:
        origins = _origins(opened, collection, snapshot, folder or settings.archives, into)
        world = observe(opened.ledger, opened.store)
        return _together([_plan(opened, world, into or name, origin, into=into) for name, origin in origins.items()])


def restore(  # noqa: PLR0913  the options of the verb
    settings: Settings | None,
    collection: str,
    snapshot: str | None = None,
    *,
    into: str | None = None,
    folder: Path | None = None,
    consent: bool = False,
    shown: Plan | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Build the next generation from a snapshot or an archive, prove it, and move the name to it.

    The generation that served is kept: :func:`undo` goes back to it. An interrupted restore is finished first; when
    it was this very one, nothing else is done.

    Args:
        collection: the logical name that the snapshot is of; or a glob, for the newest of each collection that it
            matches. What refuses one of them does so before the first is restored; one that fails later stops no other.
        snapshot: its name, or the path of an archive; None for the newest of the collection.
        into: another logical name for the points; it must not exist.
        folder: of the archives, else ``.qmigrate/snapshots``.
        consent: that what was written since is not in it; without, the plan's figures are in the refusal.
        shown: of :func:`plan`, where the consent is to just that: a newer snapshot may have been made since.

    Raises:
        ArchiveError: the archive is damaged or was touched; nothing was made of it.
        RefusedError: without consent, or it can't be restored there.
        NotFoundError: there is no such snapshot.
        VerificationError: what came back is not what the archive holds.
        CollectionsFailedError: some of several failed; the others are restored.
    """
    settings = settings or Settings.load()
    if not consent:
        raise _without_consent(into or collection, plan(settings, collection, snapshot, into=into, folder=folder))
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        origins = _origins(opened, collection, snapshot, folder or settings.archives, into)
        world = observe(opened.ledger, opened.store)
        if len(origins) > 1:
            for name, origin in origins.items():
                as_shown(_plan(opened, world, name, origin, into=None), shown)
        options = RunOptions(stop, lock_timeout)

        def work(name: str) -> UpgradeResult:
            before = _state(opened, world, into or name).physical
            return _restored(opened, into or name, (origins[name], before), options, into=into, shown=shown)

        return _each(opened, list(origins), work)


def _restored(
    opened: Session,
    name: str,
    asked: tuple[Origin, str | None],
    options: RunOptions,
    *,
    into: str | None,
    shown: Plan | None,
) -> UpgradeResult:
    """One collection, restored; an interrupted restore of it is finished first.

    Args:
        asked: what is restored, and what served when that was asked for.
    """
    origin, before = asked
    same = {run.id for run in opened.ledger.open_runs() if run.verb == VERB and _restores(run.job, origin, name)}
    options = replace(options, only=[name])
    resumed, finished = finish_open_runs(opened, options)
    if same & {one.run for one in resumed}:
        return UpgradeResult(Plan(VERB, (), ()), tuple(resumed), tuple(finished))
    # What was interrupted, and was finished here, may have moved it.
    served = [] if resumed else [before]

    def make(world: World) -> Plan:
        served.append(_state(opened, world, name).physical)
        _refuse_overtaken(name, served, "restored")
        return as_shown(_plan(opened, tried(opened, world, name), name, origin, into=into), shown)

    made, outcomes = perform(opened, make, options, names=[name])
    return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes))


def _refuse_overtaken(name: str, served: Sequence[str | None], done: str) -> None:
    """Of two processes that are asked for the same at once, one does it.

    Args:
        served: what has served, each time that it was read.
        done: what would be done once more, as a participle.

    Raises:
        RefusedError: another process was faster.
    """
    if served[-1] != served[0]:
        raise RefusedError(
            f"another process has moved {name} away from {served[0] or 'nothing'} meanwhile, so nothing was {done}",
            hint=f"qmigrate history {quote(name)} shows what was done",
        )


def undo(
    settings: Settings,
    collection: str,
    *,
    writes: str = "refuse",
    dry_run: bool = False,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Back to the generation that served before the restore.

    Args:
        collection: the logical name; or a glob, for each collection that serves what was restored.
        writes: ``refuse`` when anything was written since the restore, or ``discard`` (it stays in the restored one).

    Raises:
        RefusedError: something was written since, or there is nothing to go back to; nothing was changed.
        UsageError: `writes` is none of the known words.
    """
    check_writes(writes, ("refuse", "discard"))

    def make(opened: Session, world: World, name: str) -> Plan:
        state, moments = _state(opened, world, name), opened.ledger.moments(name)
        return plan_undo(state, moments, opened.revisions, writes=writes)

    def undone(opened: Session, name: str, stop: Stop) -> UpgradeResult:
        options = RunOptions(stop, lock_timeout, only=[name])
        resumed, finished = finish_open_runs(opened, options)
        if resumed:
            # What was under way may have been this very step; the state says what is left to do.
            state = _state(opened, observe(opened.ledger, opened.store), name)
            moments = opened.ledger.moments(name)
            if moments and (moments[-1].physical, moments[-1].strategy) == (state.physical, "undo"):
                return UpgradeResult(Plan(VERB, (), ()), tuple(resumed), tuple(finished))
        served: list[str | None] = []

        def one(world: World) -> Plan:
            # Another process that is faster does not make this one undo the restore before that, too.
            plan = make(opened, world, name)
            served.extend(step.source for step in plan.collections[0].job.steps if isinstance(step, GoLive))
            _refuse_overtaken(name, served, "undone")
            return plan

        made, outcomes = perform(opened, one, options, names=[name])
        return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes))

    with session(settings, writes=not dry_run, progress=progress) as opened:
        names = _restored_names(opened, collection)
        world = observe(opened.ledger, opened.store)
        if dry_run:
            return UpgradeResult(_together([make(opened, world, name) for name in names]), (), ())
        with stop_on_signals(opened.progress) as stop:
            return _each(opened, names, lambda name: undone(opened, name, stop))


def _each(opened: Session, names: Sequence[str], work: Callable[[str], UpgradeResult]) -> UpgradeResult:
    """One collection after the other; of several one that fails stops no other.

    Raises:
        CollectionsFailedError: some of several failed.
    """
    failures, results = Failures(opened.progress, keep_going=len(names) > 1), list[UpgradeResult]()
    for name in names:
        with failures.of(name):
            results.append(work(name))
    found = UpgradeResult(
        _together([one.plan for one in results]),
        tuple(resumed for one in results for resumed in one.resumed),
        tuple(outcome for one in results for outcome in one.outcomes),
    )
    failures.raise_any(found)
    return found


def _together(plans: Sequence[Plan]) -> Plan:
    """Plans of one collection each as one."""
    if len(plans) == 1:
        return plans[0]
    return Plan(
        VERB,
        tuple(dict.fromkeys(revision for one in plans for revision in one.target)),
        tuple(item for one in plans for item in one.collections),
        tuple(dict.fromkeys(note for one in plans for note in one.notes)),
        {revision: checksum for one in plans for revision, checksum in (one.checksums or {}).items()},
    )


def _origins(
    opened: Session, pattern: str, snapshot: str | None, folder: Path, into: str | None
) -> dict[str, Origin]:
    """What is restored, by the name that it is of.

    A glob means what is under management, and archives of this ledger: in a folder that several projects share, what
    another ledger has archived, or nothing had under management, is restored by its exact name alone.

    Raises:
        NotFoundError: there is no such snapshot, or one of the collections has none.
        UsageError: several collections, and something that is of one.
    """
    problem = logical_name_problem(into, "the name") if into is not None else None
    if problem is not None:
        raise UsageError(f"nothing can be restored into it: {problem}", hint="--into another name")
    stored = [one.header for one in archive.summaries(folder)]
    of_archives = {one.name for one in stored}
    known = of_archives.union(known_names(opened.ledger, opened.store))
    if not is_glob(pattern, known):
        if snapshot is None:
            check_known("collection", [pattern], known)
        return {pattern: find(opened, pattern, snapshot, folder, into=into)}
    if snapshot is not None or into is not None:
        raise UsageError(
            f"{pattern} may be several collections, and a snapshot, or a name to restore it as, is of one",
            hint=f"the newest of each: qmigrate snapshot restore '{pattern}' --latest",
        )
    world = observe(opened.ledger, opened.store)
    managed = [name for name, state in world.collections.items() if state.managed and state.live is not None]
    ours = {one.name for one in stored if one.ledger is not None and one.ledger == opened.ledger_id}
    names = met(pattern, sorted({*managed, *ours}), known)
    if not names:
        raise _none_of_ours(pattern, met(pattern, sorted(of_archives), known))
    return {name: find(opened, name, None, folder, ours=True) for name in names}


def _none_of_ours(pattern: str, others: Sequence[str]) -> UnknownNameError:
    """A glob that meets nothing of this ledger; what it would meet of others is named."""
    if not others:
        return unknown("collection", pattern, of=", and no archive")
    return UnknownNameError(
        f"no collection and no archive of this ledger matches {pattern}; archives of another ledger do",
        hint=f"an exact name restores one: qmigrate snapshot restore {quote(others[0])} --latest",
    )


def _restored_names(opened: Session, pattern: str) -> list[str]:
    """The collections whose restore is undone.

    Raises:
        NotFoundError: none of those that a glob matches serves what was restored.
    """
    known = known_names(opened.ledger, opened.store)
    check_known("collection", [pattern], known)
    if not is_glob(pattern, known):
        return [pattern]
    world = observe(opened.ledger, opened.store)
    open_runs = {run.job.collection for run in opened.ledger.open_runs() if run.verb == VERB}
    found = [
        name
        for name in met(pattern, sorted(world.collections), known)
        if name in open_runs or was_restored(opened.ledger.moments(name), world.collections[name].physical)
    ]
    if not found:
        raise UnknownNameError(f"no collection that {pattern} matches was restored", hint="qmigrate history")
    return found


def find(
    opened: Session,
    collection: str,
    snapshot: str | None,
    folder: Path,
    *,
    into: str | None = None,
    ours: bool = False,
) -> Origin:
    """The snapshot or archive that was meant, with all that a plan needs of it.

    Args:
        snapshot: a name or a path; None for the newest.
        ours: never an archive of another ledger.

    Raises:
        NotFoundError: there is none.
        RefusedError: it is of another collection, or the revision at which it was made is unknown.
    """
    for path in () if snapshot is None else (Path(snapshot), folder / snapshot):
        if path.is_file():
            return _of_archive(opened, archive.summary(path), collection, into)
    found = [one for one in entries(opened, folder, ExactName(collection)) if one.collection == collection]
    found.sort(key=lambda one: one.created_at or datetime.min.replace(tzinfo=UTC))
    if snapshot is None:
        # Of several projects in one folder the newest of ours is meant; where there is none, it may be a move.
        others = foreign_archives(opened, folder)
        found = [one for one in found if one.whole]
        mine = [one for one in found if one.path is None or one.name not in others]
        if ours and found and not mine:
            raise _none_of_ours(collection, [collection])
        found = _of_what_served(opened, collection, mine or found)
    chosen = found[-1:] if snapshot is None else [one for one in found if one.name == snapshot]
    if not chosen:
        hint = f"qmigrate snapshot list {quote(collection + '*')}"
        if snapshot is not None:
            raise unknown("snapshot", snapshot, [one.name for one in found], of=f" of {collection}", hint=hint)
        raise UnknownNameError(f"there is no snapshot of {collection}", hint=hint)
    if chosen[0].path is not None:
        return _of_archive(opened, archive.summary(chosen[0].path), collection, into)
    return _of_snapshot(opened, chosen[0])


def _of_what_served(opened: Session, collection: str, found: list[SnapshotEntry]) -> list[SnapshotEntry]:
    """Those of the generation that had the name then; one of another is restored by its name alone.

    Raises:
        UnknownNameError: there are only such ones.
    """
    served = [one for one in found if of_what_served(opened.ledger, one)]
    if found and not served:
        last = found[-1]
        raise UnknownNameError(
            f"there is no snapshot of {collection} as it served: {last.name} is of {last.physical}, which was being "
            "built or had been left when it was made",
            hint=f"its name restores it: qmigrate snapshot restore {quote(collection)} {quote(last.name)}",
        )
    return served


def _of_archive(opened: Session, found: Summary, collection: str, into: str | None) -> Origin:
    header = found.header
    if header.kind != WHOLE:
        raise RefusedError(f"{found.path.name} holds some points ({header.kind}), not a collection")
    if header.name != collection:
        raise RefusedError(
            f"{found.path.name} is an archive of {header.name}, not of {collection}",
            hint=f"qmigrate snapshot restore {quote(header.name)} {quote(found.path)} --into "
            f"{quote(into or collection)}",
        )
    facts = header.told(WholeFacts)
    declared = header.schema if facts.declared is None else facts.declared
    revisions = tuple(Known(revision, checksum) for revision, checksum in facts.revisions)
    if not revisions and header.ledger == opened.ledger_id:
        # Written by an earlier version, of the identical copy that took the place of a plain collection.
        then = _then(opened, header.name, header.physical, header.created_at)
        if then is not None:
            revisions, declared = tuple(Known(*known) for known in then.applied), then.declared or declared
    # Local mode keeps neither indexes nor settings: there only the record has them.
    schema = declared if facts.local else header.schema
    entry = of_archive(found)
    return Origin(
        kind=ARCHIVE,
        name=entry.name,
        place=str(found.path.absolute()),
        logical=header.name,
        physical=header.physical,
        digest=found.digest,
        size=found.size,
        created_at=header.created_at,
        points=found.points,
        schema=schema.with_(aliases=()),
        declared=declared,
        revisions=revisions,
        embedders=facts.embedders,
        exact=facts.local == opened.store.capabilities.local,
    )


def _of_snapshot(opened: Session, entry: SnapshotEntry) -> Origin:
    then = _then(opened, entry.collection, entry.physical, entry.created_at)
    if then is None or then.declared is None:
        raise RefusedError(
            f"the ledger does not record at which revision {entry.physical} was when {entry.name} was made",
            hint=f"qmigrate adopt {quote(entry.collection)} takes a collection over",
        )
    if not may_be_whole(opened.ledger, entry):
        raise RefusedError(
            f"{entry.name} was made while {entry.physical} was being built: points may be missing in it",
            hint=f"another one: qmigrate snapshot list {quote(entry.collection)}",
        )
    place = address(opened.store.aliases(), entry.physical)
    return Origin(
        kind=SNAPSHOT,
        name=entry.name,
        place=place,
        logical=entry.collection,
        physical=entry.physical,
        digest=entry.checksum,
        size=entry.size,
        created_at=entry.created_at,
        points=entry.points,
        schema=then.declared.with_(aliases=()),
        declared=then.declared,
        revisions=tuple(Known(*known) for known in then.applied),
        embedders=None,
        custom_sharding=described(opened.store, place).custom_sharding,
    )


def _then(opened: Session, name: str, physical: str, when: datetime | None) -> Moment | None:
    """What was applied to a generation at a time, as far as the history has it."""
    ledger = opened.ledger
    return moment_of(moments_of(ledger.moments(name), ledger.generations(name), physical), when)


def _plan(opened: Session, world: World, name: str, origin: Origin, *, into: str | None) -> Plan:
    state = _state(opened, world, name)
    if into is not None and state.kind != "absent":
        raise RefusedError(
            f"{into} exists already",
            hint=f"another name; or over it: qmigrate snapshot restore {quote(into)} {quote(origin.name)}",
        )
    plain = way_of(world, setting=opened.settings.rebuild.plain_names, allow_gap=False)
    return plan_restore(world, opened.revisions, state, _as_files(opened, origin), plain=plain)


def _as_files(opened: Session, origin: Origin) -> Origin:
    """Where only words of a file have changed since, its revision is the one of then."""
    files = {one.id: one for one in opened.revisions.order()}
    known = tuple(
        replace(one, checksum=file.checksum)
        if (file := files.get(one.revision)) is not None and says_the_same(file, opened.ledger, one.checksum)
        else one
        for one in origin.revisions
    )
    return replace(origin, revisions=known)


def tried(opened: Session, world: World, name: str) -> World:
    """The world with what this server does about plain names, where this one is plain."""
    state = world.collections.get(name)
    plain = state is not None and state.kind == "plain" and state.managed
    if not plain or opened.settings.rebuild.plain_names == "gap" or world.capabilities.local:
        return world
    return replace(world, hiding=opened.store.hides_collections())


def _state(opened: Session, world: World, name: str) -> CollectionState:
    """Also of a name that does not exist."""
    return world.collections.get(name) or observe(opened.ledger, opened.store, only=[name]).collections[name]


def _restores(job: Job, origin: Origin, name: str) -> bool:
    wanted = (origin.kind, origin.name, origin.digest)
    builds = (step for step in job.steps if isinstance(step, Build) and step.origin is not None)
    found = (StoredOrigin.of(build.origin) for build in builds)
    return job.collection == name and any((one.kind, one.name, one.digest) == wanted for one in found)


def _without_consent(name: str, plan: Plan) -> RefusedError:
    item = plan.collections[0]
    more = f", and {len(plan.collections) - 1} more of them" if len(plan.collections) > 1 else ""
    facts = {one.job.collection: {"points": one.points, "lines": list(one.lines)} for one in plan.collections}
    return RefusedError(
        f"restoring {name} needs consent: {'; '.join(item.lines)}{more}",
        hint="--yes does it; --dry-run shows the plan",
        facts={"points": item.points, "lines": list(item.lines), **({"collections": facts} if more else {})},
    )
