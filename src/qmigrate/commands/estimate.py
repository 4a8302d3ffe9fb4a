"""Estimates for plans, and the guard of --max-estimate. They only read; the guard may embed a sample to measure it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace

from qmigrate.commands.session import Session
from qmigrate.commands.trials import Trials
from qmigrate.embed import price_of, sends, together_of
from qmigrate.embed.options import speed_key
from qmigrate.embed.pipeline import Pipeline
from qmigrate.embed.stream import Failure
from qmigrate.engine.golive.freeze import AROUND
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.engine.work import Tick, transform_of
from qmigrate.errors import PendingError, QmigrateError
from qmigrate.ledger.codec import RunRow
from qmigrate.ledger.watching import worked_when_held
from qmigrate.model.facts.history import Measured
from qmigrate.model.plan import Build, CollectionPlan, EmbeddingCost, GoLive, InPlace, Job, OpRef, Plan, Step
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import LiveCollection, OpenRun, World
from qmigrate.model.transform import PointTransform
from qmigrate.model.weight import Weight
from qmigrate.operations.values import Embed
from qmigrate.planner.estimate import (
    ASSUMED,
    FEWEST_POINTS,
    MEASURED,
    TRIED,
    Copy,
    Speed,
    Trial,
    cost_of,
    parts_of_copy,
    rate_of,
    seconds_of_changes,
    seconds_of_clone,
    steps_of,
    weakest,
)
from qmigrate.ports import CountsTokens
from qmigrate.settings.load import Settings
from qmigrate.store import records
from qmigrate.text import took

#: Seconds for which a point is listed on both sides, conservatively.
LISTED = 10e-6
#: Rows of the history that speeds are looked for in.
_ROWS = 200
#: Points that an embedder is measured with at most, and of one batch: each is twice as large as the one before, since
#: a model is warmed up by its first batch, and a device is only as fast as its batches are large.
_MEASURED_POINTS, _AT_ONCE = 510, 256
#: Seconds of such a trial, in which a plan is waited for.
_LONGEST_TRIAL = 3.0
#: Points by whose texts tokens are estimated.
_COUNTED = 512
#: An image or a long text may take seconds each: what is measured after this many seconds is enough.
_LONGEST_MEASUREMENT = 10.0


def with_estimates(opened: Session, world: World, plan: Plan, *, trial: bool | None = False) -> Plan:
    """The plan with seconds for each collection that it has work for, with room, and with what embedding costs.

    Args:
        trial: whether embedders that no earlier run shows the speed of are tried on a handful of items: all of them,
            none, or with None those that send nothing to a service. Where it is not False, a little of the live
            collections is read and searched as well, if no run shows what that takes.
    """
    known = speeds_of(opened)
    trials = None if trial is False else Trials(opened)
    found = (_estimated(opened, world, known, item, trial, trials) for item in plan.collections)
    return replace(plan, collections=tuple(found))


def with_pauses(opened: Session, world: World, plan: Plan) -> Plan:
    """The plan with what it means for writers that a name moves: refused for about how long, or what may be listed."""
    found = [note for item in plan.collections for note in _pauses(opened, world, item.job)]
    return replace(plan, notes=(*plan.notes, *found))


def _pauses(opened: Session, world: World, job: Job) -> Iterator[str]:
    estimated, name = _Estimated(opened, world, job), job.collection
    settings = opened.settings.for_collection(name)
    policy, limit = settings.rebuild.writes, settings.limits.write_pause
    builds = {step.target: step for step in job.steps if isinstance(step, Build)}
    for step in (one for one in job.steps if isinstance(one, GoLive) and one.source is not None):
        build = builds.get(str(step.target))
        if build is None or estimated.live is None or world.capabilities.local:
            continue
        points = estimated.live.points
        rekeyed = any(opened.operation(ref).rekeys for ref in build.ops)
        if world.capabilities.versions and not rekeyed:
            seconds = AROUND + points * LISTED
        else:
            seconds = AROUND + points * estimated.weight(build) / opened.settings.estimates.copy
        if policy == "freeze" or rekeyed or step.place == "gap" or (policy == "auto" and seconds <= limit):
            yield f"{name}: writes are refused for about {took(seconds)} before its name moves"
            continue
        if policy == "auto":
            yield (
                f"{name}: writes continue while its name moves: refusing them would take about {took(seconds)}, longer "
                f"than limits.write_pause ({took(limit)})"
            )
        # With `refuse`, too, there are moments between the proof and the swap.
        yield (
            f"{name}: what the old generation takes while its name moves is carried over; an id that is inserted then, "
            "next to deletions, is listed to be reviewed"
        )


def refuse_longer(opened: Session, world: World, plan: Plan, limit: float, only: Iterable[str] | None = None) -> None:
    """Stop before anything is begun that is expected to take longer than an entrypoint may wait.

    Interrupted runs count with what is left of them. Where no run has shown how fast an embedder is, and before it
    refuses because of an assumed speed, it measures the embedders on a sample of points.

    Args:
        plan: with estimates.
        limit: seconds.
        only: the logical names that are worked on; None for all.

    Raises:
        PendingError: exit code 3, naming estimate and limit.
    """
    chosen = frozenset(only) if only is not None else None
    known, trials = speeds_of(opened), Trials(opened)
    plan = _with_seconds(opened, world, known, plan, trials)
    found = _expected(opened, world, known, plan, chosen, trials)
    jobs = [run.job for run in opened.ledger.open_runs() if run.state != "held"]
    unknown = any(item.unmeasured for item in plan.collections) or any(
        _unmeasured(_Estimated(opened, world, job), known) for job in jobs
    )
    # An assumption neither keeps a small collection out nor lets a slow model in.
    if unknown or sum(found.values()) > limit:
        rate = _measured_rate(opened, world, plan)
        if rate is not None:
            opened = _embedding_at(opened, rate)
            plan = _with_seconds(opened, world, known, plan, trials)
            found = _expected(opened, world, known, plan, chosen, trials)
    total = sum(found.values())
    if total > limit:
        longest = max(found, key=lambda name: found[name])
        raise PendingError(
            f"the upgrade is expected to take {_took(total)}, longer than the {_took(limit)} of --max-estimate; "
            f"{_took(found[longest])} of it for {longest}",
            hint="nothing was started; where it may take that long, leave out --max-estimate, or "
            f"allow an entrypoint more: QMIGRATE_MAX_ESTIMATE={_allowing(total)}",
            facts={"seconds": round(total, 1), "limit": limit, "collections": found},
        )


def _embedding_at(opened: Session, rate: float) -> Session:
    """The session as if its settings said that this many points are embedded per second."""
    estimates = replace(opened.settings.estimates, embed=rate)
    return replace(opened, settings=replace(opened.settings, estimates=estimates))


def _with_seconds(opened: Session, world: World, known: Sequence[Speed], plan: Plan, trials: Trials) -> Plan:
    """The plan with seconds that rest on what is measured, where that is possible; nothing is embedded for it."""
    found = []
    for item in plan.collections:
        job = _Estimated(opened, world, item.job, trials)
        seconds, speed = _seconds(job, known, item.job.steps)
        unmeasured = _unmeasured(job, known)
        found.append(replace(item, seconds=round(seconds, 1), speed=speed, unmeasured=unmeasured))
    return replace(plan, collections=tuple(found))


def _expected(
    opened: Session,
    world: World,
    known: Sequence[Speed],
    plan: Plan,
    chosen: frozenset[str] | None,
    trials: Trials,
) -> dict[str, float]:
    """Seconds per logical name, of the plan and of interrupted runs."""
    found = {item.job.collection: item.seconds or 0.0 for item in plan.collections}
    for run in opened.ledger.open_runs():
        name = run.job.collection
        # What is held waits for its cut-over: an upgrade does nothing about it.
        if run.state != "held" and (chosen is None or name in chosen):
            later = next((item for item in plan.collections if item.job.collection == name), None)
            left = _left(_Estimated(opened, world, run.job, trials), known, run)
            more = _Estimated(opened, world, later.job, trials) if later is not None else None
            found[name] = left + _beyond(more, known, run)
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
        planned = _Estimated(opened, world, job)
        for step in job.steps:
            if isinstance(step, Build) and step.source is not None:
                for filling in planned.fillings(step):
                    key = (job.collection, filling.embedder)
                    if key not in rates:
                        rates[key] = _measured(opened, job.collection, state.physical, filling)
    return min((rate for rate in rates.values() if rate > 0), default=None)


def _measured(
    opened: Session, collection: str, physical: str, filling: Embed, longest: float = _LONGEST_MEASUREMENT
) -> float:
    """Points per second, on a sample of the live collection; 0 where nothing could be measured.

    Args:
        longest: seconds; what was measured by then is enough.
    """
    settings = opened.settings.for_collection(collection)
    try:
        ids = opened.store.sample_ids(physical, _MEASURED_POINTS)
        points = opened.store.fetch(physical, ids, vectors=False)
        found = [embed_input(filling, records.payload_of(point)) for point in points]
        # What is unknown without the run is left to it: it names the point.
        items = [item for item in found if item is not None and not isinstance(item, Failure)]
        embedder = opened.embedder(filling.embedder, settings.embedders)
        rate, began, first = 0.0, time.monotonic(), 0
        with Pipeline(embedder, None) as pipeline, suppress(_EnoughError):
            while first < len(items):
                # 2, 4, 8, …: the largest batch that there was time for shows the speed.
                part = items[first : first + min(first + 2, _AT_ONCE)]
                started = time.monotonic()
                pipeline.submit(part, _bounded(began, longest)).result(_bounded(began, longest))
                # A short rest at the end says little; it counts where there is nothing else.
                if first == 0 or len(part) * 2 >= min(first + 2, _AT_ONCE):
                    rate = len(part) / max(time.monotonic() - started, 1e-6)
                first += len(part)
        return rate
    except QmigrateError:
        # What can't be embedded is reported by the upgrade itself, with the point's id.
        return 0.0


class _EnoughError(Exception):
    """A measurement has taken long enough."""


def _bounded(began: float, longest: float) -> Tick:
    """What is called while a measurement waits: it ends one that takes too long, such as a model that is stuck."""

    def tick(count: int = 0, note: str = "") -> None:
        del count, note
        if time.monotonic() - began > longest:
            raise _EnoughError

    return tick


def _allowing(seconds: float) -> str:
    """A duration, as settings write it, that lets an estimate through with some room."""
    minutes = int(seconds * 1.2) // 60 + 1
    return f"{minutes}m" if minutes < 120 else f"{minutes // 60 + 1}h"


def _estimated(
    opened: Session,
    world: World,
    known: Sequence[Speed],
    item: CollectionPlan,
    trial: bool | None,
    trials: Trials | None,
) -> CollectionPlan:
    job = _Estimated(opened, world, item.job, trials)
    unmeasured = _unmeasured(job, known)
    rates = {} if trial is False else _tried(job, unmeasured, everything=trial is True)
    told = replace(item, unmeasured=tuple(name for name in unmeasured if name not in rates))
    if rates:
        # Of the embedders of a build each does its part of the work.
        each = sum(1 / rate for rate in rates.values()) / len(rates)
        job = _Estimated(_embedding_at(opened, 1 / each), world, item.job, trials, frozenset(rates))
    seconds, speed = _seconds(job, known, item.job.steps)
    costs = tuple(_costs(job, known, rates, trial))
    unknown = _unknown(job, known) if speed == ASSUMED else ()
    told = replace(told, seconds=round(seconds, 1), speed=speed, costs=costs, unknown=unknown)
    if item.bytes is None:
        return told
    measured = _bytes(job)
    return told if measured is None else replace(told, bytes=measured[0], memory=measured[1])


def _tried(job: _Estimated, names: Sequence[str], *, everything: bool) -> dict[str, float]:
    """Embedder -> points per second here, of those that may be tried and that do anything."""
    settings = job.opened.settings.for_collection(job.job.collection)
    state = job.world.collections.get(job.job.collection)
    found: dict[str, float] = {}
    if state is None or state.physical is None:
        return found
    for step in job.copies():
        for filling in job.fillings(step):
            name = filling.embedder
            config = settings.embedders.get(name, {})
            # What the server makes while points are written takes its time there.
            barred = config.get("type") == "qdrant" or (sends(config) and not everything)
            if name not in names or name in found or barred:
                continue
            rate = _measured(job.opened, job.job.collection, state.physical, filling, _LONGEST_TRIAL)
            if rate > 0:
                found[name] = rate
    return found


def _costs(
    job: _Estimated, known: Sequence[Speed], tried: Mapping[str, float], trial: bool | None
) -> Iterator[EmbeddingCost]:
    """What each of its embedders has to do, and what that costs.

    Args:
        trial: as :func:`with_estimates` has it: also which tokens are counted that no price or budget is about.
    """
    settings = job.opened.settings.for_collection(job.job.collection)
    state = job.world.collections.get(job.job.collection)
    if job.live is None or state is None or state.physical is None:
        return
    for step in job.copies():
        for filling in job.fillings(step):
            config = settings.embedders.get(filling.embedder, {})
            points, price = job.live.points, price_of(config)
            free = trial if trial is not None else not sends(config)
            asked = free or price is not None or settings.rebuild.budget is not None or bool(config.get("tokenizer"))
            counted = _tokens(job.opened, settings, state.physical, filling) if asked else None
            cost = cost_of(filling.embedder, points, counted, price, together_of(config))
            rate, speed = rate_of(job.key(filling), job.job.collection, known), MEASURED
            if rate is None:
                rate, speed = tried.get(filling.embedder), TRIED
            if rate is not None:
                cost = replace(cost, seconds=round(points / rate, 3), speed=speed)
            yield cost


def _tokens(opened: Session, settings: Settings, physical: str, filling: Embed) -> list[int] | None:
    """Of each text of a sample; None where they can't be counted."""
    try:
        embedder = opened.embedder(filling.embedder, settings.embedders)
        if not isinstance(embedder, CountsTokens):
            return None
        ids = opened.store.sample_ids(physical, _COUNTED)
        points = opened.store.fetch(physical, ids, vectors=False)
        found = [embed_input(filling, records.payload_of(point)) for point in points]
        # A point without a text costs nothing.
        texts = [one if type(one) is str else "" for one in found]
        counted = embedder.count_tokens([one for one in texts if one])
        return None if counted is None else [*counted, *([0] * texts.count(""))]
    except QmigrateError:
        # The upgrade reports what is wrong with it.
        return None


