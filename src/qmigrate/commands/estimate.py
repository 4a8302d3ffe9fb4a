"""Estimates for plans, and the guard of --max-estimate. They only read; the guard may embed a sample to measure it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from qmigrate.commands.session import Session
from qmigrate.embed.inputs import ImageName, read_input
from qmigrate.embed.pipeline import Pipeline
from qmigrate.errors import PendingError, QmigrateError
from qmigrate.model.plan import Build, CollectionPlan, InPlace, Job, OpRef, Plan, Step
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import OpenRun, World
from qmigrate.model.weight import Weight
from qmigrate.operations.values import Embed
from qmigrate.planner.estimate import (
    ASSUMED,
    MEASURED,
    Copy,
    Speed,
    seconds_of_changes,
    seconds_of_clone,
    seconds_of_copy,
)
from qmigrate.steps.work import Tick, transform_of
from qmigrate.store import records

#: Rows of the history that speeds are looked for in.
_ROWS = 200
#: Points that an embedder is measured with: a few first, since a model is loaded and warmed up by its first batch.
_WARM_UP, _MEASURED_POINTS = 8, 128
#: An image or a long text may take seconds each: what is measured after this many seconds is enough.
_LONGEST_MEASUREMENT = 10.0


def with_estimates(opened: Session, world: World, plan: Plan) -> Plan:
    """The plan with seconds for each collection that it has work for."""
    known = _speeds(opened)
    return replace(plan, collections=tuple(_estimated(opened, world, known, item) for item in plan.collections))


def refuse_longer(opened: Session, world: World, plan: Plan, limit: float, only: Iterable[str] | None = None) -> None:
    """Stop before anything is begun that is expected to take longer than an entrypoint may wait.

    Interrupted runs count with what is left of them. Before it refuses because of an assumed speed, it measures the
    embedders on a sample of points: an assumption must not keep a small collection out.

    Args:
        plan: with estimates.
        limit: seconds.
        only: the logical names that are worked on; None for all.

    Raises:
        PendingError: exit code 3, naming estimate and limit.
    """
    chosen = frozenset(only) if only is not None else None
    known = _speeds(opened)
    found = _expected(opened, world, known, plan, chosen)
    if sum(found.values()) > limit:
        rate = _measured_rate(opened, world, plan)
        if rate is not None:
            estimates = replace(opened.settings.estimates, embed=rate)
            opened = replace(opened, settings=replace(opened.settings, estimates=estimates))
            found = _expected(opened, world, known, with_estimates(opened, world, plan), chosen)
    total = sum(found.values())
    if total > limit:
        longest = max(found, key=lambda name: found[name])
        raise PendingError(
            f"the upgrade is expected to take {_took(total)}, longer than the {_took(limit)} of --max-estimate; "
            f"{_took(found[longest])} of it for {longest}",
            hint="nothing was begun; where it may take that long, run qmigrate upgrade without --max-estimate, or "
            f"allow an entrypoint more: QMIGRATE_MAX_ESTIMATE={_allowing(total)}",
            facts={"seconds": round(total, 1), "limit": limit, "collections": found},
        )


def _expected(
    opened: Session, world: World, known: Sequence[Speed], plan: Plan, chosen: frozenset[str] | None
) -> dict[str, float]:
    """Seconds per logical name, of the plan and of interrupted runs."""
    found = {item.job.collection: item.seconds or 0.0 for item in plan.collections}
    for run in opened.ledger.open_runs():
        name = run.job.collection
        # What is held waits for its cut-over: an upgrade does nothing about it.
        if run.state != "held" and (chosen is None or name in chosen):
            later = next((item for item in plan.collections if item.job.collection == name), None)
            found[name] = _left(opened, world, known, run) + _beyond(opened, world, known, run, later)
    return found


def _measured_rate(opened: Session, world: World, plan: Plan) -> float | None:
    """Points per second of the slowest embedder whose speed is only assumed; None where there is nothing to measure."""
    rates: dict[tuple[str, str], float] = {}
    runs = [run.job for run in opened.ledger.open_runs()]
    for job in [*(item.job for item in plan.collections if item.speed != MEASURED), *runs]:
        state = world.collections.get(job.collection)
        live = state.live if state else None
        if state is None or live is None or state.physical is None:
            continue
        for step in job.steps:
            if isinstance(step, Build) and step.source is not None:
                for filling in _fillings(opened, job, step, live.schema):
                    key = (job.collection, filling.embedder)
                    if key not in rates:
                        rates[key] = _measured(opened, job.collection, state.physical, filling)
    return min((rate for rate in rates.values() if rate > 0), default=None)


def _measured(opened: Session, collection: str, physical: str, filling: Embed) -> float:
    """Points per second, on a sample of the live collection; 0 where nothing could be measured."""
    settings = opened.settings.for_collection(collection)
    try:
        ids = opened.store.sample_ids(physical, _WARM_UP + _MEASURED_POINTS)
        points = opened.store.fetch(physical, ids, vectors=False)
        items = [item for point in points if (item := _item(filling, records.payload_of(point))) is not None]
        if len(items) <= _WARM_UP:
            return 0.0
        embedder = opened.embedder(filling.embedder, settings.embedders)
        done, began = 0, time.monotonic()
        with Pipeline(embedder, None) as pipeline, suppress(_EnoughError):
            pipeline.submit(items[:_WARM_UP], _bounded(began)).result(_bounded(began))
            began = time.monotonic()
            for part in _parts(items[_WARM_UP:]):
                pipeline.submit(part, _bounded(began)).result(_bounded(began))
                done += len(part)
        return done / max(time.monotonic() - began, 1e-6)
    except QmigrateError:
        # What can't be embedded is reported by the upgrade itself, with the point's id.
        return 0.0


class _EnoughError(Exception):
    """A measurement has taken long enough."""


def _bounded(began: float) -> Tick:
    """What is called while a measurement waits: it ends one that takes too long, such as a model that is stuck."""

    def tick(count: int = 0, note: str = "") -> None:
        del count, note
        if time.monotonic() - began > _LONGEST_MEASUREMENT:
            raise _EnoughError

    return tick


def _parts(items: Sequence[Any], size: int = 32) -> Iterator[Sequence[Any]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _item(filling: Embed, payload: dict[str, Any]) -> Any:
    """What the embedder gets for a payload; None where that can't be told without the run."""
    if callable(filling.spec):
        try:
            item = filling.spec(payload)
        except Exception:  # the user's code; the run itself names the point
            return None
    else:
        item = read_input(payload, filling.spec)
    return ImageName(item) if filling.image is not None and isinstance(item, str) else item


