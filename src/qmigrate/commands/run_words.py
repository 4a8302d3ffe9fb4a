"""What the phases of a run found, and why it stopped, in words. It reads nothing but what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qmigrate.engine.points.streams import shown
from qmigrate.ledger.watching import Watched
from qmigrate.model.facts.fixes import EditChange, Select
from qmigrate.model.facts.phases import (
    Fill,
    GoLivePreflight,
    Preflight,
    Proof,
    Quality,
    Shadow,
    SourceSnapshot,
    Swap,
    Sweep,
    WriteBack,
)
from qmigrate.model.facts.stored import known, loaded
from qmigrate.model.plan import Build, EditPoints, GoLive, InPlace, Retire, Step
from qmigrate.model.state import Record
from qmigrate.text import counted, number, quote, size, took

#: States in which a run has stopped on the way; of those that are over for good, none of its work counts.
_STOPPED = ("failed", "interrupted")
_IN_VAIN = ("refused", "unchanged", "aborted")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a run is not going on.

    Attributes:
        message: what went wrong.
        phase: in which phase; None where none had begun.
        cause: what that means, in words.
        untouched: what was not touched, or what was.
        next_command: what to type next; None where nothing is left to do.
        instead: the other way; None where there is none.
    """

    message: str
    phase: str | None
    cause: str
    untouched: str
    next_command: str | None
    instead: str | None = None


def trouble(found: Watched, state: str) -> Trouble | None:
    """Why a run stopped, and what to do about it; None where it didn't.

    Args:
        found: the run.
        state: as it is shown in.
    """
    run = found.run
    name = run.job.collection
    last = run.records[-1].phase if run.records else None
    end = f"qmigrate abort {quote(name)}"
    if state == "held":
        if run.error is None:
            return None
        cause = "its last cut-over was refused; it waits as before"
        return Trouble(run.error, last, cause, _untouched(found), f"qmigrate cutover {quote(name)}", end)
    if state in _IN_VAIN:
        if run.error is None:
            return None
        again = "qmigrate plan" if run.verb == "upgrade" else None
        return Trouble(run.error, last, _OVER[state], _untouched(found), again)
    if state not in _STOPPED:
        return None
    if state == "failed":
        cause = f"the {run.verb} ended in an error" + (f" in its phase {last}" if last else "")
        message = run.error or "failed"
    else:
        cause = (
            f"its process on host {run.host} is dead: the next command takes over at once"
            if run.is_dead
            else f"no process works on it: the one on host {run.host} has not reported any more"
        )
        message = f"the {run.verb} was interrupted" + (f" in its phase {last}" if last else "")
    return Trouble(message, last, cause, _untouched(found), "qmigrate upgrade", end)


_OVER = {
    "refused": "it was refused before it changed anything that counts",
    "unchanged": "it ended in an error before it had changed anything",
    "aborted": "it was ended, and what it had begun was undone",
}


def _untouched(found: Watched) -> str:
    """What serves, and what of the work is there."""
    run = found.run
    name = run.job.collection
    going = [(at, step) for at, step in enumerate(run.job.steps) if isinstance(step, GoLive)]
    for at, step in reversed(going):
        record = run.record(at, Swap.phase)
        if record is not None and (record.state == "done" or record.facts.get("moved")):
            return f"{step.target or 'nothing'} serves {name} already: what is left is done behind it"
    if going:
        source = going[0][1].source
        serving = f"{source} serves {name} as before" if source else f"nothing has the name {name} yet"
        return f"{serving}: no client notices anything"
    if any(isinstance(step, InPlace | EditPoints) for step in run.job.steps):
        begun = any(record.phase == "change" for record in run.records)
        return f"{name} itself was being changed: what was done stays" if begun else f"nothing of {name} was changed"
    if any(isinstance(step, Retire) for step in run.job.steps):
        return f"what serves {name} was not touched"
    return f"the points of {name} were not touched"


def found_by(step: Step | None, record: Record) -> tuple[str, ...]:
    """What a phase found, a line each; nothing where a later version, or an earlier one, has kept something else."""
    tell = _TOLD.get((step.kind if step is not None else "", record.phase)) or _TOLD.get(("", record.phase))
    if tell is None:
        return ()
    try:
        return tuple(tell(record.facts))
    except ValueError:
        return ()


