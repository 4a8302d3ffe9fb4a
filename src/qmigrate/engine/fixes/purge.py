"""Points that this ledger has marked as deleted, deleted for good. What merely carries the key is left alone.

An application may write that key itself. So a point goes only where the journal of a soft deletion has its id, and the
mark on it is still the very one that was recorded there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

from qmigrate.engine.export import remove_ours
from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.journal import journal_name, journal_of, windows
from qmigrate.engine.fixes.other_ids import OtherIds
from qmigrate.engine.fixes.payload import SOFT_DELETE
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.engine.work import Work
from qmigrate.ledger import DeletionRow, Fixed
from qmigrate.ledger.reader import present
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import PurgeEdit
from qmigrate.model.facts.stored import known, loaded
from qmigrate.model.fix import Found, PointEdit, same
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.store import records

#: What the audit calls it, and the kind of its edit.
PURGE, KIND = "PURGE", "purge"
#: Figures of what is left, as :class:`~qmigrate.model.fix.Found` counts them.
NOT_OURS, WRITTEN_AGAIN, REMOVED = "not_ours", "written_again", "mark_removed"
_GONE = object()


class Purge(Removal):
    """Deletes what soft deletions have marked.

    Its edit is that of a :class:`~qmigrate.engine.fixes.delete.Removal` whose ``filter`` selects what carries a mark
    of long ago, with ``flag``, ``before``, and ``marks``: ``log``, ``run``, ``step`` and ``generation`` of each soft
    deletion.
    """

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        super().__init__(place, edit)
        self._purge = loaded(PurgeEdit, edit)
        self._flag = self._purge.flag

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts what is left, by why.

        Raises:
            RefusedError: the marks can't be asked for, or which ids points have now is unknown.
        """
        found.points = self._place.store.count(self._place.address)
        found.counts.update({NOT_OURS: 0, WRITTEN_AGAIN: 0, REMOVED: 0})
        # All that carry an old mark; what is ours of them is taken off below.
        foreign = sum(len(page) for page in self._filtered(self._filter, False))
        for ids, again in self._followed(found):
            digests = self._digests(ids)
            self._show(found, ids)
            foreign -= len(digests) + len(self._old(again))
            for identifier in ids:
                if identifier in digests:
                    yield PointEdit(identifier, digests[identifier], {})
        found.add(NOT_OURS, max(0, foreign))

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """All of them: one that is still what it was has its mark."""
        return list(entries)

    def audit(self, told: Audited) -> Fixed:
        """With the soft deletions whose marks it has followed."""
        logs = tuple(mark.log for mark in self._purge.marks)
        return super().audit(replace(told, flag=self._flag, purges=logs))

    def _followed(self, found: Found) -> Iterator[tuple[list[PointId], list[PointId]]]:
        """Ids that still have the mark that was recorded, each once, and those that have another one by now."""
        before = self._purge.before
        assert before is not None  # noqa: S101  the planner sets it
        seen: set[PointId] = set()
        marks: list[Any] = []
        for entries in self._entries():
            # One mark per soft deletion: the list is as short as there are of these.
            marks += [one for one in _distinct(entries, self._flag) if one not in marks]
            due = [entry for entry in entries if datetime.fromisoformat(entry.after[self._flag]["at"]) < before]
            now = self._values([entry.id for entry in due])
            mine, again = list[PointId](), list[PointId]()
            for entry in due:
                mark = entry.after[self._flag]
                value = now.get(entry.id, _GONE)
                if value is _GONE or entry.id in seen:
                    continue
                if same(value, mark):
                    mine.append(entry.id)
                elif value is None:
                    found.add(REMOVED)
                elif not any(same(value, one) for one in marks):
                    found.add(WRITTEN_AGAIN)
                    again.append(entry.id)
            if len(self._purge.marks) > 1:
                seen.update(mine, again)
            for part in self._parts(iter(mine)):
                yield part, []
            yield [], again

    def _entries(self) -> Iterator[list[PointEdit]]:
        """What the soft deletions have marked, the latest first, by the ids that points have now."""
        place = self._place
        for mark in sorted(self._purge.marks, key=attrgetter("log"), reverse=True):
            ids = OtherIds(place, mark.generation, mark.log)
            for entries in windows(place.ledger, journal_name(mark.run, mark.step)):
                now = ids.of([entry.id for entry in entries])
                yield [entry._replace(id=now[entry.id]) for entry in entries if entry.id in now]

    def _values(self, ids: Sequence[PointId]) -> dict[PointId, Any]:
        """What these points have under the key of the mark; None where they have nothing."""
        place = self._place
        points = place.store.fetch(place.address, list(ids), payload=[self._flag], vectors=False)
        return {records.point_id(one): records.payload_of(one).get(self._flag) for one in points}

    def _old(self, ids: Sequence[PointId]) -> set[PointId]:
        """Those of them that the filter selects as well."""
        return self._matching(ids) if ids else set()


