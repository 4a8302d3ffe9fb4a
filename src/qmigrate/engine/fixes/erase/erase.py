"""An erasure: points deleted from everything that could bring them back, and written down before the first goes.

It writes no value of a point anywhere: what it has found is ids and digests, and the ids stay in ``qdrant_erasures``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.engine.approval import need_approval
from qmigrate.engine.closing import close_edit
from qmigrate.engine.epoch_aliases import is_same, own, reach, revoke_earlier
from qmigrate.engine.export import is_ours
from qmigrate.engine.fixes import first_look
from qmigrate.engine.fixes.delete import DELETED
from qmigrate.engine.fixes.erase import generations
from qmigrate.engine.fixes.erase.generations import Tally
from qmigrate.engine.fixes.erase.selection import Erasure
from qmigrate.engine.fixes.journal import journal_name, journal_of, windows, without, write
from qmigrate.engine.fixes.protocol import FixSource, check_cap, consented
from qmigrate.engine.points.id_spaces import Ids, Spaces
from qmigrate.engine.throttle import Throttle, waiting
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import (
    ArchiveError,
    DeniedError,
    RefusedError,
    RepairNeededError,
    UnavailableError,
    UsageError,
    VerificationError,
)
from qmigrate.ledger import DeletionRow
from qmigrate.ledger.reader import present
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import EraseEdit
from qmigrate.model.facts.fixes import Copies, EraseChange, EraseSelect, EraseVerify, Forget, Holding, Intend
from qmigrate.model.facts.phases import Closed, Facts, SourceSnapshot
from qmigrate.model.facts.stored import known, learned, loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.origin import StoredOrigin
from qmigrate.model.plan import Build, Erase, Job, Step
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.sequences import parts
from qmigrate.store import records
from qmigrate.text import counted


def clear(work: Work, spaces: Spaces, ids: Ids, tally: Tally) -> list[str]:
    """Take the points out of everything that can be reached; may be repeated.

    Args:
        tally: counts them.

    Returns:
        What may hold them and could not be changed, each with what to do about it.
    """
    rows, beyond = _fixes(work), list[str]()
    every = {one for known in ids.values() for one in known}
    for row in rows:
        mine = spaces.of(str(row.told.generation))
        if mine in ids:
            _clear_journal(work, row, ids[mine], tally)
        else:
            # Its points had other ids, which are unknown by now: it can't be undone either.
            work.lease.drop_base(journal_of(row.told))
    work.lease.forget_samples(every, tally.adding("samples"))
    work.lease.forget_in_jobs(every)
    work.lease.forget_asked(work.run, every)

    def seen(count: int) -> None:
        tally.part("journals", "first look", count)
        tally.note()

    first_look.forget_with(work.lease, every, seen)
    for path, header in _archives(work, rows, beyond):
        _clear_file(work, path, header, (spaces, ids), tally, beyond)
    _others(work, rows, spaces, tally, beyond)
    return beyond


def left_in(work: Work, spaces: Spaces, ids: Ids) -> dict[str, int]:
    """How many of these points are still in files and journals, by place: everything is read once more."""
    found = {"journals": 0, "exports": 0, "archives": 0}
    rows = _fixes(work)
    for row in rows:
        wanted = ids.get(spaces.of(str(row.told.generation)), set())
        pages = work.lease.ledger.base_pages(journal_of(row.told))
        found["journals"] += sum(without(page, wanted)[1] for page in pages)
    for path, header in _archives(work, rows, []):
        wanted = _meant(header, spaces, ids)
        # One that is damaged was reported, and is not used.
        with suppress(ArchiveError):
            for one in archive.read(path) if wanted else ():
                found["exports" if header.kind == DELETED else "archives"] += one.id in wanted
        work.tick()
    return found


def _fixes(work: Work) -> list[DeletionRow]:
    rows = work.lease.ledger.deletions()
    return [row for row in rows if row.collection == work.collection and row.told.run is not None]


def of(row: DeletionRow) -> str:
    """By which name an erasure records an earlier fix."""
    return str(row.told.fix)


def _clear_journal(work: Work, row: DeletionRow, ids: set[PointId], tally: Tally) -> None:
    """Out of what an earlier fix has written down, pages at a time."""
    fix = of(row) if row.told.undo == "undo" else None
    gone: list[int] = []

    def change(page: bytes) -> bytes:
        fresh, count = without(page, ids)
        gone.append(count)
        return fresh

    def count(_pages: int) -> None:
        tally.add("journals", sum(gone), fix)
        gone.clear()

    if ids:
        work.lease.rewrite_pages(journal_of(row.told), change, tally.noted(count))


def _archives(work: Work, rows: list[DeletionRow], beyond: list[str]) -> Iterator[tuple[Path, Header]]:
    """Every archive of this collection in the folders of the settings, or where an earlier fix has put one.

    One of another ledger, in a folder that several projects share, holds other points under the same name.
    """
    told = {*(Path(file) for row in rows if (file := known(row.told.file))), *_recorded(work)}
    folders = (work.settings.fixes.exports, work.settings.archives)
    for path in sorted({*(one for folder in folders for one in folder.glob(f"*{archive.SUFFIX}")), *told}):
        if not path.is_file():
            continue
        try:
            header = archive.summary(path).header
        except ArchiveError as error:
            if path in told or path.name.startswith(work.collection):
                beyond.append(f"{path} can't be read ({error.message}): delete it")
            continue
        if header.name != work.collection:
            continue
        if is_ours(header, work.ledger_id):
            yield path, header
        else:
            beyond.append(
                f"{path} is an archive of {header.name} of another ledger, which may need it: it was left unchanged; "
                "where it holds the same points, erase them there, or delete it"
            )


def _recorded(work: Work) -> Iterator[Path]:
    """Files that rebuilds have left, wherever the folders of the settings were then."""
    ledger = work.lease.ledger
    for row in ledger.deletions():
        if row.collection == work.collection and row.told.archive:
            yield Path(row.told.archive)
    for one in ledger.history(work.collection):
        copy = one.told.snapshot
        place = known(copy.place) if copy is not None else None
        if place:
            yield Path(place)


def _clear_file(
    work: Work, path: Path, header: Header, known: tuple[Spaces, Ids], tally: Tally, beyond: list[str]
) -> None:
    spaces, ids = known
    if header.physical in spaces.rows and spaces.of(header.physical) not in ids:
        beyond.append(
            f"{path} has ids from before a Rekey whose generation is gone, so it is unknown whether it has "
            "them: delete it"
        )
        return
    # Counted in the file, too, by this name: an attempt that was killed behind it loses no count.
    wanted, by = _meant(header, spaces, ids), f"{work.run}-{work.step}"
    try:
        _, left = archive.without(path, wanted, work.tick, by=by) if wanted else (0, 1)
    except ArchiveError as error:
        beyond.append(f"{path} can't be read ({error.message}): delete it")
        return
    facts = archive.summary(path).header.told(archive.ErasedFacts)
    exported = header.kind == DELETED
    tally.part("exports" if exported else "archives", str(path), facts.erased_by.get(by, 0))
    row, erased = _row_of(path), facts.erased
    if not exported:
        return
    if row is not None and erased:
        tally.fixes[row] = erased
    if not left:
        if row is not None and row not in tally.emptied:
            tally.emptied.append(row)
        # With the file goes its content.
        tally.note()
        path.unlink()


def _row_of(path: Path) -> str | None:
    """``run-step`` out of the name that an export has."""
    stem = path.name.removesuffix(archive.SUFFIX)
    _, mark, row = stem.rpartition("-run")
    return row if mark else None


def _meant(header: Header, spaces: Spaces, ids: Ids) -> set[PointId]:
    """Which ids mean the points in an archive; of an unknown generation, those of any time."""
    if header.physical in spaces.rows:
        return ids.get(spaces.of(header.physical), set())
    return {one for known in ids.values() for one in known}


def _others(
    work: Work, rows: list[DeletionRow], spaces: Spaces, tally: Tally, beyond: list[str]
) -> None:
    """Files that are known and can't be changed: of another host, or a server's own format."""
    border = present(work.lease.ledger) - timedelta(seconds=work.settings.fixes.undo)
    gone = {*tally.emptied, *(one for row in rows for one in row.told.emptied or ())}
    for row in rows:
        file = known(row.told.file)
        if file and row.created_at > border and of(row) not in gone and not Path(file).is_file():
            beyond.append(f"{file}, the export of fix {row.id}, is not on this host: delete it where it is")
    names = work.store.physical_names()
    for left in spaces.rows.values():
        if left.state == "retired" and left.physical in names and not is_same(work, left.physical):
            beyond.append(
                f"{left.physical} was deleted and recreated by another client, or has lost its seal, and was left "
                "unchanged: where it holds the same points, delete them there"
            )
    folder = work.settings.fixes.exports / "snapshots"
    for physical in spaces.rows:
        for one in sorted((folder / physical).glob("*.snapshot")):
            beyond.append(f"{one} is a snapshot as the server wrote it: delete it")


#: What the history keeps of an erasure.
_REPORTED: tuple[type[Facts], ...] = (EraseSelect, EraseChange, Copies, EraseVerify)
#: What becomes of them.
LISTED, REPLACED = "list", "replace"


def handle(work: Work, live: str, present: Mapping[str, str], how: str) -> Copies:
    """Every snapshot that was there before this phase; with ``replace`` a fresh one of the live generation takes over.

    One that an unfinished run needs is left, and reported. May be repeated: what is deleted is reported first.

    Returns:
        These, the fresh one, and why they could not be looked for.

    Raises:
        DeniedError: the key may not list them, and they were to be replaced.
    """
    if not work.store.capabilities.snapshots:
        return Copies((), None, None)
    try:
        found = tuple(entry for physical in present for entry in _of(work, physical))
    except DeniedError as error:
        if how == REPLACED:
            raise
        return Copies((), None, error.message)
    known = work.facts(Copies)
    if known.holding is None:
        known = replace(known, holding=found)
        work.note(known)
    holding = list(known.holding or ())
    if how != REPLACED or not holding:
        return Copies(tuple(holding), None, None)
    made = _fresh(work, live, {entry.name for entry in holding if entry.collection == live})
    needed = _needed(work)
    for place, entry in enumerate(holding):
        if entry.name not in needed and not entry.deleted:
            work.store.delete_snapshot(own(work, entry.collection), entry.name)
            holding[place] = replace(entry, deleted=True)
            work.note(replace(known, holding=tuple(holding)))
            work.tick()
    return Copies(tuple(holding), made, None)


def _of(work: Work, physical: str) -> list[Holding]:
    return [
        Holding(physical, made.name, made.created_at.isoformat() if made.created_at else None, deleted=False)
        for made in work.store.list_snapshots(reach(work, physical))
    ]


def _fresh(work: Work, live: str, before: set[str]) -> str:
    """The new snapshot; one that an interrupted try has made is taken."""
    address = reach(work, live)
    found = [made.name for made in work.store.list_snapshots(address) if made.name not in before]
    if found:
        return found[-1]
    work.progress.say(f"{work.collection}: making a snapshot without what was erased")
    return work.store.create_snapshot(address).name


def _needed(work: Work) -> set[str]:
    """Names of those that an unfinished run has made or restores."""
    names: set[str] = set()
    for run in work.lease.ledger.open_runs():
        made = (run.facts(SourceSnapshot, step).snapshot for step in range(len(run.job.steps)))
        names |= {one.name for one in made if one is not None}
        builds = (step for step in run.job.steps if isinstance(step, Build) and step.origin)
        names |= {StoredOrigin.of(build.origin).name for build in builds}
    return names


#: Ids behind which is noted how far it came.
_PORTION = 500
#: What an edit has about the points, which would name a person: it goes when the run is over.
_NAMES = ("ids", "filter", "prefix", "sql")


def select(step: Erase, work: Work) -> EraseSelect:
    """Only reads Qdrant and the application's SQL: which ids are meant is written into the ledger.

    Raises:
        RefusedError: more would go than was agreed to.
    """
    if work.store.describe(reach(work, step.target)) is None:
        raise RepairNeededError(f"{step.target}, which serves {work.collection}, is not in Qdrant any more")
    work.progress.begin(work.collection, "select", None)
    found, erasure = Found(), _erasure(step, work)
    try:
        write(work.lease, _journal(work), _counted(work, step, erasure, found))
    except (RefusedError, UsageError, UnavailableError, VerificationError):
        # It ends here, and its job must no longer name whom it was about.
        work.lease.amend_run(work.run, _nameless_job(work))
        raise
    spaces = {physical: erasure.spaces.of(physical) for physical in erasure.present}
    work.progress.end(f"{counted(found.changes, 'id')} to erase")
    more = EraseSelect(there=erasure.there, spaces=spaces)
    points, changes, counts = found.points, found.changes, dict(found.counts)
    return replace(more, points=points, changes=changes, counts=counts, sample=tuple(found.sample))


def _counted(work: Work, step: Erase, erasure: Erasure, found: Found) -> Iterator[PointEdit]:
    today = erasure.spaces.of(step.target)
    for entry in erasure.find(found):
        found.changes += 1
        if found.changes % 500 == 0:
            work.tick()
        yield PointEdit(entry.id, {**entry.before, "space": today}, {})
    check_cap(work.collection, found, erasure.share(), _said(step).expect, consented(step.edit, work.collection))
    need_approval(work, found.changes, found.points)
    for space, ids in sorted(erasure.ids.items()):
        for identifier in sorted(ids, key=records.order_key) if space != today else ():
            yield PointEdit(identifier, {"space": space}, {})


def intend(step: Erase, work: Work) -> Intend:
    """Written down before the first point goes: from here on no old copy brings one back."""
    meant: dict[PointId, set[int]] = {}
    for space, ids in _ids(work).items():
        for identifier in ids:
            meant.setdefault(identifier, set()).add(space)
    if meant:
        work.lease.intend_erasures(work.run, meant, step.reason)
    return Intend(len(meant))


def change(step: Erase, work: Work) -> EraseChange:
    """Delete them from every generation that is there, the one that serves first."""
    there = work.facts(EraseSelect).there
    if not _anything(work):
        return EraseChange(0, 0, 0)
    erasure, ids = _erasure(step, work), _ids(work)
    revoke_earlier(work, list(erasure.present))
    # What was accepted before, and waits to be done, is erased as well.
    work.store.flush(reach(work, step.target))
    throttle = Throttle(_said(step).max_rate, pause=waiting(work.tick))
    work.progress.begin(work.collection, "erase", sum(there.values()))
    for physical in erasure.present:
        mine = ids.get(erasure.spaces.of(physical), set())
        if physical == step.target:
            _delete_live(work, physical, mine, throttle)
        else:
            generations.delete(work, physical, mine, throttle)
    work.progress.end(f"{counted(sum(there.values()), 'point')} of {counted(len(there), 'generation')}")
    # Counted when they were selected: what an interrupted try has deleted isn't there to be counted any more.
    return EraseChange(there.get(step.target, 0), 0, 0, there)


def _delete_live(work: Work, physical: str, ids: set[PointId], throttle: Throttle) -> None:
    """Delete points of what serves; of those that an earlier attempt has deleted only what is still the very point.

    It may have been interrupted long ago, and the application may have written a point again since.
    """
    ordered, before = sorted(ids, key=records.order_key), work.facts(EraseChange)
    through = len(ordered) if before.changed is not None else before.through or 0
    generations.delete(work, physical, _unchanged(work, set(ordered[:through])), throttle)
    for part in parts(iter(ordered[through:]), _PORTION):
        generations.delete(work, physical, part, throttle)
        through += len(part)
        if through < len(ordered):
            work.note(replace(before, through=through))


def forget(step: Erase, work: Work) -> Forget:
    """Take them out of what qmigrate has kept of them: bases, quarantine, journals, samples, exports, archives."""
    if not _anything(work):
        return Forget()
    spaces, ids, tally = _erasure(step, work).spaces, _ids(work), Tally.of(work)
    generations.drop_records(work, spaces, ids, tally)
    beyond = clear(work, spaces, ids, tally)
    known = tally.so_far()
    return Forget(known, tally.counts, known.fixes, known.emptied, tuple(beyond))


def copies(step: Erase, work: Work) -> Copies:
    """Report which snapshots may hold them, or replace these by one that doesn't."""
    if not _anything(work):
        return Copies()
    return handle(work, step.target, _erasure(step, work).present, _said(step).snapshots)


