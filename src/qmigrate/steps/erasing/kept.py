"""Points taken out of what was kept for a way back: journals and samples of earlier fixes, exports, archives.

It reaches what lies in this ledger and in this host's folders; what it knows of beyond that it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.errors import ArchiveError
from qmigrate.ledger import DeletionRow
from qmigrate.model.transform import PointId
from qmigrate.steps.erasing.spaces import Ids, Spaces
from qmigrate.steps.fixes import sighting
from qmigrate.steps.fixes.journal import journal_name, without
from qmigrate.steps.fixes.removal import DELETED
from qmigrate.steps.work import Facts, Work


@dataclass(slots=True)
class Kept:
    """What was found outside of Qdrant.

    Attributes:
        counts: points that were taken out, by place.
        fixes: by earlier fix (``run-step``), how many points it can't give back any more.
        emptied: earlier fixes whose export held nothing else, and is gone.
        beyond: what may hold them and could not be changed, each with what to do about it.
    """

    counts: dict[str, int] = field(default_factory=lambda: {"journals": 0, "samples": 0, "exports": 0, "archives": 0})
    fixes: dict[str, int] = field(default_factory=dict)
    emptied: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)

    def add(self, place: str, count: int, row: str | None = None) -> None:
        """Count what was taken out of one place, perhaps of one fix."""
        self.counts[place] += count
        if row is not None and count:
            self.fixes[row] = self.fixes.get(row, 0) + count

    def to_json(self) -> Facts:
        """Facts."""
        return {
            "counts": dict(self.counts),
            "fixes": dict(self.fixes),
            "emptied": list(self.emptied),
            "beyond": list(self.beyond),
        }


def clear(work: Work, spaces: Spaces, ids: Ids) -> Kept:
    """Take the points out of everything that can be reached; may be repeated."""
    kept = Kept()
    rows = _fixes(work)
    for row in rows:
        mine = spaces.of(str(row.facts.get("generation")))
        if mine in ids:
            gone = _journal(work, row, ids[mine])
            kept.add("journals", gone, of(row) if row.facts.get("undo") == "undo" else None)
        else:
            # Its points had other ids, and nobody knows which any more: it can't be undone either.
            work.lease.drop_base(journal_name(row.facts["run"], row.facts["step"]))
    kept.add("samples", work.lease.forget_samples({one for known in ids.values() for one in known}))
    kept.add("journals", sighting.forget_with(work.lease, {one for known in ids.values() for one in known}))
    for path, header in _archives(work, rows, kept):
        _clear_file(work, path, header, (spaces, ids), kept)
    _others(work, rows, spaces, kept)
    return kept


def left_in(work: Work, spaces: Spaces, ids: Ids) -> dict[str, int]:
    """How many of these points are still in files and journals, by place: everything is read once more."""
    found = {"journals": 0, "exports": 0, "archives": 0}
    rows = _fixes(work)
    for row in rows:
        wanted = ids.get(spaces.of(str(row.facts.get("generation"))), set())
        pages = work.lease.ledger.base_pages(journal_name(row.facts["run"], row.facts["step"]))
        found["journals"] += sum(without(page, wanted)[1] for page in pages)
    for path, header in _archives(work, rows, Kept()):
        wanted = _meant(header, spaces, ids)
        # One that is damaged was told of, and is used by nobody.
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


def _journal(work: Work, row: DeletionRow, ids: set[PointId]) -> int:
    gone = 0

    def change(page: bytes) -> bytes:
        nonlocal gone
        fresh, count = without(page, ids)
        gone += count
        return fresh

    if ids:
        work.lease.rewrite_pages(journal_name(row.facts["run"], row.facts["step"]), change)
    return gone


def _archives(work: Work, rows: list[DeletionRow], kept: Kept) -> Iterator[tuple[Path, Header]]:
    """Every archive of this collection in the folders of the settings, or where an earlier fix has put one."""
    told = {Path(row.facts["file"]) for row in rows if row.facts.get("file")}
    folders = (work.settings.fixes.exports, work.settings.archives)
    for path in sorted({*(one for folder in folders for one in folder.glob(f"*{archive.SUFFIX}")), *told}):
        if not path.is_file():
            continue
        try:
            header = archive.summary(path).header
        except ArchiveError as error:
            if path in told or path.name.startswith(work.collection):
                kept.beyond.append(f"{path} can't be read ({error.message}): delete it")
            continue
        if header.name == work.collection:
            yield path, header


def _clear_file(work: Work, path: Path, header: Header, known: tuple[Spaces, Ids], kept: Kept) -> None:
    spaces, ids = known
    if header.physical in spaces.rows and spaces.of(header.physical) not in ids:
        kept.beyond.append(
            f"{path} has the ids of before a Rekey whose generation is gone, so it can't be told whether it holds "
            "them: delete it"
        )
        return
    wanted = _meant(header, spaces, ids)
    try:
        gone, left = archive.without(path, wanted, work.tick) if wanted else (0, 1)
    except ArchiveError as error:
        kept.beyond.append(f"{path} can't be read ({error.message}): delete it")
        return
    if header.kind != DELETED:
        kept.add("archives", gone)
        return
    # Counted in the file too, so that an interrupted try loses no count.
    erased = int(archive.summary(path).header.facts.get(archive.ERASED, 0))
    row = _row_of(path)
    kept.add("exports", gone if left else erased, None)
    if row is not None and erased:
        kept.fixes[row] = erased
    if not left:
        kept.emptied += [row] if row is not None else []
        path.unlink()


def _row_of(path: Path) -> str | None:
    """``run-step`` out of the name that an export has."""
    stem = path.name.removesuffix(archive.SUFFIX)
    _, mark, row = stem.rpartition("-run")
    return row if mark else None


def _meant(header: Header, spaces: Spaces, ids: Ids) -> set[PointId]:
    """Which ids mean the points in an archive; of a generation that nobody knows, those of any time."""
    if header.physical in spaces.rows:
        return ids.get(spaces.of(header.physical), set())
    return {one for known in ids.values() for one in known}


def _others(work: Work, rows: list[DeletionRow], spaces: Spaces, kept: Kept) -> None:
    """Files that are known and can't be changed: of another host, or a server's own format."""
    border = datetime.now(UTC) - timedelta(seconds=work.settings.fixes.undo)
    gone = {*kept.emptied, *(one for row in rows for one in row.facts.get("emptied", ()))}
    for row in rows:
        file = row.facts.get("file")
        if file and row.created_at > border and of(row) not in gone and not Path(file).is_file():
            kept.beyond.append(f"{file}, the export of fix {row.id}, is not on this host: delete it where it is")
    folder = work.settings.fixes.exports / "snapshots"
    for physical in spaces.rows:
        for one in sorted((folder / physical).glob("*.snapshot")):
            kept.beyond.append(f"{one} is a snapshot as the server wrote it: delete it")
