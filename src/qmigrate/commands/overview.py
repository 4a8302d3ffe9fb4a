"""overview: for who is on call: are users hurt, the way back, what runs, why it stopped, what waits. It only reads.

It is the first page of the console. Whatever the number of collections and of rows, it asks SQL a handful of times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from qmigrate.commands.condition import eta, percent
from qmigrate.commands.held_runs import held_run
from qmigrate.commands.readiness import Standing, standings
from qmigrate.commands.results import Since
from qmigrate.commands.runs import STAGES
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.commands.status import written
from qmigrate.engine.phases import phases_of
from qmigrate.errors import QmigrateError
from qmigrate.ledger import summary
from qmigrate.ledger.codec import RunRow
from qmigrate.ledger.decisions import paces
from qmigrate.ledger.reader import present
from qmigrate.ledger.writer import UNCHANGED
from qmigrate.model.facts.phases import Fill, Swap
from qmigrate.model.names import generation_word, unknown
from qmigrate.model.plan import Build, EditPoints, GoLive, InPlace, RunCode
from qmigrate.model.state import CollectionState, OpenRun, World
from qmigrate.observe import observe
from qmigrate.planner import plan_rollback
from qmigrate.settings.load import Settings
from qmigrate.text import aware, quote

#: How old a proof may be before what it says of the source is doubtful: a cut-over proves it again in any case.
STALE = timedelta(hours=24)
#: What the time line covers, and most rows of it.
_RECENT, _MOST = timedelta(hours=24), 100
#: Seconds after which the writes of further collections are not counted any more.
_PATIENCE = 2.0
#: Seconds that a name takes to move back, and points per second that are carried; assumed where no run has shown it.
_MOVE, _CARRIED = 0.5, 400.0
#: Kind of a step and phase of it -> the stage that people are shown.
_STAGE_OF = {phase: stage for stage, belong in STAGES.items() for phase in belong}


@dataclass(frozen=True, slots=True)
class Serving:
    """One name that applications use.

    Attributes:
        serves: its name leads to what the ledger left there.
        since: since when it leads there; None where that isn't known.
        standing: revision, generation, state, what is pending, drift, and the next command.
    """

    name: str
    serves: bool
    since: datetime | None
    standing: Standing

    @property
    def to_come(self) -> bool:
        """Whether it is not there, and was never meant to be: a revision that isn't applied creates it."""
        return self.serves and self.standing.generation is None


@dataclass(frozen=True, slots=True)
class WayBack:
    """The way back of one collection.

    Attributes:
        target: the revision that it returns to, or ``base``.
        until: when its generation may be collected; None where that is not bounded.
        refused: why there is none; None where there is one.
        hint: what to do about that.
        written: what was written since, where it was counted.
        not_counted: why it was not.
        seconds: what going back takes about, with those writes; None where they were not counted.
        command: that goes back.
    """

    collection: str
    target: str
    until: datetime | None = None
    refused: str | None = None
    hint: str | None = None
    written: Since | None = None
    not_counted: str | None = None
    seconds: float | None = None
    command: str | None = None

    @property
    def writes(self) -> int | None:
        """How many points were written since."""
        return None if self.written is None else self.written.added + self.written.changed + self.written.deleted