def verify(step: Erase, work: Work) -> EraseVerify:
    """Check every place again.

    Raises:
        VerificationError: a point is still where it was.
    """
    if not _anything(work):
        return EraseVerify()
    erasure, ids = _erasure(step, work), _ids(work)
    work.progress.begin(work.collection, "verify", None)
    work.store.flush(reach(work, step.target))
    again = 0
    for physical in erasure.present:
        mine = ids.get(erasure.spaces.of(physical), set())
        left = generations.still_there(work, physical, mine)
        if physical == step.target:
            again = len(left)
            left = _unchanged(work, left)
            again -= len(left)
        generations.check_gone(physical, left)
    found = {**left_in(work, erasure.spaces, ids), **generations.left_in(work, erasure.spaces, ids)}
    if any(found.values()):
        told = ", ".join(f"{count:,} in {name}" for name, count in found.items() if count)
        raise VerificationError(
            f"points of {work.collection} that are to be erased are still kept: {told}",
            hint="run the same command again; it continues from here",
        )
    work.progress.end("gone everywhere")
    return EraseVerify(len(ids[erasure.spaces.of(step.target)]) - again, again, found)


def close(step: Erase, work: Work) -> Closed:
    """Everything recorded, without a value of a point and without what they were selected by."""
    erasure = _erasure(step, work)
    generations.drop_aliases(work, erasure.present)
    found, cleared = work.facts(EraseSelect), work.facts(Forget)
    fixed = None
    if found.changes:
        work.lease.settle_erasures(work.run)
        fixed = erasure.audit(
            Audited(
                work.run,
                work.step,
                step.target,
                changed=work.facts(EraseChange).changed or 0,
                undo=None,
                ids=found.changes,
                generations=found.there,
                kept=cleared.counts or {},
                fixes=cleared.fixes or {},
                emptied=cleared.emptied or (),
                written_again=work.facts(EraseVerify).written_again or 0,
            )
        )
    work.lease.drop_base(_journal(work))
    report = {kind.phase: learned(work.facts(kind)) for kind in _REPORTED}
    report[Forget.phase] = learned(replace(cleared, tally=None))
    return Closed(close_edit(work, step, fixed, report, _nameless_job(work)))


