"""Points that could not be embedded, through their embedder again: the vector is filled in, or the point comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from qmigrate import archive
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.export import described, is_ours
from qmigrate.engine.fixes.other_ids import OtherIds
from qmigrate.engine.fixes.protocol import FixSource, FixTarget, Kept, settle
from qmigrate.engine.points.checksums import Checksums
from qmigrate.engine.points.dropped import AUDIT
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.engine.points.id_spaces import space_of
from qmigrate.engine.points.quarantine import DROPPED, shortened
from qmigrate.engine.points.transformation import check_recorded
from qmigrate.engine.work import Tick, transform_of
from qmigrate.engine.write_back import common, opened, rows_of
from qmigrate.errors import QmigrateError, RefusedError, RepairNeededError, without_secrets
from qmigrate.ledger import Fixed, Quarantined
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import RetryEdit, RetryGroup, Telling
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.plan import OpRef
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId, PointTransform
from qmigrate.operations.values import Embed
from qmigrate.ports import Stored
from qmigrate.store import records

_AT_ONCE = 256
#: After every erasure that is over.
_LATER = datetime.max.replace(tzinfo=UTC)
#: How a row ends whose point has its vector: by this fix, or it had it already.
FILLED, HAS_IT, GONE = "filled", "the point has the vector", "the point is not there any more"


class Retry:
    """Takes open rows of the quarantine again.

    A vector is filled by the model that has filled the others, or not at all; one of that name that another client
    fills is not ours. A dropped point comes back complete: with all the vectors that its rebuild has made, or not yet.

    Args:
        place: where it looks; it needs the code.
        edit: ``groups``: of one generation and vector each, with ``generation``, ``vector``, ``now`` (what that vector
            is called in the live generation), ``ops`` (references to the operations of its rebuild) and ``schema``
            (that they were applied to); ``live``: the generation that serves.
    """

    window = _AT_ONCE
    looks_again = True

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        self._place = place
        self._edit = loaded(RetryEdit, edit)
        self._groups = {(one.generation, one.vector): one for one in self._edit.groups}
        self._transforms: dict[str, PointTransform] = {}
        self._checked: set[tuple[str, str]] = set()
        self._vectors: tuple[frozenset[str], frozenset[str]] | None = None
        self._checksums = Checksums(place)
        self._made: dict[PointId, dict[str, Any]] = {}
        self._ways: dict[str, OtherIds | None] = {}

    def close(self) -> None:
        """Nothing is open."""

    def share(self) -> float | None:
        """No cap: it takes nothing away."""
        return None

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts rows ``settled`` already, or ``stranded``."""
        found.counts.update({"settled": 0, "stranded": 0})
        found.points = self._place.store.count(self._place.address)
        rows, place = self._rows(), self._place
        self._settle_lost(found)
        ids = sorted(rows, key=records.order_key)
        space = space_of(place.ledger, place.code, place.collection, self._edit.live)
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            live = self._live(part)
            # One that is over has taken its rows along: these are of points that were written again later.
            erased = place.ledger.erased(place.collection, part, made=_LATER, space=space)
            away = self._away({one: rows[one] for one in part if one not in live and one not in erased})
            for identifier in part:
                todo = []
                for row in rows[identifier]:
                    why = self._settled(row, live.get(identifier), identifier in erased, identifier in away)
                    if why is not None:
                        found.add("settled")
                        self._resolve([(identifier, row)], why)
                    elif self._is_stranded(row, identifier in live, away.get(identifier)):
                        found.add("stranded")
                    else:
                        todo.append(row)
                if todo:
                    beside = () if identifier in live else away.get(identifier) or ()
                    self._check_models([*map(_key, todo), *((todo[0].generation, one) for one in beside)])
                    found.show(PointEdit(identifier, {}, {self._now(row): row.source for row in todo}))
                    # One that the application has written again since is not the one that was dropped.
                    after = dict.fromkeys([*map(self._now, todo), *beside], 1)
                    yield PointEdit(identifier, {"dropped": identifier not in live}, after)

    def export(self, path: Path, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Kept | None:  # noqa: ARG002
        """Nothing: what is filled was not there."""
        return None

    def portion(self) -> int:
        """All of a window."""
        return self.window

    def settle(self, hand: FixTarget) -> None:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`."""
        settle(lambda: hand.store.flush(hand.alias))

    def states(self, entries: Sequence[PointEdit], *, writing: bool = False) -> list[str]:  # noqa: ARG002
        """By the vectors that are there."""
        live = self._live([entry.id for entry in entries])
        return [_state(entry, live.get(entry.id)) for entry in entries]

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that can be embedded now, and are what they were before that; of what fails the reason is recorded."""
        rows, points = self._rows(), self._points(entries)
        wanted = [(one.id, row) for one in entries for row in self._meant(one, rows) if one.id in points]
        self._made = {}
        failed: set[PointId] = set()
        for key in dict.fromkeys(_key(row) for _, row in wanted):
            mine = [(one, row) for one, row in wanted if _key(row) == key]
            answers = self._embedded(key, [one for one, _ in mine], points)
            for (identifier, row), (item, value) in zip(mine, answers, strict=True):
                if isinstance(value, Failure):
                    failed.add(identifier)
                    self._failed_again(row, value, item)
                else:
                    self._made.setdefault(identifier, {})[self._now(row)] = value
        made = [entry for entry in entries if entry.id in self._made and entry.id not in failed]
        # Models are slow: a point may have been written, or come back, while its vector was made.
        settle(lambda: self._place.store.flush(self._place.address))
        live = self._live([entry.id for entry in made])
        return [entry for entry in made if _as_it_was(entry, points[entry.id], live.get(entry.id))]

    def write(self, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
        """Vectors of points that are there; points that are not, completely."""
        there = {entry.id: self._made[entry.id] for entry in entries if not entry.dropped}
        if there:
            hand.store.edit_vectors(hand.alias, there)
        hand.tick()
        back = {entry.id for entry in entries if entry.dropped}
        carried = self._carried() if back else frozenset()
        ready = [
            records.make_ready(stored, _carrying(stored, carried), self._made[identifier])
            for identifier, stored in self._archived(back).items()
        ]
        for batch in records.batches(ready):
            hand.store.upsert(hand.alias, batch, new_only=True).wait()
            hand.tick()
        rows, live = self._rows(), self._live(list(back))
        # One that another client has written in that moment stays as it is, and may lack its vector still.
        done = [one for one in entries if one.id not in back or _state(one, live.get(one.id)) == "after"]
        self._resolve([(entry.id, row) for entry in done for row in self._meant(entry, rows)], FILLED)

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector, so its count is 0."""
        return Fixed("QUARANTINE_RETRY", "points that could not be embedded", 0, self._edit.reason, told)

    def _rows(self) -> dict[PointId, list[Quarantined]]:
        """Open rows by the id that their point has now."""
        found: dict[PointId, list[Quarantined]] = {}
        for row, now in self._placed():
            if now is not None:
                found.setdefault(now, []).append(row)
        return found

    def _placed(self) -> Iterator[tuple[Quarantined, PointId | None]]:
        """Open rows, each with the id that its point has now; None where it has none, or it is unknown."""
        for generation in sorted({key[0] for key in self._groups}):
            rows = [row for row in self._place.ledger.quarantine([generation]) if self._is_meant(row)]
            way = self._way(generation)
            now = way.of(list(dict.fromkeys(row.point_id for row in rows))) if way is not None else {}
            yield from ((row, now.get(row.point_id)) for row in rows)

    def _is_meant(self, row: Quarantined) -> bool:
        return _key(row) in self._groups

    def _meant(self, entry: PointEdit, rows: Mapping[PointId, Sequence[Quarantined]]) -> list[Quarantined]:
        """The rows that an entry is about; of a dropped point also one for each further vector that it lacks."""
        found = [row for row in rows.get(entry.id, ()) if self._now(row) in entry.after]
        if not entry.dropped:
            return found
        live, named = self._edit.live, set(map(self._now, found))
        beside = [str(vector) for vector in entry.after if vector not in named]
        return [*found, *(Quarantined(entry.id, one, DROPPED, "", "", generation=live) for one in beside)]

    def _away(self, rows: Mapping[PointId, Sequence[Quarantined]]) -> dict[PointId, list[str] | None]:
        """Of points that were dropped from what serves: what else they lack of what their rebuild has made.

        None if one can't come back complete: its file hasn't it, or a vector is missing there that no embedder makes.
        """
        live = self._edit.live
        dropped = {
            one: {row.vector for row in found if row.generation == live}
            for one, found in rows.items()
            if any(row.outcome == DROPPED and row.generation == live for row in found)
        }
        archived = self._archived(set(dropped))
        names, recorded = self._places()
        found: dict[PointId, list[str] | None] = {}
        for one, named in dropped.items():
            values = self._transform((live, next(iter(named)))).values
            there = records.vector_messages(archived[one]).keys() if one in archived else frozenset()
            lacking = sorted(name for name, value in values.items() if value.fills and name in names - named - there)
            fit = one in archived and all(isinstance(values[name], Embed) and name in recorded for name in lacking)
            found[one] = lacking if fit else None
        return found

    def _places(self) -> tuple[frozenset[str], frozenset[str]]:
        """The vectors that what serves has, and those of them that an embedder has filled."""
        if self._vectors is None:
            place = self._place
            live, view = place.store.describe(place.address), place.ledger.view(place.collection)
            names = live.schema.vector_names() if live is not None else frozenset()
            self._vectors = names, names & frozenset(view.embedders if view is not None else ())
        return self._vectors

    def _is_stranded(self, row: Quarantined, there: bool, away: list[str] | None) -> bool:
        """Whether there is no place for what a row is about: not now, but it is not settled either."""
        if self._now(row) not in self._places()[1] or (not there and away is None):
            # Another client fills that vector, or what serves is of a time before it, and may be left again.
            return True
        # What its file holds may not fit into a generation that was rebuilt since.
        return row.outcome == DROPPED and row.generation != self._edit.live

    def _check_models(self, keys: Iterable[tuple[str, str]]) -> None:
        """See, once for each vector, that its embedder is the one that has filled it.

        Raises:
            DriftError: it is another one.
        """
        code = self._place.code
        for key in keys:
            if key not in self._checked and code is not None:
                filled = {self._called(key): self._filling(key)}
                check_recorded(self._place.ledger, self._place.collection, code, filled)
                self._checked.add(key)

    def _way(self, generation: str) -> OtherIds | None:
        """From the ids of a generation to those of today; None where it is unknown by now."""
        if generation not in self._ways:
            try:
                self._ways[generation] = OtherIds(self._place, generation, None)
            except RefusedError:
                self._ways[generation] = None
        return self._ways[generation]

    def _settle_lost(self, found: Found) -> None:
        """Rows whose points have no id today: of those that are gone nothing is left to do, the others wait."""
        for row, now in self._placed():
            if now is None:
                stranded = row.outcome == DROPPED or self._way(row.generation) is None
                found.add("stranded" if stranded else "settled")
                if not stranded:
                    self._resolve([(row.point_id, row)], GONE)

    def _live(self, ids: Sequence[PointId]) -> dict[PointId, Stored]:
        found = self._place.store.fetch(self._place.address, ids) if ids else []
        return {records.point_id(stored): stored for stored in found}

    def _settled(self, row: Quarantined, live: Stored | None, erased: bool, away: bool) -> str | None:
        """Why there is nothing left to do about a row, or None.

        Args:
            away: whether the point was dropped from what serves, and may come back.
        """
        if erased:
            return "the point was erased"
        if self._now(row) is None:
            return f"there is no vector {row.vector!r} any more"
        if live is None:
            return None if row.outcome == DROPPED or away else GONE
        if self._now(row) in records.vector_messages(live) and self._now(row) in self._places()[1]:
            return HAS_IT
        return None

    def _now(self, row: Quarantined) -> Any:
        """What its vector is called now."""
        return self._called(_key(row))

    def _called(self, key: tuple[str, str]) -> Any:
        """What a vector of a generation is called now; one that no row was about is called as that one calls it."""
        return self._groups[key].now if key in self._groups else key[1]

    def _points(self, entries: Sequence[PointEdit]) -> dict[PointId, Stored]:
        """What is embedded: points that are there, and those that only the file has."""
        live = self._live([entry.id for entry in entries])
        return {**self._archived({entry.id for entry in entries if entry.dropped}), **live}

    def _archived(self, ids: set[PointId]) -> dict[PointId, Stored]:
        if not ids:
            return {}
        found: dict[PointId, Stored] = {}
        for path in self._files():
            if not path.is_file():
                raise RepairNeededError(
                    f"the points that were dropped are in {path.name}, which is not there any more",
                    hint=f"bring it back to {path.parent}, from the host that made it",
                )
            if not is_ours(archive.summary(path).header, self._place.ledger.identity()):
                raise RepairNeededError(
                    f"{path.name} was overwritten by another ledger: the points that were dropped are not in it "
                    "any more",
                    hint="an older generation or a snapshot may still have them: qmigrate snapshot list",
                )
            found.update({one.id: one.stored for one in archive.read(path) if one.id in ids})
        return found

    def _carried(self) -> frozenset[str]:
        """Vectors that a point of the file takes along: one that was dropped in place since is another one by now."""
        place = self._place
        live = described(place.store, place.address)
        return live.schema.vector_names() - place.ledger.dropped_in_place(place.collection, self._edit.live)

    def _files(self) -> list[Path]:
        live = self._edit.live
        rows = self._place.ledger.deletions()
        told = (row.told for row in rows if row.kind == AUDIT)
        return [Path(one.archive) for one in told if one.archive and one.generation == live]

    def _embedded(
        self, key: tuple[str, str], ids: Sequence[PointId], points: dict[PointId, Stored]
    ) -> Iterator[tuple[Any, Any]]:
        """Of each of these points the input, and its vector or a failure."""
        filling = self._filling(key)
        assert self._place.code is not None  # noqa: S101  it was needed for the filling
        inputs = [embed_input(filling, records.payload_of(points[one])) for one in ids]
        inputs = self._checksums.checked(filling, ids, lambda at: records.payload_of(points[ids[at]]), inputs)
        fit = [place for place, item in enumerate(inputs) if item is not None and not isinstance(item, Failure)]
        embedder, params = self._place.code.embedder(filling.embedder), self._params(key)
        made = embed_all(embedder, [inputs[place] for place in fit], size=params.get("size"))
        vectors = {place: _kept(value, params) for place, value in zip(fit, made, strict=True)}
        nothing = Failure(0, "read", "its source field is missing, empty or not text")
        for place, item in enumerate(inputs):
            value = vectors.get(place, item if isinstance(item, Failure) else nothing)
            yield None if isinstance(item, Failure) else item, value

    def _params(self, key: tuple[str, str]) -> JsonObject:
        """Of the vector as it is called now; empty where it isn't there, or isn't dense."""
        live = self._place.store.describe(self._place.address)
        return dict(live.schema.vectors.get(self._called(key)) or {}) if live is not None else {}

    def _filling(self, key: tuple[str, str]) -> Embed:
        """What filled the vector, as its revision declares it."""
        found = self._transform(key).values.get(key[1])
        if not isinstance(found, Embed):
            raise RepairNeededError(f"the revisions no longer define what has filled {key[1]!r} of {key[0]}")
        return found

    def _transform(self, key: tuple[str, str]) -> PointTransform:
        """F of the rebuild that has made a generation."""
        generation = key[0]
        if generation not in self._transforms:
            group, code = self._group(generation), self._place.code
            if code is None:
                raise RepairNeededError("the revisions are needed to embed anything")
            operations = [code.operation(OpRef(*ref)) for ref in group.ops]
            self._transforms[generation] = transform_of(operations, group.schema)
        return self._transforms[generation]

    def _group(self, generation: str) -> RetryGroup:
        """Any group of a generation: all of them are of its one rebuild."""
        return next(one for key, one in self._groups.items() if key[0] == generation)

    def _failed_again(self, row: Quarantined, why: Failure, item: Any) -> None:
        if self._place.lease is not None:
            said = without_secrets(why.message)
            known = (row.point_id, row.vector, row.outcome, why.stage, said, shortened(item), row.digest)
            self._place.lease.quarantine(row.generation, row.run, [Quarantined(*known)])

    def _resolve(self, rows: Sequence[tuple[PointId, Quarantined]], how: str) -> None:
        """Settle rows, each with the id that its point has now."""
        if rows and self._place.lease is not None:
            if how in (FILLED, HAS_IT):
                # Also what only has the vector: an earlier try may have died between the two.
                self._tell(rows)
            self._place.lease.resolve_quarantine({(row.generation, row.point_id, row.vector): how for _, row in rows})

    def _tell(self, rows: Sequence[tuple[PointId, Quarantined]]) -> None:
        """Write to the application's SQL what it would have got, had these points not failed."""
        place, view = self._place, self._place.ledger.view(self._place.collection)
        for key in dict.fromkeys(_key(row) for _, row in rows):
            try:
                wanted = self._filling(key).write_back
            except QmigrateError:
                # A row may be settled although its revision doesn't say any more what filled the vector.
                continue
            if wanted is None:
                continue
            said = loaded(Telling, wanted.said(self._called(key), self._revision(key)))
            fingerprints = view.embedders if view else {}
            shared = common(said, place.collection, self._edit.live, fingerprints, datetime.now(UTC))
            ids = [one for one, row in rows if _key(row) == key]
            with closing(opened(place.settings, said)) as statement:
                statement.run(rows_of(place.store, place.address, said, ids, shared))

    def _revision(self, key: tuple[str, str]) -> str:
        """The revision that declares what fills the vector."""
        filling, code = self._filling(key), self._place.code
        refs = [OpRef(*ref) for ref in self._group(key[0]).ops]
        assert code is not None  # noqa: S101  it was needed for the filling
        named = [ref.revision for ref in refs if filling in code.operation(ref).embeds().values()]
        return named[-1] if named else refs[-1].revision


def _key(row: Quarantined) -> tuple[str, str]:
    return row.generation, row.vector


def _kept(value: Any, params: JsonObject) -> Any:
    """A vector, or why its datatype would not keep it."""
    lost = None if isinstance(value, Failure | Mapping) else records.cut_off(np.asarray(value), params)
    if lost is None:
        return value
    return Failure(0, "check", f"it would get the value {lost.value:g}: {lost.why}")


def _carrying(stored: Stored, names: frozenset[str]) -> PointTransform:
    there = frozenset(records.vector_messages(stored))
    return PointTransform(vectors={name: name for name in sorted(there & names)}, drops=not there <= names)


def _as_it_was(entry: PointEdit, read: Stored, live: Stored | None) -> bool:
    """Whether a point is what its vectors were made of, and lacks them; a dropped one, whether it is away still."""
    if live is None or entry.dropped:
        # One that was deleted since shows when it is written to.
        return live is None
    if records.vector_messages(live).keys() != records.vector_messages(read).keys():
        # Another client has filled it.
        return False
    payload = PointTransform(vectors={})
    return records.difference(records.found(read, payload), records.found(live, payload), {}) is None


def _state(entry: PointEdit, live: Stored | None) -> str:
    if live is None:
        return "before" if entry.dropped else "gone"
    if entry.after.keys() <= records.vector_messages(live).keys():
        return "after"
    # A dropped point that a client has written again since must not be lost to the one in the file.
    return "moved" if entry.dropped else "before"
