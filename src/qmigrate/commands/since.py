"""Which operations came to a collection since points were deleted from it: an undo goes through them. It runs none."""

from __future__ import annotations

from pathlib import Path

from qmigrate import archive
from qmigrate.commands.session import Session, UserCode
from qmigrate.errors import ArchiveError, RefusedError, RevisionError
from qmigrate.ledger import DeletionRow
from qmigrate.model.plan import OpRef
from qmigrate.model.state import Applied
from qmigrate.planner.members import refs_of
from qmigrate.steps.as_applied import refuse_changed


def refs_since(opened: Session, row: DeletionRow) -> tuple[OpRef, ...]:
    """The operations, in order, that points of a deletion have missed; data fixes among them leave a point as it is.

    None where its file is gone or has nothing about revisions: its reader refuses then, where that matters.

    Raises:
        RefusedError: a revision was rolled back since, was only recorded, has no code, or recreated the collection.
    """
    path = Path(str(row.facts.get("file")))
    try:
        facts = archive.summary(path).header.facts if path.is_file() else {}
    except ArchiveError:
        facts = {}
    known, said = facts.get("applied"), facts.get("by") or {}
    if known is None:
        return ()
    applied = opened.ledger.applied(str(row.collection))
    now = {entry.revision: entry for entry in applied}
    gone = [one for one in known if one not in now]
    if not gone:
        # One of the same name may differ by now: rolled back, rewritten, and applied again.
        gone = [one for one in known if one in said and _is_another(now[one], *said[one])]
    if gone:
        why = f"they date from after revision {gone[-1]}, which was rolled back since"
        raise _refused(row, why, f"apply {gone[-1]} again")
    return tuple(ref for entry in applied if entry.revision not in known for ref in _of(opened, row, entry))


def _is_another(entry: Applied, checksum: str, run: int | None) -> bool:
    """Whether a revision was applied again since, by a file that does something else; accepted words are none."""
    return entry.checksum != checksum and entry.run != run


def _of(opened: Session, row: DeletionRow, entry: Applied) -> list[OpRef]:
    """The operations of one revision that came since."""
    if entry.strategy == "adopt":
        raise _refused(row, f"revision {entry.revision} was only recorded since, so what it did is not known")
    try:
        revision = opened.revisions.get(entry.revision)
    except RevisionError as error:
        why = f"the code of revision {entry.revision}, applied since, is missing: {error.message}"
        raise _refused(row, why) from error
    found = refs_of(revision, str(row.collection), exists=True)
    for _, operation in found:
        if operation.creates or operation.drops:
            raise _refused(row, f"revision {entry.revision} made the collection again: {operation.label()}")
    code = UserCode(opened, opened.settings.for_collection(str(row.collection)))
    why = f"the points of fix {row.id} can't be brought back into {row.collection} by it"
    file = f"the points are in {row.facts.get('file')} (zstd -dc)"
    refuse_changed(code, [ref for ref, _ in found], {entry.revision: entry.checksum}, why, file)
    return [ref for ref, operation in found if operation.edit() is None]


def _refused(row: DeletionRow, why: str, first: str = "write them by hand") -> RefusedError:
    return RefusedError(
        f"the points of fix {row.id} can't be brought back into {row.collection}: {why}",
        hint=f"{first}; the points are in {row.facts.get('file')} (zstd -dc)",
    )
