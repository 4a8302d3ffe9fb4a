"""Points taken out of what was kept for a way back: journals and samples of earlier fixes, exports, archives.

It reaches what lies in this ledger and in this host's folders; what it finds beyond that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.errors import ArchiveError
from qmigrate.ledger import DeletionRow
from qmigrate.ledger.clock import present
from qmigrate.model.transform import PointId
from qmigrate.steps.erasing.spaces import Ids, Spaces
from qmigrate.steps.erasing.tally import Tally
from qmigrate.steps.export import is_ours
from qmigrate.steps.fixes import sighting
from qmigrate.steps.fixes.journal import journal_name, without
from qmigrate.steps.fixes.removal import DELETED
from qmigrate.steps.work import Work


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
        mine = spaces.of(str(row.facts.get("generation")))
        if mine in ids:
            _clear_journal(work, row, ids[mine], tally)
        else:
            # Its points had other ids, which are unknown by now: it can't be undone either.
            work.lease.drop_base(journal_name(row.facts["run"], row.facts["step"]))
    work.lease.forget_samples(every, tally.adding("samples"))

    def seen(count: int) -> None:
        tally.part("journals", "first look", count)
        tally.note()

    sighting.forget_with(work.lease, every, seen)
    for path, header in _archives(work, rows, beyond):
        _clear_file(work, path, header, (spaces, ids), tally, beyond)
    _others(work, rows, spaces, tally, beyond)
    return beyond


def left_in(work: Work, spaces: Spaces, ids: Ids) -> dict[str, int]:
    """How many of these points are still in files and journals, by place: everything is read once more."""
    found = {"journals": 0, "exports": 0, "archives": 0}
    rows = _fixes(work)
    for row in rows:
        wanted = ids.get(spaces.of(str(row.facts.get("generation"))), set())
        pages = work.lease.ledger.base_pages(journal_name(row.facts["run"], row.facts["step"]))
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
    return [row for row in work.lease.ledger.deletions() if row.collection == work.collection and "run" in row.facts]


def of(row: DeletionRow) -> str:
    """By which name an erasure records an earlier fix."""
    return f"{row.facts['run']}-{row.facts['step']}"


def _clear_journal(work: Work, row: DeletionRow, ids: set[PointId], tally: Tally) -> None:
    """Out of what an earlier fix has written down, pages at a time."""
    fix = of(row) if row.facts.get("undo") == "undo" else None
    gone: list[int] = []

    def change(page: bytes) -> bytes:
        fresh, count = without(page, ids)
        gone.append(count)
        return fresh

    def count(_pages: int) -> None:
        tally.add("journals", sum(gone), fix)
        gone.clear()

    if ids:
        work.lease.rewrite_pages(journal_name(row.facts["run"], row.facts["step"]), change, tally.noted(count))


def _archives(work: Work, rows: list[DeletionRow], beyond: list[str]) -> Iterator[tuple[Path, Header]]:
    """Every archive of this collection in the folders of the settings, or where an earlier fix has put one.

    One of another ledger, in a folder that several projects share, holds other points under the same name.
    """
    told = {*(Path(row.facts["file"]) for row in rows if row.facts.get("file")), *_recorded(work)}
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
                f"{path} is an archive of {header.name} of another ledger, which may need it: it was left as it is; "
                "where it holds the same points, erase them there, or delete it"
            )


def _recorded(work: Work) -> Iterator[Path]:
    """Files that rebuilds have left, wherever the folders of the settings were then."""
    ledger = work.lease.ledger
    for row in ledger.deletions():
        if row.collection == work.collection and row.facts.get("archive"):
            yield Path(row.facts["archive"])
    for one in ledger.history(work.collection):
        place = ((one.report or {}).get("snapshot") or {}).get("place")
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
    facts = archive.summary(path).header.facts
    exported = header.kind == DELETED
    tally.part("exports" if exported else "archives", str(path), int((facts.get(archive.ERASED_BY) or {}).get(by, 0)))
    row, erased = _row_of(path), int(facts.get(archive.ERASED, 0))
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
    gone = {*tally.emptied, *(one for row in rows for one in row.facts.get("emptied", ()))}
    for row in rows:
        file = row.facts.get("file")
        if file and row.created_at > border and of(row) not in gone and not Path(file).is_file():
            beyond.append(f"{file}, the export of fix {row.id}, is not on this host: delete it where it is")
    folder = work.settings.fixes.exports / "snapshots"
    for physical in spaces.rows:
        for one in sorted((folder / physical).glob("*.snapshot")):
            beyond.append(f"{one} is a snapshot as the server wrote it: delete it")
