"""fix: data fixes outside of revisions, and undoing one. What is done the steps decide."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from qmigrate.commands.edits import count
from qmigrate.commands.names import bounded
from qmigrate.commands.parallel import paced
from qmigrate.commands.run_fixes import FixResult, run_fix
from qmigrate.commands.session import Session, notes_on, session
from qmigrate.commands.snapshot import address
from qmigrate.commands.undo import fixed, plan_undo
from qmigrate.commands.value_types import asked, misfits
from qmigrate.engine.fixes.protocol import compares_nothing, unmet
from qmigrate.errors import (
    DriftError,
    ForeignLedgerError,
    PlanError,
    PointsNotFoundError,
    QmigrateError,
    RefusedError,
)
from qmigrate.model.facts.edits import Edit, RemovalEdit, SyncEdit, edit_of, words_of
from qmigrate.model.fix import Found
from qmigrate.model.plan import CollectionPlan, EditPoints, GoLive, Plan, Step
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import World
from qmigrate.model.transform import PointId
from qmigrate.observe import check_ownership, observe, unmanaged
from qmigrate.operations.base import Operation
from qmigrate.operations.deletion import ASSET, DeleteOrphans
from qmigrate.planner import plan_fix
from qmigrate.planner.fix import UNRECORDED
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import counted, quote

#: Of the largest number that is an id; a text of more digits can only be a UUID without hyphens.
_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Narrow:
    """A part of what an operation is about.

    Attributes:
        ids: only these points.
        since: only rows whose `column` is at or after this moment.
        column: a time, of the query.
        sample: this many points at random; only to check.
        missing_to: a file that gets the ids of rows without a point, one per line; as JSON values where its name ends
            with ``.jsonl``.
        missing_table: a table next to these rows that gets them, with the collection and the time; each once.
        ids_to: a file that gets the ids of the points that would change, or have changed, as JSON Lines.
    """

    ids: Sequence[PointId] | None = None
    since: datetime | None = None
    column: str | None = None
    sample: int | None = None
    missing_to: str | None = None
    missing_table: str | None = None
    ids_to: str | None = None

    def of(self, operation: Operation) -> JsonObject:
        """The operation's edit, narrowed.

        Raises:
            PlanError: it is not a data fix, or this can't be narrowed so.
        """
        edit = dict(operation.edit() or {})
        if (self.since is None) != (self.column is None):
            raise operation.error("since needs a moment and the column that it is compared with")
        if sum(part is not None for part in (self.ids, self.since, self.sample)) > 1:
            raise operation.error("narrow it to ids, to what changed since, or to a sample: only one of them")
        if self.since is not None and self.since.tzinfo is None:
            raise operation.error(f"since has no time zone: {self.since}")
        since = None if self.since is None else _utc(operation, self.since)
        if self.sample is not None and self.sample < 1:
            raise operation.error(f"expected a sample of at least 1 point, got {self.sample}")
        parts: dict[str, Any] = {
            "ids": None if self.ids is None else [_checked(operation, one) for one in self.ids],
            "since": None if since is None else [self.column, since.isoformat()],
            "sample": self.sample,
            "missing_to": self.missing_to and os.path.abspath(self.missing_to),
            "missing_table": self.missing_table or None,
            "ids_to": self.ids_to and os.path.abspath(self.ids_to),
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
        values: what fields and parameters are compared with, and of which type.
        misfits: fields that hold other types than they are compared with.
        returns: the points that would change are not there now: they come back.
        would: what would become of them: ``change``, ``be deleted``, ``be marked as deleted``, ….
        label: the same in a word: ``changes``, ``deletes``, ….
    """

    collection: str
    what: str
    points: int
    changes: int
    counts: Mapping[str, int]
    sample: tuple[JsonObject, ...]
    values: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()
    returns: bool = False
    would: str = "change"
    label: str = "changes"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that comes where what was only checked is to be done."""

    message: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, error: QmigrateError) -> Refusal:
        """What it says."""
        return cls(error.message, error.hint, error.exit_code)

    def error(self) -> QmigrateError:
        """The error again."""
        kind = ForeignLedgerError if self.exit_code == ForeignLedgerError.exit_code else RefusedError
        return kind(self.message, hint=f"{self.hint}. --check and --dry-run show it")


@dataclass(frozen=True, slots=True)
class Review:
    """What a fix would do.

    Attributes:
        previews: per collection.
        notes: what a user should know: which collections a glob means, what the values don't fit, and what was checked
            where it met no point.
        unmanaged: collections that are not under management: they can be checked, and not changed.
        refusal: why the first of them is not changed.
    """

    previews: tuple[Preview, ...]
    notes: tuple[str, ...] = ()
    unmanaged: tuple[str, ...] = ()
    refusal: Refusal | None = None

    @property
    def changes(self) -> int:
        """Points that would change, over all collections."""
        return sum(preview.changes for preview in self.previews)

    @property
    def would(self) -> str:
        """What would become of the points, in words; ``change`` where that differs."""
        words = {preview.would for preview in self.previews}
        return words.pop() if len(words) == 1 else "change"

    @property
    def by_collection(self) -> dict[str, int]:
        """Points that would change, by collection."""
        return {preview.collection: preview.changes for preview in self.previews}

    @property
    def exit_code(self) -> int:
        """4 when anything would change, or a row has no point; else 0."""
        missing = any(preview.counts.get("missing") for preview in self.previews)
        return DriftError.exit_code if self.changes or missing else 0


def review(
    settings: Settings | None,
    operation: Operation,
    narrow: Narrow | None = None,
    *,
    tenant: str | int | None = None,
    expect: int | None = None,
) -> Review:
    """What a fix would do: exact counts and a sample. Sends no write to Qdrant or SQL.

    Args:
        tenant: whose points a deletion is about, as :func:`fix` has it.
        expect: 0 where a sync may compare nothing, as :func:`fix` has it.

    Raises:
        PlanError: it can't be done there.
        RefusedError: a sync compares nothing.
        RowsError: the query or its rows don't fit.
        DatabaseError: the application's database can't be reached.
    """
    settings = settings or Settings.load()
    if tenant is not None or not isinstance(operation, DeleteOrphans):
        # A check for orphans may be of all.
        (operation,) = bounded(settings, (operation,), tenant)
    edit = (narrow or Narrow()).of(operation)
    with session(settings, writes=False, partial=True, readable=True) as opened:
        world = observe(opened.ledger, opened.store)
        plan = _planned(world, [(operation, edit)], looking=True)
        names = [item.job.collection for item in plan.collections]
        others = [world.collections[name] for name in names if not world.collections[name].managed]
        refusal = Refusal.of(unmanaged(world.ledger_id, others[0], UNRECORDED)) if others else None
        found = tuple(previews(opened, plan))
    check_compared(edit, [one.counts for one in found], expect)
    nothing = (line for one in found if not one.changes for line in unmet(one.collection, edit, one.counts))
    notes = (*plan.notes, *nothing, *notes_on(opened.problems))
    return Review(found, notes, tuple(one.name for one in others), refusal)


def fix(  # noqa: PLR0913  the options of the verb
    settings: Settings | None,
    *operations: Operation,
    narrow: Narrow | None = None,
    expect: int | None = None,
    most: Mapping[str, int] | None = None,
    max_rate: float | None = None,
    wait: bool = True,
    tenant: str | int | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Do data fixes: each is counted, capped, written down, done, read back and recorded.

    Interrupted runs of the collections are finished first.

    Args:
        operations: of ``qmigrate.op``; several on one collection are done in this order.
        narrow: only a part of what they are about.
        expect: points that may change of each collection, exactly; None leaves it to the cap. With 0 a sync may also
            compare nothing.
        most: collection -> up to how many points of it were shown and agreed to; of others none. None where
            no user was asked.
        max_rate: most points per second; None for no limit.
        wait: for the second look for orphans, without the lease; else the first one is kept for a later call.
        tenant: whose points deletions are about, where ``fixes.tenants`` names a field; ``*`` for those of all, also
            where the caller has asked already.

    Raises:
        UsageError: no tenant is named.
        RefusedError: more would change than the cap or `expect` allow, or a sync compares nothing; nothing was changed.
        PointsNotFoundError: points that were named are not there.
        VerificationError: what was written could not be read back.
    """
    settings, pace = settings or Settings.load(), paced(max_rate)
    chosen, operations = narrow or Narrow(), bounded(settings, operations, tenant)
    if chosen.sample is not None:
        raise PlanError("a sample can only be checked; a fix is always of all points")
    given = {"expect": expect, "most": None if most is None else dict(most)}
    more = {name: value for name, value in given.items() if value is not None} | pace
    edits = [(operation, chosen.of(operation) | more) for operation in operations]
    with session(settings, writes=True, progress=progress, begins=False) as opened:
        # Derived from what was there before: of the first plan, since the next one may find it changed.
        notes: list[tuple[str, ...]] = []

        def make(world: World) -> Plan:
            plan = _planned(world, edits)
            if not notes:
                notes.append(_misfits(opened, plan))
            return plan

        result = run_fix(opened, make, lock_timeout, edits=edits, wait=wait)
    if len(operations) == 1 and not result.resumed:
        # What was interrupted may have deleted them.
        touched = sum(one.changed + one.changed_meanwhile + one.gone for one in result.done)
        check_there(operations[0], touched, [one.counts for one in result.done], notes[0] if notes else ())
        edit = edits[0][1]
        check_compared(edit, [one.counts for one in result.done], expect)
        notes += [unmet(one.collection, edit, one.counts) for one in result.done if not one.changed]
    return replace(result, notes=tuple(line for lines in notes for line in lines))


