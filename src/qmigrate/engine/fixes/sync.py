"""Where payloads and the application's SQL have drifted apart: one ordered walk over both. It changes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from qmigrate.engine.fixes.payload import PayloadFix
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.errors import RefusedError, RowsError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import SyncEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit, same, same_keys
from qmigrate.model.payload_path import BLOCKED, covers, picked, placed, roots, value_at
from qmigrate.model.report import between
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import Payload, PointId
from qmigrate.rows import Query, Row, Rows
from qmigrate.store import records

_INT64 = 2**63


def is_plain(value: Any) -> bool:
    """Whether a payload holds just this: most values, so callers with many of them ask this before :func:`plain`."""
    kind = type(value)
    return kind is str or value is None or (kind is int and -_INT64 <= value < _INT64)


def plain(value: Any, where: str) -> Any:
    """A SQL value as a payload holds it: UUIDs and times as texts, decimals as numbers; None stays None.

    Args:
        where: for the message.

    Raises:
        RowsError: no payload can hold it.
    """
    if is_plain(value) or isinstance(value, bool | str):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(item, where) for key, item in value.items()}
    raise RowsError(f"{where} is {value!r:.60}, which no payload can hold", hint="CAST it in the query")


#: Points of one look-up by id.
_AT_ONCE = 2000
#: Points of a page that holds a few fields only.
_PAGE = 5000


class Sync(PayloadFix):
    """Makes payload fields equal to columns; see :class:`qmigrate.operations.data.SyncPayload`.

    Args:
        place: where it looks.
        edit: besides what the operation has: ``ids`` (only these points), ``since`` (column and moment: only rows that
            changed) or ``sample`` (this many points at random).
    """

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        self._place = place
        self._edit = said = loaded(SyncEdit, edit)
        self._fields = dict(said.fields)
        self._json = frozenset(said.json)
        # Of a column with JSON a field may be a value inside it: column and path.
        split = {one: (one.partition(".")[0], one.partition(".")[2]) for one in self._fields.values()}
        self._columns = {one: split[one] if split[one][0] in self._json else (one, "") for one in split}
        # A path is blocked by what stands at its beginning, so that is what is read.
        self._read = roots(self._fields)
        self._nested = any("." in name for name in self._fields)
        self._name = said.database
        columns = tuple(self._columns[one][0] for one in self._fields.values())
        # A preview may read a replica; what is written must not be behind.
        fresh = place.lease is not None
        query = Query(said.sql, said.key, columns, said.parameters or {}, fresh=fresh)
        self._rows = Rows(place.settings.database(self._name), query, name=self._name)

    def close(self) -> None:
        """Close the database."""
        self._rows.close()

    def share(self) -> float | None:
        """Its own cap, else that of the settings."""
        own = self._edit.max_share
        return own if own is not None else self._place.settings.fixes.max_share

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See :class:`~qmigrate.engine.fixes.protocol.Fix`; counts ``missing``, ``different`` and ``extra`` fields."""
        found.counts.update(dict.fromkeys(("rows", "missing", "different", "extra"), 0))
        found.counts.update(dict.fromkeys(("without_row", "without_point"), 0))
        said = self._edit
        named = {"ids": said.ids, "since": said.since, "sample": said.sample}
        given = [name for name, value in named.items() if value is not None]
        changes = 0
        # Closed at once: a row that doesn't fit leaves no connection to the garbage collector.
        with closing(self._by_id(found, given[0]) if given else self._all(found)) as pairs:
            for identifier, values, payload in pairs:
                entry = self._entry(found, identifier, values, payload)
                if entry is not None:
                    found.show(entry)
                    changes += 1
                    yield entry
        if "sampled" in found.counts:
            low, high = between(changes, found.counts["sampled"], found.points)
            found.counts.update(changes_at_least=low, changes_at_most=high)

    def still(self, entries: Sequence[PointEdit]) -> list[PointEdit]:
        """Those whose row is the same as when it was found."""
        now = self._rows.of([entry.id for entry in entries])
        kept = []
        for entry in entries:
            values = now.get(entry.id)
            if values is not None and self._says(self._wanted(entry.id, values), entry):
                kept.append(entry)
        return kept

    def _says(self, wanted: Payload, entry: PointEdit) -> bool:
        """Whether a row is what an entry makes of its point."""
        if not self._nested:
            return same_keys(wanted, entry.after, entry.keys)
        for path in entry.keys:
            for name in self._fields:
                if covers(path, name):
                    inside = name.removeprefix(path).removeprefix(".")
                    made = entry.after.get(path)
                    if not same(value_at(made, inside) if inside and made is not None else made, wanted.get(name)):
                        return False
        return True

    def audit(self, told: Audited) -> Fixed:
        """It deletes no vector, so its count is 0."""
        said = self._edit
        what = {"database": said.database, "sql": said.sql, "key": said.key, "fields": dict(said.fields)}
        target = f"{', '.join(self._fields)} from {self._name}"
        return Fixed("PAYLOAD_SYNC", target, 0, self._edit.reason, replace(told, said=what))

    def _all(self, found: Found) -> Generator[tuple[PointId, tuple[Any, ...], Payload], None, None]:
        """Rows with their points, from one walk over all of both: a page of points, and the rows up to its last id."""
        with closing(self._rows.ordered()) as ordered:
            yield from self._joined(found, ordered)

    def _joined(self, found: Found, ordered: Iterator[Row]) -> Iterator[tuple[PointId, tuple[Any, ...], Payload]]:
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
        for page in store.scan(address, page=_PAGE, payload=self._read, vectors=False):
            yield {records.point_id(stored): records.payload_of(stored) for stored in page}

    def _by_id(self, found: Found, how: str) -> Generator[tuple[PointId, tuple[Any, ...], Payload], None, None]:
        """Rows with their points, looked up by id."""
        store, address = self._place.store, self._place.address
        found.points = store.count(address)
        with closing(self._portions(found, how)) as portions:
            for rows, ids in portions:
                found.add("rows", len(rows))
                points = store.fetch(address, ids, payload=self._read, vectors=False)
                payloads = {records.point_id(stored): records.payload_of(stored) for stored in points}
                found.add("without_row", sum(identifier not in rows for identifier in payloads))
                for identifier, values in rows.items():
                    if identifier in payloads:
                        yield identifier, values, payloads[identifier]
                    else:
                        found.add("without_point")

    def _portions(
        self, found: Found, how: str
    ) -> Generator[tuple[dict[PointId, tuple[Any, ...]], list[PointId]], None, None]:
        """Rows by id, and the ids that are compared."""
        said = self._edit
        if how == "since" and said.since is not None:
            column, moment = said.since
            with closing(self._rows.since(column, moment)) as rows:
                yield from _gathered(rows, self._name)
            return
        if how == "ids":
            ids = list(dict.fromkeys(said.ids or ()))
        else:
            ids = self._place.store.sample_ids(self._place.address, said.sample or 0)
            found.add("sampled", len(ids))
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE]
            yield self._rows.of(part), part

    def _wanted(self, identifier: PointId, values: Sequence[Any]) -> Payload:
        """What the payload should have; a field that is NULL is absent."""
        found = {}
        for (name, column), value in zip(self._fields.items(), values, strict=True):
            made, (outer, inside) = value, self._columns[column]
            if outer in self._json and isinstance(value, str | bytes):
                made = self._parsed(value, outer, identifier)
            if inside:
                made = self._inside(made, inside, outer, identifier)
            if not is_plain(made):
                made = plain(made, f"column {column!r} of the row {identifier} on {self._name}")
            if made is not None:
                found[name] = made
        return found

    def _entry(self, found: Found, identifier: PointId, values: Sequence[Any], payload: Payload) -> PointEdit | None:
        wanted = self._wanted(identifier, values)
        there = picked(payload, self._fields) if self._nested else payload
        keys = [name for name in self._fields if not same(there.get(name), wanted.get(name))]
        if self._nested:
            # What can't be there needs no removal.
            keys = [name for name in keys if name in wanted or there.get(name) is not BLOCKED]
        if not keys:
            return None
        for name in keys:
            kind = "missing" if there.get(name) is None else "different" if name in wanted else "extra"
            found.add(kind)
            self._check_kind(identifier, name, there.get(name), wanted.get(name))
        if not self._nested:
            before = {name: payload[name] for name in keys if name in payload}
            return PointEdit(identifier, before, {name: wanted[name] for name in keys if name in wanted})
        after: dict[str, Any] = {}
        changed = [placed(payload, name, wanted[name], after) if name in wanted else name for name in keys]
        return PointEdit(identifier, picked(payload, dict.fromkeys(changed)), after)

    def _parsed(self, value: str | bytes, column: str, identifier: PointId) -> Any:
        """The value of a text that is JSON.

        Raises:
            RowsError: it is not.
        """
        try:
            found = json.loads(value)
            # Half of a surrogate pair is not a text that could be stored.
            json.dumps(found, ensure_ascii=False).encode()
        except ValueError as error:
            raise RowsError(
                f"column {column!r} of the row {identifier} on {self._name} is not JSON: {error}",
                hint="repair the row, or leave it out of the query",
            ) from None
        return found

    def _inside(self, value: Any, path: str, column: str, identifier: PointId) -> Any:
        """The value at a path of what a column holds; None where it is not there.

        Raises:
            RowsError: something that is not an object is on the way.
        """
        found = value_at(value, path) if isinstance(value, dict) else None if value is None else BLOCKED
        if found is BLOCKED:
            raise RowsError(
                f"column {column!r} of the row {identifier} on {self._name} has no object around {path}",
                hint="repair the row, or leave it out of the query",
            )
        return found

    def _check_kind(self, identifier: PointId, name: str, value: Any, wanted: Any) -> None:
        """Stop where a text would take the place of an object or a list that it seems to mean, or nothing can be set.

        Raises:
            RefusedError: so it would.
        """
        if value is BLOCKED:
            raise RefusedError(
                f"point {identifier} of {self._place.collection} has a value that is not an object around {name}, so "
                "nothing can be set inside it; nothing was changed",
                hint="leave its row out of the query, or repair that point first",
            )
        if isinstance(value, dict | list) and isinstance(wanted, str):
            with suppress(ValueError):
                if isinstance(json.loads(wanted), type(value)):
                    column = self._fields[name]
                    raise RefusedError(
                        f"point {identifier} of {self._place.collection} has an object or a list in {name}, and the "
                        f"column {column!r} on {self._name} is JSON text; nothing was changed",
                        hint=f"--json-column {column} (json= in Python) compares the JSON values",
                    )


def _gathered(rows: Iterator[Row], name: str) -> Iterator[tuple[dict[PointId, tuple[Any, ...]], list[PointId]]]:
    """Rows in portions; each id once.

    Raises:
        RowsError: an id comes twice.
    """
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