def _unmeasured(job: _Estimated, known: Sequence[Speed]) -> tuple[str, ...]:
    """Embedders of a job's copies that no earlier run shows the speed of."""
    shown = {model for speed in known if speed.points >= FEWEST_POINTS for model in speed.models}
    # Of runs before that was recorded nothing else is known than how many vectors they filled.
    before = {speed.embeds for speed in known if not speed.models and speed.collection == job.job.collection}
    found: set[str] = set()
    for step in job.copies():
        fillings = job.fillings(step)
        if len(fillings) not in before:
            found |= {one.embedder for one in fillings if job.key(one) not in shown}
    return tuple(sorted(found))


@dataclass(slots=True)
class _Estimated:
    """One job over what is there. What the operations of a build make of a point is planned once, for all who ask.

    Attributes:
        trials: of live collections; None where none are made.
        tried: embedders whose speed a trial has shown, and ``estimates.embed`` of the session has.
    """

    opened: Session
    world: World
    job: Job
    trials: Trials | None = None
    tried: frozenset[str] = frozenset()
    _planned: dict[str, PointTransform | None] = field(default_factory=dict)

    @property
    def live(self) -> LiveCollection | None:
        """What serves the name."""
        state = self.world.collections.get(self.job.collection)
        return state.live if state else None

    def before(self, step: Step) -> CollectionSchema | None:
        """Schema of what a build is made from: an earlier build of the job, or the live collection."""
        source = getattr(step, "source", None)
        builds = (one for one in self.job.steps if isinstance(one, Build))
        live = self.live.schema if self.live else None
        return next((one.schema for one in builds if one.target == source), live)

    def copies(self) -> list[Build]:
        """Its builds that are copied from points, which is where anything is embedded."""
        builds = (step for step in self.job.steps if isinstance(step, Build))
        return [step for step in builds if step.source is not None and step.fill == "copy"]

    def fillings(self, build: Build) -> list[Embed]:
        """What the operations of a build embed."""
        found = self._transform(build)
        return [one for one in found.values.values() if isinstance(one, Embed)] if found is not None else []

    def key(self, filling: Embed) -> str:
        """What the speed of an embedder is known by."""
        configured = self.opened.settings.for_collection(self.job.collection).embedders
        return speed_key(filling.embedder, configured.get(filling.embedder, {}))

    def weight(self, build: Build) -> int:
        """Bytes of a point of a target: the points of today, by a sample, and the new vectors as declared."""
        transform = self._transform(build)
        return self.today().per_point(build.schema, transform.vectors if transform is not None else None)

    def in_memory(self, build: Build) -> int:
        """Bytes of the same that a server wants in memory."""
        transform = self._transform(build)
        return self.today().in_memory(build.schema, transform.vectors if transform is not None else None)

    def trial(self) -> Trial | None:
        """What reading a little of the live collection shows; None where that is not known."""
        if self.trials is None or self.live is None:
            return None
        return self.trials.of(self._name(), self.live, self.today(), local=self.world.capabilities.local)

    def today(self) -> Weight:
        """What its points take, by a sample."""
        return Weight() if self.live is None else self.opened.weighed(self._name())

    def _name(self) -> str:
        """What the live collection is read by."""
        state = self.world.collections.get(self.job.collection)
        alias = state is not None and state.kind == "alias"
        return self.job.collection if alias or self.live is None else self.live.physical

    def _transform(self, build: Build) -> PointTransform | None:
        """What its operations make of a point; None where nothing is there to be made from."""
        if build.target not in self._planned:
            before = self.before(build)
            operations = tuple(self.opened.operation(ref) for ref in build.ops) if before is not None else ()
            self._planned[build.target] = transform_of(operations, before) if before is not None else None
        return self._planned[build.target]