def _misfits(opened: Session, plan: Plan) -> tuple[str, ...]:
    found = (
        line
        for item in plan.collections
        for step in item.job.steps
        if isinstance(step, EditPoints)
        for line in misfits(opened.store, item.job.collection, step.edit)
    )
    return tuple(dict.fromkeys(found))


def check_there(
    operation: Operation, changes: int, counts: Sequence[Mapping[str, int]], types: Sequence[str] = ()
) -> None:
    """See that an asset that was to be deleted is there; a deletion of a set may find none.

    Args:
        changes: points that would go, or went.
        counts: what was found of each collection.
        types: fields that hold other types than they were compared with.

    Raises:
        PointsNotFoundError: nothing of it is there, so that nothing was changed.
    """
    said = edit_of(operation.edit() or {})
    asset = said.target if isinstance(said, RemovalEdit) and said.type == ASSET else None
    if changes or asset is None or any(one.get("already") for one in counts):
        return
    why = f"; {'; '.join(types)}" if types else ""
    raise PointsNotFoundError(
        f"not found: there are no points of {operation.pattern} with {asset}{why}; nothing was changed",
        hint="ids are numbers or UUIDs, as Qdrant has them; --dry-run shows what a condition selects",
        facts={"target": asset, "counts": [dict(one) for one in counts]},
    )


