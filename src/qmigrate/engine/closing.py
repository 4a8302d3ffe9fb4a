"""The end of a step: seal, then history, current view, generations and run in one transaction. It moves nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from qmigrate.drift.undeclared import declared_anew, settings_after, settings_of
from qmigrate.engine.epoch_aliases import nothing_of_ours, own, reach, release
from qmigrate.engine.further_names import recorded
from qmigrate.engine.work import Work
from qmigrate.ledger import Fixed, View
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.phases import InPlaceChange, Preflight, Shadow
from qmigrate.model.facts.stored import by_field
from qmigrate.model.names import REHEARSAL
from qmigrate.model.origin import NOTHING, StoredOrigin
from qmigrate.model.plan import (
    APPLYING,
    ASIDE,
    FIXED,
    Adopt,
    Build,
    Closing,
    EditPoints,
    GoLive,
    InPlace,
    Job,
    Retire,
    WriteRows,
)
from qmigrate.model.schema import Change, CollectionSchema, JsonObject
from qmigrate.model.state import Generation, Seal, marks_of
from qmigrate.observe import lacks_seal

#: Work of another module, for the closing transaction.
Also = Callable[[Any, Audited], Audited]
#: The shape of the seal, so that a later version can read an earlier one.
SEAL_VERSION = 1


def seal_of(work: Work, number: int, state: str, revision: str | None, embedders: JsonObject) -> JsonObject:
    """What a collection has about itself in its metadata."""
    checksums = {closing.revision: closing.checksum for closing in work.job.closes}
    checksums.update({entry.revision: entry.checksum for entry in work.state.applied})
    checksum = checksums.get(revision or "")
    seal = Seal(SEAL_VERSION, work.ledger_id, work.collection, number, revision, checksum, state, embedders, work.run)
    return by_field(seal)


def close_golive(
    work: Work, step: GoLive, *, held_until: datetime, report: JsonObject, gone: bool, fixed: Fixed | None = None
) -> int | None:
    """Record that the name moved.

    Args:
        held_until: how long the generation that was left is kept.
        gone: that generation is not there any more.
        fixed: for the audit: a reset, or what was left out on purpose; None where there is nothing to say.

    Returns:
        The id of the audit's row.
    """
    closings = _closings(work)
    declared = _declared(work, closings)
    applied = _applied_after(work)
    generations: list[Generation] = []
    source, target = work.generation(step.source), work.generation(step.target)
    embedders = _embedders(work, step, declared)
    if target is not None:
        target = replace(
            target,
            state="live",
            revisions=applied,
            schema=declared or target.schema,
            held_until=None,
            swept=False,
            settings=_settings(work, target.physical),
        )
        generations.append(target)
        _seal(work, target, applied, embedders)
    if source is not None:
        generations.append(replace(source, state="gone" if gone else "retired", held_until=held_until, swept=True))
    release(work, [step.source, step.target])
    return _close(work, closings, generations, _strategy(work, step), step.target, (), report, embedders, fixed)


def _seal(work: Work, row: Generation, applied: Sequence[str], embedders: JsonObject) -> None:
    """Write the seal of the generation that serves; an earlier holder writes none."""
    seal = seal_of(work, row.number, "live", applied[-1] if applied else None, embedders)
    # Load-bearing: a swap has renamed the earlier alias away, and a late seal of an earlier holder must get 404.
    work.store.write_seal(own(work, row.physical), seal)


def _strategy(work: Work, step: GoLive) -> str:
    """How the target was made, for the history: as its build records in the end, which may have fallen back."""
    if step.apart and step.back:
        return "undo"
    if step.apart:
        return "reset" if _begins_empty(work, step) else "restore"
    if step.target is None:
        return "drop"
    if step.source is None:
        return "create"
    built = (one for one in work.job.steps if isinstance(one, Build) and one.target == step.target)
    return next((one.fill for one in built), "copy")


def _begins_empty(work: Work, step: GoLive) -> bool:
    """Whether the target was made by a reset."""
    origins = (one.origin for one in work.job.steps if isinstance(one, Build) and one.target == step.target)
    return any(StoredOrigin.of(origin).kind == NOTHING for origin in origins)


def close_inplace(work: Work, step: InPlace, report: JsonObject) -> None:
    """Record that the live generation was changed."""
    if REHEARSAL.match(step.target):
        release(work, [step.target])
        _close(work, [], [], "rehearsal", None, (), report, None)
        return
    closings = _closings(work)
    generations, embedders = _recorded(work, step.target, closings, step.changes)
    if lacks_seal(work.state):
        generations = [*generations, *_without_end(work.state.generations)]
    release(work, [step.target])
    earlier = work.facts(InPlaceChange).earlier or {}
    changes = tuple(recorded(change, earlier).to_json() for change in step.changes)
    _close(work, closings, generations, "in_place", step.target, changes, report, embedders)


def close_edit(
    work: Work,
    step: EditPoints,
    fixed: Fixed | None,
    report: JsonObject,
    job: Job | None = None,
    also: Also | None = None,
) -> int | None:
    """Record that points were changed on purpose.

    Args:
        fixed: for the audit; None where nothing was changed.
        job: what is kept of the run's job, where that is not all of it.
        also: done in the same transaction; what it returns goes into the audit.

    Returns:
        The id of the audit's row.
    """
    closings = _closings(work)
    generations: list[Generation] = []
    embedders = None
    # An abort, too: the run that it ends may have sealed the revision already, and died before it was recorded.
    if work.job.supersedes is not None or any(closing.direction != FIXED for closing in closings):
        generations, embedders = _recorded(work, step.target, closings)
    release(work, [step.target])
    return _close(work, closings, generations, "edit", step.target, (), report, embedders, fixed, job, also)


def _settings(work: Work, physical: str) -> JsonObject | None:
    """All settings of what serves now; None where they mean nothing, or are unknown."""
    found = None if work.store.capabilities.local else work.store.describe(reach(work, physical))
    return settings_of(found, work.store.capabilities.version) if found is not None else None


def _recorded(
    work: Work, target: str, closings: Sequence[Closing], changes: Sequence[Change] | None = None
) -> tuple[list[Generation], JsonObject]:
    """The row of a generation that stays, with its seal written, and the embedders of its vectors.

    Args:
        changes: what was changed of its settings; None where it was about points only.
    """
    declared = _declared(work, closings)
    generation = work.generation(target)
    applied = _applied_after(work)
    embedders = _kept_embedders(_known_embedders(work), declared)
    if generation is None or nothing_of_ours(work, target):
        return [], embedders
    settings = generation.settings
    if changes is not None:
        now = _settings(work, target)
        said = (*changes, *declared_anew(work.state.declared, declared))
        settings = settings_after(settings, now, said) if settings and now else now
    generation = replace(generation, revisions=applied, schema=declared or generation.schema, settings=settings)
    _seal(work, generation, applied, embedders)
    return [generation], embedders


def close_retire(work: Work, step: Retire, *, spared: bool = False) -> None:
    """Record that a generation is gone, or was spared."""
    if REHEARSAL.match(step.target) and not spared:
        # It never was a generation: no plan and no number may depend on it.
        work.lease.forget_generation(step.target)
    generation = work.generation(step.target)
    gone = [replace(generation, state="gone", fence=None)] if generation is not None and not spared else []
    release(work, [step.target])
    _close(work, [], gone, "retire", step.target, (), {"reason": step.reason}, None)


def close_repair(work: Work, how: str, physical: str, report: JsonObject, *, gone: bool = False) -> None:
    """Record what was repaired; what is applied, and where, stays as it is recorded.

    Args:
        gone: whether the generation is not there any more; where it served, nothing has the name from then on.
    """
    generation = work.generation(physical)
    rows = [replace(generation, state="gone", fence=None)] if gone and generation is not None else []
    others = (row.physical for row in work.state.generations if row.state == "live" and row.physical != physical)
    serving = next(others, None) if gone else physical
    _close(work, _closings(work), rows, how, serving, (), report, {} if serving is None else None)


def close_write_back(work: Work, step: WriteRows) -> None:
    """Record that the application's SQL is updated."""
    _close(work, [], [], "write_back", step.target, (), {}, None)


