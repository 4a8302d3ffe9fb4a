"""What fixes of payloads share: how a point is now, and equal changes written together. It finds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from qmigrate import operations
from qmigrate.engine.export import described
from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.protocol import FixSource, FixTarget, Kept, settle
from qmigrate.engine.work import Tick
from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import AssignEdit, SoftEdit, WriteEdit, edit_of
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit, same, same_keys
from qmigrate.model.payload_path import picked, roots, selected
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.operations.payload import DeletePayload, PayloadWrite, SetPayload
from qmigrate.ports import PayloadEdit
from qmigrate.store import records

#: Ids and operations that go to the server at once.
_IDS, _OPERATIONS = 10_000, 1000


class PayloadFix:
    """The half of a fix that writes payload keys; see :class:`qmigrate.engine.fixes.protocol.Fix`."""

    #: Large, so that equal values meet.
    window = 100_000
    looks_again = False
    _place: FixSource

    def export(self, path: Path, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Kept | None:  # noqa: ARG002
        """Nothing: the entries hold all that an undo needs."""
        return None

    def payloads(self, entries: Sequence[PointEdit]) -> dict[PointId, Payload]:
        """What these points have now under the keys that change; a key ``a.b`` is the path to a value in an object."""
        keys: set[str] = set()
        for entry in entries:
            keys.update(entry.before, entry.after)
        ids = [entry.id for entry in entries]
        points = self._place.store.fetch(self._place.address, ids, payload=selected(roots(keys)), vectors=False)
        payloads = {records.point_id(stored): records.payload_of(stored) for stored in points}
        if any("." in key for key in keys):
            return {one: picked(payload, keys) for one, payload in payloads.items()}
        return payloads

    def portion(self) -> int:
        """All of a window."""
        return self.window

    def settle(self, hand: FixTarget) -> None:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`."""
        settle(lambda: hand.store.flush(hand.alias))

    def states(self, entries: Sequence[PointEdit], *, writing: bool = False) -> list[str]:  # noqa: ARG002
        """By the keys that change."""
        now = self.payloads(entries)
        return [self.state(now.get(entry.id), entry) for entry in entries]

    @staticmethod
    def state(payload: Payload | None, entry: PointEdit) -> str:
        """How a point is now, by the keys that change."""
        if payload is None:
            return "gone"
        keys = entry.keys
        if same_keys(payload, entry.after, keys):
            return "after"
        return "before" if same_keys(payload, entry.before, keys) else "moved"

    def write(self, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
        """Equal changes in one operation, many operations in one request."""
        for portion in _grouped(entries):
            hand.store.edit_payloads(hand.alias, portion)
            hand.tick()


def _grouped(entries: Iterable[PointEdit]) -> Iterator[list[PayloadEdit]]:
    groups: dict[str, tuple[PointEdit, list[PointId]]] = {}
    for entry in entries:
        # Values are plain JSON, and 1, 1.0 and True have different texts.
        values = entry.after if len(entry.after) < 2 else dict(sorted(entry.after.items(), key=itemgetter(0)))
        key = repr((values, _removed(entry)))
        if key in groups:
            groups[key][1].append(entry.id)
        else:
            groups[key] = (entry, [entry.id])
    portion: list[PayloadEdit] = []
    count = 0
    for entry, ids in groups.values():
        portion.append(PayloadEdit(ids, entry.after, _removed(entry)))
        count += len(ids)
        if count >= _IDS or len(portion) >= _OPERATIONS:
            yield portion
            portion, count = [], 0
    if portion:
        yield portion


def _removed(entry: PointEdit) -> list[str]:
    return sorted(entry.before.keys() - entry.after.keys())


class Assign(PayloadFix, Removal):
    """Makes payload keys what a :class:`~qmigrate.operations.payload.PayloadWrite` says of each point."""

    window = 100_000

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        super().__init__(place, edit)
        self._operation, self._recorded = _operation_of(edit)
        self._keys = list(dict.fromkeys(self._operation.payload_keys()))

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts points ``selected``, and keys as a sync does."""
        found.points = self._place.store.count(self._place.address)
        found.counts.update(dict.fromkeys(("selected", "missing", "different", "extra"), 0))
        for page in self._filtered(self._filter, selected(self._keys)):
            found.add("selected", len(page))
            for stored in page:
                entry = self._entry(found, records.point_id(stored), records.payload_of(stored))
                if entry is not None:
                    found.show(entry)
                    yield entry

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that the filter still selects."""
        return Removal.still(self, entries)

    @staticmethod
    def state(payload: Payload | None, entry: PointEdit) -> str:
        """By the keys that change; one to be removed that holds null is still there."""
        found = PayloadFix.state(payload, entry)
        left = payload is not None and any(key in payload for key in entry.before.keys() - entry.after.keys())
        return "before" if found == "after" and left else found

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector, so its count is 0."""
        kind = self._operation.in_words().upper().replace(" ", "_")
        said = {name: value for name, value in (*self._recorded.items(), ("filter", self._filter)) if value}
        return Fixed(kind, ", ".join(sorted(self._keys)), 0, self._edit.reason, replace(told, said=said))

    def _entry(self, found: Found, identifier: PointId, payload: Payload) -> PointEdit | None:
        wanted = self._operation.after(payload)
        set_ = [key for key in self._keys if key in wanted and not same(payload.get(key), wanted[key])]
        gone = [key for key in self._keys if key not in wanted and key in payload]
        if not set_ and not gone:
            return None
        for key in (*set_, *gone):
            found.add("extra" if key in gone else "missing" if payload.get(key) is None else "different")
        before = {key: payload[key] for key in (*set_, *gone) if key in payload}
        return PointEdit(identifier, before, {key: wanted[key] for key in set_})


def _operation_of(edit: JsonObject) -> tuple[PayloadWrite, JsonObject]:
    """What says how each point should be, and what the audit keeps of that.

    Raises:
        RepairNeededError: this version of qmigrate has no such operation.
    """
    said = edit_of(edit)
    if isinstance(said, AssignEdit):
        values, removed = dict(said.values), list(said.removed)
        return SetPayload("", values) if values else DeletePayload("", removed), {"values": values, "removed": removed}
    name, arguments = (said.operation, dict(said.arguments)) if isinstance(said, WriteEdit) else ("", {})
    kind = getattr(operations, name) if name in operations.__all__ else None
    if kind is None or not issubclass(kind, PayloadWrite):
        raise RepairNeededError(f"this version of qmigrate has no fix {name!r}", hint="use the version that planned it")
    return kind("", **arguments), arguments


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
