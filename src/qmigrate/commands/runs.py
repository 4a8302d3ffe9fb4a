"""Runs, while they are worked on and afterwards: how far, how fast, what they found, and what to do. It only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.commands.condition import percent
from qmigrate.commands.history import doubtful
from qmigrate.commands.results import LateWrites
from qmigrate.commands.run_words import Trouble, found_by, trouble
from qmigrate.commands.session import opened_ledger
from qmigrate.engine.phases import phases_of
from qmigrate.errors import UnknownNameError
from qmigrate.ledger import Ledger
from qmigrate.ledger.reader import present
from qmigrate.ledger.watching import PhaseTimes, Wanted, Watched, count, one_watched, watched
from qmigrate.model.facts.figures import Sample
from qmigrate.model.facts.phases import Proof, Sweep
from qmigrate.model.facts.stored import loaded
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.report import SweepReport, VerificationReport
from qmigrate.settings.load import Settings

#: Stages of a run that builds a generation -> the phases of the journal that belong to each, of build and go-live.
STAGES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "snapshot": (("build", "preflight"), ("build", "snapshot"), ("build", "shadow")),
    "fill": (("build", "fill"),),
    "index": (("build", "index"),),
    "converge": (("build", "converge"),),
    "proof": (("build", "quality"), ("golive", "preflight"), ("golive", "hold"), ("golive", "converge")),
    "live": (("golive", "swap"), ("golive", "sweep"), ("golive", "close")),
}
#: How the display calls the pass that proves, which the journal has as a part of converging.
_PROVES = "verify"
#: Samples from which the present speed is taken, and least seconds between two of them.
_RECENT = 6
#: States of a run that has ended for good.
OVER = ("done", "refused", "unchanged", "aborted")
#: All states that a run is shown in: what of it is recorded as ``running`` and has no process is ``interrupted``.
STATES = ("running", "interrupted", "held", "failed", *OVER)


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run, for people.

    Attributes:
        state: ``done``, ``running``, ``held``, ``failed``, ``interrupted`` or ``pending``.
        seconds: that it took, or that it takes so far; None of one that has not begun.
    """

    name: str
    state: str
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RunPhase:
    """One line of the journal.

    Attributes:
        step: position in the job.
        kind: of the step: ``build``, ``golive``, ``inplace``, ``edit``, …
        target: physical name that the step is about.
        state: ``done``, or that of the run: one that is not over is as the run is.
        seconds: that it took; None of one that is not over.
        found: what it found, in words.
    """

    step: int
    kind: str
    target: str | None
    phase: str
    state: str
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run of a list.

    Attributes:
        id: in the ledger.
        state: ``running | interrupted | held | failed | done | refused | unchanged | aborted``.
        revisions: those that it applies, or undoes.
        finished_at: None of one that is not over.
        seconds: from its beginning to its end, or until now; an interruption counts.
        stage: where it is, or was.
        percent: points done of its copies, 0 to 100; None where it has none.
        error: why it stopped; None where it didn't.
    """

    id: int
    verb: str
    collection: str
    state: str
    revisions: tuple[str, ...]
    actor: str
    host: str
    started_at: datetime
    finished_at: datetime | None
    seconds: float
    stage: str | None
    percent: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs, newest first; `total`: how many there are on all pages."""

    rows: tuple[RunSummary, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        summary: as in a list.
        tool: version of qmigrate that began it.
        server: label of the Qdrant server.
        stages: the parts of it, in order.
        phases: the journal.
        doing: what it is at, as the progress display calls it; None where nothing was reported.
        done: points of that.
        total: points of that; None where unknown.
        rate: points per second, lately; None where none are counted.
        seconds_left: of the copy, at that rate; None where that isn't known.
        limited_by: the stage of a fill that is busiest; None where that isn't known.
        busy: stage of a fill -> share of its time, 0 to 1, lately.
        heartbeat_seconds: since the process that works on it has last reported; None where none has it.
        last_sample: number of the newest sample of its figures.
        trouble: why it stopped, and what to do; None where it didn't.
        proof: the newest proof; None where there is none.
        to_review: late writes that its sweeps have listed: what a person should check.
        conflicts: the same with both values; empty where they were not asked for.
        as_of: when this was read, by the clock of the ledger's database.
    """

    summary: RunSummary
    tool: str
    server: str
    stages: tuple[Stage, ...]
    phases: tuple[RunPhase, ...]
    doing: str | None
    done: int
    total: int | None
    rate: float | None
    seconds_left: float | None
    limited_by: str | None
    busy: Mapping[str, float]
    heartbeat_seconds: float | None
    last_sample: int
    trouble: Trouble | None
    proof: Mapping[str, Any] | None
    to_review: int
    conflicts: LateWrites
    as_of: datetime

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.summary.state in OVER


@dataclass(frozen=True, slots=True)
class RunFigures:
    """How a run was doing, oldest first.

    Attributes:
        run: its id.
        pause: seconds between two samples.
        samples: one entry a moment.
    """

    run: int
    pause: float
    samples: tuple[Sample, ...] = field(default=())


def runs(
    settings: Settings | None = None,
    *,
    collection: str | None = None,
    states: Sequence[str] = (),
    verb: str | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
    offset: int = 0,
) -> Runs:
    """Every attempt, newest first: also what failed, was refused, or is being worked on.

    Args:
        collection: of this logical name.
        states: in one of :data:`STATES`; empty for any.
        verb: of this verb.
        actor: a part of who began it.
        since: begun, or ended, not before this moment; with a time zone.
        limit: most rows.
        offset: rows that are left out before.
    """
    settings = settings or Settings.load()
    kept = {"interrupted": "running"}
    wanted = Wanted(collection, tuple({kept.get(one, one) for one in states}), verb, actor, since)
    with opened_ledger(settings) as ledger:
        if not {"running", "interrupted"} & set(states):
            found = watched(ledger, wanted, limit=limit, offset=offset)
            return Runs(tuple(map(summary_of, found)), count(ledger, wanted))
        # Which of them have a process is not a condition of SQL; those that have not ended are few.
        every = [summary_of(one) for one in watched(ledger, wanted, limit=_FEW)]
    chosen = [one for one in every if one.state in states]
    return Runs(tuple(chosen[offset : offset + limit]), len(chosen))


#: More runs than this are never looked through.
_FEW = 10_000


def run(settings: Settings | None, number: int, *, most: int = 200) -> Run:
    """One run, with its journal, its proof, and the late writes that a person should check.

    The ledger has all of it but the values of today, which are read from Qdrant as far as it can be reached; of the
    payloads only the fields that ``console.fields`` names are shown.

    Args:
        settings: of qmigrate.
        number: its id in the ledger.
        most: late writes that are listed at most.

    Raises:
        UnknownNameError: there is no run of this number.
    """
    return run_with_figures(settings or Settings.load(), number, most=most)[0]


def run_with_figures(settings: Settings, number: int, *, most: int = 200) -> tuple[Run, RunFigures]:
    """What :func:`run` and :func:`figures` tell, read at once.

    Raises:
        UnknownNameError: there is no run of this number.
    """
    with Watch.opened(settings) as watch:
        found = watch.look(number)
    late = doubtful(settings, number, fields=settings.console.fields, most=most)
    return described(found, settings.limits.lease_ttl, late), figures_of(found)


def now(settings: Settings) -> datetime:
    """The time by which runs are recorded: that of the ledger's database, or of this host where there is none yet."""
    with opened_ledger(settings) as ledger:
        return present(ledger)


def begun_since(settings: Settings, moment: datetime) -> tuple[tuple[Run, RunFigures], ...]:
    """Runs that were begun or ended since a moment, oldest first, as :func:`run` and :func:`figures` tell of them."""
    found = reversed(runs(settings, since=moment, limit=_FEW).rows)
    return tuple(run_with_figures(settings, one.id) for one in found)


def figures(settings: Settings | None, number: int) -> RunFigures:
    """The figures of a run.

    Raises:
        UnknownNameError: there is no run of this number.
    """
    with Watch.opened(settings or Settings.load()) as watch:
        return figures_of(watch.look(number))


def figures_of(found: Watched) -> RunFigures:
    """Those that were read with a run."""
    return RunFigures(found.run.id, found.figures.pause, found.figures.samples)


class Watch:
    """Reads runs again and again, by one connection. Made by :meth:`opened`.

    Attributes:
        ledger: what is read.
        beat: seconds that a lease lasts.
    """

    def __init__(self, ledger: Ledger, beat: float) -> None:
        self.ledger = ledger
        self.beat = beat

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings) -> Iterator[Watch]:
        """While the block runs, the ledger is open."""
        with opened_ledger(settings) as ledger:
            yield cls(ledger, settings.limits.lease_ttl)

    def look(self, number: int) -> Watched:
        """A run as it is now, with its figures.

        Raises:
            UnknownNameError: there is no run of this number.
        """
        found = one_watched(self.ledger, number)
        if found is None:
            raise UnknownNameError(f"there is no run {number} in the ledger", hint="qmigrate history --all lists runs")
        return found