def check_compared(edit: JsonObject, counts: Sequence[Mapping[str, int]], expect: int | None) -> None:
    """See that a sync of all points has compared one: that nothing differs means nothing otherwise.

    Args:
        edit: of the fix.
        counts: what was found of each collection.
        expect: 0 accepts that.

    Raises:
        RefusedError: there are points, and none has a row; nothing was changed.
    """
    points = sum(one.get("without_row", 0) for one in counts)
    said = edit_of(edit)
    if not isinstance(said, SyncEdit):
        return
    narrowed = any(part is not None for part in (said.ids, said.since, said.sample))
    if narrowed or expect == 0 or not points or not all(compares_nothing(edit, one) for one in counts):
        return
    rows = max(one.get("rows", 0) for one in counts)
    returned = f"returns {counted(rows, 'row')}, and none has a point" if rows else "returns no row at all"
    raise RefusedError(
        f"the query on {said.database} {returned}: none of {counted(points, 'point')} was compared; "
        "nothing was changed",
        hint="is it the right database, and is the key the point's id? --since asks for what has changed, and "
        "--expect 0 accepts that there are none",
        facts={"rows": rows, "points": points},
    )


def _planned(world: World, edits: Sequence[tuple[Operation, JsonObject]], *, looking: bool = False) -> Plan:
    """The plan of fixes; a file that gets ids is for one collection.

    Raises:
        PlanError: several would write the same file.
    """
    plan = plan_fix(world, edits, looking=looking)
    files = [name for _, edit in edits for name in ("ids_to", "missing_to") if edit.get(name)]
    if files and len(plan.collections) > 1:
        names = ", ".join(item.job.collection for item in plan.collections[:3])
        raise PlanError(f"one file can't hold the ids of several collections ({names}, …)", hint="name one of them")
    return plan


