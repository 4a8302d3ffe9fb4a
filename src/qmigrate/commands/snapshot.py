"""snapshot create, list and delete. Plans do not cover them: they change no point of a collection and no name."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Summary, WholeFacts
from qmigrate.commands.results import SnapshotEntry, Snapshots
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.engine.export import WHOLE, described, export, file_name, header_of, is_ours
from qmigrate.errors import DeniedError, NotFoundError, RefusedError, RepairNeededError, UnavailableError
from qmigrate.ledger import Ledger
from qmigrate.ledger.erasing import Erasing, erasing
from qmigrate.ledger.reader import present
from qmigrate.model.facts.phases import SourceSnapshot
from qmigrate.model.names import is_made, met, met_by_any, old_alias, unknown
from qmigrate.model.origin import ARCHIVE, SNAPSHOT, StoredOrigin
from qmigrate.model.plan import Build, Job
from qmigrate.model.state import CollectionState, Moment, World, marks_of, moments_of
from qmigrate.observe import observe, snapshots_of_runs
from qmigrate.ports import Progress, Silent, Snapshot, Store
from qmigrate.settings.load import Settings
from qmigrate.text import counted, quote
from qmigrate.version import __version__

#: Verb of the run that records a deletion.
DELETE = "snapshot delete"
#: How far the clocks of Qdrant and of the ledger's database may be apart; a server tells whole seconds besides.
CLOCKS_APART = timedelta(minutes=1)
#: How often a collection is read that moves while it is.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class DeletedSnapshots:
    """`snapshot delete`.

    Attributes:
        rows: what was deleted; of a preview, what would be.
        spared: name -> why it was left, though it was chosen.
        preview: nothing was deleted.
    """

    rows: tuple[SnapshotEntry, ...]
    spared: Mapping[str, str]
    preview: bool


def create(
    settings: Settings | None,
    pattern: str,
    *,
    archived: bool = False,
    to: Path | None = None,
    progress: Progress | None = None,
) -> Snapshots:
    """A snapshot of every collection whose logical name matches.

    Args:
        pattern: a glob.
        archived: write an archive instead of a server-side snapshot; local mode always does.
        to: folder of the archives, else ``.qmigrate/snapshots``.

    Raises:
        NotFoundError: nothing matches.
        DeniedError: the key may not make snapshots.
        UnavailableError: an archive can't be written; or each time that it was read the collection was moved, or
            points of it were erased.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, progress=progress) as opened:
        world = observe(opened.ledger, opened.store)
        folder = (to or settings.archives) if archived or world.capabilities.local else None
        return Snapshots(tuple(_made(opened, name, folder) for name in _matching(world, pattern)))