def close_adopt(work: Work, step: Adopt) -> None:
    """Record that a collection is under management at these revisions; with what went before nothing leads back."""
    closings = _closings(work)
    if step.target is None:
        gone = [replace(row, state="gone") for row in work.state.generations if row.state != "gone"]
        _close(work, closings, gone, "adopt", None, (), step.report, {})
        return
    declared, applied = _declared(work, closings), _applied_after(work)
    known = next((row for row in work.state.generations if row.physical == step.target), None)
    present = work.store.physical_names()
    left = [row for row in work.state.generations if row.state == "live" and row is not known]
    rows = [replace(row, state="retired" if row.physical in present else "gone") for row in left]
    rows += _beside(work, step)
    if left or lacks_seal(work.state):
        rows += _without_end(work.state.generations)
    row = known or Generation(step.number, step.target, None, (), declared or CollectionSchema(), "live", swept=True)
    row = replace(
        row,
        state="live",
        parent=None,
        revisions=applied,
        schema=declared or row.schema,
        held_until=None,
        settings=_settings(work, step.target),
    )
    embedders = _kept_embedders({**_known_embedders(work), **step.embedders}, declared)
    _seal(work, row, applied, embedders)
    release(work, [step.target, *step.beside])
    _close(work, closings, [*rows, row], "adopt", step.target, (), step.report, embedders)


