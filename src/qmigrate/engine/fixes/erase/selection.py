"""Which points an erasure is about, in every generation that is kept. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qmigrate.engine.export import described
from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.engine.points.id_spaces import Spaces
from qmigrate.errors import RepairNeededError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import EraseEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.names import is_made, old_alias
from qmigrate.model.schema import JsonObject
from qmigrate.model.state import marks_of
from qmigrate.model.transform import PointId
from qmigrate.observe import hidden_on_several
from qmigrate.ports import Store
from qmigrate.sequences import parts
from qmigrate.store import records

#: Name of the audit's type.
ERASURE = "ERASURE"


class Erasure:
    """The selection of an erasure; see :meth:`qmigrate.operations.deletion.DeletePoints.erasure`, whose edit it takes.

    What names ids (`ids`, a query) is about the ids of today, whether the live generation still has them or not;
    a filter and a prefix are asked of every generation.

    Attributes:
        ids: what was found, by id space; complete once :meth:`find` is through.
        there: generation -> how many of these points it holds.
    """

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        assert place.code is not None  # noqa: S101  what opens it has the revisions
        self._place = place
        self._edit, self._said_as = loaded(EraseEdit, edit), edit
        live = described(place.store, place.address).physical
        self.live = live
        self.present = generations_there(place, live)
        self.spaces = Spaces(place.ledger, place.code, place.collection, frozenset(self.present))
        self.ids: dict[int, set[PointId]] = {self.spaces.of(live): set()}
        self.there: dict[str, int] = {}

    def share(self) -> float | None:
        """Its own cap, else that of the settings."""
        own = self._edit.max_share
        return own if own is not None else self._place.settings.fixes.max_share

    def find(self, found: Found) -> Iterator[PointEdit]:
        """Every id of today's that is meant; counts those that only older generations have, or none.

        The digest of a point that is live goes with it, so that one that is written again differs from one that stays.
        """
        place, space, key = self._place, self.spaces.of(self.live), self._place.ledger.own_key()
        # The live one may be empty since a reset; a share of what is kept is meant.
        found.points = max(place.store.count(name) for name in self.present.values())
        self._collect(space)
        self._count()
        found.counts.update({"in_older_generations": 0, "in_no_generation": 0})
        for ids in parts(iter(sorted(self.ids[space], key=records.order_key))):
            live = {records.point_id(stored): stored for stored in place.store.fetch(place.address, ids)}
            away = self._elsewhere([one for one in ids if one not in live], space)
            for identifier in ids:
                stored = live.get(identifier)
                if stored is None:
                    found.add("in_older_generations" if identifier in away else "in_no_generation")
                if place.tick is None:
                    # Only a preview shows values: what a run finds is recorded.
                    found.show(PointEdit(identifier, records.payload_of(stored) if stored is not None else {}, {}))
                before = {"digest": records.digest_text(stored, key)} if stored is not None else {}
                yield PointEdit(identifier, before, {})

    def _collect(self, space: int) -> None:
        """Ask every generation for its points, then carry the ids across."""
        self.spaces.check_connected(self.live)
        edit = self._edit
        named = edit.ids is not None or edit.sql is not None
        by_value = edit.filter is not None or edit.prefix is not None
        for physical, name in self.present.items():
            mine = self.spaces.of(physical)
            if (named and mine != space) or (not by_value and physical != self.live):
                continue
            removal = Removal(replace(self._place, address=name), self._said_as)
            try:
                for ids in removal.selected():
                    self.ids.setdefault(mine, set()).update(ids)
            finally:
                removal.close()
        self.spaces.spread(self.ids, self._place.store, lambda physical: self.present[physical])

    def _count(self) -> None:
        for physical, name in self.present.items():
            wanted = sorted(self.ids.get(self.spaces.of(physical), ()), key=records.order_key)
            self.there[physical] = sum(len(self._place.store.fetch_ids(name, ids)) for ids in parts(iter(wanted)))

    def _elsewhere(self, ids: Sequence[PointId], space: int) -> set[PointId]:
        """Those that another generation of the same ids holds."""
        found: set[PointId] = set()
        for physical, name in self.present.items():
            if physical != self.live and self.spaces.of(physical) == space and ids:
                found |= self._place.store.fetch_ids(name, ids)
        return found

    def audit(self, told: Audited) -> Fixed:
        """Counts only: what was selected by would name the person."""
        return Fixed(ERASURE, self._edit.target, told.changed or 0, self._edit.reason, told)


def generations_there(place: FixSource, live: str) -> dict[str, str]:
    """Physical name -> by which name it is read, of every generation that Qdrant still has; the live one first.

    Raises:
        RepairNeededError: one that an alias of its own name hides can't be reached.
    """
    names = frozenset(place.store.physical_names())
    kept = [row for row in place.ledger.generations(place.collection) if row.state != "gone" and row.physical != live]
    found = {live: place.address}
    for row in kept:
        if row.physical in names and _is_ours(place, row.physical, row.number):
            found[row.physical] = readable(place.store, row.physical)
    return found


def readable(store: Store, physical: str) -> str:
    """The name by which a generation is read, without making one.

    Raises:
        RepairNeededError: it is hidden, and nothing leads to it, or there are several nodes, where no name does alone.
    """
    known = store.aliases()
    if physical not in known:
        return physical
    if store.capabilities.several:
        raise hidden_on_several(physical, store.capabilities)
    if known.get(old_alias(physical)) == physical:
        return old_alias(physical)
    raise RepairNeededError(
        f"{physical} is hidden by an alias of its name, and {old_alias(physical)}, by which it was reached, is gone",
        hint=f"create that alias again in Qdrant, pointing to {physical}",
    )


def _is_ours(place: FixSource, physical: str, number: int) -> bool:
    """Whether a collection that an application has named is still the one that was left: it may have made it again."""
    if is_made(physical):
        return True
    found = place.store.describe(readable(place.store, physical))
    return marks_of(found).is_of(place.ledger.identity(), number)