def described(found: Watched, beat: float, late: LateWrites | None = None) -> Run:
    """A run that was read, for people and programs; without `late`, its late writes are left out.

    Args:
        found: what was read.
        beat: seconds that a lease lasts unless it is renewed.
        late: writes that a person should check.
    """
    summary = summary_of(found)
    newest = found.figures.samples[-1] if found.figures.samples else None
    current = newest if newest is not None and summary.state == "running" else None
    rate = _rate(found) if current is not None else None
    busy = dict(current.busy) if current is not None else {}
    return Run(
        summary=summary,
        tool=found.tool,
        server=found.server,
        stages=stages_of(found, summary.state),
        phases=tuple(_phase(found, one, summary.state) for one in found.phases),
        doing=current.doing or None if current is not None else None,
        done=current.done if current is not None else 0,
        total=current.total if current is not None else None,
        rate=rate,
        seconds_left=_left(found, current, rate),
        limited_by=max(busy, key=lambda name: busy[name], default=None) or _limited(found),
        busy=busy,
        heartbeat_seconds=_heartbeat(found, beat),
        last_sample=found.figures.last,
        trouble=trouble(found, summary.state),
        proof=_proof(found),
        to_review=_to_review(found),
        conflicts=late or LateWrites("", (), {}),
        as_of=found.now,
    )


