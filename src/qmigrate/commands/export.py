"""export show: what a fix has taken away or changed, read from its file or from the ledger. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qmigrate import archive
from qmigrate.commands.session import opened_ledger
from qmigrate.engine.fixes.erase.selection import ERASURE
from qmigrate.engine.fixes.journal import journal_of, windows
from qmigrate.errors import RefusedError
from qmigrate.ledger import DeletionRow, Ledger
from qmigrate.model.facts.stored import known
from qmigrate.model.fix import PointEdit
from qmigrate.model.names import unknown
from qmigrate.model.schema import JsonObject
from qmigrate.settings.load import Settings
from qmigrate.store import records

#: Where the points of a fix are: in a file, or only what was written down before the first change.
FILE, LEDGER = "file", "ledger"


@dataclass(frozen=True, slots=True)
class Exported:
    """An export, or what the ledger keeps of a fix.

    Attributes:
        source: :data:`FILE` or :data:`LEDGER`.
        path: the file; None where there is none.
        kind: what the points were taken for, or the type of the fix in the audit.
        collection: logical name.
        generation: the collection that they were in.
        points: how many there are; None where that shows only at the end.
        created_at: when.
        log: the fix in the audit, where one was named.
        reason: of the fix.
        entries: one object per point: ``id`` and, from a file, ``payload`` and ``vectors``; of a payload fix in the
            ledger ``before`` and ``after``.
    """

    source: str
    path: str | None
    kind: str
    collection: str
    generation: str | None
    points: int | None
    created_at: datetime
    log: int | None
    reason: str | None
    entries: Iterable[JsonObject]


@contextmanager
def show(
    settings: Settings | None, what: str | Path | int, *, ids: bool = False, vectors: bool = False
) -> Iterator[Exported]:
    """Read an export while the block runs; memory for some points at a time.

    Args:
        what: the file of an export, an archive or what else qmigrate has written; or the number of a fix in the audit.
        ids: only the ids.
        vectors: vectors, too.

    Raises:
        UnknownNameError: there is no such file, or no such fix.
        RefusedError: the fix has kept nothing that could be shown.
        ArchiveError: the file is damaged; what came before the damage is complete.
    """
    settings = settings or Settings.load()
    if isinstance(what, int):
        with opened_ledger(settings) as ledger:
            yield _of_fix(settings, ledger, what, ids=ids, vectors=vectors)
        return
    path = Path(what)
    if not path.is_file():
        raise unknown("file", str(path))
    yield _of_file(path, None, ids=ids, vectors=vectors)


def _of_file(path: Path, row: DeletionRow | None, *, ids: bool, vectors: bool) -> Exported:
    found = archive.summary(path)
    header = found.header
    return Exported(
        source=FILE,
        path=str(path),
        kind=header.kind if row is None else row.kind,
        collection=header.name,
        generation=header.physical,
        points=found.points,
        created_at=header.created_at,
        log=row.id if row is not None else None,
        reason=row.reason if row is not None else None,
        entries=(_point(one, ids=ids, vectors=vectors) for one in archive.read(path)),
    )


def _of_fix(settings: Settings, ledger: Ledger, log: int, *, ids: bool, vectors: bool) -> Exported:
    row = ledger.deletion(log)
    if row is None or row.collection is None:
        raise unknown("fix", log, of=" in the audit")
    told = row.told
    file = known(told.file) or told.archive
    # An export may have been moved together with its folder.
    places = [Path(file), settings.fixes.exports / Path(file).name] if file else []
    path = next((one for one in places if one.is_file()), None)
    if path is not None:
        return _of_file(path, row, ids=ids, vectors=vectors)
    name = journal_of(told) if told.run is not None and told.step is not None else ""
    if row.kind == ERASURE or not name or not ledger.has_base(name):
        raise RefusedError(
            f"fix {log} ({row.kind}) has kept no ids that could be shown" + (f": {file} is not there" if file else ""),
            hint="erasures keep none; others keep theirs for fixes.undo; qmigrate history --deletions shows the counts",
        )
    return Exported(
        source=LEDGER,
        path=None,
        kind=row.kind,
        collection=row.collection,
        generation=told.generation,
        points=None,
        created_at=row.created_at,
        log=row.id,
        reason=row.reason,
        entries=(_entry(one, ids=ids) for some in windows(ledger, name) for one in some),
    )


def _point(one: archive.Archived, *, ids: bool, vectors: bool) -> JsonObject:
    if ids:
        return {"id": one.id}
    payload = records.payload_of(one.stored)
    more: dict[str, Any] = {"vectors": records.vectors_of(one.stored)} if vectors else {}
    return {"id": one.id, "payload": payload, **more}


def _entry(one: PointEdit, *, ids: bool) -> JsonObject:
    # Of a deletion only a digest was kept.
    if ids or not one.after:
        return {"id": one.id}
    return {"id": one.id, "before": one.before, "after": one.after}
