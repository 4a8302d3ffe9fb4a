"""fix retrain: points of some values of a preset are deleted, and the application's rows marked. The steps do it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmigrate.commands.fix import Preview, preview_of
from qmigrate.commands.parallel import paced
from qmigrate.commands.presets import marking, preset
from qmigrate.commands.results import Resumed
from qmigrate.commands.run_fixes import Done, FixResult, run_fix, same_edits
from qmigrate.commands.session import Session, session
from qmigrate.engine.fixes.kinds import opened as opened_fix
from qmigrate.engine.fixes.marks import check_marks, rows_of, to_json
from qmigrate.engine.fixes.protocol import FixSource, check_cap
from qmigrate.errors import RefusedError, UsageError
from qmigrate.ledger.reader import present
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import Edit, Marked
from qmigrate.model.facts.stored import known
from qmigrate.model.fix import Found
from qmigrate.model.names import has_wildcard
from qmigrate.model.plan import EditPoints
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.observe import check_ownership, observe
from qmigrate.operations.deletion import DeletePoints
from qmigrate.planner import plan_fix
from qmigrate.ports import Progress
from qmigrate.settings.load import Settings
from qmigrate.text import counted

#: Values of one run: each is a step of its own in one stored job.
MOST_VALUES = 1000

Edits = Sequence[tuple[DeletePoints, JsonObject]]


@dataclass(frozen=True, slots=True)
class RetrainReview:
    """What a retraining would delete; no statement is run for it.

    Attributes:
        previews: one per value, in their order; a point counts for the first value that selects it.
        statements: what would be run for each of them then.
    """

    previews: tuple[Preview, ...]
    statements: tuple[str, ...]

    @property
    def changes(self) -> int:
        """Points that would be deleted, over all values."""
        return sum(preview.changes for preview in self.previews)


@dataclass(frozen=True, slots=True)
class Retrained:
    """One value.

    Attributes:
        log: its row of the audit, for ``fix undo``, which gives points back and leaves rows as they are.
        deleted: points.
        marked: rows that each statement has changed, the one of the queue last; -1 where the database doesn't say.
        rows: the same by the name of the statement: what the preset calls it, else its table.
    """

    value: Any
    log: int | None
    deleted: int
    marked: tuple[int, ...]
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RetrainResult:
    """`fix retrain`.

    Attributes:
        values: in the order of execution, with those of an interrupted run that was finished first.
        resumed: interrupted runs that were finished first.
    """

    collection: str
    values: tuple[Retrained, ...]
    resumed: tuple[Resumed, ...] = ()

    @property
    def deleted(self) -> int:
        """Points, over all values."""
        return sum(one.deleted for one in self.values)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be trained again.

    Attributes:
        name: of the preset, under ``fixes.presets``.
        values: of its parameter ``value``; each is deleted, marked and recorded by itself.
        parameters: of its other parameters.
        reason: instead of the preset's.
        collection: instead of the preset's.
        max_share: largest share of the points that may go in all; None for the preset's, else ``fixes.max_share``.
        allow_unmarked: also where points would go and no row would be marked.
    """

    name: str
    values: Sequence[Any]
    parameters: Mapping[str, Any]
    reason: str = ""
    collection: str | None = None
    max_share: float | None = None
    allow_unmarked: bool = False

    def edits(self, settings: Settings) -> list[tuple[DeletePoints, JsonObject]]:
        """Each value's deletion, with the statements after it.

        Raises:
            ConfigError: the preset is not there, is wrong, or marks nothing.
            UsageError: a value is missing, or there are too many.
        """
        values = list({(type(value), json.dumps(value, default=str)): value for value in self.values}.values())
        if not values:
            raise UsageError("name what is to be trained again", hint="--value V, or --from-file FILE")
        if len(values) > MOST_VALUES:
            raise UsageError(f"one run takes at most {MOST_VALUES:,} values, not {len(values):,}", hint="split them")
        made: dict[str, tuple[DeletePoints, JsonObject]] = {}
        for value in values:
            operation, edit = self._edit(settings, value)
            # A folder with and without a trailing slash is one.
            same = [{**edit, "target": None, "mark": None}, dict(_mark(edit).parameters)]
            made.setdefault(json.dumps(same, sort_keys=True, default=str), (operation, edit))
        return list(made.values())

    def _edit(self, settings: Settings, value: Any) -> tuple[DeletePoints, JsonObject]:
        given = {**self.parameters, "value": value}
        marks = marking(settings, self.name, given)
        operation = preset(
            settings,
            self.name,
            given,
            collection=self.collection,
            reason=self.reason,
            beside=marks.parameters.keys() - {"value"},
            max_share=self.max_share,
        )
        if has_wildcard(operation.written):
            raise UsageError(f"{operation.collection} may be several collections, and rows are marked once")
        return operation, {**(operation.edit() or {}), "mark": to_json(marks, value)}


def cap_of(settings: Settings, wish: Wish) -> float | None:
    """The largest share that the wish or its preset allows; None where neither has one."""
    return wish.edits(settings)[0][0].max_share


def review(settings: Settings, wish: Wish) -> RetrainReview:
    """What would be deleted for each value. Statements are only planned by the database, never run.

    Raises:
        ConfigError, UsageError: the preset or its values don't fit.
        RowsError: the database refuses a query or a statement.
    """
    edits = wish.edits(settings)
    with session(settings, writes=False) as opened:
        previews = _previews(opened, edits, check=True)
    mark = _mark(edits[0][1])
    more = f", with {', '.join(mark.columns)}" if mark.columns else ""
    queue = [f"a row in {mark.queue}{more}"] if mark.queue else []
    return RetrainReview(tuple(previews), (*mark.statements, *queue))


