"""fix: data fixes that nobody has written into a revision, and taking one back. What is done the steps decide."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from qmigrate.commands.edits import count
from qmigrate.commands.erased import Erasure, erased_of
from qmigrate.commands.perform import finish_open_runs, perform
from qmigrate.commands.results import Outcome, Resumed
from qmigrate.commands.second_look import FirstLook, until_second_look
from qmigrate.commands.session import Session, session
from qmigrate.commands.undone import fixed, plan_undo
from qmigrate.errors import DriftError, PlanError
from qmigrate.executor import stop_on_signals
from qmigrate.model.plan import EditPoints, Plan
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import World
from qmigrate.model.transform import PointId
from qmigrate.observe import check_ownership, observe
from qmigrate.operations.base import Operation
from qmigrate.planner import plan_fix
from qmigrate.ports import Progress
from qmigrate.settings import Settings
from qmigrate.steps.fixes import sighting

#: The exit code of what was stopped at a checkpoint on purpose.
_TO_BE_CONTINUED = 12


@dataclass(frozen=True, slots=True)
class Narrow:
    """A part of what an operation is about.

    Attributes:
        ids: only these points.
        since: only rows whose `column` is at or after this moment.
        column: a time, of the query.
        sample: so many points at random; only to look.
        missing_to: a file that gets the ids of rows without a point, one per line; as JSON values where its name ends
            with ``.jsonl``.
        missing_table: a table beside these rows that gets them, with the collection and the time; each once.
    """

    ids: Sequence[PointId] | None = None
    since: datetime | None = None
    column: str | None = None
    sample: int | None = None
    missing_to: str | None = None
    missing_table: str | None = None

    def of(self, operation: Operation) -> JsonObject:
        """The operation's edit, narrowed.

        Raises:
            PlanError: it is no data fix, or this can't be narrowed so.
        """
        edit = dict(operation.edit() or {})
        if (self.since is None) != (self.column is None):
            raise operation.error("since needs a moment and the column that it is compared with")
        if sum(part is not None for part in (self.ids, self.since, self.sample)) > 1:
            raise operation.error("it is narrowed to ids, to what changed since, or to a sample: one of them")
        if self.since is not None and self.since.tzinfo is None:
            raise operation.error(f"since has no time zone: {self.since}")
        if self.sample is not None and self.sample < 1:
            raise operation.error(f"a sample of {self.sample} says nothing")
        parts: dict[str, Any] = {
            "ids": None if self.ids is None else [_checked(operation, one) for one in self.ids],
            "since": None if self.since is None else [self.column, self.since.isoformat()],
            "sample": self.sample,
            "missing_to": self.missing_to and os.path.abspath(self.missing_to),
            "missing_table": self.missing_table or None,
        }
        return edit | {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a fix would do to one collection.

    Attributes:
        what: the fix in words.
        points: of the collection.
        changes: points that would change, exactly.
        counts: further figures.
        sample: the first of what would change: id, before, after.
    """

    collection: str
    what: str
    points: int
    changes: int
    counts: Mapping[str, int]
    sample: tuple[JsonObject, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """What a fix would do."""

    previews: tuple[Preview, ...]

    @property
    def changes(self) -> int:
        """Points that would change, over all collections."""
        return sum(preview.changes for preview in self.previews)

    @property
    def exit_code(self) -> int:
        """4 when anything would change, or a row has no point; else 0."""
        missing = any(preview.counts.get("missing") for preview in self.previews)
        return DriftError.exit_code if self.changes or missing else 0


@dataclass(frozen=True, slots=True)
class Done:
    """What a fix has done to one collection.

    Attributes:
        log: its id in the audit, for ``fix undo``; None where nothing was to be changed.
        changed: points that were changed.
        changed_meanwhile: points that were let be, since somebody changed them or their row while it ran.
        gone: points that were deleted meanwhile.
        verified: points that were read back as they should be.
        counts: what was found, in figures.
        erasure: what else it has done, where it was one.
    """

    collection: str
    log: int | None
    changed: int
    changed_meanwhile: int
    gone: int
    verified: int
    seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)
    erasure: Erasure | None = None


