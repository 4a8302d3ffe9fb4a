"""What each phase of a data fix and of an erasure learns: one frozen dataclass per phase. They decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from qmigrate.model.facts.phases import Facts, Ids
from qmigrate.model.facts.stored import ALWAYS, UNLEARNED, WHEN_DONE, Unlearned
from qmigrate.model.schema import JsonObject


@dataclass(frozen=True, slots=True)
class Select(Facts):
    """Of a data fix; of an erasure see :class:`EraseSelect`.

    Attributes:
        now: the moment from which ages are counted.
        points: of the collection that were checked, or that it has.
        changes: points that are to be changed.
        counts: further figures by name, as the kind of fix has them.
        sample: the first of them, for people.
    """

    phase: ClassVar[str] = "select"
    now: datetime | None = None
    points: int = field(default=0, metadata=WHEN_DONE)
    changes: int = field(default=0, metadata=WHEN_DONE)
    counts: Mapping[str, int] | None = None
    sample: tuple[JsonObject, ...] | None = None


@dataclass(frozen=True, slots=True)
class Export(Facts):
    """Of a data fix; nothing where an undo needs none.

    Attributes:
        file: path of the archive.
        points: how many are in it.
        since: operation ids of the collection before it was written.
    """

    phase: ClassVar[str] = "export"
    file: str | None = None
    points: int | None = None
    since: Ids | None = None


@dataclass(frozen=True, slots=True)
class EditChange(Facts):
    """Of a data fix.

    Attributes:
        entries: selected points that it is through with.
        changed: those that are as they should be.
        moved: those that another client has changed since they were found; they were left.
        gone: those that were not there any more.
        lost: points that were gone before they were in a file.
    """

    phase: ClassVar[str] = "change"
    entries: int = field(default=0, metadata=ALWAYS)
    changed: int = field(default=0, metadata=ALWAYS)
    moved: int = field(default=0, metadata=ALWAYS)
    gone: int = field(default=0, metadata=ALWAYS)
    lost: int | None = None

    def plus(self, more: EditChange) -> EditChange:
        """With what came of further entries."""
        entries, changed = self.entries + more.entries, self.changed + more.changed
        return EditChange(entries, changed, self.moved + more.moved, self.gone + more.gone, self.lost)


@dataclass(frozen=True, slots=True)
class EditVerify(Facts):
    """Of a data fix: selected points that are as they should be, that another client has changed, that are gone."""

    phase: ClassVar[str] = "verify"
    verified: int = field(default=0, metadata=ALWAYS)
    changed_since: int = field(default=0, metadata=ALWAYS)
    gone: int = field(default=0, metadata=ALWAYS)


# -- erasures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EraseSelect(Select):
    """Of an erasure.

    Attributes:
        there: generation -> how many of the points it holds.
        spaces: generation -> its id space.
    """

    there: Mapping[str, int] = field(default_factory=dict)
    spaces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Intend(Facts):
    """Of an erasure: how many ids no old copy brings back any more."""

    phase: ClassVar[str] = "intend"
    ids: int = field(default=0, metadata=ALWAYS)


@dataclass(frozen=True, slots=True)
class EraseChange(Facts):
    """Of an erasure.

    Attributes:
        changed: points of what serves.
        moved: always 0, as in a fix.
        gone: the same.
        generations: generation -> points that were deleted.
        through: ids of what serves that an attempt is through with.
    """

    phase: ClassVar[str] = "change"
    changed: int | None = None
    moved: int | None = None
    gone: int | None = None
    generations: Mapping[str, int] | None = None
    through: int | None = None


@dataclass(frozen=True, slots=True)
class Tallied:
    """Counts of an erasure so far.

    Attributes:
        taken: place -> points that rows were about.
        parts: place -> file, or other part that is taken away as one -> points that were in it.
        fixes: by earlier fix (``run-step``), how many points it can't give back any more.
        emptied: earlier fixes whose export held nothing else, and is gone.
    """

    taken: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fixes: Mapping[str, int] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Forget(Facts):
    """Of an erasure: what was kept of the points.

    Attributes:
        tally: as it is counted.
        counts: points by place.
        fixes: as in the tally.
        emptied: as in the tally.
        beyond: files that may hold them and could not be changed, each with what to do.
    """

    phase: ClassVar[str] = "forget"
    tally: Tallied | None = None
    counts: Mapping[str, int] | None = None
    fixes: Mapping[str, int] | None = None
    emptied: tuple[str, ...] | None = None
    beyond: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """A snapshot that may hold the points: of which collection, when it was made, and whether it is deleted."""

    collection: str
    name: str
    created_at: str | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Copies(Facts):
    """Of an erasure: snapshots.

    Attributes:
        holding: those that may hold the points.
        made: name of the one without them, or None.
        unseen: why they could not be looked for, or None.
    """

    phase: ClassVar[str] = "snapshots"
    holding: tuple[Holding, ...] | None = None
    made: str | Unlearned | None = UNLEARNED
    unseen: str | Unlearned | None = UNLEARNED


@dataclass(frozen=True, slots=True)
class EraseVerify(Facts):
    """Of an erasure.

    Attributes:
        verified: ids that are gone from what serves.
        written_again: points that another client has written again meanwhile.
        left: place -> points that are still there: none.
    """

    phase: ClassVar[str] = "verify"
    verified: int = field(default=0, metadata=ALWAYS)
    written_again: int | None = None
    left: Mapping[str, int] | None = None