@dataclass(frozen=True, slots=True)
class Underway:
    """A run that a process works on.

    Attributes:
        stages: (stage, ``done | now | todo``), in order.
        percent: points done, 0 to 100; None where none are counted.
        seconds_left: at the average speed so far; None while it is unknown.
        rate: points per second on average; None while none are done.
        limited_by: what the copy waits for, once that is known.
        heartbeat: seconds since its lease was renewed.
        host: where it runs.
        paused: whether it was asked to stand still.
        stopping: whether it was asked to stop.
        limit: most points per second that were asked for; None for none.
        asked_by: who has asked that last; None where nothing is asked.
    """

    collection: str
    run: int
    verb: str
    revisions: tuple[str, ...]
    stages: tuple[tuple[str, str], ...]
    phase: str
    percent: float | None
    done: int
    total: int
    seconds_left: float | None
    rate: float | None
    limited_by: str | None
    heartbeat: float | None
    host: str
    actor: str
    started_at: datetime
    paused: bool = False
    stopping: bool = False
    limit: float | None = None
    asked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that is not worked on any more, and not over.

    Attributes:
        state: ``failed`` or ``interrupted``.
        message: what stopped it.
        phase: where.
        command: the next one.
        untouched: what was not changed by it, in words.
        is_open: whether something is left to resume or to abort.
    """

    collection: str
    run: int
    verb: str
    state: str
    message: str
    phase: str
    started_at: datetime
    command: str
    untouched: str
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is built and proven and waits for its cut-over.

    Attributes:
        since: when it was proven.
        stale: its proof is older than :data:`STALE`.
        refused: why the last cut-over was refused, or None.
    """

    collection: str
    generation: str
    revisions: tuple[str, ...]
    run: int
    since: datetime | None
    stale: bool
    refused: str | None
    command: str


@dataclass(frozen=True, slots=True)
class Old:
    """A generation that is kept as a way back."""

    collection: str
    generation: str
    state: str
    revision: str | None
    left_at: datetime | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """`overview`: everything that the first page shows.

    Attributes:
        at: when it was read, by the ledger's clock.
        recent: runs of the last 24 hours, newest first.
        quarantine: (collection, points that could not be embedded).
        counted: whether the writes since were counted.
        notes: what is wrong with revision files, and which nodes don't answer.
    """

    at: datetime
    qdrant: str
    ledger: str
    serving: tuple[Serving, ...]
    back: tuple[WayBack, ...]
    underway: tuple[Underway, ...]
    stopped: tuple[Stopped, ...]
    held: tuple[Waiting, ...]
    recent: tuple[RunRow, ...]
    quarantine: tuple[tuple[str, int], ...]
    old: tuple[Old, ...]
    counted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def hurt(self) -> tuple[Serving, ...]:
        """Names that don't serve."""
        return tuple(one for one in self.serving if not one.serves)

    @property
    def to_come(self) -> int:
        """How many names revisions have yet to create."""
        return sum(one.to_come for one in self.serving)

    @property
    def pending(self) -> tuple[Standing, ...]:
        """Collections with revisions to come that no run is about yet."""
        return tuple(one.standing for one in self.serving if one.standing.pending and one.standing.job is None)

    @property
    def drift(self) -> tuple[Standing, ...]:
        """Collections that are not what is recorded."""
        return tuple(one.standing for one in self.serving if one.standing.drift)


def overview(settings: Settings | None = None, *, count: bool = False) -> Overview:
    """Read what the first page shows.

    Args:
        count: count what was written since each generation went live: the price of its way back. It takes up to some
            seconds.
    """
    settings = settings or Settings.load()
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store)
        rows, at = standings(world, opened.revisions), present(opened.ledger)
        live, holders = summary.went_live(opened.ledger), summary.holders(opened.ledger)
        lost = summary.quarantined(opened.ledger)
        runs = [state.open_run for state in world.collections.values() if state.open_run is not None]
        states = [state for name, state in sorted(world.collections.items()) if state.managed]
        back = [way for state in states if (way := way_back(opened, world, state)) is not None]
        back.sort(key=lambda way: way.refused is not None)
        until = time.monotonic() + _PATIENCE
        return Overview(
            at=at,
            qdrant=world.capabilities.label,
            ledger=opened.ledger.url_label,
            serving=tuple(Serving(row.name, row.serving, live.get(row.name), row) for row in rows),
            back=tuple(_priced(opened, world, way, until) if count else way for way in back),
            underway=tuple(_underways(opened, [run for run in runs if run.leased], holders, at)),
            stopped=(
                *(_stopped(world, run) for run in runs if not run.leased and held_run(run) is None),
                *_failed_at_once(world, summary.newest_runs(opened.ledger)),
            ),
            held=tuple(one for run in runs if not run.leased and (one := _waiting(run, at)) is not None),
            recent=tuple(summary.recent_runs(opened.ledger, at - _RECENT, _MOST)),
            quarantine=tuple(_quarantine(states, lost)),
            old=tuple(old for state in states for old in old_generations(state)),
            counted=count,
            notes=(*world.capabilities.silent, *notes_on(opened.problems)),
        )


