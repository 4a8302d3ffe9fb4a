"""What is live accepted into a new revision, or drift undone on the live collection; `drift` decides what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from qmigrate.commands.adopt import filled_in
from qmigrate.commands.agreed import as_shown
from qmigrate.commands.results import UpgradeResult
from qmigrate.commands.run_job import RunOptions
from qmigrate.commands.run_plan import perform
from qmigrate.commands.session import Session, session
from qmigrate.declared.replay import replay
from qmigrate.drift import acceptance, effective, plan_restoration
from qmigrate.engine.executor import stop_on_signals
from qmigrate.errors import PendingError, RevisionError
from qmigrate.model.names import unknown
from qmigrate.model.plan import Plan
from qmigrate.model.state import CollectionState, LiveCollection, World
from qmigrate.observe import check_ownership, check_place, known_names, observe
from qmigrate.operations.text.source import CodeWriter, alias_source, change_source, create_source
from qmigrate.planner.forward import pending
from qmigrate.ports import Progress
from qmigrate.revisions.new import create, new_id
from qmigrate.settings.load import Settings
from qmigrate.text import quote

#: The message of a revision of accepted drift when no other is given.
MESSAGE = "what was changed by hand"


@dataclass(frozen=True, slots=True)
class DriftRevision:
    """`revision --from-drift`.

    Attributes:
        path: the new file.
        revision: its id.
        down: ids of the revisions it follows.
        message: first line of its docstring.
        collections: whose drift it accepts.
        missing: what a revision can't express, one line each; it is in the file as a comment.
    """

    path: Path
    revision: str
    down: tuple[str, ...]
    message: str
    collections: tuple[str, ...]
    missing: tuple[str, ...] = ()


def from_drift(
    settings: Settings | None = None,
    message: str | None = None,
    *,
    only: Iterable[str] | None = None,
    revision_id: str | None = None,
) -> DriftRevision:
    """Write a revision whose operations make the recorded schema the live one. It changes nothing else.

    `upgrade` then finds that it is true already: the revision is recorded, and no point and no setting is touched.

    Args:
        message: of the revision.
        only: restrict to these logical names.
        revision_id: instead of the next one.

    Raises:
        PendingError: revisions are pending: they may be what differs.
        RevisionError: nothing differs, or the file can't be written.
        NotFoundError: a name of `only` is not there.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False) as opened:
        world = observe(opened.ledger, opened.store)
        names = _names(world, only)
        found = {name: _source(opened, world, world.collections[name]) for name in names}
    sources = {name: source for name, source in found.items() if source is not None}
    if not sources:
        raise RevisionError("nothing differs from what is recorded: there is nothing to accept", hint="qmigrate check")
    whole = CodeWriter()
    for source in sources.values():
        whole = whole + source
    chosen = new_id(settings.scripts, settings.revision_ids, revision_id)
    made = create(settings.scripts, message or MESSAGE, revision_id=chosen, source=whole)
    missing = tuple(f"{name}: {line}" for name, source in sources.items() for line in source.missing)
    return DriftRevision(made.path, made.id, made.down, message or MESSAGE, tuple(sources), missing)


@dataclass(frozen=True, slots=True)
class LiveRevision:
    """`revision --from-live`.

    Attributes:
        path: the new file.
        revision: its id.
        down: ids of the revisions it follows.
        message: first line of its docstring.
        collection: whose live schema it makes.
        managed: it is under management; else `qmigrate adopt` records it.
        missing: what a revision can't express, one line each; it is in the file as a comment.
    """

    path: Path
    revision: str
    down: tuple[str, ...]
    message: str
    collection: str
    managed: bool
    missing: tuple[str, ...] = ()


