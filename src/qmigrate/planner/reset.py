"""A reset: an empty next generation takes the name, what served is kept; and the way back from one. Pure."""

from __future__ import annotations

from qmigrate.errors import RefusedError
from qmigrate.model.facts.audit import Audited
from qmigrate.model.names import generation_name, unknown
from qmigrate.model.origin import NOTHING
from qmigrate.model.plan import FIXED, Build, Closing, CollectionPlan, GoLive, Job, Plan, Step
from qmigrate.model.state import CollectionState
from qmigrate.observe import unmanaged
from qmigrate.planner.fix import VERB
from qmigrate.planner.members import Position
from qmigrate.planner.plain_names import describe, in_order, settled
from qmigrate.text import quote

_REASON = "it begins empty, with the settings of what serves now; no point is copied or deleted"


def plan_reset(
    ledger_id: str, state: CollectionState, *, reason: str, expect: int | None = None, plain: str = "shadow"
) -> Plan:
    """Make an empty generation of the same schema and go live with it.

    Args:
        ledger_id: the ledger's identity.
        state: of the collection.
        reason: for the audit.
        expect: points that the collection has, where this many were agreed to.
        plain: how a plain name may become an alias: see :func:`qmigrate.planner.plain_names.way_of`.

    Raises:
        UnknownNameError: there is no such collection.
        RefusedError: it is not under management, its next generation waits, or its name can't become an alias.
    """
    live = state.live
    if live is None:
        raise unknown("collection", state.name)
    if not state.in_hand:
        raise unmanaged(ledger_id, state, "is not under management, so a reset could not be undone")
    _refuse_held(state)
    before = Position(state.name, state.declared, live.schema, state.physical, state.next_number, state.hides, plain)
    first: tuple[Step, ...] = ()
    if before.physical == state.name and plain != "shadow":
        first, before = settled(before)
    target = generation_name(state.name, before.number)
    origin = {"kind": NOTHING, "reason": reason, "expect": expect}
    schema = live.schema.with_(aliases=())
    build = Build((), before.physical, target, before.number, schema, "restore", _REASON, origin=origin)
    aliases = (state.name, *live.schema.aliases)
    place = "shadow" if before.physical == state.name else "alias"
    steps = in_order(first, build, GoLive((), before.physical, target, aliases, place=place, apart=True))
    item = CollectionPlan(
        job=Job(state.name, state.basis(), steps, (_closing(state, len(steps) - 1),)),
        lines=(f"reset: {target} begins empty; {live.points:,} points stay in {before.physical} until gc",),
        reasons=(_REASON, *describe(state, list(steps)), "what is written until the swap stays there, and is counted"),
        points=live.points,
        way_back="qmigrate fix undo, with the number that it shows: in milliseconds, while what is left behind is kept "
        "(rebuild.holdover)",
    )
    return Plan(VERB, (), (item,))


def plan_undo_reset(
    state: CollectionState, log: int, told: Audited, *, writes: str = "refuse"
) -> Plan:
    """Back to the generation that a reset has left.

    Args:
        log: the reset's row of the audit.
        told: of that row.
        writes: ``refuse`` when anything was written since, or ``discard`` (it stays in the generation that is left).

    Raises:
        RefusedError: that generation is not kept any more, or something was done since that it doesn't have.
    """
    _refuse_held(state)
    left, parent = str(told.left_in), state.parent()
    if state.physical != told.generation:
        raise RefusedError(
            f"{state.name} was rebuilt since fix {log}: {state.physical} serves now, not {told.generation}",
            hint=f"go back to that first (qmigrate rollback --only {quote(state.name)}), or restore a snapshot: "
            "qmigrate snapshot list",
        )
    if parent is None or parent.physical != left:
        raise RefusedError(
            f"{left}, which fix {log} has left behind, is not kept any more",
            hint="rebuild.holdover sets how long it is; restore a snapshot: qmigrate snapshot list",
        )
    applied = state.applied_revisions()
    if parent.revisions != applied:
        newer = [one for one in applied if one not in parent.revisions] or ["another"]
        raise RefusedError(
            f"{left}, which fix {log} has left behind, is not at the revisions of {state.name}: {', '.join(newer)} was "
            "applied or undone since",
            hint=f"first go to where it was: qmigrate rollback {quote(parent.revision or 'base')} --only "
            f"{quote(state.name)}",
        )
    place = "shadow" if left == state.name else "alias"
    names = (state.name, *(state.live.schema.aliases if state.live else ()))
    golive = GoLive(
        (), state.physical, left, names, back=True, writes=writes, place=place, apart=True, undoes=log
    )
    item = CollectionPlan(
        job=Job(state.name, state.basis(), (golive,), (_closing(state, 0),)),
        lines=(f"undo fix {log}: back to {left}, which served before the reset",),
        reasons=(f"alias re-point, milliseconds; writes since: {writes}",),
        points=state.live.points if state.live else None,
        way_back=f"what serves now stays in {state.physical} until gc",
    )
    return Plan(VERB, (), (item,))


def _closing(state: CollectionState, step: int) -> Closing:
    """A row of the history that applies no revision."""
    return Closing(step, FIXED, FIXED, "", state.declared, state.declared)


def _refuse_held(state: CollectionState) -> None:
    if state.held:
        raise RefusedError(
            f"the next generation of {state.name} is built and waits for its cut-over: it would still have the points",
            hint=f"first cut over to it (qmigrate cutover {quote(state.name)}) or remove it (qmigrate abort "
            f"{quote(state.name)})",
        )
