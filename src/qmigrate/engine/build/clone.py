"""Clone: the server makes the shadow of a snapshot, with everything that the source holds. It proves nothing.

**A recovery can't be fenced.** Every other write of ours goes through an alias of its lease epoch, or is answered 409
when it comes too late; a recover request goes to a name that isn't there yet, and would overwrite what is there by
then. It also continues in the server when its caller has gone. So:

* Its intent is journaled first, in a ledger write that only the present holder can make, and the name must be free.
* An answer ends it. After *done* the collection is sealed at once; after *refused* the next way is tried, under the
  same name only if nothing of it is there.
* Without an answer (a time-out, or a resume behind a killed run) the server is asked whether it still works on it, and
  waited for. When it is over and the collection is there, that one request is spent, and the clone is taken: it is
  checked now and proven like every other. When it is *not* there, the request may be on its way still, or its sender
  may only be asleep: **that number is abandoned, and the next one is taken**: it can then land where no client reads.

The job of the run is amended in the ledger for that (`Lease.amend_run`): the build and all later steps get the new
name, and a `Retire` of the old one becomes the last step. A name is thus always the one in the stored job: nothing is
overridden by a fact of the journal, and status, resume and abort need to know nothing of it.

Where no way leads to a clone, the job is amended to a copy, with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qmigrate.engine.barriers import barrier, measure, nothing_written
from qmigrate.engine.build.preflight import check_rounding
from qmigrate.engine.build.shadow import is_over_and_there, record, seal, unexplained, without_held_back
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.points.ranges import borders
from qmigrate.engine.work import Work, transform_of
from qmigrate.errors import NotFoundError, RefusedError, RepairNeededError, StoreError
from qmigrate.model.facts.phases import Copied, Fill, Preflight, Sent, Shadow, SourceSnapshot
from qmigrate.model.names import GENERATION, EpochAlias, generation_name
from qmigrate.model.plan import Build, Job, Retire
from qmigrate.model.schema import changes
from qmigrate.model.state import LiveCollection, marks_of
from qmigrate.ports import RECOVER_LOCATIONS, Snapshot
from qmigrate.store.faults import TransientError
from qmigrate.text import counted, quote

#: Share of the points that may be missing in a clone of a collection that is written to: the proof repairs these. More
#: would be a copy under another name, and a slow one.
MAY_LACK = 0.1
_WAYS = {"url": "from its own address", "file": "from its own folder", "upload": "from an upload"}


def why_not(step: Build, work: Work) -> str | None:
    """Why this source can't be cloned, as far as it only shows at run time; None when nothing prevents it."""
    source = work.store.describe(str(step.source))
    if marks_of(source).ledger != work.ledger_id:
        return f"{step.source} has no seal of this ledger, so an unfinished clone of it could not be recognised"
    return None


def no_room(work: Work, size: int) -> str | None:
    """Why the server's disk can't hold a clone next to its source; None when it may, or is unknown.

    Args:
        size: of the snapshot, in bytes.
    """
    disk = work.store.disk_size()
    if disk is not None and 2 * size > disk:
        return f"source and clone need about {2 * size:,} bytes, and the server's disk has {disk:,} in total"
    return None


def clone(step: Build, work: Work) -> Build:
    """Make the shadow by recovering the snapshot; may be repeated.

    Returns:
        The build as the job has it afterwards: ``clone`` with the collection there, sealed and changed, or ``copy``
        with nothing there.

    Raises:
        RepairNeededError: a collection that no journal explains has the name.
        StoreError: the server can't be reached, or is still at work after ``limits.ready_timeout``.
    """
    step = recover(step, work)
    if not is_there(step, work):
        return as_copy(step, work, reasons(work))
    problem = _taken(step, work)
    if problem is not None:
        return as_copy(_give_up(step, work, problem), work, problem)
    return step


