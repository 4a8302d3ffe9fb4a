"""status and history: where each collection is, from any terminal. They only read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qmigrate.commands.condition import condition, eta, percent, ways_forward
from qmigrate.commands.names import check_recorded
from qmigrate.commands.results import CollectionStatus, History, HistoryEntry, Since, Status
from qmigrate.commands.session import Session, notes_on, opened_ledger, read_readable, session
from qmigrate.commands.sql_gate import links_of, notes_of, within_reach
from qmigrate.engine.fixes.journal import journal_of, windows
from qmigrate.engine.fixes.reapply_deletions import is_deletion
from qmigrate.engine.golive.rollback import tally
from qmigrate.engine.points.base import base_name, committed, digest_of, exchanged, unpack
from qmigrate.engine.prove.recorded import MOST, Found, Kept, read, written_since
from qmigrate.errors import (
    DeniedError,
    LedgerError,
    NotFoundError,
    NoVersionsError,
    QmigrateError,
    StoreError,
)
from qmigrate.ledger import DeletionRow, HistoryRow, Ledger, RunRow, summary
from qmigrate.ledger.job_queue import COMPLETED, FAILED, JobQueue, QueuedJob
from qmigrate.ledger.watching import worked_when_held
from qmigrate.ledger.writer import UNCHANGED
from qmigrate.model.facts.phases import WritesSince
from qmigrate.model.plan import FIXED, SQUASHED
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import observe
from qmigrate.planner.forward import pending, to_create
from qmigrate.planner.members import before_birth, untouched
from qmigrate.planner.replaced import replaced, stands_at
from qmigrate.revisions.graph import Revision
from qmigrate.sequences import join
from qmigrate.settings.load import CONFIG_NAME, Settings
from qmigrate.store import records
from qmigrate.text import counted

#: Points up to which `status` lists versions by itself, which takes some 0.2 s; and up to which it reads contents.
LISTED, READ = 30_000, 5_000
#: Points that it reads by their ids, and seconds after which it counts nothing more.
SINGLE, SECONDS = 2_000, 1.0
#: What counts all the same.
_COUNTING = "qmigrate status --count-writes"


def status(settings: Settings | None = None, *, count_writes: bool = False) -> Status:
    """Per collection: revision, generation, points, health, what is pending, running or interrupted.

    Args:
        count_writes: what was written since each generation went live, however long that takes.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store)
        heads = opened.revisions.heads()
        wanted = opened.revisions.resolve("heads", current=frozenset())
        until = math.inf if count_writes else time.monotonic() + SECONDS
        rows = tuple(_row(opened, world, name, wanted, until) for name in sorted(world.collections))
        new = _to_create(opened, world)
        found = [_with_rest(opened, world, row, wanted) for row in rows if row is not None]
        said = {row.name: (row.detail, row.next_command) for row in (*found, *new) if row.state == "pending"}
        ways = ways_forward(world, opened.revisions, said)
        every = [
            replace(row, detail=ways[row.name][0], next_command=ways[row.name][1]) if row.name in ways else row
            for row in (*found, *new)
        ]
        notes = list(notes_on(opened.problems))
        notes += world.capabilities.silent
        notes += _sql_notes(opened, world, wanted)
        path = settings.qdrant.path
        if settings.config is None and settings.client is None and path is not None and not Path(path).exists():
            notes.append(
                f"there is no {CONFIG_NAME} in {settings.folder}, and nothing yet where Qdrant is by default: is this "
                "the right folder? → qmigrate init begins a project here; --config FILE names another one"
            )
        return Status(
            qdrant=world.capabilities.label,
            ledger=opened.ledger.url_label,
            head=heads[0] if len(heads) == 1 else None,
            collections=tuple(every),
            pending=sum(1 for row in every if row.pending),
            notes=tuple(notes),
        )