def _mark(edit: JsonObject) -> Marked:
    """What an edit of a retraining marks."""
    mark = Edit.of(edit).mark
    assert mark is not None  # noqa: S101  each of them marks
    return mark


def retrain(
    settings: Settings | None,
    wish: Wish,
    *,
    expect: int | None = None,
    max_rate: float | None = None,
    reviewed: bool = False,
    lock_timeout: float | None = None,
    progress: Progress | None = None,
) -> RetrainResult:
    """Delete the points of each value and mark its rows; a value's rows and its row of the audit come together.

    What was interrupted is finished first; when it was this very retraining, nothing else is done.

    Args:
        expect: points that may go in all, exactly; None leaves it to the cap.
        max_rate: most points per second; None for no limit.
        reviewed: :func:`review` has just had the database plan the statements. Else that is done for every value
            before the first one's points go; each value does it again when it begins, which may be hours later.

    Raises:
        RefusedError: more would go than `expect` or the cap allow, or points would go of a value whose statements mark
            no row; nothing was changed.
        RowsError: a query or a statement doesn't fit; nothing was changed.
    """
    settings = settings or Settings.load()
    pace = paced(max_rate)
    edits = wish.edits(settings)
    plain = [edit for _, edit in edits]
    chosen: list[tuple[DeletePoints, JsonObject]] = [(operation, edit | pace) for operation, edit in edits]
    name = edits[0][0].collection

    with session(settings, writes=True, progress=progress) as opened:

        def begin() -> None:
            """Count over all values, once nothing is left to finish."""
            found = _previews(opened, edits, check=not reviewed)
            total = Found(found[0].points, sum(preview.changes for preview in found))
            own, usual = edits[0][0].max_share, settings.for_collection(name).fixes.max_share
            check_cap(name, total, own if own is not None else usual, expect)
            if expect is not None:
                pairs = zip(tuple(chosen), found, strict=True)
                chosen[:] = [(operation, {**edit, "expect": seen.changes}) for (operation, edit), seen in pairs]
            _try_marks(opened.settings.for_collection(name), edits, found, unmarked=wish.allow_unmarked)

        result = run_fix(
            opened,
            lambda world: plan_fix(world, chosen),
            lock_timeout,
            same=lambda job: same_edits(job, plain),
            names=[name],
            begin=begin,
        )
        return _result(opened, name, result)


def _try_marks(settings: Settings, edits: Edits, found: Sequence[Preview], *, unmarked: bool) -> None:
    """Have every statement done once, without effect: what a database only refuses then would leave points without it.

    Points without a marked row would be gone for good: nothing would train them again.

    Args:
        unmarked: that is allowed.

    Raises:
        RowsError: a statement, or the row of the queue, is refused.
        RefusedError: no row would be marked for a value whose points would go.
    """
    refused = {}
    for (_, edit), seen in zip(edits, found, strict=True):
        rows = rows_of(settings, edit, seen.changes)
        if seen.changes and _mark(edit).statements and not any(rows.values()) and not unmarked:
            refused[str(known(_mark(edit).value))] = seen.changes
    if refused:
        named = ", ".join(list(refused)[:5]) + (f" and {len(refused) - 5:,} more" if len(refused) > 5 else "")
        points = counted(sum(refused.values()), "point")
        raise RefusedError(
            f"{points} would be deleted for {named}, and the statements of the preset mark no row there, so nothing "
            "would be trained again",
            hint="compare the WHERE of the statements (--dry-run shows them) with the rows; --allow-unmarked deletes "
            "the points all the same",
            facts={"unmarked": refused},
        )


def _previews(opened: Session, edits: Edits, *, check: bool) -> list[Preview]:
    """Exact counts; a point that several values select counts for the first of them.

    Args:
        check: have the database plan the statements.
    """
    plan = plan_fix(observe(opened.ledger, opened.store), edits)
    if len(plan.collections) != 1:
        raise UsageError(f"{edits[0][0].collection} is several collections, and rows are marked once")
    (item,) = plan.collections
    name = item.job.collection
    check_ownership(observe(opened.ledger, opened.store, only=[name]), name)
    settings = opened.settings.for_collection(name)
    seen: set[PointId] = set()
    found = []
    for step, what in zip(item.job.steps, item.lines, strict=True):
        assert isinstance(step, EditPoints)  # noqa: S101  plan_fix makes no others
        if check:
            check_marks(settings, step.edit)
        one = Found()
        place = FixSource(name, name, opened.store, opened.ledger, settings, now=present(opened.ledger))
        with opened_fix(place, step.edit) as fix:
            for entry in fix.find(one):
                one.changes += entry.id not in seen
                seen.add(entry.id)
        found.append(preview_of(opened, name, what, one, step.edit))
    return found


def _result(opened: Session, name: str, result: FixResult) -> RetrainResult:
    return RetrainResult(name, tuple(_retrained(opened, one) for one in result.done), result.resumed)


def _retrained(opened: Session, done: Done) -> Retrained:
    row = opened.ledger.deletion(done.log) if done.log is not None else None
    told = row.told if row is not None else Audited()
    return Retrained(known(told.value), done.log, done.changed, told.marked or (), dict(told.rows or {}))