def _bytes(job: _Estimated) -> tuple[int, int | None] | None:
    """Bytes of the generations that a plan builds from live points, together, and what the last one wants in memory.

    None where it builds none so; nothing is known of the memory in local mode, which has no index.
    """
    builds = [step for step in job.job.steps if isinstance(step, Build) and step.fill in ("copy", "clone")]
    if not builds or job.live is None:
        return None
    points, local = job.live.points, job.world.capabilities.local
    return sum(points * job.weight(step) for step in builds), None if local else points * job.in_memory(builds[-1])


def _seconds(job: _Estimated, known: Sequence[Speed], steps: Sequence[Step]) -> tuple[float, str]:
    """Seconds of some steps of a job, and what they are taken from; assumed as soon as one of them is."""
    live, rates = job.live, steps_of(known, job.opened.settings.estimates)
    points = live.points if live else 0
    total, bases = 0.0, [MEASURED]
    for step in steps:
        before = job.before(step)
        if isinstance(step, Build) and step.fill == "clone" and before is not None:
            copy = Copy(job.job.collection, points, 0, step.schema, points, job.weight(step))
            seconds, basis = seconds_of_clone(copy, before, known, rates, job.trial())
        elif isinstance(step, Build) and step.source is not None:
            seconds, basis = _copied(job, known, step, points, points)
        elif isinstance(step, InPlace) and live is not None:
            copy = Copy(job.job.collection, points, 0, live.schema, points, job.today().per_point(live.schema))
            # What is done at once needs no measure.
            heavy = any(one.kind in ("index.add", "index.alter") or not one.light() for one in step.changes)
            seconds, basis = seconds_of_changes(step.changes, copy, known, rates, job.trial() if heavy else None)
        else:
            seconds, basis = rates.step, MEASURED
        total, bases = total + seconds, [*bases, basis]
    return total, weakest(bases)