def recover(step: Build, work: Work) -> Build:
    """Have the server recover the snapshot that the phase before has noted, in every way that it supports.

    Returns:
        The build as the job has it afterwards; whether the collection is there, :func:`is_there` tells.
    """
    step = _after_interruption(step, work)
    for location in RECOVER_LOCATIONS:
        if not is_there(step, work) and location not in _tried(work):
            step = _try(step, work, location)
    return step


def as_copy(step: Build, work: Work, why: str) -> Build:
    """The build becomes a copy, in the stored job too, and the reason is shown.

    Raises:
        RefusedError: a copy would lose settings that this version doesn't know.
        PlanError: it could not be proven.
    """
    source = work.store.describe(str(step.source))
    if source is not None and source.unknown:
        raise RefusedError(
            f"{step.source} can't be cloned by the server ({why}), and a copy would lose settings that this version "
            f"of qmigrate doesn't know: {', '.join(source.unknown)}",
            hint=f"qmigrate abort {quote(work.collection)}; then update qmigrate, or revert these settings",
        )
    copied = replace(step, fill="copy", reason=f"{step.reason}; copied, since the server could not clone it: {why}")
    if source is not None:
        check_rounding(work, copied, transform_of(work.operations(step.ops), source.schema))
    work.progress.say(f"{work.collection}: copied, not cloned: {why}")
    _amend(work, work.job.with_build(step, copied))
    work.note(Copied(why))
    return copied


def remove_uploaded(step: Build, work: Work) -> None:
    """What was uploaded is kept by the server as a snapshot of the new generation, which was not asked for."""
    if "upload" in _tried(work) or work.facts(Shadow).cloned == _WAYS["upload"]:
        work.store.delete_snapshot(own(work, step.target), _snapshot(work)[1].name)


def share_out(step: Build, work: Work) -> Fill:
    """Fix the ranges that the proof walks; a clone has no base, since nothing of it went through this process."""
    points = work.store.count(step.target)
    if not work.lease.ledger.ranges(work.run, work.step):
        work.lease.fix_ranges(work.run, work.step, borders(work, str(step.source), points))
    work.lease.progress(work.run, points, points)
    return Fill(points=points)


# --- one attempt ----------------------------------------------------------------------------------------------------


def _after_interruption(step: Build, work: Work) -> Build:
    """A request that a process before this one has journaled, and whose answer it has not."""
    sent = work.facts(Shadow).sent
    if is_there(step, work) or sent is None or sent.target != step.target:
        return step
    if is_over_and_there(work, step.target):
        return _note_there(step, work, sent.location)
    return _give_up(step, work, "the run was interrupted while the server recovered it")


def _try(step: Build, work: Work, location: str) -> Build:
    if work.store.describe(step.target) is not None:
        raise unexplained(step, work)
    source, snapshot = _snapshot(work)
    work.progress.begin(work.collection, "clone", None)
    work.tick()
    work.note(replace(work.facts(Shadow), sent=Sent(step.target, location)))
    try:
        found = work.store.recover_snapshot(step.target, source, snapshot, location, work.tick)
    except StoreError:
        # Nothing was sent.
        work.note(replace(work.facts(Shadow), sent=None))
        raise
    if found.state == "refused" and work.store.recovering(step.target):
        # A proxy has answered for a server that is still at it.
        found = replace(found, state="unclear")
    if found.state == "done" or (found.state == "unclear" and is_over_and_there(work, step.target)):
        return _note_there(step, work, location)
    work.note(replace(work.facts(Shadow), sent=None, tried={**_tried(work), location: found.reason}))
    if found.state == "unclear" or work.store.describe(step.target) is not None:
        return _give_up(step, work, found.reason)
    return step


def _give_up(step: Build, work: Work, why: str) -> Build:
    """The next number; what may become of the old one is retired at the end of the run."""
    number = 1 + max(
        [row.number for row in work.lease.ledger.generations(work.collection)]
        + [other.number for other in work.job.steps if isinstance(other, Build)]
        + [int(match["number"]) for match in _generations(work)]
    )
    fresh = replace(step, target=generation_name(work.collection, number), number=number)
    job = work.job.with_build(step, fresh)
    retire = Retire(step.target, f"given up by run {work.run}: {why}")
    _amend(work, replace(job, steps=(*job.steps, retire)))
    work.progress.say(f"{work.collection}: {step.target} is abandoned, {fresh.target} takes its place: {why}")
    record(fresh, work)
    return fresh


