"""What every kind of data fix answers, and which one an edit means. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.ledger import Fixed, Ledger
from qmigrate.model.fix import Entry, Found
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Store

if TYPE_CHECKING:
    from qmigrate.settings import Settings


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fix looks; enough to find out what it would do.

    Attributes:
        collection: the logical name.
        address: the name by which the live generation is reached.
    """

    collection: str
    address: str
    store: Store
    ledger: Ledger
    settings: Settings


class Fix(Protocol):
    """One kind of data fix, opened for one edit."""

    def find(self, found: Found) -> Iterator[Entry]:
        """Every point that would change, in the order in which it is met; counts while it looks. It only reads.

        Raises:
            QmigrateError: what it looks at doesn't fit; nothing was changed.
        """

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that are to be changed as things stand now: asked right before they are."""

    def audit(self, facts: JsonObject) -> Fixed:
        """The row of the audit; `facts` go into it."""

    def share(self) -> float | None:
        """The largest share of the collection that it may change; None for no cap."""

    def close(self) -> None:
        """Release connections."""


Opener = Callable[[Place, JsonObject], Fix]


def _kinds() -> Mapping[str, Opener]:
    from qmigrate.steps.sync import Sync
    from qmigrate.steps.undo import Undo

    return {"sync": Sync, "undo": Undo}


@contextmanager
def opened(place: Place, edit: JsonObject) -> Iterator[Fix]:
    """The fix of an edit.

    Raises:
        RepairNeededError: this version knows no such fix.
    """
    kinds = _kinds()
    if edit.get("kind") not in kinds:
        raise RepairNeededError(
            f"this version of qmigrate knows no fix {edit.get('kind')!r}", hint="use the version that planned it"
        )
    fix = kinds[edit["kind"]](place, edit)
    try:
        yield fix
    finally:
        fix.close()


def look(place: Place, edit: JsonObject) -> Found:
    """What a fix would do now: exact counts and a sample. It only reads."""
    found = Found()
    with opened(place, edit) as fix:
        for entry in fix.find(found):
            found.note(entry)
    return found


def check_cap(name: str, found: Found, share: float | None, expected: int | None = None) -> None:
    """Stop before more is changed than was agreed to.

    Args:
        name: of the collection.
        share: the cap; None for none.
        expected: how many changes somebody consented to; None where nobody has counted.

    Raises:
        RefusedError: nothing was changed.
    """
    facts: dict[str, object] = {"changes": found.changes, "points": found.points}
    if expected is not None and expected != found.changes:
        raise RefusedError(
            f"{found.changes:,} points of {name} would change, and {expected:,} were expected; nothing was changed",
            hint="look again, without --yes, and expect what it shows",
            facts=facts,
        )
    if share is not None and found.changes > share * found.points:
        raise RefusedError(
            f"{found.changes:,} of {found.points:,} points of {name} would change, more than the cap of "
            f"{share:.0%}; nothing was changed",
            hint="if that is right, raise it for this once: --max-share 1 (max_share= in a revision)",
            facts=facts | {"max_share": share},
        )
