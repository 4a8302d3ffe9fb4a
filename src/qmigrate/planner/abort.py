"""Undoing a run that did not finish: its shadow is removed, started in-place work is undone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from qmigrate.errors import RefusedError
from qmigrate.model.facts.edits import CallEdit, Edit
from qmigrate.model.facts.fixes import Export
from qmigrate.model.facts.phases import InPlaceChange, Proof, Swap
from qmigrate.model.facts.stored import loaded
from qmigrate.model.names import is_made
from qmigrate.model.plan import (
    Adopt,
    Build,
    CollectionPlan,
    EditPoints,
    Erase,
    GoLive,
    InPlace,
    Job,
    Plan,
    Retire,
    RunCode,
    Step,
    WriteRows,
)
from qmigrate.model.schema import Change, JsonObject
from qmigrate.model.state import DELETING, Capabilities, CollectionState, OpenRun, World, marks_of
from qmigrate.planner.segment import kept
from qmigrate.text import quote

#: Kinds of fixes that only add what was lacking: nothing is lost where they end half-way, and they can be done again.
_ADDING = frozenset({"bring_back", "retry"})


def plan_abort(world: World, *, only: Iterable[str] | None = None, runs: Collection[int] | None = None) -> Plan:
    """Back to the last completed revision of every collection with an unfinished run.

    Args:
        only: logical names; None for all.
        runs: ids of the runs that are meant; None for all. One that was started since is not aborted.

    Raises:
        RefusedError: the name has moved already, or started in-place work can't be undone: it must be finished.
    """
    chosen = frozenset(only) if only is not None else None
    plans, notes = [], list[str]()
    for name, state in sorted(world.collections.items()):
        run = state.open_run
        if run is not None and (chosen is None or name in chosen) and (runs is None or run.id in runs):
            plans.append(_collection(state, run, world, notes))
    return Plan(verb="abort", target=(), collections=tuple(plans), notes=tuple(notes))


def _collection(state: CollectionState, run: OpenRun, world: World, notes: list[str]) -> CollectionPlan:
    if run.job.throwaway:
        return _remove_all(state, run)
    steps: list[Step] = []
    lines: list[str] = []
    _refuse_begun(state, run)
    for position in _unfinished(run):
        step = run.job.steps[position]
        if isinstance(step, InPlace | RunCode | EditPoints) and _was_made_again(state, world, step.target):
            lines.append(f"{step.target} has lost its seal (deleted and recreated?): it is left unchanged")
        elif isinstance(step, Build):
            # Later ones first: they may have been made from the earlier ones.
            steps.insert(0, Retire(step.target, f"abort of run {run.id}"))
            lines.insert(0, f"remove {step.target}, which nothing points to")
        elif isinstance(step, GoLive):
            _refuse_moved(state, run, step)
            _refuse_served(state, run, position, world)
            _refuse_gap(state, run, step, position)
            _refuse_carried(state, run, step, position)
            notes += _deleted_again(run, step, position)
        elif isinstance(step, Adopt) and run.record(position, "name") is not None:
            if run.record(position, "close") is None and state.physical not in (None, step.target):
                lines.append(f"{state.name} leads to {state.physical} now, and stays there; nothing of it is recorded")
                continue
            raise RefusedError(
                f"run {run.id} has begun to take {state.name} under management: it can only be finished",
                hint="finish it: qmigrate upgrade",
            )
        elif isinstance(step, InPlace) and run.record(position, "change") is not None:
            steps.append(_undo(state, run, step, position, world.capabilities))
            lines.append("undo: " + "; ".join(change.describe() for change in step.changes))
        elif isinstance(step, Erase):
            raise RefusedError(
                f"run {run.id} erases points of {state.name} everywhere: it can only be finished",
                hint="finish it: qmigrate upgrade",
            )
        elif isinstance(step, WriteRows):
            lines.append("nothing more is written to the application's SQL; what was written stays, as does the swap")
        elif isinstance(step, RunCode):
            # Nothing is undone, but the collection may have been sealed at the revision already.
            steps.append(_undone(run, step, position, {"kind": "undo", "nothing": True}))
            if run.record(position, "change") is not None:
                lines.append(f"what {loaded(CallEdit, step.edit).function} has done so far stays: it is your own code")
        elif isinstance(step, EditPoints):
            steps.append(_taken_back(run, step, position))
            adds = Edit.of(step.edit).kind in _ADDING
            lines.append("points restored so far stay" if adds else "undo what the fix has changed")
    for abandoned in _given_up(state, run):
        steps.append(Retire(abandoned, f"abort of run {run.id}"))
        lines.append(f"remove {abandoned}, which the run has abandoned")
    job = Job(state.name, state.basis(journal=True), tuple(steps), (), supersedes=run.id)
    return CollectionPlan(job=job, lines=tuple(lines) or ("nothing was started",), reasons=())


def _was_made_again(state: CollectionState, world: World, physical: str) -> bool:
    """Whether an application's collection is not the one that the run has worked on: nothing of that is in it."""
    row = state.generation(physical)
    if state.live is None or row is None or state.physical != physical or is_made(physical):
        return False
    return not marks_of(state.live).is_of(world.ledger_id, row.number)


