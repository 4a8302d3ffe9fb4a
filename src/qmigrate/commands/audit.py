"""The audit's old rows into a file, as a step of gc: written, read back, then removed. What is still needed stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from qmigrate.atomic_file import writing
from qmigrate.commands.session import Session
from qmigrate.engine.fixes.journal import journal_of
from qmigrate.engine.fixes.purge import to_follow
from qmigrate.errors import QmigrateError, UnavailableError
from qmigrate.ledger import DeletionRow
from qmigrate.ledger.audit import remove_rows, whole_rows
from qmigrate.model.facts.stored import known
from qmigrate.model.schema import JsonObject


@dataclass(frozen=True, slots=True)
class AuditArchive:
    """Rows of the deletion audit that go into a file, or have gone there.

    Attributes:
        rows: how many.
        before: they are older than this.
        needed: rows as old that stay: something can still be undone, or erased, by them.
        file: where they are; None in a preview.
        sha256: of the file, in hex.
        log: the row of the audit that says so; None in a preview.
        problem: why they could not be archived; they are all there then, or in `file` where that is unknown.
    """

    rows: int
    before: datetime
    needed: int = 0
    file: str | None = None
    sha256: str | None = None
    log: int | None = None
    problem: str | None = None


def due_rows(opened: Session, now: datetime) -> AuditArchive | None:
    """Rows that are older than ``fixes.audit``; None where there are none. It only reads."""
    return _due(opened, now)[0]


def _due(opened: Session, now: datetime) -> tuple[AuditArchive | None, list[DeletionRow]]:
    """What :func:`due_rows` tells, and the rows themselves."""
    kept = opened.settings.fixes.audit
    if kept is None:
        return None, []
    before = now - timedelta(seconds=kept)
    going, needed = _divided(opened, before)
    return (AuditArchive(len(going), before, needed) if going else None), going


def archive_rows(opened: Session, now: datetime) -> AuditArchive | None:
    """Write them into a file of ``fixes.exports``, read that back, and remove them; a failure removes nothing."""
    due, going = _due(opened, now)
    if due is None:
        return None
    rows = whole_rows(opened.ledger, [row.id for row in going])
    name = f"{rows[0]['id']}-{rows[-1]['id']}-{now:%Y%m%dT%H%M%S}.jsonl"
    path = opened.settings.fixes.exports / "audit" / name
    try:
        digest = _written(path, rows)
        facts = {
            "rows": len(rows),
            "first": rows[0]["id"],
            "last": rows[-1]["id"],
            "sha256": digest,
            "before": f"{due.before:%Y-%m-%d %H:%M} UTC",
        }
        log = remove_rows(opened.ledger, rows, str(path), facts)
    except QmigrateError as error:
        if not _are_there(opened, rows):
            # Load-bearing: the answer to a commit can be lost, and the file is then all that is left of them.
            kept = str(path) if path.exists() else None
            return AuditArchive(len(rows), due.before, due.needed, kept, problem=error.message)
        path.unlink(missing_ok=True)
        return AuditArchive(len(rows), due.before, due.needed, problem=error.message)
    return AuditArchive(len(rows), due.before, due.needed, str(path), digest, log)


def _are_there(opened: Session, rows: Sequence[JsonObject]) -> bool:
    """Whether the ledger surely has the rows; not while it doesn't answer."""
    try:
        return len(whole_rows(opened.ledger, [int(row["id"]) for row in rows])) == len(rows)
    except QmigrateError:
        return False


def _written(path: Path, rows: Sequence[JsonObject]) -> str:
    """One row a line, readable by its owner alone; what is on the disk is what the ledger has.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        UnavailableError: it can't be written, or reads otherwise.
    """
    with writing(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=True, allow_nan=False).encode() + b"\n")
    content = path.read_bytes()
    if [json.loads(line) for line in content.splitlines()] != list(rows):
        raise UnavailableError(f"{path} reads otherwise than it was written", hint="is the disk in order?")
    return hashlib.sha256(content).hexdigest()


def _divided(opened: Session, before: datetime) -> tuple[list[DeletionRow], int]:
    """Rows of ours that are old enough and not needed, oldest first; and how many are needed."""
    newest_first = opened.ledger.deletions()
    follow = {row.id for row in to_follow(newest_first)}
    going, needed = list[DeletionRow](), 0
    blocked: set[str] = set()
    for row in reversed(newest_first):
        # What an application wrote into this table is not ours to remove.
        if row.collection is None or row.created_at >= before:
            continue
        # What came later of a collection may say of an earlier row that it was undone, or of points that they are gone.
        if row.collection in blocked or _is_needed(opened, row, follow):
            blocked.add(row.collection)
            needed += 1
        else:
            going.append(row)
    return going, needed


def _is_needed(opened: Session, row: DeletionRow, follow: Collection[int]) -> bool:
    """Whether an undo, an erasure or a purge finds something by it."""
    told = row.told
    files = [known(told.file), told.archive]
    left = told.left_in is not None and any(
        one.physical == told.left_in and one.state != "gone" for one in opened.ledger.generations(str(row.collection))
    )
    journal = told.run is not None and opened.ledger.has_base(journal_of(told))
    return row.id in follow or left or journal or any(one is not None and Path(one).exists() for one in files)
