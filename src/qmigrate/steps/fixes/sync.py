"""Where payloads and the application's SQL have drifted apart: one ordered walk over both. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from qmigrate.ledger import Fixed
from qmigrate.model.fix import Entry, Found, same, same_keys
from qmigrate.model.schema import JsonObject
from qmigrate.model.sql_value import is_plain, plain
from qmigrate.model.transform import Payload, PointId
from qmigrate.rows import Query, Row, Rows
from qmigrate.steps.fixes.payload import PayloadFix, check_exact
from qmigrate.steps.fixes.protocol import Place
from qmigrate.store import records

#: Points of one look-up by id.
_AT_ONCE = 2000
#: Points of a page that holds a few fields only.
_PAGE = 5000


class Sync(PayloadFix):
    """Makes payload fields equal to columns; see :class:`qmigrate.operations.data.SyncPayload`.

    Args:
        place: where it looks.
        edit: beside what the operation says: ``ids`` (only these points), ``since`` (column and moment: only rows that
            changed) or ``sample`` (so many points at random).
    """

    def __init__(self, place: Place, edit: JsonObject) -> None:
        self._place = place
        self._edit = edit
        self._fields: dict[str, str] = dict(edit["fields"])
        self._name = str(edit["database"])
        query = Query(edit["sql"], edit["key"], tuple(self._fields.values()), edit.get("parameters") or {})
        self._rows = Rows(place.settings.database(self._name), query, name=self._name)

    def close(self) -> None:
        """Close the database."""
        self._rows.close()

    def share(self) -> float | None:
        """Its own cap, else that of the settings."""
        own = self._edit.get("max_share")
        return float(own) if own is not None else self._place.settings.fixes.max_share

    def find(self, found: Found) -> Iterator[Entry]:
        """See :class:`~qmigrate.steps.fixes.protocol.Fix`; counts ``missing``, ``different`` and ``extra`` fields."""
        found.counts.update(dict.fromkeys(("rows", "missing", "different", "extra"), 0))
        found.counts.update(dict.fromkeys(("without_row", "without_point"), 0))
        given = [name for name in ("ids", "since", "sample") if self._edit.get(name) is not None]
        pairs = self._by_id(found, given[0]) if given else self._all(found)
        for identifier, values, payload in pairs:
            entry = self._entry(found, identifier, values, payload)
            if entry is not None:
                found.show(entry)
                yield entry

    def still(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those whose row says the same as when it was found."""
        now = self._rows.of([entry.id for entry in entries])
        kept = []
        for entry in entries:
            values = now.get(entry.id)
            if values is not None and same_keys(self._wanted(entry.id, values), entry.after, entry.keys):
                kept.append(entry)
        return kept

    def audit(self, facts: JsonObject) -> Fixed:
        """It deletes no vector, so its count is 0."""
        what = {name: self._edit[name] for name in ("database", "sql", "key", "fields")}
        target = f"{', '.join(self._fields)} from {self._name}"
        return Fixed("PAYLOAD_SYNC", target, 0, self._edit.get("reason"), {**facts, **what})

    def _all(self, found: Found) -> Iterator[tuple[PointId, tuple[Any, ...], Payload]]:
        """Rows with their points, from one walk over all of both: a page of points, and the rows up to its last id."""
        ordered = self._rows.ordered()
        row = next(ordered, None)
        for page in self._pages():
            found.points += len(page)
            last = records.order_key(next(reversed(page)))
            rows: dict[PointId, tuple[Any, ...]] = {}
            while row is not None and records.order_key(row[0]) <= last:
                rows[row[0]] = row[1]
                row = next(ordered, None)
            common = rows.keys() & page.keys()
            found.add("rows", len(rows))
            found.add("without_row", len(page) - len(common))
            found.add("without_point", len(rows) - len(common))
            for identifier, payload in page.items():
                if identifier in common:
                    yield identifier, rows[identifier], payload
        left = sum(1 for _ in ordered) + (row is not None)
        found.add("rows", left)
        found.add("without_point", left)

    def _pages(self) -> Iterator[dict[PointId, Payload]]:
        """All points as id -> the fields that are compared, ascending, some at a time."""
        store, address = self._place.store, self._place.address
        for page in store.scan(address, page=_PAGE, payload=list(self._fields), vectors=False):
            yield {records.point_id(stored): records.plain_payload(stored) for stored in page}

    def _by_id(self, found: Found, how: str) -> Iterator[tuple[PointId, tuple[Any, ...], Payload]]:
        """Rows with their points, looked up by id."""
        store, address = self._place.store, self._place.address
        found.points = store.count(address)
        for rows, ids in self._portions(found, how):
            found.add("rows", len(rows))
            points = store.fetch(address, ids, payload=list(self._fields), vectors=False)
            payloads = {records.point_id(stored): records.plain_payload(stored) for stored in points}
            found.add("without_row", sum(identifier not in rows for identifier in payloads))
            for identifier, values in rows.items():
                if identifier in payloads:
                    yield identifier, values, payloads[identifier]
                else:
                    found.add("without_point")

    def _portions(self, found: Found, how: str) -> Iterator[tuple[dict[PointId, tuple[Any, ...]], list[PointId]]]:
        """Rows by id, and the ids that are looked at."""
        if how == "since":
            column, moment = self._edit["since"]
            yield from _gathered(self._rows.since(column, datetime.fromisoformat(moment)), self._name)
            return
        if how == "ids":
            ids = list(dict.fromkeys(self._edit["ids"]))
        else:
            ids = self._place.store.sample_ids(self._place.address, int(self._edit["sample"]))
            found.add("sampled", len(ids))
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            yield self._rows.of(part), part

    def _wanted(self, identifier: PointId, values: Sequence[Any]) -> Payload:
        """What the payload should have; a field that is NULL is absent."""
        found = {}
        for (name, column), value in zip(self._fields.items(), values, strict=True):
            made = value
            if not is_plain(value):
                made = plain(value, f"column {column!r} of the row {identifier} on {self._name}")
            if made is not None:
                found[name] = made
        return found

    def _entry(self, found: Found, identifier: PointId, values: Sequence[Any], payload: Payload) -> Entry | None:
        wanted = self._wanted(identifier, values)
        keys = [name for name in self._fields if not same(payload.get(name), wanted.get(name))]
        if not keys:
            return None
        for name in keys:
            kind = "missing" if payload.get(name) is None else "different" if name in wanted else "extra"
            found.add(kind)
            check_exact(self._place.collection, identifier, name, payload.get(name))
        before = {name: payload[name] for name in keys if name in payload}
        return Entry(identifier, before, {name: wanted[name] for name in keys if name in wanted})


def _gathered(rows: Iterator[Row], name: str) -> Iterator[tuple[dict[PointId, tuple[Any, ...]], list[PointId]]]:
    """Rows in portions; each id once.

    Raises:
        RowsError: an id comes twice.
    """
    from qmigrate.errors import RowsError

    seen: set[PointId] = set()
    part: dict[PointId, tuple[Any, ...]] = {}
    for identifier, values in rows:
        if identifier in seen:
            raise RowsError(f"the query on {name} returns the id {identifier} more than once")
        seen.add(identifier)
        part[identifier] = values
        if len(part) >= _AT_ONCE:
            yield part, list(part)
            part = {}
    if part:
        yield part, list(part)