def _unknown(job: _Estimated, known: Sequence[Speed]) -> tuple[str, ...]:
    """Which parts of its copies no run and no trial has shown the time of, in their order."""
    points = job.live.points if job.live else 0
    parts = [part for build in job.copies() for part in _parts(job, known, build, points, points).items()]
    return tuple(dict.fromkeys(name for name, (_, basis) in parts if basis == ASSUMED))


def _copied(job: _Estimated, known: Sequence[Speed], build: Build, left: int, points: int) -> tuple[float, str]:
    """Seconds of a build that copies `left` of its points, and what they are based on."""
    rates, parts = steps_of(known, job.opened.settings.estimates), _parts(job, known, build, left, points).values()
    return rates.step + sum(seconds for seconds, _ in parts), weakest(basis for _, basis in parts)


def _parts(
    job: _Estimated, known: Sequence[Speed], build: Build, left: int, points: int
) -> dict[str, tuple[float, str]]:
    """The parts of such a build, tried where no run shows one of them; see :func:`parts_of_copy`."""
    fillings, rates = job.fillings(build), steps_of(known, job.opened.settings.estimates)
    models = tuple(sorted(job.key(one) for one in fillings))
    copy = Copy(job.job.collection, left, len(fillings), build.schema, points, job.weight(build), models)
    local = job.world.capabilities.local
    parts = parts_of_copy(copy, known, rates, local=local)
    if weakest(basis for _, basis in parts.values()) == ASSUMED:
        tried = frozenset(job.key(one) for one in fillings if one.embedder in job.tried)
        parts = parts_of_copy(copy, known, rates, local=local, trial=job.trial(), tried=tried)
    return parts


