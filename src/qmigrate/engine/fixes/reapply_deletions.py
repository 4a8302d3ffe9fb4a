"""Deletions by revisions and fixes, done again in a generation of before them that is about to serve. It moves no name.

They are no "writes since": a rollback neither counts nor carries them, and it must not bring the points back. Which
these are, the journals of the deletions say, which are kept as long as a generation of before is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.engine.epoch_aliases import reach, release
from qmigrate.engine.export import described, run_file, started_at
from qmigrate.engine.fixes.delete import DELETED
from qmigrate.engine.fixes.erase.generations import delete, forget
from qmigrate.engine.fixes.journal import journal_of, windows
from qmigrate.engine.points.id_spaces import Spaces
from qmigrate.engine.work import Work
from qmigrate.ledger import DeletionRow
from qmigrate.model.plan import GoLive
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.sequences import parts
from qmigrate.store import portable, records


class Reapplied(NamedTuple):
    """How many points were deleted again, and the file that has them, where one was written."""

    points: int | None = None
    file: str | None = None


def deleted_since(step: GoLive, work: Work) -> set[PointId]:
    """Ids of the generation that is left which fixes have deleted since it took over, and which it hasn't again.

    Where writes since are given up, so is that somebody has written a point again; a deletion that was undone is none,
    nor is one of a point that changed while it was looked at, and was let be.
    """
    source, found = str(step.source), set[PointId]()
    spaces = _spaces(step, work)
    for row in _deletions(step, work):
        if spaces.of(str(row.told.generation)) != spaces.of(source):
            # Done again already, on the way back to ids that the points of that time didn't have.
            continue
        keeps = step.writes != "discard" or row.told.let_be > 0 or _undone(work, row)
        for entries in windows(work.lease.ledger, journal_of(row.told)):
            for ids in parts(iter([entry.id for entry in entries])):
                found |= set(ids) - (work.store.fetch_ids(reach(work, source), ids) if keeps else set())
                work.tick()
    return found


def apply(step: GoLive, work: Work) -> Reapplied:
    """Delete them in the generation that is about to serve and in those before it, and forget that they had them.

    Where that one's points are of another time (:attr:`GoLive.apart`) they may be newer than what was deleted, and no
    export has them: they are kept in a file first. May be repeated.

    Returns:
        How many the first of these had, and the file; neither where it had none.
    """
    ids = deleted_since(step, work)
    if not ids:
        return Reapplied()
    spaces, source, target = _spaces(step, work), str(step.source), str(step.target)
    known = {spaces.of(source): ids}
    spaces.spread(known, work.store, lambda physical: reach(work, physical))
    # Before the deletion: once they are gone, nobody can tell their other ids any more.
    forget(work, spaces, known)
    older = _older(work, target)
    file = _kept(work, target, known.get(spaces.of(target), set())) if step.apart else None
    gone = [delete(work, one, known.get(spaces.of(one), set())) for one in older]
    release(work, older[1:])
    if gone[0]:
        kept = "; qmigrate history --deletions has the number that gives them back" if file else ""
        work.progress.say(
            f"{work.collection}: {gone[0]:,} points that fixes have deleted since are deleted here too{kept}"
        )
    count = archive.summary(Path(file)).points if file else gone[0]
    return Reapplied(count, file) if count else Reapplied()


def _kept(work: Work, target: str, ids: set[PointId]) -> str | None:
    """The file with those of the points that are still there; written once, before the first of them goes."""
    ledger, address = work.lease.ledger, reach(work, target)
    path = run_file(
        work.settings.fixes.exports, target, work.run, str(work.step), started=started_at(ledger, work.run)
    )
    if path.is_file():
        return str(path)
    wanted = sorted(work.store.fetch_ids(address, list(ids)), key=records.order_key)
    if not wanted:
        return None
    live = described(work.store, address)
    header = Header(
        kind=DELETED,
        name=work.collection,
        physical=target,
        generation=None,
        schema=live.schema.with_(aliases=()),
        ledger=ledger.identity(),
        source=work.store.capabilities.label,
        created_at=datetime.now(UTC),
    )

    def pages() -> Iterator[list[JsonObject]]:
        for part in parts(iter(wanted)):
            found = sorted(work.store.fetch(address, part), key=lambda one: records.order_key(records.point_id(one)))
            yield portable.page_to_json(found)
            work.tick()

    archive.write(path, header, pages())
    return str(path)


def _spaces(step: GoLive, work: Work) -> Spaces:
    present = frozenset({str(step.source), *_older(work, str(step.target))})
    return Spaces(work.lease.ledger, work.code, work.collection, present)


def _older(work: Work, target: str) -> list[str]:
    """The generation that is about to serve, and what a further way back would lead to."""
    rows = {row.number: row for row in work.lease.ledger.generations(work.collection) if row.state == "retired"}
    names = frozenset(work.store.physical_names())
    row, found = work.generation(target), [target]
    while row is not None and row.parent in rows and rows[row.parent].physical not in found:
        row = rows[row.parent]
        found += [row.physical] if row.physical in names else []
    return found


def is_deletion(row: DeletionRow) -> bool:
    """Whether a row of the audit is a fix that has deleted points and has kept which."""
    return row.count > 0 and row.told.run is not None


def _deletions(step: GoLive, work: Work) -> Iterator[DeletionRow]:
    """Those that were done since the target was left, be it by a later step of the very run that has left it."""
    leaving = work.lease.ledger.leaving(work.collection, str(step.target))
    for row in work.lease.ledger.deletions():
        mine = row.collection == work.collection and is_deletion(row)
        if mine and leaving is not None and (row.told.run or 0, row.told.step or 0) > (leaving.run, leaving.step):
            yield row


def _undone(work: Work, row: DeletionRow) -> bool:
    return any(later.told.undoes == row.id for later in work.lease.ledger.deletions())