def _refuse_begun(state: CollectionState, run: OpenRun) -> None:
    """A request that deletes may be on its way, whichever process has sent it: what it is about never serves again."""
    if not run.job.repeatable:
        # What such a run deletes, it abandoned itself, and an abort removes that as well.
        return
    for step in run.job.steps:
        row = state.generation(step.target)
        if row is not None and row.state == DELETING:
            raise RefusedError(
                f"run {run.id} has begun to delete {step.target}, and a deletion can only be finished",
                hint=f"qmigrate gc {quote(state.name)} resumes it, and so does qmigrate upgrade",
            )


def _given_up(state: CollectionState, run: OpenRun) -> list[str]:
    """Generations that the run started and abandoned for another number: it would have removed them at the end.

    What else a run retires was live once, and is not removed by an abort.
    """
    return [
        step.target
        for position, step in enumerate(run.job.steps)
        if isinstance(step, Retire) and not _done(run, position) and _is_building(state, step.target)
    ]


def _is_building(state: CollectionState, physical: str) -> bool:
    row = state.generation(physical)
    return row is not None and (row.state == "building" or (row.state == DELETING and row.never_served))


def _remove_all(state: CollectionState, run: OpenRun) -> CollectionPlan:
    """Of a rehearsal nothing stays, however far it came."""
    # Later ones first: they were made from the earlier ones.
    made = list(dict.fromkeys(str(step.target) for step in run.job.steps))[::-1]
    steps = tuple(Retire(target, f"abort of run {run.id}") for target in made)
    job = Job(state.name, state.basis(journal=True), steps, (), supersedes=run.id)
    return CollectionPlan(job=job, lines=tuple(f"remove {target}, a throwaway" for target in made), reasons=())


def _unfinished(run: OpenRun) -> list[int]:
    """Steps that were begun and not recorded, in the order of the job; those of a completed revision are left.

    A build is recorded by the go-live with what it has built, which may come later than other go-lives.
    """
    steps = run.job.steps
    last = max((position for position in range(len(steps)) if _done(run, position)), default=-1)
    live = {step.target for position, step in enumerate(steps) if isinstance(step, GoLive) and _done(run, position)}
    begun = sorted({record.step for record in run.records if record.step < len(steps)})
    return [
        position
        for position in begun
        if (steps[position].target not in live if isinstance(steps[position], Build) else position > last)
    ]


def _done(run: OpenRun, step: int) -> bool:
    record = run.record(step, "close")
    return record is not None and record.state == "done"


def _refuse_moved(state: CollectionState, run: OpenRun, step: GoLive) -> None:
    if state.physical == step.target and step.target != step.source:
        raise RefusedError(
            f"{state.name} is live on {step.target or 'no collection'} already, so run {run.id} can only be finished",
            hint=f"finish it: qmigrate upgrade; then go back: qmigrate rollback --only {quote(state.name)}",
        )


def _refuse_served(state: CollectionState, run: OpenRun, position: int, world: World) -> None:
    """The name was moved by the run and moved back by hand: what was written in between is there."""
    step, record = run.job.steps[position], run.record(position, "swap")
    moved = record is not None and (record.state == "done" or run.facts(Swap, position).moved)
    if not moved or step.target is None or (world.physical is not None and step.target not in world.physical):
        return
    raise RefusedError(
        f"run {run.id} had moved {state.name} to {step.target} before another client moved it elsewhere: writes to "
        f"{step.target} while it served exist only there",
        hint=f"point the alias {quote(state.name)} to {quote(step.target)} again: then qmigrate upgrade finishes "
        f"the run, and qmigrate rollback --only {quote(state.name)} --carry-writes goes back with what was written\n"
        f"if it is not needed: delete {quote(step.target)} in Qdrant, then qmigrate abort {quote(state.name)}",
    )


