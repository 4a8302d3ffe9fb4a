"""Rows and points that a payload field ties together: which ids only one side has. It writes nothing but a spill file.

Points come in the order of their ids, and the field's values in none, so both sides go into a file that SQLite makes
for its owner alone and that has no name: it sorts them there, and memory stays flat however many there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from typing import Any

from qmigrate import scratch
from qmigrate.engine.fixes.protocol import FixSource
from qmigrate.errors import RefusedError, RowsError
from qmigrate.model.fix import Found
from qmigrate.model.payload_path import values_at
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.rows import Rows
from qmigrate.rows.keys import canonical, spellings
from qmigrate.store import records
from qmigrate.text import counted

#: Points of a page that holds one field only.
_PAGE = 10_000
#: Values of one look-up by the server.
_AT_ONCE = 1000
#: Digits that no id has.
_DIGITS = 20
_TABLES = ("CREATE TABLE sides (value BLOB, point BLOB)", "CREATE TABLE strays (point BLOB)")
_INTEGER, _TEXT = b"\0", b"\1"


class ByField:
    """The points of a collection by what they have in a field.

    Args:
        place: where it looks.
        rows: their key is what the field holds.
        field: payload key; nested ones with dots.
    """

    def __init__(self, place: FixSource, rows: Rows, field: str) -> None:
        self._place = place
        self._rows = rows
        self._field = field
        #: Points that are not strays for a row that differs by case or Unicode normalisation alone.
        self.otherwise: set[PointId] = set()

    def unmatched(self, found: Found, where: JsonObject | None = None) -> Iterator[tuple[PointId, bool]]:
        """Points without a row, ascending, and what rows have and no point has; and whether it is a point.

        SQL is read first: a row and its point that come in between don't count then. Counts ``rows`` and points
        ``without_id``. With `where` only points that this filter selects are compared.

        Raises:
            RefusedError: the field holds what no row can say, or nothing in any point.
            RowsError: an id has two rows.
            UnavailableError: there is no room for the file.
        """
        with scratch.tables(*_TABLES) as file:
            kinds = self._spill_rows(file, found)
            held = self._spill_points(file, found, kinds, where)
            if kinds and not held and found.counts.get("without_id"):
                raise self._nowhere(found.counts["without_id"])
            for value in self._compared(file):
                yield value, False
            if len(kinds) > 1:
                self._refuse_twins(file)
            for (point,) in file.execute("SELECT point FROM strays ORDER BY point"):
                yield records.id_of_key(point), True

    def strays(self, ids: Sequence[PointId]) -> set[PointId]:
        """Those of these points whose value has no row now, be it in another case or Unicode normalisation.

        That may be the same id.
        """
        points = self._place.store.fetch(self._place.address, ids, payload=[self._field], vectors=False)
        values = {records.point_id(stored): self._value(stored) for stored in points}
        asked = list(dict.fromkeys(one for one in values.values() if one is not None))
        there: set[PointId] = set(self._rows.of(asked, thorough=False))
        alike = self._rows.alike([one for one in asked if one not in there])
        there.update(alike)
        self.otherwise |= {one for one, value in values.items() if value in alike and alike[value] != value}
        return {identifier for identifier, value in values.items() if value is not None and value not in there}

    def there(self, values: Sequence[PointId]) -> set[PointId]:
        """Those of these values that a point has, asked of the server."""
        store, address = self._place.store, self._place.address
        found: set[PointId] = set()
        for kind in (int, str):
            mine = [one for one in values if isinstance(one, kind)]
            for first in range(0, len(mine), _AT_ONCE):
                where = _any(self._field, mine[first : first + _AT_ONCE])
                for page in store.scan(address, page=_PAGE, payload=[self._field], vectors=False, where=where):
                    found |= {value for stored in page if (value := self._value(stored)) is not None}
        return found

    def finds(self, index: JsonObject | None) -> bool:
        """Whether :meth:`there` is quick: by an index, or in local mode, where everything is in memory."""
        can = self._place.store.capabilities
        return can.local or (index or {}).get("type") in ("keyword", "integer", "uuid")

    def _spill_rows(self, file: sqlite3.Connection, found: Found) -> set[type]:
        """Every row; which kinds of value they have."""
        kinds: set[type] = set()

        def keys() -> Iterator[tuple[bytes, None]]:
            with closing(self._rows.unordered()) as rows:
                for value, _ in rows:
                    kinds.add(type(value))
                    found.add("rows")
                    yield _key(value), None

        file.executemany("INSERT INTO sides VALUES (?, ?)", keys())
        return kinds

    def _spill_points(
        self, file: sqlite3.Connection, found: Found, kinds: set[type], where: JsonObject | None
    ) -> int:
        """Every point that has the field; how many."""
        place, held = self._place, 0
        for page in place.store.scan(place.address, page=_PAGE, payload=[self._field], vectors=False, where=where):
            kept = []
            found.points += len(page) if where is not None else 0
            for stored in page:
                value = self._value(stored)
                if value is None:
                    found.add("without_id")
                    continue
                if kinds and type(value) not in kinds:
                    raise self._other_kind(stored, value)
                kept.append((_key(value), records.order_key(records.point_id(stored))))
            file.executemany("INSERT INTO sides VALUES (?, ?)", kept)
            held += len(kept)
            if place.tick is not None:
                place.tick()
        return held

    def _compared(self, file: sqlite3.Connection) -> Iterator[PointId]:
        """What only rows have; what only points have goes into ``strays``."""
        # A row sorts before the points of its value: NULL comes first.
        ordered = file.execute("SELECT value, point FROM sides ORDER BY value, point")
        strays: list[tuple[bytes]] = []
        for value, sides in groupby(ordered, key=itemgetter(0)):
            # Rows come first, so the first side tells whether there is one.
            points = [point for _, point in _without_second_row(sides, _value_of(value), self._rows.name)]
            if None not in points[:1]:
                strays += [(point,) for point in points if point is not None]
            elif len(points) == 1:
                yield _value_of(value)
            if len(strays) >= _PAGE:
                file.executemany("INSERT INTO strays VALUES (?)", strays)
                strays = []
        file.executemany("INSERT INTO strays VALUES (?)", strays)

    def _refuse_twins(self, file: sqlite3.Connection) -> None:
        """Stop where a stray has as a text what a row has as a number, or the other way round.

        A column that may hold both makes numbers of some texts: in SQLite one of the type STRING does.

        Raises:
            RefusedError: one has.
        """
        file.execute("CREATE INDEX by_value ON sides (value) WHERE point IS NULL")
        file.execute("CREATE INDEX by_point ON sides (point) WHERE point IS NOT NULL")
        asked = "SELECT value, sides.point FROM strays JOIN sides ON sides.point = strays.point"
        for key, point in file.execute(asked):
            twin = _twin(_value_of(key))
            row = "SELECT 1 FROM sides WHERE point IS NULL AND value = ?"
            if twin is not None and file.execute(row, (_key(twin),)).fetchone():
                raise RefusedError(
                    f"point {records.id_of_key(point)} of {self._place.collection} has {self._field} = "
                    f"{_value_of(key)!r}, and the query on {self._rows.name} returns {twin!r}: the same with another "
                    "type, and nothing was changed",
                    hint=f"let the query return what the points have: CAST({self._rows.query.key} AS …)",
                )

    def _value(self, stored: Stored) -> PointId | None:
        """What a point has in the field; None where it has nothing.

        Raises:
            RefusedError: it is not an id.
        """
        values = list(values_at(records.payload_of(stored), self._field))
        if not values or values == [None]:
            return None
        value = values[0]
        blank = isinstance(value, str) and not value.strip(" ")
        if len(values) > 1 or isinstance(value, bool) or not isinstance(value, int | str) or blank:
            raise RefusedError(
                f"point {records.point_id(stored)} of {self._place.collection} has {self._field} = {values!r:.60}, "
                "which is not an id: nothing was changed",
                hint="an id is one integer, UUID or string; repair the point, or compare by another field",
            )
        return canonical(value) if isinstance(value, str) else value

    def _nowhere(self, points: int) -> RefusedError:
        return RefusedError(
            f"none of {counted(points, 'point')} of {self._place.collection} has anything in {self._field}, so every "
            f"row on {self._rows.name} would seem to have no point: nothing was changed",
            hint="is it the right payload field (--id-field)?",
        )

    def _other_kind(self, stored: Stored, value: PointId) -> RefusedError:
        point, row = ("a string", "integers") if isinstance(value, str) else ("an integer", "strings")
        return RefusedError(
            f"point {records.point_id(stored)} of {self._place.collection} has {point} in {self._field}, and the query "
            f"on {self._rows.name} returns {row}: nothing can match, and nothing was changed",
            hint=f"let the query return what the points have: CAST({self._rows.query.key} AS …)",
        )


def _without_second_row(
    sides: Iterable[tuple[bytes, bytes | None]], value: PointId, name: str
) -> Iterator[tuple[bytes, bytes | None]]:
    """The same; rows come first, so a second one shows at once.

    Raises:
        RowsError: two rows have the value.
    """
    for number, side in enumerate(sides):
        if number and side[1] is None:
            raise RowsError(
                f"the query on {name} returns the id {value} more than once",
                hint="one row per id: use DISTINCT or GROUP BY",
            )
        yield side


def _key(value: PointId) -> bytes:
    if isinstance(value, int):
        return _INTEGER + (value + 2**64).to_bytes(9, "big")
    return _TEXT + value.encode()


def _value_of(key: bytes) -> PointId:
    return int.from_bytes(key[1:], "big") - 2**64 if key[:1] == _INTEGER else key[1:].decode()


def _twin(value: PointId) -> PointId | None:
    """The same number as a text, or the number in a text; None where there is none."""
    if isinstance(value, int):
        return str(value)
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < _DIGITS else None


def _any(field: str, values: Sequence[Any]) -> JsonObject:
    """A filter for points that have one of these values; a UUID in any of its spellings."""
    wanted = [way for one in values for way in (spellings(one) if isinstance(one, str) else (one,))]
    return {"must": [{"key": field, "match": {"any": wanted}}]}