def summary_of(found: Watched) -> RunSummary:
    """A run for a list."""
    run = found.run
    state = "interrupted" if run.state == "running" and not run.leased else run.state
    # One that a process has again is not over, whatever its last attempt has come to.
    until = found.finished_at or found.now
    at_work = next((one.name for one in reversed(stages_of(found, state)) if one.state != "pending"), None)
    return RunSummary(
        id=run.id,
        verb=run.verb,
        collection=run.job.collection,
        state=state,
        revisions=tuple(dict.fromkeys(one.revision for one in run.job.closes)),
        actor=run.actor,
        host=run.host,
        started_at=run.started_at,
        finished_at=found.finished_at,
        seconds=round(max(0.0, (until - run.started_at).total_seconds()), 3),
        stage=at_work,
        percent=percent(run),
        error=run.error,
    )


def stages_of(found: Watched, state: str) -> tuple[Stage, ...]:
    """The parts of a run: of one that builds always the same ones, of others the phases of their steps.

    Args:
        found: the run.
        state: as it is shown in.
    """
    steps = found.run.job.steps
    if any(isinstance(step, Build) for step in steps):
        parts: list[tuple[str, set[tuple[int, str]]]] = [
            (name, {(at, phase) for at, step in enumerate(steps) for kind, phase in belong if step.kind == kind})
            for name, belong in STAGES.items()
            if name != "live" or any(isinstance(step, GoLive) for step in steps)
        ]
    else:
        parts = []
        for at, step in enumerate(steps):
            parts += [(phase.name, {(at, phase.name)}) for phase in phases_of(step)]
    made = [_stage(found, name, keys, state) for name, keys in parts]
    sample = found.figures.samples[-1] if found.figures.samples else None
    if state == "running" and sample is not None and sample.doing.startswith(_PROVES):
        made = _proving(made)
    return tuple(made)