def _allowing(seconds: float) -> str:
    """A duration, as settings write it, that lets an estimate through with some room."""
    minutes = int(seconds * 1.2) // 60 + 1
    return f"{minutes}m" if minutes < 120 else f"{minutes // 60 + 1}h"


def _estimated(opened: Session, world: World, known: Sequence[Speed], item: CollectionPlan) -> CollectionPlan:
    seconds, speed = _seconds(opened, world, known, item.job, tuple(enumerate(item.job.steps)))
    measured = _bytes(opened, world, item) if item.bytes is not None else None
    return replace(item, seconds=round(seconds, 1), speed=speed, bytes=item.bytes if measured is None else measured)


def _bytes(opened: Session, world: World, item: CollectionPlan) -> int | None:
    """What the generations that a plan builds from live points take, together; None where it builds none so."""
    builds = [step for step in item.job.steps if isinstance(step, Build) and step.fill in ("copy", "clone")]
    state = world.collections.get(item.job.collection)
    if not builds or state is None or state.live is None:
        return None
    each = (_weight(opened, world, item.job, step) for step in builds)
    return sum(state.live.points * width for width in each)


def _weight(opened: Session, world: World, job: Job, build: Build) -> int:
    """Bytes of a point of a target: the points of today, by a sample, and the new vectors as declared."""
    state = world.collections.get(job.collection)
    live = state.live if state else None
    found = Weight()
    if live is not None and state is not None:
        name = job.collection if state.kind == "alias" else live.physical
        found = opened.weighed(name)
    before = _before(job, build, live.schema if live else None)
    if before is None:
        return found.per_point(build.schema)
    transform = transform_of(tuple(opened.operation(ref) for ref in build.ops), before)
    return found.per_point(build.schema, transform.vectors)


