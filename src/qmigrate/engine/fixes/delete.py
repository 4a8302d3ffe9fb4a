"""Points to delete: selected by several conditions, each asked again right before. It picks none itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from qmigrate import archive
from qmigrate.archive import DeletedFacts, Header
from qmigrate.engine.barriers import Undisturbed, lone_barrier
from qmigrate.engine.export import described
from qmigrate.engine.fixes.protocol import FixSource, FixTarget, Kept, settle
from qmigrate.engine.work import Tick
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import RemovalEdit
from qmigrate.model.facts.stored import by_field, loaded, plain
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.payload_path import below, below_filter, values_at
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.rows import Query, Rows
from qmigrate.sequences import parts
from qmigrate.store import portable, records
from qmigrate.store.faults import RefusedRequestError
from qmigrate.store.filters import among

#: A number below is not a time in seconds since 1970 (this is 1973), but a year, a count, or something unknown.
_LEAST = 100_000_000
#: Nor is one from here on (the year 5138): it counts milliseconds, or something still smaller.
_MOST = 100_000_000_000
_EVER = "0001-01-01T00:00:00+00:00"


def older_than(place: FixSource, field: str, age: float) -> JsonObject:
    """Points whose time is known and lies more than `age` seconds before the moment of the fix.

    With a payload index its type tells which form the times have; else texts and seconds since 1970 both count.
    """
    border = place.now - timedelta(seconds=age)
    return _times(place, field, {"lt": border.isoformat()}, {"gte": _LEAST, "lt": border.timestamp()})


def check_times(place: FixSource, field: str, found: Found) -> None:
    """Where no point is old enough: count how many have the field at all, and see that one of them has a time there.

    Counts points ``with_field`` and ``without_field``; of no field a collection need have any yet.

    Raises:
        RefusedError: what they have there is never a time, so that none will ever be old enough.
    """
    store, address = place.store, place.address
    times = _times(place, field, {"gte": _EVER}, {"gte": _LEAST, "lt": _MOST})
    try:
        lacking = min(store.count(address, missing_field=field), found.points)
        held = found.points - lacking
        there = not held or any(store.scan(address, page=1, payload=False, vectors=False, where=times))
    except RefusedRequestError:
        # Strict mode counts less than it lets a deletion select.
        return
    found.counts.update(with_field=held, without_field=lacking)
    if there:
        return
    kind = _index(place, field)
    said = f", and its payload index is of the type {kind}" if kind is not None else ""
    raise RefusedError(
        f"{field} is never a time in {place.collection}: {held:,} of {found.points:,} points have something else "
        f"there, for example {_example(place, field)!r:.40}{said}; nothing was changed",
        hint="a time is a text such as 2026-03-01T12:00:00Z, or a number of seconds since 1970, not of milliseconds; "
        "--age-field names another field",
    )


def _times(place: FixSource, field: str, texts: JsonObject, numbers: JsonObject) -> JsonObject:
    """A filter for points whose time, of the form that counts, is in a range."""
    as_text, as_number = {"key": field, "range": texts}, {"key": field, "range": numbers}
    kind = _index(place, field)
    if kind == "datetime":
        return {"must": [as_text]}
    return {"must": [as_number]} if kind in ("integer", "float") else {"should": [as_text, as_number]}


def _index(place: FixSource, field: str) -> str | None:
    kind = described(place.store, place.address).schema.indexes.get(field, {}).get("type")
    return None if kind is None else str(kind)


def _example(place: FixSource, field: str) -> Any:
    where = {"must_not": [{"is_empty": {"key": field}}]}
    for page in place.store.scan(place.address, page=1, payload=[field], vectors=False, where=where):
        for stored in page:
            return next(iter(values_at(records.payload_of(stored), field)), None)
    return None


Item = TypeVar("Item")

#: `Header.kind` for the points of a deletion.
DELETED = "deletion"
#: Points that are read with their vectors at a time, at most: as many as make a page of the usual size.
_AT_ONCE = 2000
#: Points of a page without vectors.
_PAGE = 5000
#: Points of a request that has their ids alone.
_MANY = 10_000
#: Points that are checked and then deleted together: few, for little time may pass in between.
_WINDOW = 2000
#: One object each, which the journal stores once a page: what a point is that may be anything, and what becomes of it.
_ANY: JsonObject = {"digest": ""}
_NOTHING: JsonObject = {}


class Removal:
    """Deletes points; see :class:`qmigrate.operations.deletion.DeletePoints`, whose edit it takes."""

    window = _MANY
    looks_again = False

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        self._place = place
        self._edit = said = loaded(RemovalEdit, edit)
        self._at_once: int | None = None
        self._ids = None if said.ids is None else set(said.ids)
        self._filter = said.filter
        if said.older_than is not None:
            old = older_than(place, said.older_than.field, float(said.older_than.age))
            self._filter = {"must": [old, *([self._filter] if self._filter else [])]}
        self._prefix = said.prefix
        self._rows: Rows | None = None
        others = said.filter or said.prefix or said.sql
        self._exports = said.export
        self._by_id_alone = self._ids is not None and not self._exports and not others
        self._undisturbed = Undisturbed(place.store, place.address, place.exported)
        sql = said.sql
        if sql is not None:
            # What is not seen may select more: for example ids that no other tenant uses.
            query = Query(sql.sql, sql.key, (), sql.parameters or {}, whole=True)
            self._rows = Rows(place.settings.database(sql.database), query, name=sql.database)

    def portion(self) -> int:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; few where they are checked."""
        return self.window if self._by_id_alone or self._undisturbed.holds() else _WINDOW

    def close(self) -> None:
        """Close the database."""
        if self._rows is not None:
            self._rows.close()

    def share(self) -> float | None:
        """Its own cap, else that of the settings."""
        own = self._edit.max_share
        return own if own is not None else self._place.settings.fixes.max_share

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts ids that are ``not_there``, or are ``no_match``.

        Where nothing is selected by age, also who has the field.

        Raises:
            RefusedError: the field is never a time.
        """
        found.points = self._place.store.count(self._place.address)
        found.counts.update({"not_there": 0, "no_match": 0})
        met = False
        for ids in self._candidates(found):
            digests = self._digests(ids)
            matching = self._matching([one for one in ids if one in digests])
            found.add("not_there", len(ids) - len(digests))
            found.add("no_match", len(digests) - len(matching))
            chosen = [identifier for identifier in ids if identifier in matching]
            self._show(found, chosen)
            met = met or bool(chosen)
            for identifier in chosen:
                yield PointEdit(identifier, digests[identifier], _NOTHING)
        self.explain(found, met)

    def explain(self, found: Found, met: bool) -> None:
        """What is to be known where no point was met: see :func:`~qmigrate.engine.fixes.delete.check_times`.

        Raises:
            RefusedError: no point can be met.
        """
        if not met and self._edit.older_than is not None:
            check_times(self._place, self._edit.older_than.field, found)

    def selected(self) -> Iterator[set[PointId]]:
        """Every id that all conditions select, some at a time; those that were only named need not be there."""
        for ids in self._candidates(Found()):
            yield self._matching(ids)

    def export(self, path: Path, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Kept | None:
        """The points as they are, payload and all vectors; one that has changed since is not deleted, and left out."""
        if not self._exports:
            return None
        place = self._place
        since = dict(lone_barrier(place.store, place.address))
        live = described(place.store, place.address)
        applied = place.ledger.applied(place.collection)
        header = Header(
            kind=DELETED,
            name=place.collection,
            physical=live.physical,
            generation=None,
            schema=live.schema.with_(aliases=()),
            ledger=place.ledger.identity(),
            source=place.store.capabilities.label,
            created_at=datetime.now(UTC),
            # By which an undo knows what came since.
            facts=by_field(
                DeletedFacts(
                    applied=tuple(one.revision for one in applied),
                    by={one.revision: (one.checksum, one.run) for one in applied},
                )
            ),
        )
        return Kept(archive.write(path, header, self._pages(entries, tick)).points, since)

    def settle(self, hand: FixTarget) -> None:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; not where ids alone say what goes."""
        if not self._by_id_alone:
            settle(lambda: self._undisturbed.settle(hand.alias))

    def states(self, entries: Sequence[PointEdit], *, writing: bool = False) -> list[str]:
        """A point that is gone is as it should be; one that is not what it was is left alone.

        What ids alone select goes whatever it is by now, and a second deletion of it does nothing. What was exported
        is not read again while no other client writes to the collection.
        """
        if writing and (self._by_id_alone or self._undisturbed.holds()):
            return ["before"] * len(entries)
        ids = [entry.id for entry in entries]
        if not writing and not self._by_id_alone:
            # Afterwards hardly one is there: which are costs less than reading them.
            there = self._place.store.fetch_ids(self._place.address, ids)
            ids = [one for one in ids if one in there]
        digests = self._digests(ids)
        return [
            "after" if entry.id not in digests else "before" if digests[entry.id] == entry.before else "moved"
            for entry in entries
        ]

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those that every condition still selects."""
        kept: set[PointId] = set()
        for part in self._parts(iter(entries)):
            kept |= self._matching([entry.id for entry in part])
        return [entry for entry in entries if entry.id in kept]

    def write(self, hand: FixTarget, entries: Sequence[PointEdit]) -> None:
        """Delete by id."""
        if entries:
            self._undisturbed.wrote(hand.store.delete(hand.alias, [entry.id for entry in entries]))
            hand.tick()

    def audit(self, told: Audited) -> Fixed:
        """As many vectors as points were deleted."""
        said = self._said()
        kind, target = self._edit.type, self._edit.target
        told = replace(told, said={**told.said, **said})
        return Fixed(kind, target, told.changed or 0, self._edit.reason, told)

    def _said(self) -> JsonObject:
        """What selected them, for the audit."""
        edit = self._edit
        by = {"filter": edit.filter, "prefix": edit.prefix, "sql": edit.sql, "older_than": edit.older_than}
        said: JsonObject = {name: plain(value) for name, value in by.items() if value}
        return said | ({"counted_from": self._place.now.isoformat()} if edit.older_than is not None else {})

    def _candidates(self, found: Found) -> Iterator[list[PointId]]:
        """Ids that may be selected, ascending, some at a time: by what narrows most without a scan.

        Where that is a query, counts its ``rows``.
        """
        if self._ids is not None:
            yield from self._parts(iter(sorted(self._ids, key=records.order_key)))
        elif self._rows is not None:
            # Closed at once: a reading that stops half-way leaves no connection to the garbage collector.
            found.counts["rows"] = 0
            with closing(self._rows.ordered()) as rows:
                for ids in self._parts(identifier for identifier, _ in rows):
                    found.add("rows", len(ids))
                    yield ids
        else:
            yield from self._parts(self._scanned())

    def _scanned(self) -> Iterator[PointId]:
        fields: list[str] | bool = [self._prefix[0]] if self._prefix else False
        for page in self._filtered(self._narrowed(), fields):
            for stored in page:
                # What the server selects is checked again: it may leave points out of the walk, never add one.
                if self._prefix is None or self._is_below(stored):
                    yield records.point_id(stored)

    def _narrowed(self) -> JsonObject | None:
        """The filter, and the folder where an index of the server finds it."""
        place = self._place
        if self._prefix is None or not place.store.capabilities.prefixes:
            return self._filter
        field, folder = self._prefix
        index = described(place.store, place.address).schema.indexes.get(field, {})
        if index.get("type") != "keyword" or not index.get("prefix"):
            return self._filter
        inside = below_filter(field, folder)
        return inside if self._filter is None else {"must": [inside, self._filter]}

    def _is_below(self, stored: Stored) -> bool:
        assert self._prefix is not None  # noqa: S101  the caller looked
        field, folder = self._prefix
        return any(below(value, folder) for value in values_at(records.payload_of(stored), field))

    def _filtered(self, where: JsonObject | None, fields: list[str] | bool) -> Iterator[Sequence[Stored]]:
        """Pages of what a filter selects.

        Raises:
            RefusedError: strict mode doesn't allow it.
        """
        store, address = self._place.store, self._place.address
        try:
            yield from store.scan(address, page=_PAGE, payload=fields, vectors=False, where=where)
        except RefusedRequestError as error:
            raise RefusedError(
                f"{self._place.collection} refuses this filter: {error.message}", hint=_way_out(error.message)
            ) from error

    def _matching(self, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these points that every condition selects now."""
        left = set(ids) if self._ids is None else set(ids) & self._ids
        store, address = self._place.store, self._place.address
        if left and self._rows is not None:
            left &= self._rows.of(sorted(left, key=records.order_key)).keys()
        left = self._passing(left)
        if left and self._prefix is not None:
            points = store.fetch(address, list(left), payload=[self._prefix[0]], vectors=False)
            left &= {records.point_id(stored) for stored in points if self._is_below(stored)}
        return left

    def _passing(self, ids: set[PointId]) -> set[PointId]:
        """Those of these points that the filter selects now."""
        if not ids or self._filter is None:
            return ids
        where = among(self._filter, sorted(ids, key=records.order_key))
        return ids & {records.point_id(stored) for page in self._filtered(where, False) for stored in page}

    def _show(self, found: Found, ids: Sequence[PointId]) -> None:
        """The first ones, for people."""
        if found.room and ids:
            payloads = self._place.store.payloads(self._place.address, ids[: found.room])
            for identifier, payload in payloads.items():
                found.show(PointEdit(identifier, payload, _NOTHING))

    def _digests(self, ids: Sequence[PointId]) -> dict[PointId, JsonObject]:
        """What tells whether a point is still the same, of those that are there; of an id alone it always is."""
        place = self._place
        if self._by_id_alone:
            return dict.fromkeys(place.store.fetch_ids(place.address, ids), _ANY)
        found = {}
        for part in self._parts(iter(ids)):
            for stored in place.store.fetch(place.address, part):
                found[records.point_id(stored)] = {"digest": records.digest_text(stored, place.ledger.own_key())}
        return found

    def _pages(self, entries: Iterable[Sequence[PointEdit]], tick: Tick) -> Iterator[list[JsonObject]]:
        place, key = self._place, self._place.ledger.own_key()
        for window in entries:
            for part in self._parts(iter(window)):
                found = place.store.fetch(place.address, [entry.id for entry in part])
                points = {records.point_id(stored): stored for stored in found}
                same = [
                    points[entry.id]
                    for entry in part
                    if entry.id in points and records.has_digest(points[entry.id], entry.digest or "", key)
                ]
                yield portable.page_to_json(same)
                tick()

    def _parts(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """As many as are read with their vectors at a time, or as ids alone."""
        if self._at_once is None and self._by_id_alone:
            self._at_once = _MANY
        if self._at_once is None:
            sample = next(iter(self._place.store.scan(self._place.address, page=16)), ())
            self._at_once = records.page_size(sample, most=_AT_ONCE)
        yield from parts(items, self._at_once)


def _way_out(refusal: str) -> str:
    """What helps against the refusal of a filter; the server gives the reason in words only."""
    lower = refusal.lower()
    if "index required" in lower or ("index" in lower and "not found" in lower):
        return "create the index first (op.CreatePayloadIndex), or select the points by --sql or --id"
    if "strict mode" in lower or "max_" in lower or "limit" in lower:
        return "a limit of the collection's strict mode: write a smaller filter, or select the points by --sql or --id"
    return "the server's message shows what is wrong: https://qdrant.tech/documentation/concepts/filtering/"