def _without_end(generations: Sequence[Generation]) -> list[Generation]:
    """Those that are kept, from now on until a human decides otherwise.

    What serves was not what the ledger left there. A user who accepts it may be wrong, and these may have the
    only points that are left.
    """
    return [replace(row, held_until=None) for row in generations if row.state == "retired"]


def _beside(work: Work, step: Adopt) -> list[Generation]:
    """Generations of the ledger that is taken over: kept without an end, and no way back, since their base is lost."""
    rows = []
    for physical, number in step.beside.items():
        found = work.store.describe(reach(work, physical))
        if found is None:
            continue
        work.store.write_seal(own(work, physical), {**(found.seal or {}), "ledger": work.ledger_id, "run": None})
        rows.append(Generation(number, physical, None, (), found.schema.with_(aliases=()), "retired", swept=True))
    return rows


def _close(  # noqa: PLR0913  one transaction
    work: Work,
    closings: Sequence[Closing],
    generations: Sequence[Generation],
    strategy: str,
    physical: str | None,
    changes: Sequence[JsonObject],
    report: JsonObject,
    embedders: JsonObject | None,
    fixed: Fixed | None = None,
    job: Job | None = None,
    also: Also | None = None,
) -> int | None:
    last = work.step == len(work.job.steps) - 1
    view = None
    if embedders is not None and (physical is not None or closings):
        applied = _applied_after(work)
        view = View(
            name=work.collection,
            revision=applied[-1] if applied else None,
            physical=physical,
            declared=_declared(work, closings),
            embedders=embedders,
        )
    return work.lease.close_step(
        work.run,
        work.step,
        closings=closings,
        view=view,
        generations=generations,
        strategy=strategy,
        physical=physical,
        changes=changes,
        report=report,
        phase=work.phase,
        last=last,
        fixed=fixed,
        job=job,
        also=also,
    )


def _closings(work: Work) -> list[Closing]:
    return [closing for closing in work.job.closes if closing.step == work.step]


def _declared(work: Work, closings: Sequence[Closing]) -> CollectionSchema | None:
    return closings[-1].declared if closings else work.state.declared


def _applied_after(work: Work) -> tuple[str, ...]:
    """Applied revisions once this step is closed; repeating a closing changes nothing."""
    applied = list(work.state.applied_revisions())
    for closing in work.job.closes:
        if closing.step > work.step or closing.direction in ASIDE:
            continue
        if closing.revision in applied:
            applied.remove(closing.revision)
        if closing.direction in APPLYING:
            applied.append(closing.revision)
    return tuple(applied)


def _embedders(work: Work, step: GoLive, declared: CollectionSchema | None) -> JsonObject:
    """Vector -> fingerprint after this step: going back, the parent's own seal has them."""
    if step.target is None:
        return {}
    if step.back:
        parent = work.store.describe(reach(work, step.target))
        return dict(marks_of(parent).embedders or {})
    # What a restore brings was embedded by the models of its time.
    known = {} if step.apart else _known_embedders(work)
    for number, made in enumerate(work.job.steps):
        if not isinstance(made, Build) or made.target != step.target:
            # What is next to it, or went live earlier in the run: the view has that.
            continue
        found = work.facts(Preflight, number)
        known = dict(found.models) if found.models is not None else {**known, **(found.embedders or {})}
        known.update(work.facts(Shadow, number).embedders or {})
    return _kept_embedders(known, declared)


def _known_embedders(work: Work) -> JsonObject:
    view = work.lease.ledger.collections().get(work.collection)
    return dict(view.embedders) if view else {}


def _kept_embedders(known: Any, declared: CollectionSchema | None) -> JsonObject:
    names = declared.vector_names() if declared else frozenset()
    return {name: value for name, value in dict(known).items() if name in names}