def _preflight(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(Preflight, facts)
    return [counted(found.points, "point")] if found.points else []


def _snapshot(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(SourceSnapshot, facts)
    lines = []
    if found.snapshot is not None:
        lines.append(f"{found.snapshot.name}, {size(found.snapshot.size)}")
    if found.archive is not None:
        lines.append(f"archive {found.archive.name}, {counted(found.archive.points, 'point')}")
    if found.skipped:
        lines.append(f"none: {found.skipped}")
    return lines + _copied(found.copied_because)


def _shadow(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(Shadow, facts)
    return ([f"cloned by the server, {found.cloned}"] if found.cloned else []) + _copied(found.copied_because)


def _copied(why: str | None) -> list[str]:
    return [f"copied, not cloned: {why}"] if why else []


def _fill(facts: Mapping[str, Any]) -> list[str]:
    found, lines = loaded(Fill, facts), []
    points = next((one for one in (found.copied, found.points, found.restored, found.sampled) if one is not None), None)
    if points is not None:
        speed = f", {found.fresh / found.seconds:,.0f}/s" if found.fresh and found.seconds else ""
        lines.append(f"{counted(points, 'point')}{speed}")
    if found.stages:
        lines.append(shown(found.stages))
    return lines


def _proof(facts: Mapping[str, Any]) -> list[str]:
    found, lines = loaded(Proof, facts), []
    if (report := found.report) is not None:
        lines.append(f"{number(report.proven)} of {counted(report.points, 'point')} proven")
        if report.passes:
            lines.append(f"after {counted(report.passes, 'pass', 'passes')} over what was written during the run")
        if report.failures.count:
            lines.append(f"{counted(report.failures.count, 'point')} not proven")
    if found.deleted_again:
        lines.append(f"{counted(found.deleted_again, 'point')} that fixes have deleted since, here too")
    return lines


def _quality(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"recall@{one.k} of {one.vector!r} {one.recall:.3f}, at least {one.at_least:.4g} required"
        if one.recall is not None
        else f"recall@{one.k} of {one.vector!r} not measured: {known(one.why)}"
        for one in loaded(Quality, facts).quality or ()
    ]


def _way_back(facts: Mapping[str, Any]) -> list[str]:
    since = loaded(GoLivePreflight, facts).writes_since
    return [f"{counted(since.total, 'point')} written since"] if since is not None else []


def _swap(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(Swap, facts)
    if found.after is None and found.before is None:
        return []
    where = f"{found.before or 'nothing'} → {found.after or 'nothing'}"
    return [f"{where}, in {took(found.milliseconds / 1000)}" if found.milliseconds is not None else where]


def _sweep(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(Sweep, facts).sweep
    if found is None:
        return []
    lines = [f"{counted(found.carried, 'late write')} carried over"] if found.carried else []
    if found.listed.count:
        lines.append(f"{counted(found.listed.count, 'id')} may differ on the two sides")
    if found.lost:
        lines.append("the old collection is gone: what came late is unknown")
    return lines


def _select(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(Select, facts)
    return [f"{number(found.changes)} of {counted(found.points, 'point')}"]


def _change(facts: Mapping[str, Any]) -> list[str]:
    found = loaded(EditChange, facts)
    return [f"{counted(found.changed, 'point')} changed"]


def _write_back(facts: Mapping[str, Any]) -> list[str]:
    told = loaded(WriteBack, facts).told
    return [f"{counted(told.points, 'point')} to SQL, {counted(told.rows, 'row')} changed"] if told else []


#: (kind of the step, phase) -> what tells of it.
_TOLD: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], list[str]]] = {
    (Build.kind, "preflight"): _preflight,
    (GoLive.kind, "preflight"): _way_back,
    (EditPoints.kind, "change"): _change,
    ("", "snapshot"): _snapshot,
    ("", "shadow"): _shadow,
    ("", "fill"): _fill,
    ("", "converge"): _proof,
    ("", "quality"): _quality,
    ("", "swap"): _swap,
    ("", "sweep"): _sweep,
    ("", "select"): _select,
    ("", "write_back"): _write_back,
}
