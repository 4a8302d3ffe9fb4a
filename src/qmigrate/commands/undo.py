"""Which fix is undone, what with, and through what came since. It runs nothing."""

from __future__ import annotations

from pathlib import Path

from qmigrate import archive
from qmigrate.archive import DeletedFacts
from qmigrate.commands.session import Session, UserCode
from qmigrate.engine.as_applied import refuse_changed
from qmigrate.engine.fixes.erase.selection import ERASURE
from qmigrate.engine.fixes.undo import refuse_undone
from qmigrate.engine.points.dropped import AUDIT
from qmigrate.errors import ArchiveError, DriftError, RefusedError, RevisionError
from qmigrate.ledger import DeletionRow
from qmigrate.model.facts.stored import known
from qmigrate.model.names import unknown
from qmigrate.model.plan import OpRef, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import Applied, World
from qmigrate.planner import plan_undo_fix
from qmigrate.planner.members import refs_of
from qmigrate.planner.reset import plan_undo_reset
from qmigrate.text import quote


def refs_since(opened: Session, row: DeletionRow) -> tuple[OpRef, ...]:
    """The operations, in order, that points of a deletion have missed; data fixes among them leave a point as it is.

    None where its file is gone or has nothing about revisions: its reader refuses then, where that matters.

    Raises:
        RefusedError: a revision was rolled back since, was only recorded, has no code, or recreated the collection.
    """
    path = Path(str(known(row.told.file)))
    try:
        facts = archive.summary(path).header.told(DeletedFacts) if path.is_file() else DeletedFacts()
    except ArchiveError:
        facts = DeletedFacts()
    had, said = facts.applied, facts.by
    if had is None:
        return ()
    applied = opened.ledger.applied(str(row.collection))
    now = {entry.revision: entry for entry in applied}
    gone = [one for one in had if one not in now]
    if not gone:
        # One of the same name may differ by now: rolled back, rewritten, and applied again.
        gone = [one for one in had if one in said and _is_another(now[one], *said[one])]
    if gone:
        why = f"they date from after revision {gone[-1]}, which was rolled back since"
        raise _refused(row, why, f"apply {gone[-1]} again")
    return tuple(ref for entry in applied if entry.revision not in had for ref in _of(opened, row, entry))


def _is_another(entry: Applied, checksum: str, run: int | None) -> bool:
    """Whether a revision was applied again since, by a file that does something else; accepted words are none."""
    return entry.checksum != checksum and entry.run != run


def _of(opened: Session, row: DeletionRow, entry: Applied) -> list[OpRef]:
    """The operations of one revision that came since."""
    if entry.strategy == "adopt":
        raise _refused(row, f"revision {entry.revision} was only recorded since, so what it did is not known")
    try:
        revision = opened.revisions.get(entry.revision)
        if revision.problem is not None and revision.is_unread:
            raise revision.problem
    except (RevisionError, DriftError) as error:
        why = f"the code of revision {entry.revision}, applied since, can't be used: {error.message}"
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
        hint=f"{first}; the points are in {known(row.told.file)} (zstd -dc)",
    )


def fixed(opened: Session, log: int) -> DeletionRow:
    """The row of a fix that can be undone.

    Raises:
        UnknownNameError: there is no such fix.
        RefusedError: it has kept nothing to go back by, or was undone already.
    """
    row = opened.ledger.deletion(log)
    if row is None or row.collection is None or not (row.told.run is not None or row.kind == AUDIT):
        raise unknown("fix", log, of=" in the audit")
    if row.kind == AUDIT:
        raise RefusedError(
            f"row {log} of the audit is of points that could not be embedded: there is nothing to undo",
            hint=f"qmigrate fix quarantine {quote(row.collection)} --retry tries them again",
        )
    if row.kind == ERASURE:
        raise RefusedError(f"fix {log} has erased points: that can't be undone", hint="write them again")
    if known(row.told.undo) is None:
        raise RefusedError(
            f"fix {log} has kept nothing to restore the points from",
            hint="restore a snapshot: qmigrate snapshot list",
        )
    refuse_undone(opened.ledger, log)
    return row


def plan_undo(
    opened: Session, world: World, row: DeletionRow, overwrite: bool, pace: JsonObject | None = None
) -> Plan:
    """The job that undoes a fix, through what came since.

    Args:
        pace: of :func:`qmigrate.commands.parallel.paced`.

    Raises:
        RefusedError: the ids that it has of the points, or what they were, are no longer known.
    """
    told = row.told
    if told.undo == "reset":
        state = world.collections.get(str(row.collection))
        if state is None:
            raise RefusedError(f"{row.collection} is not there any more, so nothing of it can be undone")
        return plan_undo_reset(state, row.id, told, writes="discard" if overwrite else "refuse")
    brings_back = told.undo == "bring_back"
    refs = refs_since(opened, row) if brings_back else ()
    if brings_back and not refs:
        _refuse_other_ids(opened, world, row)
    where = {"run": told.run, "step": told.step, "generation": told.generation, "file": known(told.file)}
    edit = {"kind": known(told.undo), "undo": "undo" if told.undo == "undo" else None, "log": row.id, **where}
    edit |= _erased_since(opened, row) | ({"overwrite": True} if overwrite else {})
    edit |= pace or {}
    checksums = {ref.revision: opened.revisions.get(ref.revision).checksum for ref in refs}
    return plan_undo_fix(world, str(row.collection), told, edit, refs, checksums)


def _erased_since(opened: Session, row: DeletionRow) -> JsonObject:
    """How many of its points were erased, where what it kept doesn't show it, and whether that is gone with them."""
    name, found, emptied = str(row.told.fix), [0], False
    for later in opened.ledger.deletions():
        if later.kind == ERASURE and later.collection == row.collection and later.id > row.id:
            found.append((later.told.fixes or {}).get(name, 0))
            emptied = emptied or name in (later.told.emptied or ())
    # A journal is counted each time; a file records how many it has lost in all.
    return {"erased": sum(found) if row.told.undo == "undo" else max(found), "emptied": emptied}


def _refuse_other_ids(opened: Session, world: World, row: DeletionRow) -> None:
    """What a fix has recorded is known by the ids of its time, which may be those of other points now."""
    name, then = str(row.collection), row.told.generation
    state = world.collections.get(name)
    if state is None or state.physical == then:
        return
    for one in opened.ledger.history(name):
        if one.run <= (row.told.run or 0) or one.direction not in ("upgrade", "rollback"):
            continue
        revision = opened.revisions.get(one.revision)
        if revision.problem is not None:
            # Whether it gave points other ids is what its file says.
            raise revision.problem
        operations = (*revision.operations, *(opened.revisions.downgrade_operations(revision.id) or ()))
        if any(operation.rekeys and operation.matches(name) for operation in operations):
            raise RefusedError(
                f"revision {revision.id} gave the points of {name} other ids since fix {row.id}, which has them under "
                "the earlier ids",
                hint=f"go back to {then} first (qmigrate rollback --only {quote(name)}), or restore a snapshot: "
                "qmigrate snapshot list",
            )