def _sql_notes(opened: Session, world: World, wanted: frozenset[str]) -> list[str]:
    """What waits for the SQL schema, and what Alembic went past without it being done."""
    try:
        notes = list(notes_of(within_reach(opened, world, wanted)[1]))
    except QmigrateError as error:
        notes = [error.message]
    return [*notes, *links_of(opened, world, wanted)]


def history(
    settings: Settings | None = None, collection: str | None = None, limit: int = 50, *, attempts: bool = False
) -> History:
    """What was applied and rolled back, newest first.

    Args:
        collection: restrict to this logical name.
        limit: most rows.
        attempts: also runs that came to nothing: refused, failed, aborted, or not over yet.

    Raises:
        UnknownNameError: neither the ledger nor a revision speaks of the collection.
    """
    settings = settings or Settings.load()
    # Qdrant has nothing about it.
    with opened_ledger(settings) as ledger:
        files, problems = read_readable(settings, ledger)
        check_recorded(ledger, files, collection)
        rows = ledger.history(collection, limit)
        titles = {one.id: one.doc for one in files.order() if one.doc}
        found = entries(ledger, rows, titles)
        if attempts:
            tried = [run for run in ledger.runs(collection) if run.state not in _CAME_TO_SOMETHING]
            found += [_tried(run, titles) for run in tried]
            found += [one for one in map(_of_job, _ended_jobs(ledger, limit)) if collection in (None, one.collection)]
            found.sort(key=lambda entry: entry.created_at, reverse=True)
        return History(rows=tuple(found[:limit]), notes=notes_on(problems))


def entries(ledger: Ledger, rows: Sequence[HistoryRow], titles: Mapping[str, str]) -> list[HistoryEntry]:
    """Rows of the history for people.

    Args:
        titles: of revisions, by their ids.
    """
    runs = {run.id: run for run in ledger.runs(ids={row.run for row in rows})}
    audit, held = summary.audit_of(ledger, list(runs.values())), worked_when_held(ledger, runs)
    found = [_applied(row, runs.get(row.run), titles, audit.get(row.run, ())) for row in rows]
    return [
        one if one.run not in held else replace(one, seconds=round(held[one.run], 3), held=True) for one in found
    ]


def _ended_jobs(ledger: Ledger, limit: int) -> list[tuple[QueuedJob, str]]:
    """Jobs of the background that are over, with the collections that their runs were about."""
    queue = JobQueue(ledger)
    names = queue.collections()
    return [(one, ", ".join(names.get(one.id, ()))) for one in queue.listed((COMPLETED, FAILED), limit=limit)]


def _of_job(found: tuple[QueuedJob, str]) -> HistoryEntry:
    """A job as a row: what came of it, be there a run or not."""
    job, names = found
    return HistoryEntry(
        created_at=job.created_at,
        collection=names,
        revision="",
        direction=f"job {job.kind}",
        strategy=None,
        physical=None,
        run=None,
        actor=job.actor,
        title=job.id,
        reason=None if job.error is None else str(job.error.get("message") or ""),
        seconds=round((job.updated_at - job.created_at).total_seconds(), 3),
        state="done" if job.state == COMPLETED else job.state,
    )


#: States of runs that the history itself tells of.
_CAME_TO_SOMETHING = ("done",)


def _applied(
    row: HistoryRow, run: RunRow | None, titles: Mapping[str, str], audit: Sequence[DeletionRow]
) -> HistoryEntry:
    report = row.report or {}
    # A fix is one row; of a revision's fixes it isn't recorded which revision of the run each belongs to.
    mine = [one for one in audit if row.direction == FIXED and one.collection == row.collection]
    return HistoryEntry(
        created_at=row.created_at,
        collection=row.collection,
        revision=row.revision,
        direction=row.direction,
        # What is only recorded rides along with whatever ended then.
        strategy=row.strategy if row.direction != SQUASHED else None,
        physical=row.physical,
        run=row.run,
        actor=row.actor,
        report=row.report,
        id=row.id,
        title=titles.get(row.revision),
        points=_counted(report),
        fixes=tuple(sorted(one.id for one in mine)),
        undoes=next((one.told.undoes for one in mine if one.told.undoes is not None), None),
        reason=next((one.reason for one in audit if one.reason), None) or _text(report.get("reason")),
        seconds=round(max(0.0, (row.created_at - run.started_at).total_seconds()), 3) if run is not None else None,
    )