def _generations(work: Work) -> list[Any]:
    found = [GENERATION.match(name) for name in work.store.physical_names()]
    return [match for match in found if match and match["name"] == work.collection]


def _amend(work: Work, job: Job) -> None:
    work.lease.amend_run(work.run, job)
    work.job = job


# --- what came of it ------------------------------------------------------------------------------------------------


def _taken(step: Build, work: Work) -> str | None:
    """Seal it, check it, make the schema's changes.

    Returns:
        Why it can't be used, or None when it can.
    """
    found = work.store.describe(step.target)
    if found is None:
        raise RepairNeededError(f"{step.target} disappeared during the run")
    if marks_of(found).ledger != work.ledger_id:
        raise unexplained(step, work)
    # It is sealed as the live generation, like its source: that has to go first of all.
    # Load-bearing: a holder that was replaced must not seal, or change, what another one is building by now.
    alias = own(work, step.target)
    work.store.write_seal(alias, seal(step, work))
    return _incomplete(step, work, found) or _changed(step, work, found, alias)


def _incomplete(step: Build, work: Work, found: LiveCollection) -> str | None:
    source = work.store.describe(str(step.source))
    if source is None:
        raise RepairNeededError(f"{step.source} disappeared during the run")
    if found.inactive or found.status == "red" or found.problem:
        return f"the clone is not healthy: {', '.join(found.inactive) or found.problem or 'status red'}"
    lost = sorted(path for path, value in source.unknown_values.items() if found.unknown_values.get(path) != value)
    if lost:
        return f"the clone came without {', '.join(lost)}"
    wanted, there = work.store.count(str(step.source)), work.store.count(step.target)
    before = work.facts(SourceSnapshot).source_ids
    delta = measure(work.store, step.target)
    # Behind the counting: it is quiet only if nothing was written from before the snapshot until now.
    quiet = nothing_written(work, before, barrier(work.store, str(step.source)), delta=delta)
    # What was there both before and after the snapshot was in it, but for what was written meanwhile.
    least = int((1 - MAY_LACK) * min(wanted, work.facts(Preflight).points))
    if there < least or (quiet and there != wanted):
        return f"the clone has {counted(there, 'point')}, its source {wanted:,}"
    return None


def _changed(step: Build, work: Work, found: LiveCollection, alias: EpochAlias) -> str | None:
    """The changes of the revision, made on the clone; repeated, only what is left of it."""
    for item in changes(without_held_back(found.schema), without_held_back(step.schema)):
        work.tick(0, item.describe())
        try:
            work.store.apply(alias, item)
        except (TransientError, NotFoundError):
            raise
        except StoreError as error:
            return f"{item.describe()}: {error.message}"
    return None


# --- the journal ----------------------------------------------------------------------------------------------------


def _snapshot(work: Work) -> tuple[str, Snapshot]:
    made = work.facts(SourceSnapshot).snapshot
    assert made is not None  # noqa: S101  a clone has one
    return made.collection, Snapshot(made.name, made.size, made.checksum)


def is_there(step: Build, work: Work) -> bool:
    """Whether a recovery has made the collection, and is over."""
    return work.facts(Shadow).there == step.target


def _note_there(step: Build, work: Work, location: str) -> Build:
    work.note(replace(work.facts(Shadow), there=step.target, cloned=_WAYS[location]))
    work.progress.end(f"by the server, {_WAYS[location]}")
    return step


def _tried(work: Work) -> dict[str, str]:
    return dict(work.facts(Shadow).tried or {})


def reasons(work: Work) -> str:
    """Why each way did not lead there, in words."""
    return "; ".join(f"{_WAYS[location]}: {reason}" for location, reason in _tried(work).items())
