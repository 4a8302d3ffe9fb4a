"""Rows of the application that are marked when points were deleted: in the transaction of the audit where that can be.

Where the ledger lives in another database, the statements are committed first and noted then: what is killed in between
does them again. So nothing is recorded that was not marked, and a statement has to bear being repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qmigrate.engine.closing import Also
from qmigrate.engine.work import Work
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import Edit, Marked
from qmigrate.model.facts.fixes import Select
from qmigrate.model.facts.phases import Closed
from qmigrate.model.facts.stored import UNLEARNED
from qmigrate.model.schema import JsonObject
from qmigrate.rows import Marking, Marks

if TYPE_CHECKING:
    from qmigrate.settings.load import Settings


def to_json(marking: Marking, value: Any) -> JsonObject:
    """As an edit has it under ``mark``.

    Args:
        value: what is to be trained again, in its original words.
    """
    return {
        "value": value,
        "said": list(marking.said),
        "database": marking.database,
        "statements": list(marking.statements),
        "queue": marking.queue,
        "parameters": dict(marking.parameters),
        **({"columns": dict(marking.columns)} if marking.columns else {}),
    }


@contextmanager
def marks_of(settings: Settings, edit: JsonObject) -> Iterator[Marks | None]:
    """The statements of an edit, closed at the end; None where it has none."""
    said = Edit.of(edit).mark
    if said is None:
        yield None
        return
    marking = _marking(said)
    marks = Marks(settings.database(marking.database), marking)
    try:
        yield marks
    finally:
        marks.close()


def _marking(said: Marked) -> Marking:
    return Marking(said.database, said.statements, said.queue, said.parameters, said.said, said.columns)


def rows_of(settings: Settings, edit: JsonObject, deleted: int) -> dict[str, int]:
    """How many rows each statement of an edit would change now, the queue left out; nothing of it stays.

    Args:
        deleted: points that would be deleted.

    Raises:
        RowsError: the database refuses a statement.
        DatabaseError: it can't be reached.
    """
    said = Edit.of(edit)
    with marks_of(settings, edit) as marks:
        if marks is None or said.mark is None:
            return {}
        counts = marks.trial(said.reason or "", datetime.now(UTC), deleted)
    marking = _marking(said.mark)
    return dict(list(zip(marking.names, counts, strict=True))[: len(marking.statements)])


def check_marks(settings: Settings, edit: JsonObject) -> None:
    """Have the database plan what an edit would mark, before anything is deleted; nothing is done.

    Raises:
        RowsError: it refuses a statement.
        DatabaseError: it can't be reached.
    """
    with marks_of(settings, edit) as marks:
        if marks is not None:
            marks.check()


def mark(work: Work, edit: JsonObject, marks: Marks, deleted: int) -> Also:
    """Do the statements: at once, or in the transaction that the result is called in.

    Args:
        deleted: points that were deleted.

    Returns:
        For the closing transaction; it returns what the audit records about them.
    """
    said = Edit.of(edit)
    reason, now = said.reason or "", work.facts(Select).now
    assert now is not None  # noqa: S101  the selection keeps it
    wanted = said.mark
    assert wanted is not None  # noqa: S101  these are its statements
    value = wanted.parameters.get("value") if wanted.value is UNLEARNED else wanted.value
    names = _marking(wanted).names

    def marked(told: Audited, counts: Sequence[int]) -> Audited:
        return replace(told, value=value, marked=tuple(counts), rows=dict(zip(names, counts, strict=False)))

    if marks.shares(work.settings.ledger.url):
        return lambda connection, told: marked(told, marks.run_in(connection, reason, now, deleted))
    known = work.facts(Closed)
    counts = known.marked
    if counts is None:
        counts = tuple(marks.run(reason, now, deleted))
        work.note(replace(known, marked=counts))
    done = counts
    return lambda _, told: marked(told, done)