def ways_back(settings: Settings, collection: str) -> WayBack | None:
    """The way back of one collection with its price, counted however long that takes; None where nothing is applied.

    Raises:
        UnknownNameError: there is no such collection under management.
    """
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store, only=[collection])
        state = world.collections[collection]
        if not state.managed:
            raise unknown("collection", collection, [])
        way = way_back(opened, world, state)
        return None if way is None else _priced(opened, world, way, math.inf)


def way_back(opened: Session, world: World, state: CollectionState) -> WayBack | None:
    """Whether and where a collection can return to, without what was written since; None where nothing is applied."""
    applied = state.applied_revisions()
    if not applied or state.physical is None:
        return None
    newest = state.applied[-1]
    gone = [entry.revision for entry in state.applied if entry.fused_with(newest)]
    kept = [one for one in applied if one not in gone]
    target = kept[-1] if kept else "base"
    parent = state.parent()
    way = WayBack(state.name, target, parent.held_until if parent is not None else None)
    if state.open_run is not None:
        return replace(way, refused="its run comes first", hint=f"qmigrate abort {quote(state.name)}")
    try:
        alone = replace(world, collections={state.name: state})
        made = plan_rollback(alone, opened.revisions, frozenset(kept), only=[state.name], writes="carry")
    except QmigrateError as error:
        return replace(way, refused=error.message, hint=error.hint)
    if not made.collections:
        return None
    return replace(way, command=f"qmigrate rollback {quote(target)} --only {quote(state.name)} --carry-writes")


def _priced(opened: Session, world: World, way: WayBack, until: float) -> WayBack:
    """The way with what was written since, and how long carrying that takes."""
    if way.refused is not None:
        return way
    state = world.collections[way.collection]
    points = opened.store.count(state.physical) if state.physical is not None else None
    found, why = written(opened, state, points, until)
    if found is None:
        return replace(way, not_counted=why)
    priced = replace(way, written=found)
    return replace(priced, seconds=_MOVE + (priced.writes or 0) / _CARRIED)


def _underways(
    opened: Session, runs: Sequence[OpenRun], holders: Mapping[str, summary.Held], at: datetime
) -> Iterator[Underway]:
    asked = paces(opened.ledger, [run.id for run in runs])
    for run in runs:
        holder, pace = holders.get(run.job.collection), asked.get(run.id)
        found = _underway(opened, run, holder, at)
        if pace is None or holder is None or pace.epoch != holder.epoch:
            yield found
            continue
        yield replace(found, paused=pace.paused, stopping=pace.stopped, limit=pace.rate, asked_by=pace.actor)


def _underway(opened: Session, run: OpenRun, holder: summary.Held | None, at: datetime) -> Underway:
    elapsed = max(0.001, (at - run.started_at).total_seconds())
    ttl = opened.settings.limits.lease_ttl
    beat = None if holder is None else max(0.0, ttl - (holder.expires_at - at).total_seconds())
    learned = [run.facts(Fill, place).limited_by for place, step in enumerate(run.job.steps) if isinstance(step, Build)]
    return Underway(
        collection=run.job.collection,
        run=run.id,
        verb=run.verb,
        revisions=tuple(dict.fromkeys(closing.revision for closing in run.job.closes)),
        stages=stages_of(run),
        phase=run.records[-1].phase if run.records else "preflight",
        percent=percent(run),
        done=run.done_points,
        total=run.total_points,
        seconds_left=eta(run),
        rate=run.done_points / elapsed if run.done_points else None,
        limited_by=next((one for one in learned if one), None),
        heartbeat=beat,
        host=run.host,
        actor=run.actor,
        started_at=run.started_at,
    )


