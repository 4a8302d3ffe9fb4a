"""What fixes of payloads share: how a point is now, and equal changes written together. It finds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from qmigrate.model.fix import Entry, same_keys
from qmigrate.model.payload_path import picked, roots, selected
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.ports import PayloadEdit
from qmigrate.steps.fixes.looks import settle
from qmigrate.steps.fixes.protocol import Hand, Place
from qmigrate.steps.work import Tick
from qmigrate.store import records

#: Ids and operations that go to the server at once.
_IDS, _OPERATIONS = 10_000, 1000


class PayloadFix:
    """The half of a fix that writes payload keys; see :class:`qmigrate.steps.fixes.protocol.Fix`."""

    #: Large, so that equal values meet.
    window = 100_000
    looks_again = False
    _place: Place

    def export(self, path: Path, entries: Iterable[Sequence[Entry]], tick: Tick) -> JsonObject:  # noqa: ARG002
        """Nothing: the entries hold all that an undo needs."""
        return {}

    def payloads(self, entries: Sequence[Entry]) -> dict[PointId, Payload]:
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

    def settle(self, hand: Hand) -> None:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`."""
        settle(lambda: hand.store.flush(hand.alias))

    def states(self, entries: Sequence[Entry], *, writing: bool = False) -> list[str]:  # noqa: ARG002
        """By the keys that change."""
        now = self.payloads(entries)
        return [self.state(now.get(entry.id), entry) for entry in entries]

    @staticmethod
    def state(payload: Payload | None, entry: Entry) -> str:
        """How a point is now, by the keys that change."""
        if payload is None:
            return "gone"
        keys = entry.keys
        if same_keys(payload, entry.after, keys):
            return "after"
        return "before" if same_keys(payload, entry.before, keys) else "moved"

    def write(self, hand: Hand, entries: Sequence[Entry]) -> None:
        """Equal changes in one operation, many operations in one request."""
        for portion in _grouped(entries):
            hand.store.edit_payloads(hand.alias, portion)
            hand.tick()


def _grouped(entries: Iterable[Entry]) -> Iterator[list[PayloadEdit]]:
    groups: dict[str, tuple[Entry, list[PointId]]] = {}
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


def _removed(entry: Entry) -> list[str]:
    return sorted(entry.before.keys() - entry.after.keys())
