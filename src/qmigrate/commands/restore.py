"""snapshot restore: points of an earlier time become the next generation. What serves is never written over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Summary
from qmigrate.commands.perform import finish_open_runs, perform
from qmigrate.commands.results import SnapshotEntry, UpgradeResult
from qmigrate.commands.session import Session, session
from qmigrate.commands.snapshot import address, entries, moment_of, of_archive
from qmigrate.errors import NotFoundError, RefusedError
from qmigrate.executor import stop_on_signals
from qmigrate.model.origin import ARCHIVE, SNAPSHOT, Known, Origin
from qmigrate.model.plan import Build, Job, Plan
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import CollectionState, Moment, World, moments_of
from qmigrate.observe import observe
from qmigrate.planner import plan_restore, plan_undo
from qmigrate.planner.plain import way_of
from qmigrate.ports import Progress
from qmigrate.settings import Settings
from qmigrate.steps.export import WHOLE, described

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
        origin = find(opened, collection, snapshot, folder or settings.archives, into=into)
        return _plan(opened, observe(opened.ledger, opened.store), into or collection, origin, into=into)


def restore(
    settings: Settings,
    collection: str,
    snapshot: str | None = None,
    *,
    into: str | None = None,
    folder: Path | None = None,
    consent: bool = False,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Build the next generation from a snapshot or an archive, prove it, and move the name to it.

    The generation that served is kept: :func:`undo` goes back to it. An interrupted restore is finished first; when
    it was this very one, nothing else is done.

    Args:
        collection: the logical name that the snapshot is of.
        snapshot: its name, or the path of an archive; None for the newest of the collection.
        into: another logical name for the points; it must not exist.
        folder: of the archives, else ``.qmigrate/snapshots``.
        consent: that what was written since is not in it; without, the plan's figures are in the refusal.

    Raises:
        ArchiveError: the archive is damaged or was touched; nothing was made of it.
        RefusedError: without consent, or it can't be restored there.
        NotFoundError: there is no such snapshot.
        VerificationError: what came back is not what the archive holds.
    """
    name = into or collection
    if not consent:
        raise _without_consent(name, plan(settings, collection, snapshot, into=into, folder=folder))
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals() as stop:
        origin = find(opened, collection, snapshot, folder or settings.archives, into=into)
        same = {run.id for run in opened.ledger.open_runs() if run.verb == VERB and _restores(run.job, origin, name)}
        resumed, finished = finish_open_runs(opened, stop=stop, only=[name], lock_timeout=lock_timeout)
        if same & {one.run for one in resumed}:
            return UpgradeResult(Plan(VERB, (), ()), tuple(resumed), tuple(finished))
        made, outcomes = perform(
            opened,
            lambda world: _plan(opened, tried(opened, world, name), name, origin, into=into),
            stop=stop,
            lock_timeout=lock_timeout,
            names=[name],
        )
    return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes))


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
        writes: ``refuse`` when anything was written since the restore, or ``discard`` (it stays in the restored one).

    Raises:
        RefusedError: something was written since, or there is nothing to go back to; nothing was changed.
    """

    def make(opened: Session, world: World) -> Plan:
        state = _state(opened, world, collection)
        return plan_undo(state, opened.ledger.moments(collection), writes=writes)

    if dry_run:
        with session(settings, writes=False) as opened:
            return UpgradeResult(make(opened, observe(opened.ledger, opened.store)), (), ())
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals() as stop:
        resumed, finished = finish_open_runs(opened, stop=stop, only=[collection], lock_timeout=lock_timeout)
        if resumed:
            # What was under way may have been this very step; the state says what is left to do.
            state = _state(opened, observe(opened.ledger, opened.store), collection)
            moments = opened.ledger.moments(collection)
            if moments and (moments[-1].physical, moments[-1].strategy) == (state.physical, "undo"):
                return UpgradeResult(Plan(VERB, (), ()), tuple(resumed), tuple(finished))
        made, outcomes = perform(
            opened, lambda world: make(opened, world), stop=stop, lock_timeout=lock_timeout, names=[collection]
        )
    return UpgradeResult(plan=made, resumed=tuple(resumed), outcomes=(*finished, *outcomes))


def find(
    opened: Session, collection: str, snapshot: str | None, folder: Path, *, into: str | None = None
) -> Origin:
    """The snapshot or archive that was meant, with all that a plan needs of it.

    Args:
        snapshot: a name or a path; None for the newest.

    Raises:
        NotFoundError: there is none.
        RefusedError: it is of another collection, or nothing says at which revision it was made.
    """
    for path in () if snapshot is None else (Path(snapshot), folder / snapshot):
        if path.is_file():
            return _of_archive(opened, archive.summary(path), collection, into)
    found = [one for one in entries(opened, folder, collection) if one.collection == collection]
    found.sort(key=lambda one: one.created_at or datetime.min.replace(tzinfo=UTC))
    chosen = found[-1:] if snapshot is None else [one for one in found if one.name == snapshot]
    if not chosen:
        what = f"a snapshot {snapshot!r}" if snapshot else "a snapshot"
        raise NotFoundError(
            f"there is no such thing as {what} of {collection}", hint=f"qmigrate snapshot list '{collection}*'"
        )
    if chosen[0].path is not None:
        return _of_archive(opened, archive.summary(chosen[0].path), collection, into)
    return _of_snapshot(opened, chosen[0])


def _of_archive(opened: Session, found: Summary, collection: str, into: str | None) -> Origin:
    header = found.header
    if header.kind != WHOLE:
        raise RefusedError(f"{found.path.name} holds some points ({header.kind}), not a collection")
    if header.name != collection:
        raise RefusedError(
            f"{found.path.name} is an archive of {header.name}, not of {collection}",
            hint=f"qmigrate snapshot restore {header.name} {found.path} --into {into or collection}",
        )
    facts = header.facts
    declared = CollectionSchema.from_json(facts["declared"]) if facts.get("declared") else header.schema
    revisions = tuple(Known(revision, checksum) for revision, checksum in facts.get("revisions") or ())
    if not revisions and header.ledger == opened.ledger_id:
        # Written by an earlier version, of the identical copy that took the place of a plain collection.
        then = _then(opened, header.name, header.physical, header.created_at)
        if then is not None:
            revisions, declared = tuple(Known(*known) for known in then.applied), then.declared or declared
    # Local mode keeps neither indexes nor settings: there only the record has them.
    schema = declared if facts.get("local") else header.schema
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
        embedders=facts.get("embedders") or {},
        exact=bool(facts.get("local")) == opened.store.capabilities.local,
    )


def _of_snapshot(opened: Session, entry: SnapshotEntry) -> Origin:
    then = _then(opened, entry.collection, entry.physical, entry.created_at)
    if then is None or then.declared is None:
        raise RefusedError(
            f"the ledger does not say at which revision {entry.physical} was when {entry.name} was made",
            hint=f"qmigrate adopt {entry.collection} takes a collection over",
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
    """What was applied to a generation at a time, as far as the history tells it."""
    ledger = opened.ledger
    return moment_of(moments_of(ledger.moments(name), ledger.generations(name), physical), when)


def _plan(opened: Session, world: World, name: str, origin: Origin, *, into: str | None) -> Plan:
    state = _state(opened, world, name)
    if into is not None and state.kind != "absent":
        raise RefusedError(
            f"{into} exists already", hint=f"another name; or over it: qmigrate snapshot restore {into} {origin.name}"
        )
    plain = way_of(world, setting=opened.settings.rebuild.plain_names, allow_gap=False)
    return plan_restore(world, opened.revisions, state, origin, plain=plain)


def tried(opened: Session, world: World, name: str) -> World:
    """The world with what this server does about plain names, where this one is plain."""
    state = world.collections.get(name)
    plain = state is not None and state.kind == "plain" and state.managed
    if not plain or opened.settings.rebuild.plain_names == "gap" or world.capabilities.local:
        return world
    return replace(world, hiding=opened.store.hides_collections())


def _state(opened: Session, world: World, name: str) -> CollectionState:
    """Also of a name that nobody has."""
    return world.collections.get(name) or observe(opened.ledger, opened.store, only=[name]).collections[name]


def _restores(job: Job, origin: Origin, name: str) -> bool:
    wanted = origin.to_json()
    return job.collection == name and any(
        isinstance(step, Build)
        and step.origin is not None
        and all(step.origin[part] == wanted[part] for part in ("kind", "name", "digest"))
        for step in job.steps
    )


def _without_consent(name: str, plan: Plan) -> RefusedError:
    (item,) = plan.collections
    return RefusedError(
        f"restoring {name} needs consent: {'; '.join(item.lines)}",
        hint="--yes does it; --dry-run shows the plan",
        facts={"points": item.points, "lines": list(item.lines)},
    )