def _proving(made: list[Stage]) -> list[Stage]:
    """The last pass is the proof, which people ask about, though the journal has it as one more of its kind."""
    names = [one.name for one in made]
    if "converge" not in names or made[names.index("converge")].state != "running":
        return made
    passed, proof = names.index("converge"), names.index("proof")
    made[proof] = Stage("proof", "running")
    made[passed] = Stage("converge", "done", made[passed].seconds)
    return made


def _stage(found: Watched, name: str, keys: set[tuple[int, str]], state: str) -> Stage:
    mine = [one for one in found.phases if (one.record.step, one.record.phase) in keys]
    if not mine:
        return Stage(name, "done" if state == "done" else "pending")
    seconds = sum(((one.finished_at or found.now) - one.started_at).total_seconds() for one in mine)
    whole = round(max(0.0, seconds), 3)
    is_done = state == "done" or all(one.record.state == "done" for one in mine)
    return Stage(name, "done" if is_done else state, whole)


def _phase(found: Watched, one: PhaseTimes, state: str) -> RunPhase:
    record, steps = one.record, found.run.job.steps
    step = steps[record.step] if record.step < len(steps) else None
    took = None if one.finished_at is None else (one.finished_at - one.started_at).total_seconds()
    return RunPhase(
        step=record.step,
        kind=step.kind if step is not None else "",
        target=step.target if step is not None else None,
        phase=record.phase,
        # The process that was at it is not any more.
        state=state if record.state == "running" else record.state,
        started_at=one.started_at,
        finished_at=one.finished_at,
        seconds=None if took is None else round(max(0.0, took), 3),
        found=found_by(step, record),
    )


def _rate(found: Watched) -> float | None:
    """Points per second over the last samples of the same work."""
    samples = found.figures.samples[-_RECENT:]
    mine = [one for one in samples if (one.phase, one.doing) == (samples[-1].phase, samples[-1].doing)]
    if len(mine) < 2 or mine[-1].at <= mine[0].at:
        return mine[-1].rate
    return round(max(0.0, (mine[-1].done - mine[0].done) / (mine[-1].at - mine[0].at)), 1)


def _left(found: Watched, sample: Sample | None, rate: float | None) -> float | None:
    if sample is None or sample.total is None or not rate:
        return None
    # The counts of the copy are newer than a sample.
    done = max(sample.done, found.run.done_points) if sample.doing == "fill" else sample.done
    return round(max(0, sample.total - done) / rate, 1)


def _limited(found: Watched) -> str | None:
    named = [one.record.facts.get("limited_by") for one in found.phases if one.record.phase == "fill"]
    return next((one for one in reversed(named) if isinstance(one, str) and one), None)


def _heartbeat(found: Watched, beat: float) -> float | None:
    if not found.run.leased or found.expires_at is None:
        return None
    return round(max(0.0, beat - (found.expires_at - found.now).total_seconds()), 1)


def _to_review(found: Watched) -> int:
    swept = [one.record.facts.get("sweep") for one in found.phases if one.record.phase == Sweep.phase]
    reports = [loaded(SweepReport, one) for one in swept if isinstance(one, Mapping)]
    return sum(one.listed.count for one in reports)


def _proof(found: Watched) -> Mapping[str, Any] | None:
    for one in reversed(found.phases):
        if one.record.phase == Proof.phase and isinstance(one.record.facts.get("report"), Mapping):
            return loaded(VerificationReport, one.record.facts["report"]).to_json()
    return None
