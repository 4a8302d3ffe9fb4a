"""status and history: what stands where, from any terminal. They only read."""

from __future__ import annotations

from datetime import UTC, datetime

from qmigrate.commands.held import held_run
from qmigrate.commands.results import CollectionStatus, Held, History, HistoryEntry, Status
from qmigrate.commands.session import Session, session
from qmigrate.commands.sql_gate import notes_of, within_reach
from qmigrate.drift import differences
from qmigrate.errors import NotFoundError, QmigrateError
from qmigrate.ledger.links import LINKED, all_links
from qmigrate.model.names import GENERATION
from qmigrate.model.state import CollectionState, OpenRun, World
from qmigrate.observe import check_ownership, observe
from qmigrate.planner.forward import pending, to_create
from qmigrate.revisions import Revision
from qmigrate.settings import Settings


def status(settings: Settings) -> Status:
    """Per collection: revision, generation, points, health, what is pending, running or interrupted."""
    with session(settings, writes=False) as opened:
        world = observe(opened.ledger, opened.store)
        heads = opened.revisions.heads()
        wanted = opened.revisions.resolve("heads", current=frozenset())
        rows = tuple(_row(opened, world, name, wanted) for name in sorted(world.collections))
        rows = tuple(row for row in rows if row is not None)
        new = _to_create(opened, world)
        many = f"{len(heads)} heads: {', '.join(heads)}; merge them: qmigrate revision --merge"
        notes = [many] if len(heads) > 1 else []
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
    missing = {one for name in world.collections for one in pending(world, opened.revisions, wanted, name)}
    missing |= {one for entries in to_create(world, opened.revisions).values() for one in entries}
    for link in all_links(opened.ledger):
        known = {one.id for one in opened.revisions.order()}
        if link.state != LINKED and (link.step in missing or link.step not in known):
            notes.append(f"the SQL revision {link.sql_revision} was {link.state} although {link.step} is not done")
    return notes


def history(settings: Settings, collection: str | None = None, limit: int = 50) -> History:
    """What was applied and taken back, newest first."""
    with session(settings, writes=False) as opened:
        rows = opened.ledger.history(collection, limit)
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
    condition, detail, command = _condition(world, state, missing)
    # What is held stands still: it has no progress to show.
    under_way = None if condition == "held" else state.open_run
    return CollectionStatus(
        name=name,
        revision=newest,
        revision_doc=_doc(opened, newest),
        generation="plain" if state.kind == "plain" else f"g{generation.number:04d}" if generation else None,
        points=_points(opened, state.physical),
        state=condition,
        pending=missing,
        detail=detail,
        phase=under_way.records[-1].phase if under_way and under_way.records else None,
        percent=_percent(under_way),
        eta_seconds=_eta(under_way),
        host=under_way.host if under_way else None,
        next_command=command,
    )


def _points(opened: Session, physical: str | None) -> int | None:
    """Exact count; None when nothing serves, or when it was deleted since it was looked at."""
    if physical is None:
        return None
    try:
        return opened.store.count(physical)
    except NotFoundError:
        return None


def _condition(world: World, state: CollectionState, missing: tuple[str, ...]) -> tuple[str, str, str | None]:
    """State, what to know about it, and the next command."""
    run = state.open_run
    if run is not None:
        if run.leased:
            return "running", f"{run.verb} on {run.host}", None
        waiting = held_run(run)
        if waiting is not None:
            return "held", _held(waiting), f"qmigrate cutover {state.name}"
        if run.state == "failed":
            return "failed", run.error or "failed", f"qmigrate upgrade, or qmigrate abort {state.name}"
        return "interrupted", f"{run.verb} of {run.started_at:%H:%M} on {run.host}", "qmigrate upgrade"
    if state.kind == "plain" and not state.managed:
        return "plain", "a plain collection, not under management", f"qmigrate adopt {state.name}"
    if not state.managed:
        return "unmanaged", "not under management", f"qmigrate adopt {state.name}"
    try:
        check_ownership(world, state.name)
    except QmigrateError as error:
        return "failed", error.message, "qmigrate doctor"
    if state.live is not None and (state.live.status == "red" or state.live.problem):
        return "failed", state.live.problem or "status red", "qmigrate doctor"
    if missing:
        return "pending", f"{len(missing)} pending", "qmigrate upgrade"
    drifted = _drifted(world, state)
    if drifted:
        return "drift", drifted, f"qmigrate check --only {state.name}"
    parent = state.parent()
    back = ""
    if parent is not None:
        held = f" until {parent.held_until:%b %d}" if parent.held_until else ""
        base = parent.revisions[-1] if parent.revisions else "base"
        back = f"can return to {base}{held}"
    elif _was_collected(state):
        back = "no way back: what came before was collected"
    if state.live is not None and state.live.status != "green":
        back = f"{state.live.status}: optimizing" + (f", {back}" if back else "")
    return "ready", back, None


def _held(held: Held) -> str:
    """What is built and waits, and why the last cut-over was refused."""
    generation = GENERATION.match(held.physical)
    since = f" since {held.since:%b %d %H:%M} UTC" if held.since else ""
    refused = f"; the last cut-over was refused: {held.refused}" if held.refused else ""
    named = f"g{generation['number']}" if generation else held.physical
    return f"{', '.join(held.revisions)} built and proven as {named}{since}{refused}"


def _was_collected(state: CollectionState) -> bool:
    """Whether the generation that served before is gone for good."""
    current = state.generation(state.physical)
    if current is None or current.parent is None:
        return False
    return any(row.number == current.parent and row.state == "gone" for row in state.generations)


def _drifted(world: World, state: CollectionState) -> str | None:
    """The first field that is live with another value than recorded, in words; `check` knows the rest."""
    if state.declared is None or state.live is None:
        return None
    found = differences(state.declared, state.live.schema, local=world.capabilities.local)
    # A further alias is somebody's, and moves along.
    counted = [one for one in found if one.kind != "alias.drop"]
    if not counted:
        return None
    more = f", and {len(counted) - 1} more" if len(counted) > 1 else ""
    return f"{counted[0].message}{more}"


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


def _percent(run: OpenRun | None) -> float | None:
    if run is None or not run.total_points:
        return None
    return round(min(100.0, 100.0 * run.done_points / run.total_points), 1)


def _eta(run: OpenRun | None) -> float | None:
    """Seconds left at the average speed so far; None while nothing can be said."""
    if run is None or not run.leased or not run.total_points or not run.done_points:
        return None
    elapsed = (datetime.now(UTC) - run.started_at).total_seconds()
    left = max(0, run.total_points - run.done_points)
    return round(elapsed * left / run.done_points, 1)