def stages_of(run: OpenRun) -> tuple[tuple[str, str], ...]:
    """The stages of a run: those of a rebuild, or the phases of what it does."""
    last = run.records[-1] if run.records else None
    place = last.step if last is not None else 0
    steps = run.job.steps
    if any(isinstance(step, Build) for step in steps):
        names = tuple(STAGES)
        at = _STAGE_OF.get((steps[place].kind, last.phase), "converge") if last is not None else names[0]
    else:
        names = tuple(dict.fromkeys(phase.name for phase in phases_of(steps[place]))) if steps else ()
        at = last.phase if last is not None else next(iter(names), "")
    now = names.index(at) if at in names else 0
    return tuple((one, "done" if i < now else "now" if i == now else "todo") for i, one in enumerate(names))


def _stopped(world: World, run: OpenRun) -> Stopped:
    name = run.job.collection
    failed = run.state == "failed"
    ended = "its process is dead" if run.is_dead else "its process has stopped, and gives no sign of life any more"
    last = run.records[-1].phase if run.records else "preflight"
    return Stopped(
        collection=name,
        run=run.id,
        verb=run.verb,
        state="failed" if failed else "interrupted",
        message=(run.error or "failed") if failed else f"{ended}: {run.host}",
        phase=last,
        started_at=run.started_at,
        command=f"qmigrate abort {quote(name)}" if run.verb == "abort" else "qmigrate upgrade",
        untouched=untouched(world.collections[name], run),
    )


def _failed_at_once(world: World, newest: Mapping[str, RunRow]) -> Iterator[Stopped]:
    """Upgrades that have ended in an error before they had changed anything, where nothing came after them."""
    for name, run in sorted(newest.items()):
        state = world.collections.get(name)
        if run.state != UNCHANGED or run.verb != "upgrade" or state is None:
            continue
        served = f"{generation_word(state.physical)} serves as before" if state.physical else "nothing has the name yet"
        yield Stopped(
            collection=name,
            run=run.id,
            verb=run.verb,
            state="failed",
            message=run.error or "failed",
            phase="preflight",
            started_at=run.started_at,
            command="qmigrate upgrade",
            untouched=f"{served}; it had changed nothing yet",
            is_open=False,
        )


def untouched(state: CollectionState, run: OpenRun) -> str:
    """What an unfinished run has not changed, in words: what users read, above all."""
    served = generation_word(state.physical) if state.physical is not None else None
    for place, step in enumerate(run.job.steps):
        moved = run.record(place, Swap.phase) if isinstance(step, GoLive) else None
        if moved is not None:
            return f"its name may have moved already: {served or 'nothing'} serves now; aborting is refused then"
        changed = isinstance(step, InPlace | EditPoints | RunCode) and run.record(place, "change") is not None
        if changed:
            return f"{served or 'what serves'} itself is being changed: a part of it is done, the rest is as it was"
    if served is None:
        return "nothing has the name yet"
    return f"{served} serves as before: none of its points was changed, and its name did not move"


def _waiting(run: OpenRun, at: datetime) -> Waiting | None:
    found = held_run(run)
    if found is None:
        return None
    return Waiting(
        collection=found.collection,
        generation=generation_word(found.physical),
        revisions=found.revisions,
        run=found.run,
        since=found.since,
        stale=found.since is not None and at - aware(found.since) > STALE,
        refused=found.refused,
        command=f"qmigrate cutover {quote(found.collection)}",
    )


def _quarantine(states: Sequence[CollectionState], lost: dict[str, int]) -> Iterator[tuple[str, int]]:
    for state in states:
        points = lost.get(state.physical or "", 0)
        if points:
            yield state.name, points


def old_generations(state: CollectionState) -> Iterator[Old]:
    """Generations of a collection that are kept and don't serve, newest first."""
    for row in reversed(state.generations):
        if row.state in ("retired", "deleting") or (row.state == "building" and state.open_run is None):
            name = generation_word(row.physical)
            yield Old(state.name, name, row.state, row.revision, row.changed_at, row.held_until)
