"""What an earlier fix has changed, and what was there before it: found again from its journal. It changes nothing.

Where points have other ids since, they are found by these: a value goes back to the point that it was of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from qmigrate import archive
from qmigrate.archive import Archived, DeletedFacts, ErasedFacts, Header
from qmigrate.engine.export import described, is_ours, run_file
from qmigrate.engine.fixes.journal import journal_name, windows
from qmigrate.engine.fixes.other_ids import OtherIds
from qmigrate.engine.fixes.payload import PayloadFix
from qmigrate.engine.fixes.protocol import FixSource, FixTarget, Kept, settle
from qmigrate.engine.points.compare import Judge
from qmigrate.engine.points.id_spaces import Spaces, space_of
from qmigrate.engine.points.transformation import Maker, check_recorded, fill_inputs
from qmigrate.engine.prove.rekey import IdTable, id_table
from qmigrate.engine.work import Code, Tick, transform_of
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed, Ledger
from qmigrate.model.facts.audit import UNDO, Audited
from qmigrate.model.facts.edits import UndoEdit
from qmigrate.model.facts.stored import known, loaded
from qmigrate.model.fix import Found, PointEdit, same_keys
from qmigrate.model.payload_path import BLOCKED
from qmigrate.model.report import VerificationReport
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import Ready, Store, Stored
from qmigrate.sequences import parts
from qmigrate.store import portable, records
from qmigrate.text import quote

if TYPE_CHECKING:
    from qmigrate.settings.load import Settings


#: Points that go through f together: what is embedded makes its own batches of them.


@dataclass(frozen=True, slots=True)
class _Source:
    """Where f's code comes from."""

    collection: str
    store: Store
    code: Code
    settings: Settings


@dataclass(frozen=True, slots=True)
class Failed:
    """Points that can't be given every vector, where their revision lets them pass.

    Attributes:
        dropped: ids that they have now, of those that are left out.
        lacking: id that it has now -> vectors that it goes without.
    """

    dropped: frozenset[PointId]
    lacking: Mapping[PointId, Sequence[str]]


class Through:
    """Makes and recognises what an earlier point has become.

    Args:
        place: whose operations came since.
        before: the schema that the points had.
    """

    def __init__(self, place: FixSource, before: CollectionSchema) -> None:
        assert place.code is not None  # noqa: S101  what names operations brings their code
        self._ledger = place.ledger
        self._transform = transform_of(place.operations, before)
        schema = described(place.store, place.address).schema
        self._source = _Source(place.collection, place.store, place.code, place.settings)
        self._maker = Maker(self._source, self._transform, schema)
        self._known: dict[PointId, Sequence[str]] = {}
        lacking = lambda identifier, name: name in self._known.get(identifier, ())  # noqa: E731
        self._judge = Judge(self._maker, None, lacking=lacking)
        self._name = place.collection
        self._lacking = sorted(set(self._transform.vectors) - schema.vector_names())
        self.changes = not self._transform.is_identity()

    def check(self) -> None:
        """See that the operations lead to what serves now, and that its vectors are made by its own models.

        Raises:
            RefusedError: they don't.
            DriftError: a configured embedder is another one than the one that has filled the vector.
        """
        if self._lacking:
            raise RefusedError(
                f"the points would have the vector {self._lacking[0]!r}, which {self._name} no longer has, "
                "and no revision applied since accounts for that",
                hint="bring the collection to its revisions first: qmigrate check",
            )
        check_recorded(self._ledger, self._name, self._source.code, fill_inputs(self._transform))

    @property
    def rekeys(self) -> bool:
        """Whether points have other ids now."""
        return self._transform.rekeys

    def id_of(self, one: Archived) -> PointId:
        """The id that the point has now.

        Raises:
            VerificationError: it can't be given one.
        """
        return records.point_id(self._maker.renamed(one.stored)) if self.rekeys else one.id

    def ready(self, points: Sequence[Archived]) -> list[Ready]:
        """What is to be written.

        Raises:
            EmbedError: a vector can't be filled, and its operation requires it.
            PlanError: a payload function fails.
        """
        if not self.changes:
            return [portable.ready(one.stored) for one in points]
        made: list[Ready] = []
        for first in range(0, len(points), _AT_ONCE):
            made += self._maker.make([one.stored for one in points[first : first + _AT_ONCE]]).ready
        return made

    def failing(self, points: Sequence[Archived]) -> Failed:
        """Those that something can't be made of; nothing is asked where nothing is recomputed.

        Raises:
            EmbedError: a vector can't be filled, and its operation requires it.
        """
        if not self._transform.filled:
            return Failed(frozenset(), {})
        made = self._maker.make([one.stored for one in points])
        lacking: dict[PointId, list[str]] = {}
        for row in made.failed:
            if row.point_id not in made.dropped:
                lacking.setdefault(row.point_id, []).append(row.vector)
        self.know(lacking)
        return Failed(frozenset(made.dropped), lacking)

    def know(self, lacking: Mapping[PointId, Sequence[str]]) -> None:
        """These points may go without these vectors; earlier ones are forgotten."""
        self._known = dict(lacking)

    def is_it(self, one: Archived, stored: Stored) -> bool:
        """Whether a point that is there now is this one."""
        return self._judge.why_not(one.stored, stored, VerificationReport(source="", target="")) is None


