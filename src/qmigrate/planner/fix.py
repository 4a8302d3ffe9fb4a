"""Data fixes outside of revisions, as jobs of one step; and undoing one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qmigrate.errors import RefusedError
from qmigrate.model import names
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import Edit, UndoEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.names import unknown
from qmigrate.model.plan import (
    FIXED,
    Closing,
    CollectionPlan,
    EditPoints,
    Job,
    OpRef,
    Plan,
    RunCode,
    edit_step,
)
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_beside_held, unmanaged
from qmigrate.operations.base import Operation
from qmigrate.text import counted, quote

VERB = "fix"
#: Why nothing is changed of a collection that is not under management; behind its name.
UNRECORDED = "is not under management, so changes could not be recorded"


def fixed_by(world: World, operation: Operation, *, looking: bool = False) -> list[CollectionState]:
    """The collections that a fix is about.

    Args:
        looking: nothing will be changed: where it means none under management, those that are not are read.

    Raises:
        PlanError: it is not a data fix, or there is no such collection.
        RefusedError: a collection that it names is not under management, or its next generation waits.
    """
    edit = operation.edit()
    if edit is None:
        raise operation.error("is not a data fix", hint="put it into a revision: qmigrate revision")
    if Edit.of(edit).kind == RunCode.kind:
        # A run that was interrupted finds the function again by its revision alone.
        raise operation.error(
            "can only be done in a revision, where an interrupted run finds the function again",
            hint="write it into one: qmigrate revision",
        )
    operation = operation.bound(world.known)
    matching = [state for name, state in sorted(world.collections.items()) if operation.matches(name)]
    found = [state for state in matching if state.managed and state.live is not None]
    if not found and looking:
        found = [state for state in matching if state.live is not None]
    if not found and not operation.is_glob:
        _refuse_unmanaged(operation, matching, world)
    if not matching:
        raise unknown("collection", str(operation.pattern), world.known)
    if not found:
        raise operation.error(f"no collection under management matches {operation.pattern}")
    for state in found:
        operation.check(state.declared or (state.live.schema if looking and state.live is not None else None))
    return found


def plan_fix(
    world: World, edits: Sequence[tuple[Operation, JsonObject]], *, looking: bool = False
) -> Plan:
    """One job per collection that an operation is about.

    Args:
        edits: each operation with its edit as it is to be done: narrowed to some ids, for example.
        looking: the plan is only counted, never done.
    """
    steps: dict[str, list[EditPoints]] = {}
    lines: dict[str, list[str]] = {}
    for operation, edit in edits:
        for state in fixed_by(world, operation, looking=looking):
            reason = Edit.of(edit).reason or operation.describe()
            steps.setdefault(state.name, []).append(edit_step((), str(state.physical), edit, reason))
            lines.setdefault(state.name, []).append(operation.describe())
    planned = [planned_fix(world, name, made, lines[name]) for name, made in steps.items()]
    notes = dict.fromkeys(note for operation, _ in edits for note in _met_notes(world, operation, looking))
    return Plan(verb=VERB, target=(), collections=tuple(planned), notes=tuple(notes))


def _met_notes(world: World, operation: Operation, looking: bool) -> Iterator[str]:
    """What a glob means here: shown before the deletion."""
    found = [state.name for state in fixed_by(world, operation, looking=looking)]
    if operation.bound(world.known).is_glob:
        yield names.words(operation.pattern, found)


def planned_fix(world: World, name: str, steps: Sequence[EditPoints], lines: Sequence[str]) -> CollectionPlan:
    """Steps as the job of one collection; its end is a row of the history that applies no revision."""
    state = world.collections[name]
    job = Job(name, state.basis(), tuple(steps), (_closing(state, len(steps) - 1),))
    if state.held and not job.beside_held:
        raise RefusedError(
            f"the next generation of {name} is built and waits for its cut-over: a fix would change only one of them",
            hint=f"first cut over to it (qmigrate cutover {quote(name)}) or remove it (qmigrate abort "
            f"{quote(name)})",
        )
    if state.held:
        check_beside_held(world, name)
    undoable = not job.beside_held
    return CollectionPlan(
        job=job,
        lines=tuple(lines),
        reasons=("points of the live collection, each recorded for undo" if undoable else "points erased for good",),
        points=state.live.points if state.live else None,
        way_back="qmigrate fix undo, with the number that it shows" if undoable else "none",
    )


def _closing(state: CollectionState, step: int) -> Closing:
    return Closing(step, FIXED, FIXED, "", state.declared, state.declared)


def plan_undo_fix(
    world: World,
    name: str,
    told: Audited,
    edit: JsonObject,
    refs: Sequence[OpRef] = (),
    checksums: Mapping[str, str] | None = None,
) -> Plan:
    """Undo what one fix has changed.

    Args:
        told: of its row in the audit.
        edit: for :class:`qmigrate.engine.fixes.undo.Undo`.
        refs: the operations since, through which points go.
        checksums: of their revisions.
    """
    state = world.collections.get(name)
    if state is None or not state.managed or state.live is None:
        raise RefusedError(f"{name} does not exist any more, so nothing in it can be undone")
    words = f"undo fix {loaded(UndoEdit, edit).log}: {counted(told.changed or 0, 'point')}"
    step = EditPoints(tuple(refs), str(state.physical), edit, Edit.of(edit).reason or words)
    return Plan(
        verb=VERB, target=(), collections=(planned_fix(world, name, [step], [words]),), checksums=checksums
    )


def _refuse_unmanaged(operation: Operation, matching: Sequence[CollectionState], world: World) -> None:
    if matching and matching[0].kind != "absent":
        raise unmanaged(world.ledger_id, matching[0], UNRECORDED)
    raise unknown("collection", operation.pattern, world.known)
