"""status and history: where each collection is, from any terminal. They only read."""

from __future__ import annotations

from qmigrate.commands.condition import condition, eta, percent
from qmigrate.commands.inline import files_of, with_inline
from qmigrate.commands.names import check_recorded
from qmigrate.commands.results import CollectionStatus, History, HistoryEntry, Status
from qmigrate.commands.session import Session, opened_ledger, read_revisions, session
from qmigrate.commands.sql_gate import links_of, notes_of, within_reach
from qmigrate.errors import NotFoundError, QmigrateError, StoreError
from qmigrate.ledger.writer import UNCHANGED
from qmigrate.model.state import World
from qmigrate.observe import observe
from qmigrate.planner import check_checksums
from qmigrate.planner.forward import pending, to_create
from qmigrate.revisions.graph import Revision
from qmigrate.settings.load import Settings


def status(settings: Settings | None = None) -> Status:
    """Per collection: revision, generation, points, health, what is pending, running or interrupted."""
    settings = settings or Settings.load()
    with session(settings, writes=False, looking=True, partial=True) as opened:
        world = observe(opened.ledger, opened.store)
        heads = opened.revisions.heads()
        wanted = opened.revisions.resolve("heads", current=frozenset())
        rows = tuple(_row(opened, world, name, wanted) for name in sorted(world.collections))
        rows = tuple(row for row in rows if row is not None)
        new = _to_create(opened, world)
        many = f"{len(heads)} heads: {', '.join(heads)}; merge them: qmigrate revision --merge"
        notes = [many] if len(heads) > 1 else []
        notes += world.capabilities.silent
        notes += _sql_notes(opened, world, wanted)
        return Status(
            qdrant=world.capabilities.label,
            ledger=opened.ledger.url_label,
            head=heads[0] if len(heads) == 1 else None,
            collections=(*(row for row in rows if row is not None), *new),
            pending=sum(1 for row in (*rows, *new) if row is not None and row.pending),
            notes=tuple(notes),
        )


def _sql_notes(opened: Session, world: World, wanted: frozenset[str]) -> list[str]:
    """What waits for the SQL schema, and what Alembic went past without it being done."""
    try:
        notes = list(notes_of(within_reach(opened, world, wanted)[1]))
    except QmigrateError as error:
        notes = [error.message]
    return [*notes, *links_of(opened, world, wanted)]


def history(settings: Settings | None = None, collection: str | None = None, limit: int = 50) -> History:
    """What was applied and rolled back, newest first.

    Raises:
        UnknownNameError: neither the ledger nor a revision speaks of the collection.
    """
    settings = settings or Settings.load()
    # Qdrant has nothing about it.
    with opened_ledger(settings) as ledger:
        files = read_revisions(settings, ledger)
        check_checksums(files_of(with_inline(files, ledger)), ledger.applied_checksums())
        check_recorded(ledger, files, collection)
        rows = ledger.history(collection, limit)
        return History(
            rows=tuple(
                HistoryEntry(
                    created_at=row.created_at,
                    collection=row.collection,
                    revision=row.revision,
                    direction=row.direction,
                    strategy=row.strategy,
                    physical=row.physical,
                    run=row.run,
                    actor=row.actor,
                    report=row.report,
                )
                for row in rows
            )
        )


def _row(opened: Session, world: World, name: str, wanted: frozenset[str]) -> CollectionStatus | None:
    state = world.collections[name]
    missing = pending(world, opened.revisions, wanted, name)
    newest = state.applied[-1].revision if state.applied else None
    if state.kind == "absent" and newest is None and state.open_run is None and not missing:
        return None
    generation = state.generation(state.physical)
    named, detail, command = condition(world, state, missing)
    if named == "pending":
        named, detail = _last_try(opened, name) or (named, detail)
    # What is held makes no progress.
    under_way = None if named == "held" else state.open_run
    return CollectionStatus(
        name=name,
        revision=newest,
        revision_doc=_doc(opened, newest),
        generation="plain" if state.kind == "plain" else f"g{generation.number:04d}" if generation else None,
        points=_points(opened, state.physical),
        state=named,
        pending=missing,
        detail=detail,
        phase=under_way.records[-1].phase if under_way and under_way.records else None,
        percent=percent(under_way),
        eta_seconds=eta(under_way),
        host=under_way.host if under_way else None,
        next_command=command,
    )


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
