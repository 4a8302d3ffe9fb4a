"""The condition of one collection in a word, with the next command; and how far its run is. It reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from qmigrate.commands.held_runs import held_run
from qmigrate.commands.results import Held
from qmigrate.drift import differences, effective
from qmigrate.errors import PlanError, QmigrateError, RevisionError
from qmigrate.model.names import generation_word
from qmigrate.model.state import CollectionState, OpenRun, World, marks_of
from qmigrate.observe import check_ownership
from qmigrate.planner.forward import plan_upgrade
from qmigrate.revisions.graph import Revisions
from qmigrate.text import quote


def condition(world: World, state: CollectionState, missing: tuple[str, ...]) -> tuple[str, str, str | None]:
    """State, what to report about it, and the next command."""
    run = state.open_run
    if run is not None:
        if run.leased:
            return "running", f"{run.verb} on {run.host}", None
        waiting = held_run(run)
        if waiting is not None:
            return "held", _held(waiting), f"qmigrate cutover {quote(state.name)}"
        if run.state == "failed":
            return "failed", run.error or "failed", f"qmigrate upgrade, or qmigrate abort {quote(state.name)}"
        detail = f"{run.verb} of {run.started_at:%H:%M} on {run.host}"
        if run.is_dead:
            detail = f"{detail}; its process is dead: the next command takes over at once"
        return "interrupted", detail, "qmigrate upgrade"
    if world.is_foreign(state.name):
        return "foreign", _foreign(state), None
    if state.kind == "plain" and not state.managed and state.adopted_as != state.name:
        return "plain", f"a plain collection, reached by the alias {state.adopted_as}", None
    if state.kind == "plain" and not state.managed:
        return "plain", "a plain collection, not under management", f"qmigrate adopt {quote(state.name)}"
    if not state.managed:
        return "unmanaged", "not under management", f"qmigrate adopt {quote(state.name)}"
    try:
        check_ownership(world, state.name)
    except QmigrateError as error:
        return "failed", error.message, str(error.facts.get("next", "qmigrate doctor"))
    if state.live is not None and (state.live.status == "red" or state.live.problem):
        return "failed", state.live.problem or "status red", "qmigrate doctor"
    if state.live is not None and state.live.unread is not None:
        return "failed", state.live.unread, "qmigrate doctor"
    if missing:
        return "pending", f"{len(missing)} pending", "qmigrate upgrade"
    differing = drifted(world, state)
    if differing:
        return "drift", differing, f"qmigrate check --only {quote(state.name)}"
    lost = world.vanished(state)
    if lost:
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        gone = lost[0].physical
        return "drift", f"{gone}, a way back, is gone{more}", f"qmigrate repair --vanished {quote(gone)}"
    if state.lost:
        ways = f"qmigrate rollback base --only {quote(state.name)}, then qmigrate upgrade"
        return "gone", f"nothing has the name: its loss is recorded; {ways}, recreates it", None
    parent = state.parent()
    back = ""
    if parent is not None:
        held = f" until {parent.held_until:%b %d}" if parent.held_until else ""
        back = f"can return to {parent.revision or 'base'}{held}"
    elif _was_collected(state):
        back = "no way back: what came before was collected"
    if state.live is not None and state.live.status != "green":
        back = f"{state.live.status}: optimizing" + (f", {back}" if back else "")
    return "ready", back, None


#: What to report about a collection, and the next command.
Said = tuple[str, str | None]


def ways_forward(world: World, files: Revisions, rows: Mapping[str, Said]) -> dict[str, Said]:
    """The same of pending collections with a next command that is not refused, where `upgrade` would be.

    Args:
        rows: logical name, which may be one that a revision creates -> what :func:`condition` says.
    """
    names = [name for name, (_, command) in rows.items() if command == "qmigrate upgrade"]
    heads, missing = files.heads(), files.missing()
    if missing:
        # Neither an upgrade nor a merge sees it: what is there without it only looks like several heads.
        more = f", refused before the file of {', '.join(missing)} is back"
        return {**rows, **{name: (rows[name][0] + more, None) for name in names}}
    if len(heads) > 1:
        more = f", in {len(heads)} heads: {', '.join(heads)}"
        return {**rows, **{name: (rows[name][0] + more, 'qmigrate revision --merge -m "merge"') for name in names}}
    # All in one go first: of a thousand that are in order none has to be planned by itself.
    single = names if _refused(world, files, names) is not None else []
    found = dict(rows)
    for name in single:
        error = _refused(world, files, [name])
        if error is not None:
            # The lint names every operation like that, where it is written; the plan stops at the first one.
            lint = isinstance(error, PlanError | RevisionError)
            command = "qmigrate check --offline" if lint else str(error.facts.get("next", "qmigrate doctor"))
            found[name] = (f"{rows[name][0]}, refused: {error.message}", command)
    return found


def _refused(world: World, files: Revisions, names: Sequence[str]) -> QmigrateError | None:
    try:
        plan_upgrade(world, files, files.resolve("heads", current=frozenset()), only=names)
    except QmigrateError as error:
        return error
    return None


def _foreign(state: CollectionState) -> str:
    """Whose it is: another application's, with a ledger of its own."""
    seal = marks_of(state.live)
    return f"under management of another ledger ({seal.ledger}, at {seal.revision})"


def _held(held: Held) -> str:
    """What is built and waits, and why the last cut-over was refused."""
    since = f" since {held.since:%b %d %H:%M} UTC" if held.since else ""
    refused = f"; the last cut-over was refused: {held.refused}" if held.refused else ""
    return f"{', '.join(held.revisions)} built and proven as {generation_word(held.physical)}{since}{refused}"


def _was_collected(state: CollectionState) -> bool:
    """Whether the generation that served before is gone for good."""
    current = state.generation(state.physical)
    if current is None or current.parent is None:
        return False
    return any(row.number == current.parent and row.state == "gone" for row in state.generations)


def drifted(world: World, state: CollectionState) -> str | None:
    """The first field that is live with another value than recorded, in words; `check` has the rest."""
    if state.declared is None or state.live is None:
        return None
    local = world.capabilities.local
    recorded = state.declared if local else effective(state, world.capabilities.version) or state.declared
    found = differences(recorded, state.live.schema, local=local)
    # A further alias is an application's, and moves along.
    counted = [one for one in found if one.kind != "alias.drop"]
    if not counted:
        return None
    more = f", and {len(counted) - 1} more" if len(counted) > 1 else ""
    return f"{counted[0].message}{more}"


def percent(run: OpenRun | None) -> float | None:
    """How far a run is, 0 to 100, by the points of its copies; None where none are known."""
    if run is None or not run.total_points:
        return None
    return round(min(100.0, 100.0 * run.done_points / run.total_points), 1)


def eta(run: OpenRun | None) -> float | None:
    """Seconds left at the average speed so far; None while it is unknown."""
    if run is None or not run.leased or not run.total_points or not run.done_points:
        return None
    elapsed = (datetime.now(UTC) - run.started_at).total_seconds()
    left = max(0, run.total_points - run.done_points)
    return round(elapsed * left / run.done_points, 1)