@dataclass(frozen=True, slots=True)
class FixResult:
    """`fix`.

    Attributes:
        done: one entry per step, in the order of execution.
        resumed: interrupted runs that were finished first.
        looked: collections that were only looked at, for the first time: the same command goes on when they are due.
    """

    done: tuple[Done, ...]
    resumed: tuple[Resumed, ...] = ()
    looked: tuple[FirstLook, ...] = ()

    @property
    def exit_code(self) -> int:
        """12 when it has to be called again, else 0."""
        return _TO_BE_CONTINUED if self.looked else 0

    @property
    def changed(self) -> int:
        """Points that were changed, over all collections."""
        return sum(one.changed for one in self.done)


def review(settings: Settings, operation: Operation, narrow: Narrow | None = None) -> Review:
    """What a fix would do: exact counts and a sample. Sends no write to Qdrant or SQL.

    Raises:
        PlanError: it can't be done there.
        RowsError: the query or its rows don't fit.
        DatabaseError: the application's database can't be reached.
    """
    edit = (narrow or Narrow()).of(operation)
    with session(settings, writes=False) as opened:
        plan = plan_fix(observe(opened.ledger, opened.store), [(operation, edit)])
        return Review(tuple(previews(opened, plan)))


def fix(
    settings: Settings,
    *operations: Operation,
    narrow: Narrow | None = None,
    expect: int | None = None,
    max_rate: float | None = None,
    wait: bool = True,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Do data fixes: each is counted, capped, written down, done, read back and recorded.

    Interrupted runs of the collections are finished first.

    Args:
        operations: of ``qmigrate.op``; several on one collection are done in this order.
        narrow: only a part of what they are about.
        expect: points that may change of each collection, exactly; None leaves it to the cap.
        max_rate: most points per second of a deletion; None for no limit.
        wait: for the second look at orphans, without the lease; else the first one is kept for a later call.

    Raises:
        RefusedError: more would change than the cap or `expect` allow; nothing was changed.
        VerificationError: what was written could not be read back.
    """
    chosen = narrow or Narrow()
    if chosen.sample is not None:
        raise PlanError("a sample is only looked at; what is mended is all of it")
    given = {"expect": expect, "max_rate": max_rate}
    more = {name: value for name, value in given.items() if value is not None}
    edits = [(operation, chosen.of(operation) | more) for operation in operations]
    with session(settings, writes=True, progress=progress) as opened:
        return run_fix(opened, lambda world: plan_fix(world, edits), lock_timeout, edits=edits, wait=wait)


def undo_review(settings: Settings, log: int, *, overwrite: bool = False) -> Review:
    """What taking back a fix would do. Sends no write to Qdrant or SQL.

    Args:
        log: id of the fix in the audit.
        overwrite: also points that were changed since.

    Raises:
        NotFoundError: there is no such fix.
        RefusedError: it is too long ago, or was taken back already.
    """
    with session(settings, writes=False) as opened:
        row = fixed(opened, log)
        plan = plan_undo(opened, observe(opened.ledger, opened.store), row, overwrite)
        return Review(tuple(previews(opened, plan)))


def undo(
    settings: Settings,
    log: int,
    *,
    overwrite: bool = False,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Give points back what a fix has taken from them; what was changed since stays, unless `overwrite`.

    Raises:
        As :func:`undo_review`.
    """
    with session(settings, writes=True, progress=progress) as opened:
        row = fixed(opened, log)
        return run_fix(opened, lambda world: plan_undo(opened, world, row, overwrite), lock_timeout)


def run_fix(
    opened: Session,
    make: Callable[[World], Plan],
    lock_timeout: float | None,
    *,
    edits: Sequence[tuple[Operation, JsonObject]] = (),
    wait: bool = True,
) -> FixResult:
    """Finish interrupted runs of the collections that `make` plans for, then do what it plans.

    One that was just finished with its consent to an exact number is done.

    Args:
        edits: what it plans from, where it may have to look twice.
        wait: for the second look.
    """
    with stop_on_signals() as stop:
        planned = make(observe(opened.ledger, opened.store))
        names = [item.job.collection for item in planned.collections]
        begun, same = _begun(opened, edits), _consented(opened, planned)
        resumed, finished = finish_open_runs(opened, stop=stop, only=names, lock_timeout=lock_timeout)
        done = [one for outcome in finished for one in _done(outcome)]
        if names and begun.issuperset(names):
            # It had seen its orphans twice already.
            return FixResult(tuple(done), tuple(resumed))
        looked = until_second_look(opened, edits, stop=stop, wait=wait, lock_timeout=lock_timeout)
        if looked:
            return FixResult(tuple(done), tuple(resumed), looked)
        over = same & {outcome.collection for outcome in finished}

        def rest(world: World) -> Plan:
            plan = make(world)
            return replace(plan, collections=tuple(one for one in plan.collections if one.job.collection not in over))

        _, outcomes = perform(opened, rest, stop=stop, lock_timeout=lock_timeout, only=names)
    done += [one for outcome in outcomes for one in _done(outcome)]
    return FixResult(tuple(done), tuple(resumed))


def _begun(opened: Session, edits: Sequence[tuple[Operation, JsonObject]]) -> set[str]:
    """Collections with an interrupted run that did the only edit, and had to wait for it."""
    if len(edits) != 1 or not edits[0][1].get("grace"):
        return set()
    wanted = sighting.query_of(edits[0][1])
    return {
        run.job.collection
        for run in opened.ledger.open_runs()
        for step in run.job.steps
        if isinstance(step, EditPoints) and step.edit.get("grace") and sighting.query_of(step.edit) == wanted
    }


def _consented(opened: Session, plan: Plan) -> set[str]:
    """Collections with an interrupted run of these very fixes, each for an exact number of points.

    That many were agreed to once: when the run is finished, there is nothing left that the number could be about.
    """
    open_ = {run.job.collection: run.job for run in opened.ledger.open_runs()}
    found = set()
    for item in plan.collections:
        name = item.job.collection
        wanted = [getattr(step, "edit", {}) for step in item.job.steps]
        begun = [getattr(step, "edit", {}) for step in open_[name].steps] if name in open_ else []
        if wanted == begun and all(edit.get("expect") is not None for edit in wanted):
            found.add(name)
    return found


def previews(opened: Session, plan: Plan) -> list[Preview]:
    """What the fixes of a plan would do, counted now."""
    found = []
    for item in plan.collections:
        name = item.job.collection
        check_ownership(observe(opened.ledger, opened.store, only=[name]), name)
        steps = [step for step in item.job.steps if isinstance(step, EditPoints)]
        for step, what in zip(steps, item.lines, strict=True):
            seen = count(opened, name, step.edit, step.ops)
            found.append(Preview(name, what, seen.points, seen.changes, dict(seen.counts), tuple(seen.sample)))
    return found


def _done(outcome: Outcome) -> list[Done]:
    """What the data fixes among the steps of a job have done."""
    found = []
    for phase, facts in outcome.report.items():
        step, _, name = phase.partition(".")
        if name != "select":
            continue
        changed = outcome.report.get(f"{step}.change", {})
        learned = {
            key.partition(".")[2]: value for key, value in outcome.report.items() if key.partition(".")[0] == step
        }
        found.append(
            Done(
                collection=outcome.collection,
                log=outcome.report.get(f"{step}.close", {}).get("log"),
                changed=changed.get("changed", 0),
                changed_meanwhile=changed.get("moved", 0),
                gone=changed.get("gone", 0),
                verified=outcome.report.get(f"{step}.verify", {}).get("verified", 0),
                seconds=outcome.seconds,
                counts=facts.get("counts", {}),
                erasure=erased_of(learned, outcome.physical),
            )
        )
    return found


def _checked(operation: Operation, identifier: object) -> PointId:
    """An id as Qdrant writes it.

    Raises:
        PlanError: it is none.
    """
    import uuid

    if isinstance(identifier, uuid.UUID):
        return str(identifier)
    if isinstance(identifier, int) and not isinstance(identifier, bool) and 0 <= identifier < 2**64:
        return identifier
    if isinstance(identifier, str):
        try:
            return int(identifier) if identifier.isdigit() else str(uuid.UUID(identifier))
        except ValueError:
            pass
    raise operation.error(f"{identifier!r} is no point id: unsigned integers and UUIDs are")