def _tried(run: RunRow, titles: Mapping[str, str]) -> HistoryEntry:
    at = run.finished_at or run.started_at
    known = (titles[one] for one in run.revisions if one in titles)
    return HistoryEntry(
        created_at=at,
        collection=run.collection,
        revision=", ".join(run.revisions) or "–",
        direction=run.verb,
        strategy=None,
        physical=None,
        run=run.id,
        actor=run.actor,
        title=next(known, None),
        reason=run.error,
        seconds=round((at - run.started_at).total_seconds(), 3) if run.finished_at is not None else None,
        state=run.state,
    )


def _counted(report: Mapping[str, Any]) -> int | None:
    """How many points a step was about: proven, else changed by a fix."""
    proof, change = report.get("verification"), report.get("change")
    found = proof.get("points") if isinstance(proof, Mapping) else None
    if found is None and isinstance(change, Mapping):
        found = change.get("changed")
    return found if isinstance(found, int) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _row(
    opened: Session, world: World, name: str, wanted: frozenset[str], until: float
) -> CollectionStatus | None:
    state = world.collections[name]
    missing = pending(world, opened.revisions, wanted, name)
    newest = stands_at(state, opened.revisions)
    if state.kind == "absent" and newest is None and state.open_run is None and not missing:
        return None
    generation = state.generation(state.physical)
    named, detail, command = condition(world, state, missing)
    if named == "pending":
        named, detail = _last_try(opened, name) or (named, detail)
    # What is held makes no progress.
    under_way = None if named == "held" else state.open_run
    points = _points(opened, state.physical)
    since, because = written(opened, state, points, until)
    return CollectionStatus(
        name=name,
        revision=newest,
        revision_doc=_doc(opened, newest),
        generation="plain" if state.kind == "plain" else f"g{generation.number:04d}" if generation else None,
        points=points,
        state=named,
        pending=missing,
        detail=detail,
        phase=under_way.records[-1].phase if under_way and under_way.records else None,
        percent=percent(under_way),
        eta_seconds=eta(under_way),
        host=under_way.host if under_way else None,
        next_command=command,
        written_since=since,
        not_counted=because,
    )


def _with_rest(opened: Session, world: World, row: CollectionStatus, wanted: frozenset[str]) -> CollectionStatus:
    """With what is not recorded yet, and what the newest revisions leave out."""
    if row.state in ("ready", "drift") and row.revision is not None and not row.pending:
        detail = ", ".join(filter(None, (row.detail, _to_record(opened, world, row, wanted))))
        return replace(row, untouched=untouched(opened.revisions, row.name, row.revision, wanted), detail=detail)
    return row


def _to_record(opened: Session, world: World, row: CollectionStatus, wanted: frozenset[str]) -> str:
    """Squashed revisions that the collection has passed, and that no upgrade has recorded yet."""
    state = world.collections[row.name]
    seen = replaced(
        opened.revisions, row.name, state.applied_revisions(), wanted, before_birth(state, opened.revisions)
    )
    left = ", ".join(one.id for one in seen.passed if one.id not in state.passed)
    return f"the next upgrade records it as past {left}" if left and state.live is not None else ""


