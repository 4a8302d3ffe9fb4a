"""Deleted points, restored from the file that the deletion has left, through the revisions since.

It never writes over what is newer unasked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qmigrate import archive
from qmigrate.archive import Archived, Header
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.fix import Entry, Found
from qmigrate.model.parts import parts
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.model.words import quote
from qmigrate.ports import Ready, Stored
from qmigrate.steps.erasing.spaces import space_of
from qmigrate.steps.export import described, is_ours, run_file
from qmigrate.steps.fixes.looks import settle
from qmigrate.steps.fixes.protocol import Hand, Place
from qmigrate.steps.fixes.through import Through
from qmigrate.steps.rekey import IdTable, id_table
from qmigrate.steps.work import Tick
from qmigrate.store import portable, records

if TYPE_CHECKING:
    from qmigrate.settings import Settings

_AT_ONCE = 500


class BringBack:
    """Undoes a :class:`~qmigrate.steps.fixes.removal.Removal`.

    Args:
        place: where it looks.
        edit: ``run``, ``step`` and ``generation`` of the deletion, ``log`` (its row of the audit), ``file``,
            ``overwrite`` (also what is there again), ``emptied`` (an erasure has left nothing of the file), ``erased``
            (how many points these were), ``drops`` and ``nothing`` as
            :class:`~qmigrate.steps.fixes.undo.Undo` has them.
    """

    window = 2000

    def __init__(self, place: Place, edit: JsonObject) -> None:
        self._place = place
        self._edit = edit
        self._path = exported_by(place.settings, str(edit["generation"]), edit)
        self._reader: Iterator[Archived] = iter(())
        self._read: dict[PointId, Archived] = {}
        self._ready: dict[PointId, Ready] = {}
        self._through: Through | None = None
        self._made: datetime | None = None

    def close(self) -> None:
        """Nothing is open."""

    def share(self) -> float | None:
        """No cap: it restores what was there."""
        return None

    def find(self, found: Found) -> Iterator[Entry]:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`; counts ``newer``, ``there`` and ``erased`` points.

        Those that can't be embedded are counted too: ``not_embedded`` stay out, others come back ``without_vector``.
        """
        if self._edit.get("nothing"):
            return
        place = self._place
        found.points = place.store.count(place.address)
        if self._edit.get("emptied"):
            found.counts["erased"] = int(self._edit.get("erased", 0))
            return
        through, header = self._checked()
        found.counts.update({"newer": 0, "there": 0, "erased": int(header.facts.get(archive.ERASED, 0))})
        points, key = archive.read(self._path), place.ledger.own_key()
        with ExitStack() as stack:
            taken = stack.enter_context(id_table()) if through.rekeys else None
            for part in parts(points, _AT_ONCE):
                wanted = {one.id: through.id_of(one) for one in part}
                if taken is not None:
                    self._claim(taken, wanted)
                # What can't be embedded shows before anything is written.
                failed = through.failing(part)
                now = self._now(list(wanted.values()))
                erased = self._erased(wanted)
                for one in part:
                    there = now.get(wanted[one.id])
                    lacking = list(failed.lacking.get(wanted[one.id], ()))
                    if one.id in erased:
                        found.add("erased")
                    elif wanted[one.id] in failed.dropped:
                        found.add("not_embedded")
                    elif there is not None and through.is_it(one, there):
                        found.add("there")
                    elif there is not None and not self._edit.get("overwrite"):
                        found.add("newer")
                    else:
                        before = {"digest": records.digest_text(there, key)} if there is not None else {}
                        found.show(Entry(wanted[one.id], {}, records.payload_of(one.stored)))
                        found.add("without_vector", bool(lacking))
                        yield Entry(wanted[one.id], before, {"from": one.id, **({"lacks": lacking} if lacking else {})})

    def export(self, path: Path, entries: Iterable[Sequence[Entry]], tick: Tick) -> JsonObject:  # noqa: ARG002
        """Nothing: what is restored was not there."""
        return {}

    @property
    def looks_again(self) -> bool:
        """Only where the points are recreated."""
        return self._opened().changes

    def portion(self) -> int:
        """All of a window."""
        return self.window

    def settle(self, hand: Hand) -> None:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`."""
        settle(lambda: hand.store.flush(hand.alias))

    def states(self, entries: Sequence[Entry], *, writing: bool = False) -> list[str]:  # noqa: ARG002
        """As it should be is what the point of the file becomes; else by the digest of the complete point."""
        now, key = self._now([entry.id for entry in entries]), self._place.ledger.own_key()
        through = self._opened()
        archived = self._archived([entry.after["from"] for entry in entries])
        through.know({entry.id: entry.after["lacks"] for entry in entries if "lacks" in entry.after})
        return [
            _state(through, archived[entry.after["from"]], now.get(entry.id), entry.before.get("digest"), key)
            for entry in entries
        ]

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """All of them but what was erased, or written, while they were made: models are slow."""
        erased = self._erased({entry.after["from"]: entry.id for entry in entries})
        kept = [entry for entry in entries if entry.after["from"] not in erased]
        through, archived = self._opened(), self._archived([entry.after["from"] for entry in entries])
        made = through.ready([archived[entry.after["from"]] for entry in kept])
        self._ready = {records.point_id(portable.stored_of(one)): one for one in made}
        if not through.changes:
            return kept
        settle(lambda: self._place.store.flush(self._place.address))
        return [entry for entry, state in zip(kept, self.states(kept), strict=True) if state == "before"]

    def write(self, hand: Hand, entries: Sequence[Entry]) -> None:
        """Complete points, as they were, or as what they would have become, which :meth:`still` has made.

        Only of the entries: others may have been written since. Where none was, one that comes in the meantime is
        newer, and stays.
        """
        for new_only in (True, False):
            wanted = [entry.id for entry in entries if (not entry.before) is new_only]
            made = [self._ready[one] for one in wanted if one in self._ready]
            for batch in records.batches(made):
                hand.store.upsert(hand.alias, batch, new_only=new_only).wait()
                hand.tick()

    def audit(self, facts: JsonObject) -> Fixed:
        """It deletes no vector, so its count is 0."""
        number = self._edit.get("log")
        return Fixed("UNDO", f"fix {number}", 0, self._edit.get("reason"), {**facts, "undoes": number})

    def _erased(self, ids: Mapping[PointId, PointId]) -> set[PointId]:
        """Those that were erased after the file was made.

        Args:
            ids: of the file -> as they are now.
        """
        place = self._place
        if not place.ledger.erasures(place.collection):
            return set()
        self._made = self._made or archive.summary(self._path).header.created_at
        live = described(place.store, place.address).physical
        then, now = (
            space_of(place.ledger, place.code, place.collection, one) for one in (str(self._edit["generation"]), live)
        )
        old = place.ledger.erased(place.collection, list(ids), made=self._made, space=then)
        new = place.ledger.erased(place.collection, list(ids.values()), made=self._made, space=now)
        return {one for one, become in ids.items() if one in old or become in new}

    def _checked(self) -> tuple[Through, Header]:
        """The file is complete, and the operations since lead from it to what serves.

        Returns:
            What makes them, and the header of the file.

        Raises:
            RefusedError: it is gone, or they don't.
            ArchiveError: it is damaged.
        """
        if not self._path.is_file():
            raise RefusedError(
                f"the points that were deleted are not in {self._path} (any more)",
                hint="bring the file back from the host that made it; or restore a snapshot: qmigrate snapshot list",
            )
        header = archive.verify(self._path).header
        place = self._place
        meant = (place.collection, self._edit["generation"])
        if not is_ours(header, place.ledger.identity()) or (header.name, header.physical) != meant:
            raise RefusedError(
                f"{self._path.name} holds points of {header.physical} of another ledger, or of another fix: it was "
                "overwritten, and what this fix has deleted is not in it any more",
                hint="restore a snapshot: qmigrate snapshot list",
            )
        physical = described(place.store, place.address).physical
        if header.physical != physical and "applied" not in header.facts:
            raise RefusedError(
                f"{self._path.name} holds points of {header.physical} without the revisions that they were at, and "
                f"{place.collection} was rebuilt since: {physical} may need other vectors or payloads",
                hint=f"go back to it first (qmigrate rollback), or write them by hand: zstd -dc {quote(self._path)}",
            )
        return self._opened(header), header

    def _opened(self, header: Header | None = None) -> Through:
        if self._through is None:
            self._through = Through(self._place, (header or archive.summary(self._path).header).schema)
            self._through.check()
        return self._through

    def _claim(self, taken: IdTable, wanted: dict[PointId, PointId]) -> None:
        """See that no two of the points get one id.

        Raises:
            RefusedError: two do.
        """
        for old, new in wanted.items():
            other = taken.claim(records.order_key(new), records.order_key(old))
            if other is not None:
                raise RefusedError(
                    f"the points {records.id_of_key(other)} and {old} would both get the id {new} by the revision that "
                    "gave the others new ones",
                    hint=f"write one of them by hand: zstd -dc {quote(self._path)}",
                )

    def _now(self, ids: Sequence[PointId]) -> dict[PointId, Stored]:
        found = {}
        for first in range(0, len(ids), _AT_ONCE):
            for stored in self._place.store.fetch(self._place.address, ids[first : first + _AT_ONCE]):
                found[records.point_id(stored)] = stored
        return found

    def _archived(self, ids: Sequence[PointId]) -> dict[PointId, Archived]:
        """These points from the file. Windows ascend, so one walk serves them all; a repeated one begins again."""
        wanted = set(ids)
        if self._read.keys() >= wanted:
            return self._read
        for again in (False, True):
            if again:
                self._reader = archive.read(self._path)
            found: dict[PointId, Archived] = {}
            for one in self._reader:
                if one.id in wanted:
                    found[one.id] = one
                if len(found) == len(wanted):
                    self._read = found
                    return found
        raise RefusedError(f"{self._path.name} no longer has all points that are to be restored")


def exported_by(settings: Settings, physical: str, edit: JsonObject) -> Path:
    """Where a deletion has left its points.

    Args:
        edit: of the undo: ``run`` and ``step`` of the deletion, and its ``file``, or when its run ``started``.
    """
    if edit.get("file"):
        return Path(edit["file"])
    began = datetime.fromisoformat(edit["started"]) if edit.get("started") else None
    return run_file(settings.fixes.exports, physical, edit["run"], str(edit["step"]), started=began)


def _state(through: Through, one: Archived, stored: Stored | None, before: str | None, key: bytes) -> str:
    if stored is not None and through.is_it(one, stored):
        return "after"
    same = stored is None if before is None else stored is not None and records.has_digest(stored, before, key)
    return "before" if same else "moved"
