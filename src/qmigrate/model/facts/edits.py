"""What a data fix is to do, as a stored job says it: one frozen dataclass per kind. They decide nothing.

An operation's ``edit()`` writes the keys; the code that carries it out reads them from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qmigrate.model.facts.stored import UNLEARNED, loaded
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointId


@dataclass(frozen=True, slots=True)
class Marked:
    """Rows of the application that are marked when points were deleted: see :class:`qmigrate.rows.Marking`.

    Attributes:
        value: what is to be trained again, as it was said.
    """

    database: str
    value: Any = UNLEARNED
    said: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    queue: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """Of every kind.

    Attributes:
        kind: which one.
        undo: kind of the fix that takes it back; None where nothing does.
        reason: for the record.
        max_share: the largest share of the points that may change, 0 to 1; None for that of the settings.
        max_rate: points a second; None for no limit.
        expect: how many changes were consented to; None where nothing was counted.
        most: up to how many points of a collection were agreed to; None where no question was asked.
        ids_to: path of a file that gets the ids.
        log_empty: whether it is recorded also where there was no point.
        mark: rows of the application that are marked.
        drops: whether what an interrupted fix has kept is deleted at the end: its run is undone.
    """

    kind: str = ""
    undo: str | None = None
    reason: str | None = None
    max_share: float | None = None
    max_rate: float | None = None
    expect: int | None = None
    most: Mapping[str, int] | None = None
    ids_to: str | None = None
    log_empty: bool = True
    mark: Marked | None = None
    drops: bool = False

    @classmethod
    def of(cls, edit: JsonObject) -> Edit:
        """What every kind has in common."""
        return loaded(Edit, edit)


@dataclass(frozen=True, slots=True)
class SqlQuery:
    """A query on a database of the application.

    Attributes:
        database: its name in the settings.
        key: the column with the ids.
    """

    database: str
    sql: str
    key: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OlderThan:
    """A payload field with a time, and how long ago that must be, in seconds."""

    field: str
    age: float


@dataclass(frozen=True, slots=True)
class RemovalEdit(Edit):
    """Of a deletion, and of what selects its points like one.

    Attributes:
        ids: of the points; None where they are not named.
        filter: of Qdrant.
        prefix: payload field, and with what its text begins.
        sql: whose ids are meant.
        export: whether the points are kept in a file.
        type: what the audit calls it.
        target: what was meant, in words.
        older_than: how old they must be.
    """

    ids: tuple[PointId, ...] | None = None
    filter: JsonObject | None = None
    prefix: tuple[str, str] | None = None
    sql: SqlQuery | None = None
    export: bool = True
    type: str = ""
    target: str = ""
    older_than: OlderThan | None = None


@dataclass(frozen=True, slots=True)
class SoftEdit(RemovalEdit):
    """Of a soft deletion: the payload key that marks a point."""

    flag: str = ""


@dataclass(frozen=True, slots=True)
class Followed:
    """A soft deletion: its row of the audit, its run and step, and the generation that it has marked."""

    log: int
    run: int
    step: int
    generation: str | None = None


@dataclass(frozen=True, slots=True)
class PurgeEdit(SoftEdit):
    """Of the deletion of marked points.

    Attributes:
        before: when they must have been marked.
        marks: the soft deletions that have marked them.
    """

    before: datetime | None = None
    marks: tuple[Followed, ...] = ()


@dataclass(frozen=True, slots=True)
class OrphansEdit(RemovalEdit):
    """Of a deletion of points without a row.

    Attributes:
        grace: seconds between the two looks.
        id_field: payload field with the id that rows have; None for the point's own.
        sample: this many points and rows at random; None for all.
        look: whether it is only the first look.
        missing_to: path of a file that gets rows without a point.
        missing_table: table that gets them.
    """

    grace: float = 0.0
    id_field: str | None = None
    sample: int | None = None
    look: bool = False
    missing_to: str | None = None
    missing_table: str | None = None


@dataclass(frozen=True, slots=True)
class EraseEdit(RemovalEdit):
    """Of an erasure: whether snapshots that may hold the points are listed (``list``) or replaced."""

    snapshots: str = "list"


@dataclass(frozen=True, slots=True)
class AssignEdit(RemovalEdit):
    """Of payload keys that are set to a value, or removed."""

    values: Mapping[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteEdit(RemovalEdit):
    """Of payload keys that become what an operation says of each point: its name, and its own arguments."""

    operation: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncEdit(Edit):
    """Of payload fields that are made equal to columns.

    Attributes:
        database: its name in the settings.
        key: the column with the ids.
        fields: payload field -> column.
        json: columns that hold JSON.
        ids: only these points.
        since: a column, and the moment since which a row must have changed.
        sample: this many points at random.
    """

    database: str = ""
    sql: str = ""
    key: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    json: tuple[str, ...] = ()
    ids: tuple[PointId, ...] | None = None
    since: tuple[str, datetime] | None = None
    sample: int | None = None


@dataclass(frozen=True, slots=True)
class UndoEdit(Edit):
    """Of taking a fix back.

    Attributes:
        run: the run of that fix.
        step: its position there.
        generation: that it was about.
        file: path of what it has exported.
        started: when its run began, where no file is named.
        log: its row of the audit; None where its run is undone.
        overwrite: whether also what was changed since is.
        nothing: whether it had not begun to change anything.
        erased: points of it that were erased since.
        emptied: whether an erasure has left nothing of the file.
    """

    run: int = 0
    step: int = 0
    generation: str | None = None
    file: str | None = None
    started: datetime | None = None
    log: int | None = None
    overwrite: bool = False
    nothing: bool = False
    erased: int = 0
    emptied: bool = False


@dataclass(frozen=True, slots=True)
class RetryGroup:
    """Points of one generation that lack one vector.

    Attributes:
        vector: as it is called there.
        now: as it is called in the live generation.
        ops: references to the operations of its rebuild: revision, position and way.
        schema: that they were applied to.
    """

    generation: str
    vector: str
    now: str | None = None
    ops: tuple[tuple[Any, ...], ...] = ()
    schema: CollectionSchema = field(default_factory=CollectionSchema)


@dataclass(frozen=True, slots=True)
class RetryEdit(Edit):
    """Of another try to embed: the points, and the generation that serves."""

    groups: tuple[RetryGroup, ...] = ()
    live: str = ""


@dataclass(frozen=True, slots=True)
class CallEdit(Edit):
    """Of a call: the function, and the name that distinguishes a second call of it from this one."""

    function: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """A statement that records in the application's SQL that points have a vector.

    Attributes:
        vector: that they have.
        revision: that says so.
        database: its name in the settings.
        names: of its parameters.
        parameters: values of those that the operation gives.
    """

    vector: str
    revision: str
    database: str
    sql: str
    names: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


#: Kind -> what says it.
KINDS: Mapping[str, type[Edit]] = {
    "sync": SyncEdit,
    "assign": AssignEdit,
    "payload": WriteEdit,
    "undo": UndoEdit,
    "bring_back": UndoEdit,
    "delete": RemovalEdit,
    "soft": SoftEdit,
    "purge": PurgeEdit,
    "orphans": OrphansEdit,
    "erase": EraseEdit,
    "retry": RetryEdit,
    "call": CallEdit,
}


@dataclass(frozen=True, slots=True)
class Words:
    """How people read what an edit does to a point.

    Attributes:
        would: behind "would".
        done: what has become of it.
        verb: behind "to", and the name of the work.
    """

    would: str = "change"
    done: str = "changed"
    verb: str = "change"

    @property
    def label(self) -> str:
        """``changes``, ``deletes``, …."""
        return f"{self.verb}s"


_DELETED = Words("be deleted", "deleted", "delete")
_WORDS: Mapping[str, Words] = {
    "delete": _DELETED,
    "orphans": _DELETED,
    "purge": _DELETED,
    "soft": Words("be marked as deleted", "marked as deleted", "mark"),
    "erase": Words("be erased for good", "erased", "erase"),
    "undo": Words("be restored", "restored", "restore"),
    "bring_back": Words("come back", "restored", "restore"),
}


def words_of(edit: JsonObject) -> Words:
    """Of an edit of any kind: deletions speak of deletions."""
    return _WORDS.get(Edit.of(edit).kind, Words())


def edit_of(edit: JsonObject) -> Edit:
    """An edit as its kind has it; of an unknown kind only what every kind has."""
    return loaded(KINDS.get(Edit.of(edit).kind, Edit), edit)