def from_live(
    settings: Settings | None, name: str, message: str | None = None, *, revision_id: str | None = None
) -> LiveRevision:
    """Write a revision that makes the live schema of a collection of what the revisions make. It changes nothing else.

    Where no revision makes the collection, it is what `adopt` would write. Where it is under management, it is what
    differs from the revisions, whatever is applied.

    Args:
        name: the logical name.
        message: of the revision.
        revision_id: instead of the next one.

    Raises:
        RevisionError: nothing differs, or the file can't be written.
        NotFoundError: there is no such collection.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False) as opened:
        world = observe(opened.ledger, opened.store, only=[name])
        state = world.collections.get(name)
        if state is None or state.live is None:
            raise unknown("collection", name, known_names(opened.ledger, opened.store))
        source = _live_source(opened, state, state.live)
    if not source.operations:
        raise RevisionError(
            f"the revisions make {name} as it is live: there is nothing to write",
            hint=f"qmigrate check --only {quote(name)}",
        )
    text = message or f"{name} as it is live"
    chosen = new_id(settings.scripts, settings.revision_ids, revision_id)
    made = create(settings.scripts, text, revision_id=chosen, source=source)
    return LiveRevision(made.path, made.id, made.down, text, name, state.managed, source.missing)


def _live_source(opened: Session, state: CollectionState, live: LiveCollection) -> CodeWriter:
    before = replay(opened.revisions, state.name)
    if before is None:
        schema = live.schema.with_(aliases=())
        made = create_source(state.name, schema, defaults=filled_in(opened), unknown=live.unknown)
        return made + alias_source(state.name, live.schema.aliases)
    found = acceptance(before.schema, live.schema, local=opened.store.capabilities.local)
    return change_source(state.name, found, defaults=filled_in(opened))


def _names(world: World, only: Iterable[str] | None) -> list[str]:
    wanted = sorted(world.collections) if only is None else sorted(set(only))
    for name in wanted:
        if name not in world.collections:
            raise unknown("collection", name, world.collections)
    return wanted


def _source(opened: Session, world: World, state: CollectionState) -> CodeWriter | None:
    """Operations for one collection; None where nothing differs."""
    if state.declared is None or state.live is None or not state.managed:
        return None
    check_ownership(world, state.name)
    local, version = world.capabilities.local, world.capabilities.version
    recorded = state.declared if local else effective(state, version) or state.declared
    found = acceptance(recorded, state.live.schema, local=local)
    if not found:
        return None
    wanted = frozenset(revision.id for revision in opened.revisions.order())
    waiting = pending(world, opened.revisions, wanted, state.name)
    if waiting or state.open_run is not None:
        what = f"revisions {', '.join(waiting)} are pending" if waiting else "a run is not finished"
        raise PendingError(
            f"{what} for {state.name}: what differs may be what they change", hint="qmigrate upgrade, then again"
        )
    source = change_source(state.name, found)
    return source if source.operations else None


def restore(
    settings: Settings | None,
    name: str,
    *,
    dry_run: bool = False,
    agreed: Callable[[Plan], None] | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> UpgradeResult:
    """Make the live schema of a collection the recorded one again, in place, and write its seal again.

    Args:
        name: the logical name.
        dry_run: plan only.
        agreed: called with the plan before anything is written; raises where there is no consent.

    Raises:
        RefusedError: nothing of it can be restored in place, or more was changed after the plan was shown.
    """
    settings = settings or Settings.load()
    shown: Plan | None = None
    if dry_run or agreed is not None:
        with session(settings, writes=False) as opened:
            shown = _plan(observe(opened.ledger, opened.store), name)
        if dry_run or not shown.collections:
            return UpgradeResult(plan=shown, resumed=(), outcomes=())
        if agreed is not None:
            agreed(shown)
    with session(settings, writes=True, progress=progress) as opened, stop_on_signals(opened.progress) as stop:
        made, outcomes = perform(
            opened,
            lambda world: as_shown(_plan(world, name), shown),
            RunOptions(stop, lock_timeout, owned=False),
        )
    return UpgradeResult(plan=made, resumed=(), outcomes=tuple(outcomes))


def _plan(world: World, name: str) -> Plan:
    # Who calls it has decided that a collection without its seal is the one that the ledger means.
    check_place(world, name)
    return plan_restoration(world, name)
