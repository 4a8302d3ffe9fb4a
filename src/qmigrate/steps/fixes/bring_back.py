"""Deleted points, given back from the file that the deletion has left. It never writes over what is newer unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from qmigrate import archive
from qmigrate.archive import Archived
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.fix import Entry, Found
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.steps.export import described, file_name
from qmigrate.steps.fixes.protocol import Hand, Place
from qmigrate.steps.work import Tick
from qmigrate.store import portable, records

_AT_ONCE = 500


class BringBack:
    """Undoes a :class:`~qmigrate.steps.fixes.removal.Removal`.

    Args:
        place: where it looks.
        edit: ``run``, ``step`` and ``generation`` of the deletion, ``log`` (its row of the audit), ``file``,
            ``overwrite`` (also what is there again), ``drops`` and ``nothing`` as
            :class:`~qmigrate.steps.fixes.undo.Undo` has them.
    """

    window = 2000

    def __init__(self, place: Place, edit: JsonObject) -> None:
        self._place = place
        self._edit = edit
        made = place.settings.fixes.exports / file_name(edit["generation"], f"run{edit['run']}-{edit['step']}")
        self._path = Path(edit.get("file") or made)
        self._reader: Iterator[Archived] = iter(())

    def close(self) -> None:
        """Nothing is open."""

    def share(self) -> float | None:
        """No cap: it gives back what was there."""
        return None

    def find(self, found: Found) -> Iterator[Entry]:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`; counts ``newer``, ``there`` and ``erased`` points."""
        if self._edit.get("nothing"):
            return
        self._check()
        place = self._place
        found.counts.update({"newer": 0, "there": 0, "erased": 0})
        found.points = place.store.count(place.address)
        points = archive.read(self._path)
        while part := list(islice(points, _AT_ONCE)):
            now = self._digests([one.id for one in part])
            erased = place.ledger.erased(place.collection, [one.id for one in part])
            for one in part:
                digest = records.digest(one.stored).hex()
                if one.id in erased:
                    found.add("erased")
                elif now.get(one.id) == digest:
                    found.add("there")
                elif one.id in now and not self._edit.get("overwrite"):
                    found.add("newer")
                else:
                    before = {"digest": now[one.id]} if one.id in now else {}
                    found.show(Entry(one.id, {}, records.payload_of(one.stored)))
                    yield Entry(one.id, before, {"digest": digest})

    def export(self, path: Path, entries: Iterable[Sequence[Entry]], tick: Tick) -> int:  # noqa: ARG002
        """Nothing: what is given back was not there."""
        return 0

    def states(self, entries: Sequence[Entry]) -> list[str]:
        """By the digest of the whole point."""
        now = self._digests([entry.id for entry in entries])
        return [_state(now.get(entry.id), entry) for entry in entries]

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """All of them but what was erased meanwhile."""
        erased = self._place.ledger.erased(self._place.collection, [entry.id for entry in entries])
        return [entry for entry in entries if entry.id not in erased]

    def write(self, hand: Hand, entries: Sequence[Entry]) -> None:
        """Whole points, as they were."""
        found = self._archived([entry.id for entry in entries])
        for batch in records.batches([portable.ready(one.stored) for one in found]):
            hand.store.upsert(hand.alias, batch).wait()
            hand.tick()
        for one in found:
            if one.exact is not None:
                hand.store.overwrite_payload(hand.alias, one.id, one.exact)

    def audit(self, facts: JsonObject) -> Fixed:
        """It deletes no vector, so its count is 0."""
        number = self._edit.get("log")
        return Fixed("UNDO", f"fix {number}", 0, self._edit.get("reason"), {**facts, "undoes": number})

    def _check(self) -> None:
        """The file is whole, and of the generation that serves.

        Raises:
            RefusedError: it is gone, or the collection was rebuilt since.
            ArchiveError: it is damaged.
        """
        place = self._place
        if not self._path.is_file():
            raise RefusedError(
                f"the points that were deleted are not in {self._path} (any more)",
                hint="bring the file back from the host that made it; or restore a snapshot: qmigrate snapshot list",
            )
        header = archive.verify(self._path).header
        physical = described(place.store, place.address).physical
        if header.physical != physical:
            raise RefusedError(
                f"{self._path.name} holds points of {header.physical}, and {place.collection} was rebuilt since: "
                f"{physical} may want other vectors or payloads",
                hint=f"go back to it first (qmigrate rollback), or write them by hand: zstd -dc {self._path}",
            )

    def _digests(self, ids: Sequence[PointId]) -> dict[PointId, str]:
        found = {}
        for first in range(0, len(ids), _AT_ONCE):
            for stored in self._place.store.fetch(self._place.address, ids[first : first + _AT_ONCE]):
                found[records.point_id(stored)] = records.digest(stored).hex()
        return found

    def _archived(self, ids: Sequence[PointId]) -> list[Archived]:
        """These points from the file. Windows ascend, so one walk serves them all; a repeated one begins anew."""
        wanted = set(ids)
        found: list[Archived] = []
        for again in (False, True):
            if again:
                self._reader = archive.read(self._path)
                found = []
            for one in self._reader:
                if one.id in wanted:
                    found.append(one)
                if len(found) == len(wanted):
                    return found
        raise RefusedError(f"{self._path.name} does not hold all points that are to be given back any more")


def _state(digest: str | None, entry: Entry) -> str:
    if digest == entry.after["digest"]:
        return "after"
    return "before" if digest == entry.before.get("digest") else "moved"