def _refuse_carried(state: CollectionState, run: OpenRun, step: GoLive, position: int) -> None:
    """A rollback that has begun to write into the parent: what it was is not known to the byte any more.

    Nor is one ended that keeps points of the parent in a file, which its end alone records.
    """
    record = run.record(position, "converge") if step.back else None
    if step.back and run.facts(Proof, position).kept:
        raise RefusedError(
            f"run {run.id} has begun to delete points again in {step.target} which fixes have deleted since, and keeps "
            "them for an undo, so it can only be finished",
            hint="finish it: qmigrate upgrade continues it; then qmigrate history --deletions shows the number for "
            "qmigrate fix undo",
        )
    brought = record is not None and run.facts(Proof, position).brought is not False
    if brought and not step.apart and step.writes != "discard":
        raise RefusedError(
            f"run {run.id} has begun to bring writes back into {step.target}, so it can only be finished",
            hint=f"finish it: qmigrate upgrade; then {state.name} can be upgraded again",
        )


def _deleted_again(run: OpenRun, step: GoLive, position: int) -> list[str]:
    """A way back that has begun to delete where it goes to: what that generation was is in no place any more.

    Where it may have been overtaken by a write that it can't bring along, it can't be finished either. Then an abort
    ends it: what fixes have deleted stays deleted there as well, and nothing was brought.

    Returns:
        That, as a note for people.

    Raises:
        RefusedError: it can be finished.
    """
    proof = run.facts(Proof, position)
    if not step.back or proof.deleted_again is None:
        return []
    if proof.brought is False and not step.apart and step.writes in ("refuse", "carry"):
        return [f"{run.job.collection}: what fixes have deleted since {step.target} was left stays deleted there, too"]
    raise RefusedError(
        f"run {run.id} has begun to delete in {step.target}, too, what fixes have deleted since it was left, so it "
        "can only be finished",
        hint="finish it: qmigrate upgrade continues it; qmigrate history --deletions lists what can be undone",
    )


def _refuse_gap(state: CollectionState, run: OpenRun, step: GoLive, position: int) -> None:
    """Once the deletion of the plain collection has begun, the new generation is the only one that has its points."""
    gap = run.facts(Swap, position).gap
    row = state.generation(step.source)
    # Where the server has answered that it deletes nothing, the record of it was removed.
    refused = gap is not None and gap.recorded and row is not None and row.state == "live"
    if gap is not None and not refused:
        raise RefusedError(
            f"run {run.id} has deleted the plain collection {step.source}; its points are in {step.target}, so the "
            "run can only be finished",
            hint="finish it: qmigrate upgrade",
        )


def _taken_back(run: OpenRun, step: EditPoints, position: int) -> EditPoints:
    begun = run.record(position, "change") is not None and Edit.of(step.edit).kind not in _ADDING
    undo = Edit.of(step.edit).undo
    if begun and undo is None:
        raise RefusedError(
            f"run {run.id} has begun to change points of {run.job.collection}, and keeps no copy to restore them "
            "from: it can only be finished",
            hint="finish it: qmigrate upgrade",
        )
    return _undone(run, step, position, {"kind": undo or "undo", "nothing": not begun})


def _undone(run: OpenRun, step: EditPoints, position: int, edit: JsonObject) -> EditPoints:
    file = run.facts(Export, position).file
    where = {"run": run.id, "step": position, "generation": step.target, "started": run.started_at.isoformat()}
    where |= {"file": file} if file else {}
    return EditPoints((), step.target, {**edit, **where, "drops": True}, f"abort of run {run.id}")


def _undo(
    state: CollectionState, run: OpenRun, step: InPlace, position: int, capabilities: Capabilities
) -> InPlace:
    made = [change for change in reversed(step.changes) if kept(change, capabilities)]
    lossy = [change for change in made if not change.undoable()]
    if lossy:
        raise RefusedError(
            f"run {run.id} has begun to change {state.name} in place, and that can't be undone: {lossy[0].describe()}",
            hint="finish it: qmigrate upgrade",
        )
    done = run.facts(InPlaceChange, position)
    undone = tuple(_reversed(change, done) for change in made)
    return InPlace((), step.target, undone, f"abort of run {run.id}")


def _reversed(change: Change, done: InPlaceChange) -> Change:
    """A started change undone; an alias goes back to where it led, or comes from where the run has put it."""
    earlier, given = done.earlier or {}, done.given or {}
    if change.kind == "alias.add" and change.name in earlier:
        return Change("alias.drop", change.name, after={"physical": earlier[change.name]})
    if change.kind == "alias.drop":
        return Change("alias.add", change.name, before={"physical": given.get(change.name)})
    return change.reverse()
