"""Points that are only marked as deleted, and long enough: found for gc, and deleted. It asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from qmigrate.commands.fixed import Done, run_fix, same_edits
from qmigrate.commands.session import Session
from qmigrate.errors import NotFoundError
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
    """

    collection: str
    flag: str
    before: datetime
    points: int = 0
    problem: str | None = None

    def operation(self) -> DeletePoints:
        """The deletion of them. Consent was given when they were marked, so there is no cap."""
        where = {"must": [{"key": f"{self.flag}.at", "range": {"lt": self.before.isoformat()}}]}
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
        counted = _counted(opened, Purge(name, flag, now - timedelta(seconds=kept)))
        if counted.points or counted.problem:
            found.append(counted)
    return tuple(found)


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
