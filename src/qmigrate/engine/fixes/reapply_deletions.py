"""Deletions by revisions and fixes, done again in an older generation that is about to serve. It moves no name.

They are no "writes since": a rollback neither counts nor carries them, and it must not bring the points back. Which
these are, is in the journals of the deletions, which are kept as long as an older generation is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from qmigrate import archive
from qmigrate.archive import Header
from qmigrate.engine.epoch_aliases import is_same, reach, release
from qmigrate.engine.export import described, making, run_file, started_at
from qmigrate.engine.fixes.delete import DELETED
from qmigrate.engine.fixes.erase.generations import delete, drop_records
from qmigrate.engine.fixes.journal import journal_of, windows
from qmigrate.engine.points.id_spaces import Spaces
from qmigrate.engine.work import Work
from qmigrate.errors import RepairNeededError
from qmigrate.ledger import DeletionRow
from qmigrate.model.facts.phases import Proof
from qmigrate.model.plan import GoLive
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.sequences import parts
from qmigrate.store import portable, records
from qmigrate.text import counted, quote


class Reapplied(NamedTuple):
    """How many points were deleted again, and the file that has them, where one was written."""

    points: int | None = None
    file: str | None = None


def deleted_since(step: GoLive, work: Work) -> set[PointId]:
    """Ids of the generation that is left which fixes have deleted since it took over, and which it hasn't again.

    Where writes since are discarded, so is a point that a client has written again; a deletion that was undone is none,
    nor is one of a point that changed while it was checked, and was skipped.
    """
    return _deleted_since(step, work, _spaces(step, work, _older(work, str(step.target))))


def _deleted_since(step: GoLive, work: Work, spaces: Spaces) -> set[PointId]:
    source, found = str(step.source), set[PointId]()
    audit = work.lease.ledger.deletions()
    undone = {later.told.undoes for later in audit}
    for row in _deletions(step, work, audit):
        if spaces.of(str(row.told.generation)) != spaces.of(source):
            # Done again already, on the way back to ids that the points of that time didn't have.
            continue
        keeps = step.writes != "discard" or row.told.let_be > 0 or row.id in undone
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
    source, target = str(step.source), str(step.target)
    older = _older(work, target)
    spaces = _spaces(step, work, older)
    ids = _deleted_since(step, work, spaces)
    if not ids:
        return Reapplied()
    known = {spaces.of(source): ids}
    spaces.spread(known, work.store, lambda physical: reach(work, physical))
    there = [_there(work, one, known.get(spaces.of(one), set())) for one in older]
    had = max(work.facts(Proof).deleted_again or 0, len(there[0]))
    # Before the deletion: once they are gone, their other ids are unknown.
    drop_records(work, spaces, known, only=[source, *older])
    file = _kept(work, target, there[0], had) if step.apart else None
    if any(there):
        # From here on an abort would leave them out of a generation that it says is untouched.
        work.note(replace(work.facts(Proof), deleted_again=had))
    gone = []
    for one, some in zip(older, there, strict=True):
        gone.append(delete(work, one, some))
    release(work, older[1:])
    if gone[0]:
        kept = "; qmigrate history --deletions lists the number to restore them by" if file else ""
        also = f"{'is' if gone[0] == 1 else 'are'} deleted here too{kept}"
        work.progress.say(f"{work.collection}: {counted(gone[0], 'point')} that fixes have deleted since {also}")
    count = archive.summary(Path(file)).points if file else had
    return Reapplied(count, file) if count else Reapplied()


def _there(work: Work, physical: str, ids: set[PointId]) -> list[PointId]:
    """Those of the points that a generation has, in Qdrant's order."""
    return sorted(work.store.fetch_ids(reach(work, physical), list(ids)), key=records.order_key)


def _kept(work: Work, target: str, wanted: list[PointId], had: int) -> str | None:
    """The file with those of the points that are still there; written once, before the first of them goes.

    Args:
        had: how many there were before an interruption.

    Raises:
        RepairNeededError: some of them are gone, and their file is not here.
    """
    ledger, address = work.lease.ledger, reach(work, target)
    path = run_file(
        work.settings.fixes.exports, target, work.run, str(work.step), started=started_at(ledger, work.run)
    )
    if path.is_file() and path.stat().st_size:
        return str(path)
    if len(wanted) < had and not path.is_file():
        raise RepairNeededError(
            f"{had - len(wanted):,} points of {target} were deleted again by this run, and {path}, which they are in, "
            "is not here",
            hint="bring it back from the host that made it, or mount its folder, and run the same command again\n"
            f"if it is lost: {making(path.parent)}touch {quote(path)} confirms it",
        )
    if work.facts(Proof).kept:
        # A person has said that it is lost.
        work.note(replace(work.facts(Proof), kept=None))
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
    work.note(replace(work.facts(Proof), kept=str(path)))
    return str(path)


def _spaces(step: GoLive, work: Work, older: Sequence[str]) -> Spaces:
    return Spaces(work.lease.ledger, work.code, work.collection, frozenset({str(step.source), *older}))


def _older(work: Work, target: str) -> list[str]:
    """The generation that is about to serve, and what a further way back would lead to, as far as its time goes.

    After a restore or a reset come points of another time. They aren't an older form of others; no export has them:
    the undo of that keeps them first. Nor is what an application has recreated under the name of an older one.
    """
    rows = {row.number: row for row in work.lease.ledger.generations(work.collection) if row.state == "retired"}
    # Load-bearing: gc or another client may have deleted one since the plan; a deletion there would only fail.
    names, builds = frozenset(work.store.physical_names()), work.lease.ledger.builds(work.collection)
    row, found = work.generation(target), [target]
    while row is not None and row.parent in rows and rows[row.parent].physical not in found:
        if row.physical in builds and builds[row.physical].fill == "restore":
            break
        row = rows[row.parent]
        found += [row.physical] if row.physical in names and is_same(work, row.physical) else []
    return found


def is_deletion(row: DeletionRow) -> bool:
    """Whether a row of the audit is a fix that has deleted points and has kept which."""
    return row.count > 0 and row.told.run is not None


def _deletions(step: GoLive, work: Work, audit: Iterable[DeletionRow]) -> Iterator[DeletionRow]:
    """Those that were done since the target was left, be it by a later step of the very run that has left it."""
    leaving = work.lease.ledger.leaving(work.collection, str(step.target))
    for row in audit:
        mine = row.collection == work.collection and is_deletion(row)
        if mine and leaving is not None and (row.told.run or 0, row.told.step or 0) > (leaving.run, leaving.step):
            yield row