def _seconds(
    opened: Session, world: World, known: Sequence[Speed], job: Job, steps: Sequence[tuple[int, Step]]
) -> tuple[float, str]:
    """Seconds of some steps of a job; assumed as soon as one of them is."""
    state = world.collections.get(job.collection)
    live = state.live if state else None
    points = live.points if live else 0
    rates = opened.settings.estimates
    total, basis = 0.0, MEASURED
    for _, step in steps:
        before = _before(job, step, live.schema if live else None)
        if isinstance(step, Build) and step.fill == "clone" and before is not None:
            weight = _weight(opened, world, job, step)
            copy = Copy(job.collection, points, 0, step.schema, points, weight)
            total, basis = total + seconds_of_clone(copy, before, rates), ASSUMED
        elif isinstance(step, Build) and step.source is not None:
            embeds = _embeds(opened, job, step, live.schema if live else None)
            weight = _weight(opened, world, job, step)
            copy = Copy(job.collection, points, embeds, step.schema, points, weight)
            seconds, speed = seconds_of_copy(copy, known, rates, local=world.capabilities.local)
            total, basis = total + seconds, basis if speed == MEASURED else ASSUMED
        elif isinstance(step, InPlace) and live is not None:
            total, basis = total + seconds_of_changes(step.changes, points, live.schema, rates), ASSUMED
        else:
            total += rates.step
    return total, basis


def _before(job: Job, step: Step, live: CollectionSchema | None) -> CollectionSchema | None:
    """Schema of what a build is made from: an earlier build of the job, or the live collection."""
    source = getattr(step, "source", None)
    return next((one.schema for one in job.steps if isinstance(one, Build) and one.target == source), live)


def _embeds(opened: Session, job: Job, build: Build, live: CollectionSchema | None) -> int:
    """How many vectors the operations of a build embed."""
    return len(_fillings(opened, job, build, live))


def _fillings(opened: Session, job: Job, build: Build, live: CollectionSchema | None) -> list[Embed]:
    """What the operations of a build embed."""
    before = _before(job, build, live)
    if before is None:
        return []
    transform = transform_of(tuple(opened.operation(ref) for ref in build.ops), before)
    return [filling for filling in transform.values.values() if isinstance(filling, Embed)]


def _left(opened: Session, world: World, known: Sequence[Speed], run: OpenRun) -> float:
    """What remains of an interrupted run: the points that are not copied, and the proof and index of all."""
    state = world.collections.get(run.job.collection)
    live = state.live.schema if state and state.live else None
    begun = {record.step for record in run.records}
    total = 0.0
    for position, step in enumerate(run.job.steps):
        closed = run.record(position, "converge" if isinstance(step, Build) else "close")
        if closed is not None and closed.state == "done":
            continue
        if isinstance(step, Build) and step.source is not None and position in begun and run.total_points:
            left = max(0, run.total_points - run.done_points)
            embeds = _embeds(opened, run.job, step, live)
            weight = _weight(opened, world, run.job, step)
            copy = Copy(run.job.collection, left, embeds, step.schema, run.total_points, weight)
            total += seconds_of_copy(copy, known, opened.settings.estimates, local=world.capabilities.local)[0]
        else:
            total += _seconds(opened, world, known, run.job, [(position, step)])[0]
    return total


def _beyond(
    opened: Session, world: World, known: Sequence[Speed], run: OpenRun, later: CollectionPlan | None
) -> float:
    """Steps of a plan for revisions that the interrupted run doesn't bring already."""
    if later is None:
        return 0.0
    covered = run.job.revisions()

    def is_new(step: Step) -> bool:
        refs: tuple[OpRef, ...] = getattr(step, "ops", ())
        return any(ref.revision not in covered for ref in refs)

    steps = [(position, step) for position, step in enumerate(later.job.steps) if is_new(step)]
    return _seconds(opened, world, known, later.job, steps)[0]


def _speeds(opened: Session) -> list[Speed]:
    """Of earlier runs in this ledger, newest first."""
    found = []
    for row in opened.ledger.history(None, _ROWS):
        speed = (row.report or {}).get("speed")
        if speed:
            found.append(Speed(collection=row.collection, **speed))
    return found


def _took(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"