def undo_review(settings: Settings, log: int, *, overwrite: bool = False) -> Review:
    """What taking back a fix would do. Sends no write to Qdrant or SQL.

    Args:
        log: id of the fix in the audit.
        overwrite: also points that were changed since.

    Raises:
        NotFoundError: there is no such fix.
        RefusedError: it is too long ago, or was undone already.
    """
    with session(settings, writes=False, readable=True) as opened:
        row = fixed(opened, log)
        plan = plan_undo(opened, observe(opened.ledger, opened.store), row, overwrite)
        return Review(tuple(previews(opened, plan)), notes_on(opened.problems))


def undo(
    settings: Settings | None,
    log: int,
    *,
    overwrite: bool = False,
    max_rate: float | None = None,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Give points back what a fix has taken from them; what was changed since stays, unless `overwrite`.

    Args:
        max_rate: most points per second; None for no limit. A reset is undone at once.

    Raises:
        As :func:`undo_review`.
    """
    settings = settings or Settings.load()
    pace = paced(max_rate)
    with session(settings, writes=True, progress=progress, readable=True, begins=False) as opened:
        row = fixed(opened, log)
        done = run_fix(
            opened,
            lambda world: plan_undo(opened, world, row, overwrite, pace),
            lock_timeout,
            same=lambda job: any(_undoes(step, log, overwrite) for step in job.steps),
            names=[str(row.collection)],
        )
    return replace(done, notes=(*done.notes, *notes_on(opened.problems)))


def _undoes(step: Step, log: int, overwrite: bool) -> bool:
    """Whether a step takes this very fix back: done again, it would take away what has been written since."""
    if isinstance(step, GoLive):
        return step.undoes == log
    return (
        isinstance(step, EditPoints)
        and step.edit.get("log") == log
        and bool(step.edit.get("overwrite")) == overwrite
    )


def previews(opened: Session, plan: Plan) -> list[Preview]:
    """What the fixes of a plan would do, counted now."""
    found = []
    for item in plan.collections:
        name = item.job.collection
        world = observe(opened.ledger, opened.store, only=[name])
        if world.collections[name].managed:
            # What is only checked may belong to any ledger.
            check_ownership(world, name)
        steps = [step for step in item.job.steps if isinstance(step, EditPoints)]
        for step, what in zip(steps, item.lines[: len(steps)], strict=True):
            seen = count(opened, name, step.edit, step.ops)
            shown = preview_of(opened, name, what, seen, step.edit)
            found.append(replace(shown, returns=Edit.of(step.edit).kind == "bring_back"))
        found += [_back_again(opened, item, step) for step in item.job.steps if isinstance(step, GoLive)]
    return found


def preview_of(opened: Session, name: str, what: str, seen: Found, edit: JsonObject) -> Preview:
    """What was counted of one edit, with the types of the values that it asks for."""
    words = words_of(edit)
    return Preview(
        name,
        what,
        seen.points,
        seen.changes,
        dict(seen.counts),
        tuple(seen.sample),
        asked(edit),
        misfits(opened.store, name, edit),
        would=words.would,
        label=words.label,
    )


def _back_again(opened: Session, item: CollectionPlan, step: GoLive) -> Preview:
    """What comes back when a reset is undone: complete, so that no point of it is checked.

    Raises:
        RefusedError: points were written since, and they may not be left behind without `overwrite`.
    """
    name = item.job.collection
    since = opened.store.count(name)
    if since and step.writes == "refuse":
        raise RefusedError(
            f"{since:,} points were written to {name} since fix {step.undoes}; going back now would lose them",
            hint=f"qmigrate fix undo {quote(step.undoes)} --overwrite leaves them in {step.source}, which gc removes",
            facts={"written_since": since},
        )
    points = opened.store.count(address(opened.store.aliases(), str(step.target)))
    return Preview(name, item.lines[0], since, points, {"written_since": since}, (), returns=True, would="come back")


def _utc(operation: Operation, moment: datetime) -> datetime:
    """A moment in UTC.

    Raises:
        PlanError: there it is before the first year, or after the last.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise operation.error(f"{moment.isoformat()} is not a moment of UTC") from None


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
            number = identifier.isascii() and identifier.isdigit() and len(identifier) <= _DIGITS
            if number and int(identifier) >= 2**64:
                raise ValueError
            return int(identifier) if number else str(uuid.UUID(identifier))
        except ValueError:
            pass
    raise operation.error(f"{identifier!r} is not a point id: unsigned integers and UUIDs are")