def _nameless_job(work: Work) -> Job:
    """What stays of the job once it is over."""
    return replace(work.job, steps=tuple(map(_nameless, work.job.steps)))


def _nameless(step: Step) -> Step:
    """A step that doesn't say any more whom it was about."""
    if not isinstance(step, Erase):
        return step
    return replace(step, edit={name: value for name, value in step.edit.items() if name not in _NAMES})


def _erasure(step: Erase, work: Work) -> Erasure:
    address, ledger = reach(work, step.target), work.lease.ledger
    place = FixSource(work.collection, address, work.store, ledger, work.settings, work.tick, work.code)
    return Erasure(place, step.edit)


def _said(step: Erase) -> EraseEdit:
    return loaded(EraseEdit, step.edit)


def _anything(work: Work) -> bool:
    return bool(work.facts(EraseSelect).changes)


def _ids(work: Work) -> dict[int, set[PointId]]:
    """What was selected, by id space."""
    found: dict[int, set[PointId]] = {one: set() for one in work.facts(EraseSelect).spaces.values()}
    for entries in windows(work.lease.ledger, _journal(work)):
        for entry in entries:
            found.setdefault(entry.space, set()).add(entry.id)
    return found


def _unchanged(work: Work, ids: set[PointId]) -> set[PointId]:
    """Those that are the very points that were found; others were written again by the application since."""
    before = {
        entry.id: entry.digest
        for entries in windows(work.lease.ledger, _journal(work))
        for entry in entries
        if entry.id in ids and entry.digest is not None
    }
    found = set()
    step, key = work.job.steps[work.step], work.lease.ledger.own_key()
    if before:
        # What was accepted may not be there to be read yet.
        work.store.flush(reach(work, str(step.target)))
    for part in parts(iter(sorted(before, key=records.order_key))):
        points: list[Stored] = work.store.fetch(reach(work, str(step.target)), part)
        found |= {
            records.point_id(stored)
            for stored in points
            if records.has_digest(stored, before[records.point_id(stored)], key)
        }
    return found


def _journal(work: Work) -> str:
    return journal_name(work.run, work.step)


PHASES = (
    Phase(EraseSelect, select),
    Phase(Intend, intend),
    # Both again after an interruption: verify may have found what was left.
    Phase(EraseChange, change, volatile=True),
    Phase(Forget, forget, volatile=True),
    Phase(Copies, copies),
    Phase(EraseVerify, verify),
    Phase(Closed, close),
)
