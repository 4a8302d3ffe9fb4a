"""Points that are only marked as deleted, and long enough: found for gc, and deleted. It asks nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from qmigrate.commands.edits import count
from qmigrate.commands.run_fixes import Done, run_fix, same_edits
from qmigrate.commands.session import Session
from qmigrate.engine.fixes.journal import journal_of
from qmigrate.engine.fixes.payload import SOFT_DELETE
from qmigrate.engine.fixes.purge import KIND, PURGE, to_follow
from qmigrate.errors import NotFoundError, RefusedError
from qmigrate.ledger import DeletionRow
from qmigrate.model.facts.stored import known
from qmigrate.model.names import ExactName, met
from qmigrate.model.schema import JsonObject
from qmigrate.observe import known_names
from qmigrate.operations.deletion import DeletePoints
from qmigrate.planner import plan_fix


@dataclass(frozen=True, slots=True)
class Purge:
    """Marked points of one collection that may be deleted.

    Attributes:
        collection: the logical name.
        flag: payload key of the mark.
        before: marked before this moment.
        points: how many.
        problem: why they can't be found now, or None.
        left: points that stay, by why: ``not_ours`` carry the key, and no soft deletion of this ledger holds for
            them; ``written_again`` have another value there than was recorded, ``mark_removed`` none any more.
        forgotten: soft deletions whose record is gone, so that it is unknown which marks are of them.
        marks: the soft deletions whose marks are followed.
        hint: what to do about the problem.
    """

    collection: str
    flag: str
    before: datetime
    points: int = 0
    problem: str | None = None
    left: Mapping[str, int] = field(default_factory=dict)
    forgotten: tuple[int, ...] = ()
    marks: tuple[JsonObject, ...] = ()
    hint: str | None = None

    @property
    def stays(self) -> int:
        """How many points are left."""
        return sum(self.left.values())

    def operation(self) -> DeletePoints:
        """The deletion of them. Consent was given when they were marked, so there is no cap."""
        where = {"must": [{"key": f"{self.flag}.at", "range": {"lt": self.before.isoformat()}}]}
        reason = f"marked as deleted before {self.before:%Y-%m-%d %H:%M:%S} UTC"
        return DeletePoints(ExactName(self.collection), filter=where, reason=reason, type=PURGE, max_share=1.0)

    def edit(self) -> JsonObject:
        """What is done: only points go whose mark is the one that was recorded."""
        more = {"kind": KIND, "flag": self.flag, "before": self.before.isoformat(), "marks": list(self.marks)}
        return {**(self.operation().edit() or {}), **more}


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
    for (name, flag), rows in sorted(marked.items()):
        view = managed.get(name)
        if view is None or view.physical is None or name not in chosen:
            continue
        kept = opened.settings.for_collection(name).fixes.soft_delete
        counted = _counted(opened, _purge_of(opened, name, flag, rows, now - timedelta(seconds=kept)))
        if counted.points or counted.problem or counted.stays:
            found.append(counted)
    return tuple(found)


def _marked(opened: Session) -> dict[tuple[str, str], list[DeletionRow]]:
    """Soft deletions that hold, by collection and flag; of one that doesn't, the names alone."""
    found: dict[tuple[str, str], list[DeletionRow]] = {}
    rows = opened.ledger.deletions()
    hold = {row.id for row in to_follow(rows)}
    for row in rows:
        if row.kind == SOFT_DELETE and row.collection and row.told.flag:
            found.setdefault((row.collection, row.told.flag), []).extend([row] if row.id in hold else [])
    return found


def _purge_of(opened: Session, name: str, flag: str, rows: Sequence[DeletionRow], before: datetime) -> Purge:
    """What these soft deletions have marked, as far as the ledger still has which points that were."""
    # What has marked nothing has no journal, and needs none.
    rows = [row for row in rows if known(row.told.undo) is not None]
    kept = [row for row in rows if opened.ledger.has_base(journal_of(row.told))]
    forgotten = tuple(row.id for row in rows if row not in kept)
    told = ((row.id, row.told) for row in kept)
    marks = ({"log": log, "run": one.run, "step": one.step, "generation": one.generation} for log, one in told)
    return Purge(name, flag, before, forgotten=forgotten, marks=tuple(marks))


def _counted(opened: Session, one: Purge) -> Purge:
    """With its points; where the collection is gone or refuses the filter, other collections are not affected."""
    try:
        found = count(opened, one.collection, one.edit())
    except (RefusedError, NotFoundError) as error:
        # Such points can't be selected otherwise, whatever else helps a deletion.
        unindexed = "op.CreatePayloadIndex" in (error.hint or "")
        hint = f"index {one.flag}.at: op.CreatePayloadIndex" if unindexed else error.hint
        return replace(one, problem=error.message, hint=hint)
    return replace(one, points=found.changes, left={why: many for why, many in found.counts.items() if many})


def purge(opened: Session, found: Iterable[Purge], lock_timeout: float | None = None) -> tuple[Done, ...]:
    """Delete them as any deletion does: exported, read back, recorded, and to be undone."""
    wanted = (one for one in found if one.problem is None and one.points)
    return tuple(done for one in wanted for done in _purge(opened, one, lock_timeout))


def _purge(opened: Session, one: Purge, lock_timeout: float | None) -> tuple[Done, ...]:
    operation, edit = one.operation(), one.edit()
    return run_fix(
        opened,
        lambda world: plan_fix(world, [(operation, edit)]),
        lock_timeout,
        same=lambda job: same_edits(job, [edit]),
    ).done
