"""Points that are only marked as deleted, and long enough: found for gc, and deleted. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from qmigrate.commands.fixed import Done, run_fix, same_edits
from qmigrate.commands.session import Session
from qmigrate.errors import NotFoundError
from qmigrate.ledger import DeletionRow
from qmigrate.model.patterns import ExactName, met
from qmigrate.observe import known_names
from qmigrate.operations.deletion import DeletePoints
from qmigrate.planner import plan_fix
from qmigrate.steps.fixes.soft import SOFT_DELETE
from qmigrate.store.faults import RefusedRequestError

#: What the audit calls it.
PURGE = "PURGE"


@dataclass(frozen=True, slots=True)
class Purge:
    """Marked points of one collection that may be deleted.

    Attributes:
        collection: the logical name.
        flag: payload key of the mark.
        before: marked before this moment.
        points: how many.
        problem: why they can't be found now, or None.
        since: not those that were marked before this moment: they were purged, and given back lately.
    """

    collection: str
    flag: str
    before: datetime
    points: int = 0
    problem: str | None = None
    since: datetime | None = None

    def operation(self) -> DeletePoints:
        """The deletion of them. Consent was given when they were marked, so there is no cap."""
        later = {"gte": self.since.isoformat()} if self.since is not None else {}
        where = {"must": [{"key": f"{self.flag}.at", "range": {"lt": self.before.isoformat(), **later}}]}
        reason = f"marked as deleted before {self.before:%Y-%m-%d %H:%M:%S} UTC"
        return DeletePoints(ExactName(self.collection), filter=where, reason=reason, type=PURGE, max_share=1.0)


def due(opened: Session, pattern: str, now: datetime) -> tuple[Purge, ...]:
    """What has been marked for longer than ``fixes.soft_delete``. It only reads.

    Args:
        pattern: of logical names.
        now: what the time is counted from.
    """
    managed = opened.ledger.collections()
    found = []
    marked = _marked(opened)
    every = {*managed, *known_names(opened.ledger, opened.store)} if marked else set(managed)
    chosen = frozenset(met(pattern, managed, every))
    for name, flag in marked:
        view = managed.get(name)
        if view is None or view.physical is None or name not in chosen:
            continue
        kept = opened.settings.for_collection(name).fixes.soft_delete
        before = now - timedelta(seconds=kept)
        counted = _counted(opened, Purge(name, flag, before, since=_given_back(opened, name, flag, before)))
        if counted.points or counted.problem:
            found.append(counted)
    return tuple(found)


def _given_back(opened: Session, name: str, flag: str, before: datetime) -> datetime | None:
    """Up to when points were marked that a purge has deleted and somebody has had back after `before`, or None.

    They come back with their marks, and who wanted them back has as long as anybody to take these off.
    """
    rows = {row.id: row for row in opened.ledger.deletions() if row.collection == name}
    undone = [rows.get(int(row.facts["undoes"])) for row in rows.values() if _is_undo(row) and row.created_at > before]
    borders = [_border(row, flag) for row in undone if row is not None and row.kind == PURGE]
    return max((one for one in borders if one is not None), default=None)


def _is_undo(row: DeletionRow) -> bool:
    return row.facts.get("undoes") is not None


def _border(row: DeletionRow, flag: str) -> datetime | None:
    """Before when the points of a purge were marked; None where it was about another mark."""
    for condition in (row.facts.get("filter") or {}).get("must", ()):
        if condition.get("key") == f"{flag}.at":
            return datetime.fromisoformat(condition["range"]["lt"])
    return None


def _counted(opened: Session, one: Purge) -> Purge:
    """With its points; where the collection is gone or refuses the filter, other collections are no worse for it."""
    try:
        where = one.operation().filter
        return replace(one, points=sum(map(len, opened.store.scan_ids(one.collection, where=where))))
    except (RefusedRequestError, NotFoundError) as error:
        return replace(one, problem=error.message)


def purge(opened: Session, found: Iterable[Purge], lock_timeout: float | None = None) -> tuple[Done, ...]:
    """Delete them as any deletion does: exported, read back, recorded, and to be undone."""
    wanted = (one for one in found if one.problem is None)
    return tuple(done for one in wanted for done in _purge(opened, one, lock_timeout))


def _purge(opened: Session, one: Purge, lock_timeout: float | None) -> tuple[Done, ...]:
    operation = one.operation()
    edit = operation.edit() or {}
    return run_fix(
        opened,
        lambda world: plan_fix(world, [(operation, edit)]),
        lock_timeout,
        same=lambda job: same_edits(job, [edit]),
    ).done


def _marked(opened: Session) -> Sequence[tuple[str, str]]:
    """Collection and flag of every soft deletion that the audit knows."""
    rows = (row for row in opened.ledger.deletions() if row.kind == SOFT_DELETE and row.facts.get("flag"))
    return sorted({(str(row.collection), str(row.facts["flag"])) for row in rows})