def _distinct(entries: Sequence[PointEdit], flag: str) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if not found or (entry.after[flag] is not found[-1] and entry.after[flag] not in found):
            found.append(entry.after[flag])
    return found


def holding(rows: Sequence[DeletionRow]) -> list[DeletionRow]:
    """Soft deletions of an audit that hold: what was undone has marked nothing, unless that was undone too.

    Args:
        rows: of the audit, newest first.
    """
    undone = _undone(rows)
    return [
        row
        for row in rows
        if row.kind == SOFT_DELETE and row.collection and row.told.flag and row.id not in undone
    ]


def to_follow(rows: Sequence[DeletionRow]) -> list[DeletionRow]:
    """Those of them whose marks may go: where a purge was undone, its points were meant to stay.

    Args:
        rows: of the audit, newest first.
    """
    undone = _undone(rows)
    kept = {one for row in rows if row.kind == PURGE and row.id in undone for one in row.told.purges}
    return [row for row in holding(rows) if row.id not in kept]


def _undone(rows: Sequence[DeletionRow]) -> set[int]:
    """Rows that were undone, and not redone by an undo of the undo."""
    undone: set[int] = set()
    for row in rows:
        if row.id not in undone and (undoes := row.told.undoes) is not None:
            undone.add(undoes)
    return undone


def is_over(row: DeletionRow, rows: Sequence[DeletionRow], since: datetime) -> bool:
    """Whether nothing can follow the marks of a soft deletion any more: it doesn't hold, or its points went long ago.

    Args:
        rows: of the audit, newest first.
        since: a purge older than this moment can't be undone.
    """
    if row not in holding(rows):
        return True
    return any(
        later.kind == PURGE
        and row.id in later.told.purges
        and later.created_at < since
        and not later.told.let_be
        for later in rows
    )


#: Rows of the audit that are checked for what can't be undone any more.
_AUDIT_ROWS = 1000


def expire(work: Work) -> None:
    """Forget what fixes that are too old to be undone have kept.

    Which points were deleted is kept longer: until there is no older generation that could bring them back.
    Points that are only marked wait for `gc`, and until they are gone the mark can be undone.
    """
    settings, now = work.settings.fixes, present(work.lease.ledger)
    ledger = work.lease.ledger
    way_back = any(row.state == "retired" for row in ledger.generations(work.collection))
    rows = ledger.deletions(_AUDIT_ROWS)
    for row in rows:
        told = row.told
        lasts = max(settings.undo, settings.soft_delete) if told.flag else settings.undo
        young = row.created_at >= now - timedelta(seconds=lasts)
        if row.collection != work.collection or told.run is None or young:
            continue
        if row.kind == SOFT_DELETE and not is_over(row, rows, now - timedelta(seconds=settings.undo)):
            # Only by it does gc know which marks are ours.
            continue
        name = journal_of(told)
        if ledger.has_base(name) and not (row.count and way_back):
            work.lease.drop_base(name)
        file = known(told.file)
        if file:
            remove_ours(Path(file), work.ledger_id)
