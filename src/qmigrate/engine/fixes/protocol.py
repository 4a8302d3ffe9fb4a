"""What every kind of data fix answers, and the cap that holds for each. It changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from qmigrate.engine.work import Code, Tick
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed, Lease, Ledger
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import Edit, RemovalEdit, SyncEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.names import EpochAlias
from qmigrate.model.schema import JsonObject
from qmigrate.ports import OperationIds, Store
from qmigrate.text import counted

if TYPE_CHECKING:
    from qmigrate.operations.base import Operation
    from qmigrate.settings.load import Settings


#: Seconds after a check in which requests may follow the first one: others write at the same time.
WORTH = 5.0
#: A check that takes longer may be one in which the process was stopped: it is done again, and then it is slow.
LONGEST = 60.0
#: Points that are checked together at first, and how long their change should take, in seconds.
FIRST, QUICK, SLOW = 2000, 0.5, 1.5


class OldLookError(Exception):
    """Points were checked too long ago to be changed: work was slow, or the process was stopped for a while.

    Args:
        portion: how many of them can be changed in time is the question; else the look itself took long.
    """

    def __init__(self, portion: bool) -> None:
        super().__init__(portion)
        self.portion = portion


class Look:
    """When points were checked."""

    def __init__(self) -> None:
        self._began = _clocks()

    @property
    def age(self) -> float:
        """Seconds since, by the clock that went on most: one of them stands still while a machine sleeps."""
        return max(now - then for now, then in zip(_clocks(), self._began, strict=True))

    def check(self, limit: float, *, portion: bool) -> None:
        """See that it is not longer ago than `limit` seconds.

        Raises:
            OldLookError: it is.
        """
        if self.age > limit:
            raise OldLookError(portion)


def settle(flush: Callable[[], object]) -> None:
    """Have everything done that the server has accepted for a collection: asked right before a look.

    Args:
        flush: waits for it.

    Raises:
        OldLookError: it took so long that as much may wait again.
    """
    asked = Look()
    flush()
    asked.check(WORTH, portion=False)


class Pace:
    """How many points to check together, so that little time lies between a check and the last change after it.

    A check may be slow whatever it is about; what counts is the time after it.
    """

    def __init__(self) -> None:
        self._most = FIRST

    def portion(self, most: int) -> int:
        """As many as go in about a second, and no more than `most`."""
        return min(most, self._most)

    def took(self, points: int, seconds: float) -> None:
        """The change of this many points has taken this long."""
        if seconds > SLOW:
            self._most = max(1, min(self._most, points) // 2)
        elif seconds < QUICK and points >= self._most:
            self._most *= 2


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class FixSource:
    """Where a fix looks; enough to find out what it would do.

    Attributes:
        collection: the logical name.
        address: the name by which the live generation is reached.
        tick: called while it looks; None where it is only a preview, which waits for nothing.
        code: operations and embedders, and how generations came to be; None where a fix needs none.
        lease: what a fix writes down about its own rows; None where it is only a preview.
        operations: of revisions, that the step names: an undo goes through those that came since.
        now: what ages are counted from: the moment at which the fix was begun, also in what resumes it.
        exported: the operation ids behind which every selected point was exported as it had been found; empty where
            one was not, or it is unknown.
    """

    collection: str
    address: str
    store: Store
    ledger: Ledger
    settings: Settings
    tick: Tick | None = None
    code: Code | None = None
    lease: Lease | None = None
    operations: tuple[Operation, ...] = ()
    now: datetime = field(default_factory=_now)
    exported: OperationIds = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FixTarget:
    """What a fix changes points with.

    Attributes:
        alias: of the present holder: a later one takes it away, so nothing of an earlier one lands.
        tick: to be called between requests.
        pace: how many points are checked and changed together.
    """

    alias: EpochAlias
    store: Store
    tick: Tick
    pace: Pace = field(default_factory=Pace)


class Kept(NamedTuple):
    """An export: how many points are in it, and the operation ids of the collection before it was written."""

    points: int
    since: OperationIds


class Fix(Protocol):
    """One kind of data fix, opened for one edit."""

    @property
    def window(self) -> int:
        """How many points of the journal are taken at a time."""

    @property
    def looks_again(self) -> bool:
        """Whether `still` makes something of the points, which takes long, and checks them once more at the end."""

    def portion(self) -> int:
        """How many of them are checked and changed together, at most; asked right before, each time."""

    def find(self, found: Found) -> Iterator[PointEdit]:
        """Every point that would change, in Qdrant's order where it can; shows and counts. It only reads.

        Raises:
            QmigrateError: what it reads doesn't fit; nothing was changed.
        """

    def export(self, path: Path, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Kept | None:
        """Keep what an undo needs in addition to the entries; None where it needs nothing."""

    def settle(self, hand: FixTarget) -> None:
        """Asked before each look that is followed by a change: see :func:`~qmigrate.engine.fixes.protocol.settle`."""

    def states(self, entries: Sequence[PointEdit], *, writing: bool = False) -> list[str]:
        """How each point is now: ``gone``, ``after`` (as it should be), ``before`` (as it was found), ``moved``.

        Args:
            writing: asked right before a change; one that is the same whatever the point is now needs no look.
        """

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that are to be changed as things stand now: asked right before they are."""

    def write(self, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
        """Change these points and wait; may be repeated.

        Raises:
            NotFoundError: a point is gone since the check.
        """

    def audit(self, told: Audited) -> Fixed:
        """The row of the audit; what is `told` goes into it."""

    def share(self) -> float | None:
        """The largest share of the collection that it may change; None for no cap."""

    def close(self) -> None:
        """Release connections."""


def consented(edit: JsonObject, name: str) -> int | None:
    """Up to how many points of a collection a user has seen and agreed to; None where no user was asked."""
    most = Edit.of(edit).most
    return None if most is None else most.get(name, 0)


def check_cap(
    name: str,
    found: Found,
    share: float | None,
    expected: int | None = None,
    most: int | None = None,
    *,
    would: str = "change",
    operations: Sequence[Operation] = (),
) -> None:
    """Stop before more is changed than was agreed to.

    Args:
        name: of the collection.
        share: the cap; None for none.
        expected: how many changes a user consented to; None where they were not counted.
        most: up to how many a user consented to, see :func:`consented`.
        would: what would become of the points.
        operations: of the revision that asks for it; empty for a fix of its own.

    Raises:
        RefusedError: nothing was changed.
    """
    facts: dict[str, object] = {"changes": found.changes, "points": found.points}
    if expected is not None and expected != found.changes:
        raise RefusedError(
            f"{counted(found.changes, 'point')} of {name} would {would}, but {expected:,} were expected; "
            "nothing was changed",
            hint="preview again, without --yes, and expect the number shown",
            facts=facts,
        )
    if most is not None and found.changes > most:
        raise RefusedError(
            f"{counted(found.changes, 'point')} of {name} would {would}, but {most:,} were confirmed; "
            "nothing was changed",
            hint="preview again: there are more of them than were shown",
            facts=facts | {"most": most},
        )
    if share is not None and found.changes > share * found.points:
        raise RefusedError(
            f"{found.changes:,} of {counted(found.points, 'point')} of {name} would {would}, more than the cap of "
            f"{share * 100:.6g}%; nothing was changed",
            hint=f"if that is right, {_raised(operations)}",
            facts=facts | {"max_share": share},
        )


def _raised(operations: Sequence[Operation]) -> str:
    """How the cap is raised where it was met: upgrade and plan have no option for it."""
    if not operations:
        return "raise it for this once: --max-share 1 (max_share=1 in Python)"
    named = type(operations[0]).__name__
    return f"write max_share=1 into the operation of the revision: op.{named}(…, max_share=1)"


def unmet(name: str, edit: JsonObject, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Lines about what was read and met no point; none where one was, or the figures don't show it.

    Args:
        name: of the collection.
        edit: of the fix.
        counts: what it found.
    """
    return tuple(f"{name}: {line}" for line in _lines(edit, counts))


def compares_nothing(edit: JsonObject, counts: Mapping[str, int]) -> bool:
    """Whether a sync has met no pair of a row and its point."""
    return Edit.of(edit).kind == "sync" and "rows" in counts and counts["rows"] == counts.get("without_point", 0)


def _lines(edit: JsonObject, counts: Mapping[str, int]) -> Iterator[str]:
    if compares_nothing(edit, counts):
        yield _of_rows(loaded(SyncEdit, edit).database, counts["rows"])
    if Edit.of(edit).kind not in ("delete", "soft"):
        return
    said = loaded(RemovalEdit, edit)
    if said.sql is not None and _selects_nothing(counts):
        yield _of_rows(said.sql.database, counts["rows"])
    if said.older_than and counts.get("without_field") and not counts.get("with_field"):
        points = counted(counts["without_field"], "point")
        yield f"`{said.older_than.field}` is in none of {points}, so none is old enough"


def _selects_nothing(counts: Mapping[str, int]) -> bool:
    """Whether no row that a deletion went by has a point."""
    return "rows" in counts and counts["rows"] == counts.get("not_there", 0)


def _of_rows(database: str, rows: int) -> str:
    if not rows:
        return f"the query on {database} returned no row"
    return f"the query on {database} returned {counted(rows, 'row')}, and none has a point"