def written(
    opened: Session, state: CollectionState, points: int | None, until: float
) -> tuple[Since | None, str | None]:
    """What was written since the generation went live, where it is known at once, or else why it isn't.

    Nothing waits for a write that is accepted and not yet done: it shows the next time.

    Args:
        until: `time.monotonic` after which nothing is counted; infinite where it may take its time.
    """
    all_of_it = math.isinf(until)
    live, parent, ledger = state.generation(state.physical), state.parent(), opened.ledger
    if live is None or parent is None or points is None or state.open_run is not None:
        return None, None
    physical, base = live.physical, base_name(parent.physical, live.physical, back=False)
    if not ledger.has_base(base):
        return None, None
    if time.monotonic() > until:
        return None, f"{_COUNTING} takes its time for it"
    try:
        if _is_as_closed(opened, state.name, physical):
            return Since(), None
        kept = Kept(opened.store, ledger, base, "target", physical, physical)
        found: Iterable[Found]
        try:
            if not all_of_it and points > LISTED:
                return None, f"{counted(points, 'point')}: {_COUNTING} counts it"
            bound = MOST if all_of_it else SINGLE
            keys = written_since(kept, lambda: opened.store.operation_ids(physical), few=bound, most=bound)
            found = read(kept, keys)
        except (NoVersionsError, DeniedError) as error:
            if not all_of_it and points > READ:
                return None, f"{error.message}: {_COUNTING} reads {counted(points, 'point')}"
            found = _all(opened, physical, base)
        counts = WritesSince()
        tally(counts, found, digest_of(ledger, base), _by_fixes(opened, state.name, physical))
        return Since(counts.added, counts.changed, counts.deleted, tuple(counts.named)), None
    except (StoreError, LedgerError) as error:
        return None, error.message


def _is_as_closed(opened: Session, name: str, physical: str) -> bool:
    """Whether the operation ids show that nothing at all was written since."""
    store = opened.store
    if not store.capabilities.barrier or store.capabilities.nodes != 1:
        return False
    closing = summary.left_as(opened.ledger, name, physical)
    if closing is None:
        return False
    try:
        return dict(closing.ids) == dict(store.operation_ids(physical))
    except DeniedError:
        # A key that only reads may not see them.
        return False


def _all(opened: Session, physical: str, base: str) -> Iterable[Found]:
    """Every point, with its base."""
    live = (
        (records.order_key(records.point_id(stored)), stored)
        for page in opened.store.scan(physical, page=1000)
        for stored in page
    )
    return join(live, unpack(exchanged(committed(opened.ledger, base))))


def _by_fixes(opened: Session, name: str, physical: str) -> set[bytes]:
    """Order keys of the points that fixes have deleted in this generation."""
    return {
        records.order_key(entry.id)
        for row in summary.audit(opened.ledger, name, deleting=True)
        if row.told.generation == physical and is_deletion(row)
        for entries in windows(opened.ledger, journal_of(row.told))
        for entry in entries
    }


def _last_try(opened: Session, name: str) -> tuple[str, str] | None:
    """What became of an upgrade that has ended in an error before it had changed anything; None where none has."""
    newest = next(iter(opened.ledger.runs(name, limit=1)), None)
    if newest is None or newest.state != UNCHANGED or newest.verb != "upgrade":
        return None
    return "failed", newest.error or "failed"


def _points(opened: Session, physical: str | None) -> int | None:
    """Exact count; None when nothing serves, or when it was deleted since it was listed."""
    if physical is None:
        return None
    try:
        return opened.store.count(physical)
    except NotFoundError:
        return None
    except StoreError:
        if opened.store.capabilities.silent:
            return None
        raise


def _to_create(opened: Session, world: World) -> tuple[CollectionStatus, ...]:
    """Collections that pending revisions would create."""
    return tuple(
        CollectionStatus(
            name=name,
            revision=None,
            revision_doc=None,
            generation=None,
            points=None,
            state="pending",
            pending=entries,
            detail=f"{len(entries)} pending, will be created",
            phase=None,
            percent=None,
            eta_seconds=None,
            host=None,
            next_command="qmigrate upgrade",
        )
        for name, entries in to_create(world, opened.revisions).items()
    )


def _doc(opened: Session, revision: str | None) -> str | None:
    known: dict[str, Revision] = {one.id: one for one in opened.revisions.order()}
    return known[revision].doc if revision in known else None
