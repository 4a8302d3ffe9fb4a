"""Points that are only marked as deleted: a payload key records when and why. It deletes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qmigrate.engine.export import described
from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.payload import PayloadFix
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import SoftEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.payload_path import selected
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.store import records

#: What the audit calls it; `gc` finds by it where marked points may be.
SOFT_DELETE = "SOFT_DELETE"


class SoftRemoval(PayloadFix, Removal):
    """Marks what a :class:`~qmigrate.engine.fixes.delete.Removal` would delete, and takes its edit, with ``flag``."""

    window = 2000

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        super().__init__(place, edit)
        self._flag = loaded(SoftEdit, edit).flag

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts as a deletion does, and what is marked ``already``.

        Raises:
            RefusedError: the key is the application's own, or readers could not leave the points out.
        """
        self._check_index()
        found.points = self._place.store.count(self._place.address)
        found.counts.update({"not_there": 0, "no_match": 0, "already": 0})
        met = False
        mark = {"at": self._place.now.isoformat(timespec="seconds"), "reason": self._edit.reason}
        for ids in self._candidates(found):
            flags = self._flags(ids)
            matching = self._matching([one for one in ids if one in flags])
            found.add("not_there", len(ids) - len(flags))
            found.add("no_match", len(flags) - len(matching))
            met = met or bool(matching)
            for identifier in ids:
                if identifier not in matching:
                    continue
                if self._is_marked(identifier, flags[identifier].get(self._flag)):
                    found.add("already")
                    continue
                entry = PointEdit(identifier, {}, {self._flag: mark})
                found.show(entry)
                yield entry
        self.explain(found, met)

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that every condition still selects."""
        return Removal.still(self, entries)

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector yet, so its count is 0."""
        told = replace(told, flag=self._flag, said={**self._said(), "type": self._edit.type})
        return Fixed(SOFT_DELETE, self._edit.target, 0, self._edit.reason, told)

    def _flags(self, ids: Sequence[PointId]) -> dict[PointId, Payload]:
        place = self._place
        points = place.store.fetch(place.address, list(ids), payload=selected([self._flag]), vectors=False)
        return {records.point_id(stored): records.payload_of(stored) for stored in points}

    def _is_marked(self, identifier: PointId, value: Any) -> bool:
        if value is None:
            return False
        if isinstance(value, Mapping) and value.get("at"):
            return True
        raise RefusedError(
            f"point {identifier} of {self._place.collection} has {self._flag} = {value!r:.40}, so that key is the "
            "application's own; nothing was changed",
            hint="choose another key for the mark: --flag removed",
        )

    def _check_index(self) -> None:
        schema = described(self._place.store, self._place.address).schema
        strict = schema.config.get("strict_mode_config") or {}
        key = f"{self._flag}.at"
        if strict.get("enabled") and strict.get("unindexed_filtering_retrieve") is False and key not in schema.indexes:
            name = self._place.collection
            raise RefusedError(
                f"{name} refuses filters without an index, and {key} has none: readers could not leave out what is "
                "marked as deleted",
                hint=f'create it first: op.CreatePayloadIndex("{name}", "{key}", PayloadSchemaType.DATETIME)',
            )