_AT_ONCE = 500


class BringBack:
    """Undoes a :class:`~qmigrate.engine.fixes.delete.Removal`.

    Args:
        place: where it looks.
        edit: ``run``, ``step`` and ``generation`` of the deletion, ``log`` (its row of the audit), ``file``,
            ``overwrite`` (also what is there again), ``emptied`` (an erasure has left nothing of the file), ``erased``
            (how many points these were), ``drops`` and ``nothing`` as
            :class:`~qmigrate.engine.fixes.undo.Undo` has them.
    """

    window = 2000

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        self._place = place
        self._edit = loaded(UndoEdit, edit)
        self._path = exported_by(place.settings, str(self._edit.generation), self._edit)
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

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts ``newer``, ``there`` and ``erased`` points.

        Those that can't be embedded are counted too: ``not_embedded`` stay out, others come back ``without_vector``.
        """
        if self._edit.nothing:
            return
        place = self._place
        if place.lease is not None:
            # Load-bearing: another process may have been faster while this one waited for the lease.
            refuse_undone(place.ledger, self._edit.log)
        found.points = place.store.count(place.address)
        if self._edit.emptied:
            found.counts["erased"] = self._edit.erased
            return
        through, header = self._checked()
        found.counts.update({"newer": 0, "there": 0, "erased": header.told(ErasedFacts).erased})
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
                    elif there is not None and not self._edit.overwrite:
                        found.add("newer")
                    else:
                        before = {"digest": records.digest_text(there, key)} if there is not None else {}
                        found.show(PointEdit(wanted[one.id], {}, records.payload_of(one.stored)))
                        found.add("without_vector", bool(lacking))
                        after = {"from": one.id, **({"lacks": lacking} if lacking else {})}
                        yield PointEdit(wanted[one.id], before, after)

    def export(self, path: Path, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Kept | None:  # noqa: ARG002
        """Nothing: what is restored was not there."""
        return None

    @property
    def looks_again(self) -> bool:
        """Only where the points are recreated."""
        return self._opened().changes

    def portion(self) -> int:
        """All of a window."""
        return self.window

    def settle(self, hand: FixTarget) -> None:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`."""
        settle(lambda: hand.store.flush(hand.alias))

    def states(self, entries: Sequence[PointEdit], *, writing: bool = False) -> list[str]:  # noqa: ARG002
        """As it should be is what the point of the file becomes; else by the digest of the complete point."""
        now, key = self._now([entry.id for entry in entries]), self._place.ledger.own_key()
        through = self._opened()
        archived = self._archived([entry.source for entry in entries])
        through.know({entry.id: entry.lacks for entry in entries if entry.lacks})
        return [
            _state(through, archived[entry.source], now.get(entry.id), entry.digest, key)
            for entry in entries
        ]

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """All of them but what was erased, or written, while they were made: models are slow."""
        erased = self._erased({entry.source: entry.id for entry in entries})
        kept = [entry for entry in entries if entry.source not in erased]
        through, archived = self._opened(), self._archived([entry.source for entry in entries])
        made = through.ready([archived[entry.source] for entry in kept])
        self._ready = {records.point_id(portable.stored_of(one)): one for one in made}
        if not through.changes:
            return kept
        settle(lambda: self._place.store.flush(self._place.address))
        return [entry for entry, state in zip(kept, self.states(kept), strict=True) if state == "before"]

    def write(self, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
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

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector, so its count is 0."""
        number = self._edit.log
        return Fixed(UNDO, f"fix {number}", 0, self._edit.reason, replace(told, undoes=number))

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
            space_of(place.ledger, place.code, place.collection, one) for one in (str(self._edit.generation), live)
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
        meant = (place.collection, self._edit.generation)
        if not is_ours(header, place.ledger.identity()) or (header.name, header.physical) != meant:
            raise RefusedError(
                f"{self._path.name} holds points of {header.physical} of another ledger, or of another fix: it was "
                "overwritten, and what this fix has deleted is not in it any more",
                hint="restore a snapshot: qmigrate snapshot list",
            )
        physical = described(place.store, place.address).physical
        if header.physical != physical and header.told(DeletedFacts).applied is None:
            raise RefusedError(
                f"{self._path.name} holds points of {header.physical} without the revisions that they were at, and "
                f"{place.collection} was rebuilt since: {physical} may need other vectors or payloads",
                hint=f"go back to it first (qmigrate rollback --only {quote(place.collection)}), or write them by "
                f"hand: zstd -dc {quote(self._path)}",
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


def refuse_undone(ledger: Ledger, log: int | None) -> None:
    """See that a fix was not undone: a second time would undo what was written since the first.

    Raises:
        RefusedError: it was.
    """
    if log is None:
        return
    for later in ledger.deletions():
        if later.id > log and later.told.undoes == log:
            raise RefusedError(
                f"fix {log} was undone already, by fix {later.id}",
                # Of a reset that is about the points that were deleted again on the way back.
                hint=f"undo that: qmigrate fix undo {quote(later.id)}"
                if known(later.told.undo) and later.told.left_in is None
                else None,
            )


def exported_by(settings: Settings, physical: str, edit: UndoEdit) -> Path:
    """Where a deletion has left its points.

    Args:
        edit: of the undo: ``run`` and ``step`` of the deletion, and its ``file``, or when its run ``started``.
    """
    if edit.file:
        return Path(edit.file)
    return run_file(settings.fixes.exports, physical, edit.run, str(edit.step), started=edit.started)


def _state(through: Through, one: Archived, stored: Stored | None, before: str | None, key: bytes) -> str:
    if stored is not None and through.is_it(one, stored):
        return "after"
    same = stored is None if before is None else stored is not None and records.has_digest(stored, before, key)
    return "before" if same else "moved"


class Undo(PayloadFix):
    """Gives points back what a fix has taken from them; see ``qmigrate fix undo``.

    Args:
        place: where it looks.
        edit: ``run``, ``step`` and ``generation`` of the fix, ``log`` (its row of the audit), ``overwrite`` (also what
            was changed since), ``erased`` (points of it that were erased since), ``drops`` (what the fix has kept goes
            at the end: its run is undone), ``nothing`` (it had not begun to change anything).
    """

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        self._place = place
        self._edit = loaded(UndoEdit, edit)
        self._journal = journal_name(self._edit.run, self._edit.step)

    def close(self) -> None:
        """Nothing is open."""

    def share(self) -> float | None:
        """No cap: it restores what was there."""
        return None

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts ``newer`` (changed since) and ``gone`` points.

        Raises:
            RefusedError: it is too long ago, or which ids points have now is unknown.
        """
        place = self._place
        if self._edit.nothing:
            return
        if place.lease is not None:
            # Load-bearing: another process may have been faster while this one waited for the lease.
            refuse_undone(place.ledger, self._edit.log)
        if not place.ledger.has_base(self._journal):
            if self._edit.drops:
                return
            raise RefusedError(
                f"what fix {self._edit.log} has changed is not recorded any more: it could be undone for "
                f"{place.settings.fixes.undo / 3600:g} h",
                hint="fixes.undo in qmigrate.yaml sets how long that is; or restore a snapshot: qmigrate snapshot list",
            )
        self._refuse_others()
        ids = OtherIds(place, self._edit.generation, self._edit.log)
        found.counts.update({"newer": 0, "gone": 0})
        if self._edit.erased:
            found.counts["erased"] = self._edit.erased
        found.points = place.store.count(place.address)
        for entries in windows(place.ledger, self._journal, size=self.window):
            now = ids.of([entry.id for entry in entries])
            found.add("gone", len(entries) - len(now))
            yield from self._window(found, [entry._replace(id=now[entry.id]) for entry in entries if entry.id in now])

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """All of them: what they should be does not change any more."""
        return list(entries)

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector, so its count is 0."""
        number = self._edit.log
        return Fixed(UNDO, f"fix {number}", 0, self._edit.reason, replace(told, undoes=number))

    def _refuse_others(self) -> None:
        """See that points are not only called as those that the fix was about: behind a reset they are other ones.

        Raises:
            RefusedError: they are.
        """
        place, then = self._place, str(self._edit.generation)
        live = described(place.store, place.address).physical
        if place.code is None or then == live:
            return
        spaces = Spaces(place.ledger, place.code, place.collection, frozenset())
        if spaces.root(then) != spaces.root(live):
            raise RefusedError(
                f"fix {self._edit.log} has changed points of {then}, and those of {live} are other ones: one of "
                "the two began empty, by a reset or as a new collection",
                hint="go back to where it was first (qmigrate fix undo of the reset, or "
                f"qmigrate rollback --only {quote(place.collection)})",
            )

    def _window(self, found: Found, entries: Sequence[PointEdit]) -> Iterator[PointEdit]:
        payloads = self.payloads(entries)
        for entry in entries:
            payload = payloads.get(entry.id)
            if payload is None:
                found.add("gone")
            elif same_keys(payload, entry.before, entry.keys):
                continue
            elif BLOCKED in payload.values():
                # Nothing can be set inside what is not an object any more, and what it is now is not ours.
                found.add("newer")
            elif same_keys(payload, entry.after, entry.keys) or self._edit.overwrite:
                now = {key: payload[key] for key in entry.keys if key in payload}
                found.show(made := PointEdit(entry.id, now, entry.before))
                yield made
            else:
                found.add("newer")
