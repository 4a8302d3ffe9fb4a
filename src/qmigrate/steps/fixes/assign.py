"""Payload keys that are set or deleted, for all points or for those of a filter. It writes nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qmigrate.ledger import Fixed
from qmigrate.model.fix import Entry, Found, same
from qmigrate.model.payload_path import selected
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.steps.fixes.payload import PayloadFix
from qmigrate.steps.fixes.protocol import Place
from qmigrate.steps.fixes.removal import Removal
from qmigrate.store import records


class Assign(PayloadFix, Removal):
    """See :class:`qmigrate.operations.payload.SetPayload` and ``DeletePayload``, whose edit it takes."""

    window = 100_000

    def __init__(self, place: Place, edit: JsonObject) -> None:
        super().__init__(place, edit)
        self._values: dict[str, Any] = dict(edit["values"])
        self._removed: list[str] = list(edit["removed"])
        self._keys = sorted({*self._values, *self._removed})

    def find(self, found: Found) -> Iterator[Entry]:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`; counts points ``selected``, and keys as a sync does."""
        found.points = self._place.store.count(self._place.address)
        found.counts.update(dict.fromkeys(("selected", "missing", "different", "extra"), 0))
        for page in self._filtered(self._filter, selected(self._keys)):
            found.add("selected", len(page))
            for stored in page:
                entry = self._entry(found, records.point_id(stored), records.payload_of(stored))
                if entry is not None:
                    found.show(entry)
                    yield entry

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that the filter still selects."""
        return Removal.still(self, entries)

    def states(self, entries: Sequence[Entry], *, writing: bool = False) -> list[str]:
        """By the keys that change; one that holds null is still there."""
        if not self._removed:
            return super().states(entries, writing=writing)
        now = self.payloads(entries)
        found = []
        for entry in entries:
            payload = now.get(entry.id)
            state = self.state(payload, entry)
            left = payload is not None and any(key in payload for key in self._removed)
            found.append("before" if state == "after" and left else state)
        return found

    def audit(self, facts: JsonObject) -> Fixed:
        """It deletes no vector, so its count is 0."""
        what = {"values": self._values, "removed": self._removed, "filter": self._filter}
        kind = "SET_PAYLOAD" if self._values else "DELETE_PAYLOAD"
        said = {name: value for name, value in what.items() if value}
        return Fixed(kind, ", ".join(self._keys), 0, self._edit.get("reason"), {**facts, **said})

    def _entry(self, found: Found, identifier: PointId, payload: Payload) -> Entry | None:
        set_ = [key for key, value in self._values.items() if not same(payload.get(key), value)]
        gone = [key for key in self._removed if key in payload]
        if not set_ and not gone:
            return None
        for key in (*set_, *gone):
            found.add("extra" if key in gone else "missing" if payload.get(key) is None else "different")
        before = {key: payload[key] for key in (*set_, *gone) if key in payload}
        return Entry(identifier, before, {key: self._values[key] for key in set_})