def _left(job: _Estimated, known: Sequence[Speed], run: OpenRun) -> float:
    """What remains of an interrupted run: the points that are not copied, and the proof and index of all."""
    begun = {record.step for record in run.records}
    total = 0.0
    for position, step in enumerate(run.job.steps):
        closed = run.record(position, "converge" if isinstance(step, Build) else "close")
        if closed is not None and closed.state == "done":
            continue
        if isinstance(step, Build) and step.source is not None and position in begun and run.total_points:
            left = max(0, run.total_points - run.done_points)
            total += _copied(job, known, step, left, run.total_points)[0]
        else:
            total += _seconds(job, known, [step])[0]
    return total


def _beyond(later: _Estimated | None, known: Sequence[Speed], run: OpenRun) -> float:
    """Steps of a plan for revisions that the interrupted run doesn't bring already."""
    if later is None:
        return 0.0
    covered = run.job.revisions()

    def is_new(step: Step) -> bool:
        refs: tuple[OpRef, ...] = getattr(step, "ops", ())
        return any(ref.revision not in covered for ref in refs)

    return _seconds(later, known, [step for step in later.job.steps if is_new(step)])[0]


def speeds_of(opened: Session) -> list[Speed]:
    """Of earlier runs in this ledger, newest first."""
    rows = [(row, row.told.speed) for row in opened.ledger.history(None, _ROWS)]
    runs = {one.id: one for one in opened.ledger.runs(ids={row.run for row, speed in rows if speed is not None})}
    held = worked_when_held(opened.ledger, runs)
    found = []
    for row, speed in rows:
        if speed is None:
            continue
        told = {one.name: getattr(speed, one.name) for one in fields(speed)}
        around = _around(runs.get(row.run), speed, held.get(row.run))
        found.append(Speed(**told, collection=row.collection, around=around))
    return found


def _around(run: RunRow | None, speed: Measured, held: float | None) -> float | None:
    """Seconds that a run took besides its copy, proof and index; of one that was interrupted, with what lay between.

    Args:
        held: seconds that the phases took of one that waited for its cut-over; None of any other.
    """
    if run is None or run.finished_at is None:
        return None
    took = (run.finished_at - run.started_at).total_seconds() if held is None else held
    return max(0.0, took - speed.fill - speed.prove - speed.index)


def _took(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole / 3600:.1f} h"
