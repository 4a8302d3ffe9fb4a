"""What the audit keeps of a fix next to its columns: one frozen dataclass. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from qmigrate.model.facts.stored import FLAT, UNLEARNED, Unlearned
from qmigrate.model.schema import JsonObject

#: Kind of the row of what takes a fix back.
UNDO = "UNDO"


@dataclass(frozen=True, slots=True)
class NotChanged:
    """Points that were selected and left: another client has changed them since, or they were not there any more."""

    changed_meanwhile: int = 0
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Audited:
    """Context of a row; a field that still has its default says nothing.

    Attributes:
        run: the run that has done it.
        step: position in its job.
        generation: physical name of what served.
        changed: points that were changed or deleted.
        counts: further figures by name.
        undo: kind of the fix that takes it back; None where nothing does.
        file: path of what that needs; None where it needs none.
        not_changed: points that were left.
        lost: points that were gone before they were in a file.
        undoes: id of the row that it takes back.
        flag: payload key of a soft deletion.
        purges: ids of the soft deletions whose marks a purge has followed.
        left_in: of a reset, the generation that has the points.
        held_until: how long that is kept.
        archive: path of the points that a rebuild has left out.
        revisions: that have left them out.
        key: name of a call, by which its function can tell it from another.
        returned: by that function.
        value: of a retraining, what is to be trained again.
        marked: rows that each of its statements has changed.
        rows: the same by name.
        ids: of an erasure, how many ids no old copy brings back.
        generations: of an erasure, generation -> points that it had.
        kept: of an erasure, place -> points that were kept there.
        fixes: of an erasure, by earlier fix (``run-step``), points that it can't give back any more.
        emptied: of an erasure, earlier fixes whose export held nothing else.
        written_again: of an erasure, points that another client has written again.
        own: what the caller has recorded with the run.
        approval: ``request``, ``asked_by`` and ``approved_by``, where another person had to approve it.
        said: what selected the points, in the words of the operation; nothing reads it but people.
    """

    run: int | None = None
    step: int | None = None
    generation: str | None = None
    changed: int | None = None
    counts: Mapping[str, int] | None = None
    undo: str | Unlearned | None = UNLEARNED
    file: str | Unlearned | None = UNLEARNED
    not_changed: NotChanged | None = None
    lost: int | None = None
    undoes: int | None = None
    flag: str | None = None
    purges: tuple[int, ...] = ()
    left_in: str | None = None
    held_until: Annotated[datetime, Meta(tz=True)] | None = None
    archive: str | None = None
    revisions: tuple[str, ...] | None = None
    key: str | None = None
    returned: JsonObject | None = None
    value: Any = UNLEARNED
    marked: tuple[int, ...] | None = None
    rows: Mapping[str, int] | None = None
    ids: int | None = None
    generations: Mapping[str, int] | None = None
    kept: Mapping[str, int] | None = None
    fixes: Mapping[str, int] | None = None
    emptied: tuple[str, ...] | None = None
    written_again: int | None = None
    own: JsonObject | None = None
    approval: JsonObject | None = None
    said: JsonObject = field(default_factory=dict, metadata=FLAT)

    @property
    def fix(self) -> str | None:
        """``run-step``, by which an erasure records an earlier fix; None where no fix of ours has done it."""
        return None if self.run is None else f"{self.run}-{self.step}"

    @property
    def let_be(self) -> int:
        """Points that another client has changed since they were found."""
        return self.not_changed.changed_meanwhile if self.not_changed is not None else 0