def list_(settings: Settings | None = None, pattern: str = "*", *, folder: Path | None = None) -> Snapshots:
    """Every snapshot and archive of the matching collections, oldest first.

    Args:
        pattern: a glob of logical names.
        folder: of the archives, else ``.qmigrate/snapshots``.

    Raises:
        NotFoundError: no collection matches, and no archive.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, readable=True) as opened:
        found = tuple(entries(opened, folder or settings.archives, pattern))
        if not found:
            _matching(observe(opened.ledger, opened.store), pattern)
        return Snapshots(found, notes=notes_on(opened.problems))


def delete(
    settings: Settings | None = None,
    patterns: Sequence[str] = (),
    *,
    collection: str = "*",
    keep: int | None = None,
    older_than: float | None = None,
    folder: Path | None = None,
    consent: bool = False,
    dry_run: bool = False,
) -> DeletedSnapshots:
    """Delete snapshots and archives; each deletion is recorded as a run of its collection.

    One that an unfinished run has made, or restores, is spared; so is what may be of a collection that another client
    has recreated, an archive of another ledger that is not named exactly, and one of some points that no pattern means.

    Args:
        patterns: globs of snapshot names; none means all.
        collection: a glob of logical names.
        keep: spare the newest `keep` snapshots of each generation and the newest `keep` archives of each collection:
            what goes with its server or its generation doesn't stand in for anything else.
        older_than: spare what is younger, in seconds.
        folder: of the archives, else ``.qmigrate/snapshots``.
        consent: without it nothing is deleted.
        dry_run: only report what would be.

    Raises:
        RefusedError: without consent.
        NotFoundError: no snapshot matches.
    """
    settings = settings or Settings.load()
    with session(settings, writes=not dry_run and consent) as opened:
        found = list(entries(opened, folder or settings.archives, collection))
        if not found:
            _matching(observe(opened.ledger, opened.store), collection)
        foreign = foreign_archives(opened, folder or settings.archives, patterns)
        others = [one for one in found if one.path is not None and one.name in foreign]
        # By the ledger's clock: a host whose own is wrong must not take what was made today for old.
        border = None if older_than is None else present(opened.ledger) - timedelta(seconds=older_than)
        # Each separately: what another ledger has archived doesn't count when ours are chosen.
        mine = [one for one in found if one not in others]
        chosen = [*_chosen(mine, patterns, keep, border), *_chosen(others, patterns, keep, border)]
        if patterns and not chosen and keep is None and older_than is None:
            raise unknown("snapshot", patterns[0], [one.name for one in found])
        needed = {**foreign, **_of_made_again(opened, chosen), **_needed(opened.ledger)}
        spared = {one.name: needed[one.name] for one in chosen if one.name in needed}
        rows = tuple(one for one in chosen if one.name not in spared)
        if dry_run or not rows:
            return DeletedSnapshots(rows, spared, preview=True)
        if not consent:
            raise RefusedError(
                f"{counted(len(rows), 'snapshot')} would be deleted for good: {', '.join(one.name for one in rows)}",
                hint="--yes deletes them; --dry-run shows them",
                facts={"snapshots": [one.name for one in rows]},
            )
        gone: list[SnapshotEntry] = []
        for name, group in groupby(sorted(rows, key=lambda one: one.collection), key=lambda one: one.collection):
            gone += _delete(opened, name, list(group), spared)
        return DeletedSnapshots(tuple(gone), spared, preview=False)


def entries(opened: Session, folder: Path, pattern: str = "*") -> Iterator[SnapshotEntry]:
    """Server-side snapshots of live and kept generations, and archives, of matching collections; oldest first each."""
    world = observe(opened.ledger, opened.store)
    present = frozenset(opened.store.physical_names())
    known = opened.store.aliases()
    stored = archive.summaries(folder)
    # An archive can be of a collection that is gone.
    named = {*world.collections, *(one.header.name for one in stored)}
    chosen = frozenset(met(pattern, named))
    for name, state in sorted(world.collections.items()):
        if name not in chosen:
            continue
        moments = opened.ledger.moments(name)
        for physical in _generations(state, present):
            if not is_reached(opened.store, known, physical):
                # Its name leads to another one, whose snapshots these are not.
                continue
            for made in opened.store.list_snapshots(address(known, physical)):
                yield _of_snapshot(state, moments, physical, made)
    for one in stored:
        if one.header.name in chosen:
            yield of_archive(one)


def is_reached(store: Store, aliases: Mapping[str, str], physical: str) -> bool:
    """Whether a name leads to this collection, and on every node: one that is hidden may have lost its own."""
    return physical not in aliases or (
        aliases.get(old_alias(physical)) == physical and not store.capabilities.several
    )


def address(aliases: Mapping[str, str], physical: str) -> str:
    """The name by which a collection is reached; one that an alias of its own name hides has another alias.

    Raises:
        RepairNeededError: that one is gone, so that every name leads to another collection.
    """
    if physical not in aliases:
        return physical
    behind = old_alias(physical)
    if aliases.get(behind) != physical:
        raise RepairNeededError(
            f"the alias {behind}, the only way to the collection behind the alias {physical}, is gone",
            hint="qmigrate check shows how to recreate it",
        )
    return behind


def moment_of(there: Sequence[Moment], when: datetime | None) -> Moment | None:
    """What was applied to a generation at a time; what it went live with where that is before all.

    A server reports the time of a snapshot in full seconds, so what was recorded within that second counts as before.
    Where that is wrong, the revision in the snapshot's own seal shows it once it is recovered.

    Args:
        there: the moments of the generation.
        when: None for the newest.
    """
    if when is not None and when.microsecond == 0:
        when += timedelta(seconds=1)
    before = [moment for moment in there if when is None or moment.created_at <= when]
    # Revisions that went live together are recorded one after the other, in one transaction.
    together = [moment for moment in there if moment.created_at - there[0].created_at < timedelta(seconds=1)]
    chosen = before or together
    return chosen[-1] if chosen else None


def of_what_served(ledger: Ledger, one: SnapshotEntry) -> bool:
    """Whether an entry is of the generation that had the name when it was made.

    A server keeps snapshots of every collection: also those that a user made of a generation which was being built,
    or had been left.
    """
    when = one.created_at
    if one.kind == ARCHIVE or when is None or (one.physical, one.name) in snapshots_of_runs(ledger, one.collection):
        return True
    moments = ledger.moments(one.collection)
    ends = [*(moment.created_at + CLOCKS_APART for moment in moments[1:]), datetime.max.replace(tzinfo=UTC)]
    return any(
        moment.physical == one.physical and moment.created_at <= when + CLOCKS_APART and when <= end
        for moment, end in zip(moments, ends, strict=False)
    )


def may_be_whole(ledger: Ledger, one: SnapshotEntry) -> bool:
    """Whether its generation has gone live since, or a run knew it to be whole; the seal in it says the rest."""
    early = any(row.physical == one.physical and row.never_served for row in ledger.generations(one.collection))
    return not early or (one.physical, one.name) in snapshots_of_runs(ledger, one.collection)


def of_archive(one: Summary) -> SnapshotEntry:
    """An archive as an entry of the list."""
    header = one.header
    revisions = header.told(WholeFacts).revisions
    return SnapshotEntry(
        header.name,
        header.physical,
        one.path.name,
        one.size,
        one.digest,
        header.created_at,
        kind=ARCHIVE,
        generation=f"g{header.generation:04d}" if header.generation is not None else "plain",
        revision=revisions[-1][0] if revisions else None,
        points=one.points,
        path=one.path,
        whole=header.kind == WHOLE,
    )


def _of_snapshot(
    state: CollectionState, moments: Sequence[Moment], physical: str, made: Snapshot
) -> SnapshotEntry:
    generation = state.generation(physical)
    then = moment_of(moments_of(moments, state.generations, physical), made.created_at)
    return SnapshotEntry(
        state.name,
        physical,
        made.name,
        made.size,
        made.checksum,
        made.created_at,
        generation=f"g{generation.number:04d}" if generation and physical != state.name else "plain",
        revision=then.applied[-1][0] if then and then.applied else None,
        kept_until=generation.held_until if generation and physical != state.physical else None,
    )


def _generations(state: CollectionState, present: frozenset[str]) -> list[str]:
    """Physical names that snapshots can be made of: a server hides those of a collection that is gone."""
    names = [row.physical for row in state.generations if row.state != "gone"]
    if state.physical is not None and state.physical not in names:
        names.append(state.physical)
    return [name for name in names if name in present]


def _matching(world: World, pattern: str) -> list[str]:
    found = [name for name in met(pattern, sorted(world.collections)) if world.collections[name].physical is not None]
    if not found and pattern != "*":
        raise unknown("collection", pattern, world.known)
    return found


class _MovedError(Exception):
    """What was read may be of two collections, or hold what was erased since."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is the same before and behind a reading that is of one collection, at one revision.

    Attributes:
        moments: rows of its history.
        led: where its name leads, and the one by which a collection is reached that it hides.
        erased: how far erasures are.
    """

    moments: int
    led: tuple[str | None, str | None]
    erased: Erasing

    @classmethod
    def of(cls, opened: Session, name: str) -> _Seen:
        known = opened.store.aliases()
        led = (known.get(name), known.get(old_alias(name)))
        return cls(len(opened.ledger.moments(name)), led, erasing(opened.ledger, name))


def _made(opened: Session, name: str, folder: Path | None) -> SnapshotEntry:
    """A snapshot or, with a folder, an archive; no lease keeps upgrades and erasures away while it is made."""
    unfinished = False
    for _ in range(_TRIES):
        # Load-bearing: before the collection is read first. The name of a plain one may lead to the next generation in
        # the middle of reading, and an erasure does not find points in a file that has no name yet.
        before = _Seen.of(opened, name)
        state = observe(opened.ledger, opened.store, only=[name]).collections[name]
        if state.physical is None:
            raise unknown("collection", name, ())

        def whole(before: _Seen = before) -> None:
            nonlocal unfinished
            now = _Seen.of(opened, name)
            unfinished = now.erased.unfinished > 0
            if now != before or (folder is not None and unfinished):
                raise _MovedError

        try:
            return _snapshot(opened, state, whole) if folder is None else _archive(opened, state, folder, whole)
        except NotFoundError:
            if _Seen.of(opened, name) == before:
                raise
        except _MovedError:
            pass
    if unfinished:
        why, hint = f"points of {name} are being erased, and an archive would keep them", "qmigrate status"
    else:
        why, hint = f"{name} was moved each time while it was read", f"qmigrate snapshot create {quote(name)}"
    raise UnavailableError(f"{why}: nothing of it was kept", hint=hint)


def _snapshot(opened: Session, state: CollectionState, whole: Callable[[], None]) -> SnapshotEntry:
    physical = str(state.physical)
    try:
        made = opened.store.create_snapshot(address(opened.store.aliases(), physical))
    except DeniedError as error:
        raise DeniedError(
            error.message, hint="an archive needs no more than the right to read: qmigrate snapshot create --archive"
        ) from error
    # Of what it is the server knows: it is listed there. Only what is said of it here may be wrong.
    whole()
    return _of_snapshot(state, opened.ledger.moments(state.name), physical, made)


def _archive(opened: Session, state: CollectionState, folder: Path, whole: Callable[[], None]) -> SnapshotEntry:
    physical = str(state.physical)
    reached = address(opened.store.aliases(), physical)
    live = described(opened.store, reached)
    can = opened.store.capabilities
    header = header_of(state, live, opened.ledger.moments(state.name), ledger=opened.ledger_id or None, can=can)
    stamp = f"{header.created_at:%Y-%m-%d-%H-%M-%S}-{secrets.token_hex(2)}"
    progress = opened.progress or Silent()
    progress.begin(state.name, "archive", live.points)
    made = export(opened.store, reached, folder / file_name(physical, stamp), header, progress.advance, whole)
    progress.end(f"{counted(made.points, 'point')} in {made.path}")
    return of_archive(made)


def _chosen(
    found: Sequence[SnapshotEntry], patterns: Sequence[str], keep: int | None, border: datetime | None
) -> list[SnapshotEntry]:
    wanted = frozenset(met_by_any(patterns, [one.name for one in found]))
    oldest = datetime.min.replace(tzinfo=UTC)
    newest: Counter[tuple[str, str, str]] = Counter()
    chosen = []
    for one in sorted(found, key=lambda one: one.created_at or oldest, reverse=True):
        # A server's snapshot goes with its generation, so that it doesn't stand in for one of another generation.
        kind = (one.collection, one.kind, one.physical if one.kind == SNAPSHOT else "")
        newest[kind] += one.whole
        if one.name not in wanted if patterns else not one.whole:
            continue
        if keep is not None and one.whole and newest[kind] <= keep:
            continue
        if border is not None and (one.created_at is None or one.created_at > border):
            continue
        chosen.append(one)
    return list(reversed(chosen))


def foreign_archives(opened: Session, folder: Path, named: Sequence[str] = ()) -> dict[str, str]:
    """Name -> why an archive belongs to nothing here: several projects may share a folder, and the names in it."""
    return {
        one.path.name: f"it is of {one.header.name} of another ledger: only its exact name deletes it"
        for one in archive.summaries(folder)
        if not is_ours(one.header, opened.ledger_id) and one.path.name not in named
    }


def _of_made_again(opened: Session, chosen: Sequence[SnapshotEntry]) -> dict[str, str]:
    """Snapshots that may be of a collection which another client has made under the name of one that was left."""
    aliases, found = opened.store.aliases(), dict[str, str]()
    for name in dict.fromkeys(one.collection for one in chosen):
        mine = [one for one in chosen if one.collection == name]
        on_server = {one.physical for one in mine if one.path is None}
        recreated = {
            row.physical
            for row in opened.ledger.generations(name)
            if row.physical in on_server and row.state != "live" and not is_made(row.physical)
            if not marks_of(opened.store.describe(address(aliases, row.physical))).is_of(opened.ledger_id, row.number)
        }
        if recreated:
            of_runs = snapshots_of_runs(opened.ledger, name)
            for one in mine:
                if one.physical in recreated and (one.physical, one.name) not in of_runs:
                    found[one.name] = f"{one.physical} was recreated by another client: it may be of that collection"
    return found


def _needed(ledger: Ledger) -> dict[str, str]:
    """Name -> why an unfinished run needs it."""
    found = {}
    for run in ledger.open_runs():
        if run.verb == DELETE:
            continue
        for position, step in enumerate(run.job.steps):
            noted = run.facts(SourceSnapshot, position)
            made = noted.snapshot or noted.archive
            if made is not None:
                found[made.name] = f"run {run.id} of {run.job.collection} made it and is not finished"
            if isinstance(step, Build) and step.origin is not None:
                found[StoredOrigin.of(step.origin).name] = f"run {run.id} of {run.job.collection} restores it"
    return found


def _delete(
    opened: Session, name: str, rows: Sequence[SnapshotEntry], spared: dict[str, str]
) -> list[SnapshotEntry]:
    """Under the lease, so that no run begins to need one; recorded as a run of its own."""
    gone = []
    limits = opened.settings.limits
    with opened.ledger.hold(name, timeout=limits.lock_timeout, ttl=limits.lease_ttl) as lease:
        needed = _needed(opened.ledger)
        label = opened.store.capabilities.label
        run = lease.open_run(DELETE, Job(name, "", ()), {}, actor=opened.ledger.actor, tool=__version__, server=label)
        lease.journal(run, 0, "delete", "running", {"snapshots": [one.name for one in rows]})
        for one in rows:
            if one.name in needed:
                spared[one.name] = needed[one.name]
                continue
            if one.kind == SNAPSHOT:
                opened.store.delete_snapshot(address(opened.store.aliases(), one.physical), one.name)
            elif one.path is not None:
                one.path.unlink(missing_ok=True)
            gone.append(one)
        lease.journal(run, 0, "delete", "done", {"deleted": [one.name for one in gone]})
        lease.finish_run(run, "done")
    return gone
