"""Ordered, read-only, streamed rows of the application's SQL. It writes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Date, DateTime, bindparam

from qmigrate.errors import RowsError
from qmigrate.model import statement
from qmigrate.model.ids import DescentError, Page, ascending, pages_of, plain_page
from qmigrate.model.transform import PointId
from qmigrate.rows import moment
from qmigrate.rows.database import MYSQL, Database, bound
from qmigrate.rows.keys import (
    PG_TEXTS,
    PG_UUID,
    Keys,
    PointKeys,
    Unusual,
    ValueKeys,
    ascends,
    compared,
    folded,
    freely,
    spelled,
    unusual,
)
from qmigrate.rows.moment import Moment
from qmigrate.text import aware, quote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND, _DAY = 1_000_000, 86_400_000_000
#: Seconds, milliseconds, microseconds and nanoseconds since 1970, each from 1973 to 2286: none is taken for another.
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_LEAST, _MOST = 10**8, 10**10
#: Days as SQLite counts them, from the year 1 on, and the day 1970-01-01 among them.
_DAYS, _DAY_ZERO = (1721425.5, 5373484.5), 2440587.5
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
#: A text of this many digits is a day: 20261125.
_DAY_DIGITS = 8


def at_or_after(value: object, moment: datetime) -> bool:
    """Whether a stored time is at or after a moment.

    Of what is rounded, such as a day, the end counts: something of it may be after the moment.

    Args:
        value: a text of a time or a day, in UTC where it names no zone; or a number: seconds since 1970, thousandths,
            millionths or billionths of them, or days as SQLite's ``julianday`` has them. 0 is long ago.
        moment: with a time zone.

    Raises:
        ValueError, TypeError, OverflowError: it is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or len(text) == _DAY_DIGITS:
            return _text_reaches(text, moment)
        value = float(text) if "." in text else int(text)
    if not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is not a time")
    return _latest(value) >= (moment - _EPOCH) // _MICROSECOND


def _text_reaches(text: str, moment: datetime) -> bool:
    try:
        return date.fromisoformat(text) >= moment.astimezone(UTC).date()
    except ValueError:
        found = datetime.fromisoformat(text)
    return aware(found) >= moment


def _latest(value: float) -> int:
    """Microseconds since 1970, the latest that a number may mean."""
    if value == 0:
        return 0
    if isinstance(value, float) and _DAYS[0] <= value < _DAYS[1]:
        # SQLite itself counts no less than milliseconds of them.
        return math.ceil((value - _DAY_ZERO) * _DAY) + _SECOND // 1000
    for unit in _UNITS:
        if _LEAST * unit <= value < _MOST * unit:
            # A double of seconds is exact to less than a microsecond.
            return value * _SECOND // unit if isinstance(value, int) else math.ceil(value * _SECOND / unit) + 1
    raise ValueError(f"{value} is not a time")


#: What the drivers of PostgreSQL and MySQL call a column of days.
DAYS = frozenset({1082, 10, 14})
#: Rows that are fetched at a time.
AT_ONCE = 5000
#: Ids that are fetched at a time, without anything else.
PAGE = 10_000
#: Ids of one look-up; a text column is asked for six spellings of each.
IDS_AT_ONCE = 2000
#: Ids that one reading of the entire query looks for; SQLite takes 32,766 parameters, and each text is up to three.
_FREELY = 10_000
#: Ids that are kept of rows whose ids are written in none of the usual spellings.
_UNUSUAL = 100_000

Row = tuple[PointId, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a database.

    Attributes:
        sql: one SELECT, without ORDER BY.
        key: its column with the point's id; empty where :meth:`Rows.every` alone reads it.
        columns: its columns that are needed besides the key.
        parameters: values of its ``:parameters``.
        of_values: the key is not an id of a point, but an id of the application that points have in a payload field.
        whole: a row that is not seen counts as gone; see :class:`qmigrate.rows.database.Database`.
        fresh: what a row has is written somewhere; likewise.
    """

    sql: str
    key: str
    columns: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None
    of_values: bool = False
    whole: bool = False
    fresh: bool = False


class Rows:
    """One query on one database, to be read in several ways, each in a read-only transaction of its own.

    Args:
        url: SQLAlchemy URL; may hold a password, which is never shown.
        query: what is asked.
        name: how messages call the database.

    Raises:
        RowsError: the query is not a SELECT, or the URL's driver is not there.
    """

    def __init__(self, url: str, query: Query, *, name: str) -> None:
        trouble = statement.problem(query.sql)
        if trouble:
            raise RowsError(f"{trouble}: {query.sql.strip()[:80]!r}", hint="write one SELECT that returns the ids")
        missing = statement.parameters(query.sql) - set(query.parameters or {})
        if missing:
            raise RowsError(f"the query has a parameter :{min(missing)} without a value")
        self.query = query
        self.name = name
        self._keys: Keys = ValueKeys() if query.of_values else PointKeys()
        self._database = Database(url, name, whole=query.whole, fresh=query.fresh)
        self._shape: tuple[str, tuple[str, ...], int | type | None] | None = None

    def __repr__(self) -> str:
        return f"Rows({self.name!r})"

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        self._database.close()

    def ordered(self) -> Generator[Row, None, None]:
        """Every row, ascending by id in Qdrant's order, streamed.

        Raises:
            RowsError: an id is NULL, repeated, of a type that no point has, or the order can't be had.
        """
        last: Row | None = None
        with closing(self._read("ORDER BY {key}{collation}")) as rows:
            for row in rows:
                if last is not None and not ascends(last[0], row[0]):
                    raise self._disorder(last[0], row[0])
                last = row
                yield row

    def pages(self) -> Iterator[Page]:
        """The ids of :meth:`ordered` alone, as arrays; see :mod:`qmigrate.model.ids`. Many times faster.

        Only of a query whose key is the id of a point.

        Raises:
            RowsError: as :meth:`ordered`.
        """
        try:
            # Closed at once: a reading that stops half-way leaves no connection to the garbage collector.
            with closing(self._pages()) as found:
                yield from ascending(found)
        except DescentError as error:
            raise self._disorder(error.before, error.after) from None

    def unordered(self) -> Generator[Row, None, None]:
        """Every row as it comes, streamed; ids may repeat."""
        return self._read("")

    def sample(self, count: int) -> list[Row]:
        """Up to `count` rows at random; the database reads all of them and returns these."""
        chance = "rand()" if self._database.backend in MYSQL else "random()"
        return list(self._read(f"ORDER BY {chance} LIMIT :qmigrate_most", bound("qmigrate_most", count)))

    def since(self, column: str, moment: datetime) -> Generator[Row, None, None]:
        """Rows whose `column` is at or after `moment`, in no order; of a day, its end counts.

        Args:
            column: of the query; a time.
            moment: with a time zone.

        Raises:
            RowsError: the column holds something else.
        """
        if self._database.backend == "sqlite":
            return self._since_in_sqlite(column, moment.astimezone(UTC))
        condition = f"WHERE {self._database.quoted(column)} >= :qmigrate_since"
        at = moment.astimezone(UTC)
        if self._type_of(column) in DAYS:
            return self._read(condition, bindparam("qmigrate_since", at.date(), type_=Date()), also=(column,))
        border = bindparam("qmigrate_since", at, type_=DateTime(timezone=True))
        return self._read(condition, border, also=(column,))

    def _since_in_sqlite(self, column: str, moment: datetime) -> Generator[Row, None, None]:
        """The same by looking at every row: SQLite compares texts as texts, and finds each number below each text."""
        with closing(self._read("", also=(column,), beside=column)) as rows:
            for identifier, (*values, stored) in rows:
                try:
                    chosen = stored is not None and at_or_after(stored, moment)
                except (ValueError, TypeError, OverflowError):
                    raise RowsError(
                        f"the column {column!r} of the query on {self.name} is not a time in the row {identifier}: "
                        f"{repr(stored)[:40]}",
                        hint="texts such as 2026-03-01 12:00:00 and seconds since 1970 are: make it one in the SELECT, "
                        "with datetime(…, 'unixepoch') for instance",
                    ) from None
                if chosen:
                    yield identifier, tuple(values)

    def _type_of(self, column: str) -> object:
        """What the driver calls the type of a column."""
        with self._database.connected() as connection:
            self._columns(connection, (column,))
            return next((kind for name, kind in self._described(connection) if name == column), None)

    def of(self, ids: Sequence[PointId], *, thorough: bool = True) -> dict[PointId, tuple[Any, ...]]:
        """The rows of these ids, as they are now; an id that has none is left out.

        Args:
            thorough: read the entire query for ids that are texts and are not found in a usual spelling, so that none
                seems to have no row for how it is written there.

        Raises:
            RowsError: an id has two rows.
        """
        found: dict[PointId, tuple[Any, ...]] = {}
        for first in range(0, len(ids), IDS_AT_ONCE):
            part = ids[first : first + IDS_AT_ONCE]
            keys = self._spelled(part)
            if not keys:
                continue
            wanted = bound("qmigrate_ids", keys, expanding=True)
            key = compared(self._shape[2] if self._shape else None, self._database.backend)
            self._take(found, self._read(f"WHERE {key} IN :qmigrate_ids", wanted))
        if thorough:
            lacking = {one for one in ids if one not in found}
            for part in self._lacking(ids, found):
                self._take(found, (row for row in self._freely(part) if row[0] in lacking))
        return found

    def unusual(self) -> Unusual:
        """What :meth:`of` finds only when it is thorough, or not at all; the entire column is read once for it.

        Only of a query whose key is the id of a point.
        """
        self._spelled(())
        kind = self._shape[2] if self._shape else None
        if freely([""], kind, self._database.backend) is None:
            # Each id has one spelling, or there is no row.
            return Unusual()
        with self._database.connected() as connection, closing(self._key_parts(connection)) as parts:
            return unusual(parts, kind, _UNUSUAL)

    def refuse(self, values: Sequence[Any]) -> None:
        """Tell which values of the key column are not ids of points.

        Raises:
            RowsError: one is not.
        """
        self._ids(values)

    def alike(self, ids: Sequence[PointId]) -> dict[PointId, PointId]:
        """Those of these ids that a row has, be it in another case or Unicode normalisation; the row's id."""
        found: dict[PointId, PointId] = {}
        for part in self._lacking(ids, {}):
            by_fold: dict[str, list[str]] = {}
            for one in part:
                by_fold.setdefault(folded(one), []).append(one)
            for identifier, _ in self._freely(part, alike=True):
                for one in by_fold.get(folded(str(identifier)), ()):
                    # The very same wins.
                    found[one] = one if identifier == one else found.get(one, identifier)
        return found

    @staticmethod
    def _lacking(ids: Sequence[PointId], found: Mapping[PointId, Any]) -> Iterator[list[str]]:
        """Texts among ids that are not found yet, some at a time."""
        texts = [one for one in ids if isinstance(one, str) and one not in found]
        yield from (texts[first : first + _FREELY] for first in range(0, len(texts), _FREELY))

    def _freely(self, ids: Sequence[str], *, alike: bool = False) -> Iterator[Row]:
        """Rows of these ids however they are written, also in another case; none where each has one spelling only.

        Args:
            alike: further rows that have to be compared by :func:`qmigrate.rows.keys.folded`.
        """
        self._spelled(())
        asked = freely(ids, self._shape[2] if self._shape else None, self._database.backend, alike=alike)
        if asked is not None:
            where, given = asked
            values = [bound(name, texts, expanding=True) for name, texts in given.items()]
            yield from self._read(f"WHERE {where}", *values)

    def _take(self, found: dict[PointId, tuple[Any, ...]], rows: Iterable[Row]) -> None:
        for identifier, values in rows:
            if identifier in found:
                raise self._twice(identifier)
            found[identifier] = values

    def every(self) -> Iterator[dict[str, Any]]:
        """Every row with all its columns, in no order; the key needn't be a point's id."""
        with self._database.connected() as connection:
            if self.query.key:
                self._columns(connection, ())
            with closing(self._execute(connection, self._wrapped("SELECT *"), streams=True)) as result:
                while True:
                    with self._database.explained():
                        part = result.mappings().fetchmany(AT_ONCE)
                    yield from (dict(row) for row in part)
                    if len(part) < AT_ONCE:
                        return

    def count(self) -> int:
        """How many rows the query has now."""
        with self._database.connected() as connection:
            return int(self._execute(connection, self._wrapped("SELECT count(*)")).scalar_one())

    def now(self) -> Moment:
        """The database's clock, and which transactions are open.

        Raises:
            RowsError: it is a replica, which may be behind.
        """
        return moment.now(self._database)

    def open_since(self, at: Moment) -> bool:
        """Whether a transaction of that moment is still open; see :func:`qmigrate.rows.moment.open_since`."""
        return moment.open_since(self._database, at)

    def _read(
        self, ending: str, *more: Any, also: Sequence[str] = (), beside: str | None = None
    ) -> Generator[Row, None, None]:
        """Rows.

        Args:
            ending: of the statement, with ``{key}`` and ``{collation}``.
            more: its parameters.
            also: columns that must be there.
            beside: a column whose value comes last in each row.
        """
        with self._database.connected() as connection:
            key, columns, kind = self._columns(connection, also)
            collation = ' COLLATE "C"' if kind in PG_TEXTS else ""
            chosen = (key, *columns) if beside is None else (key, *columns, beside)
            wanted = ", ".join(self._database.quoted(column) for column in chosen)
            where = ending.replace("{key}", self._database.quoted(key)).replace("{collation}", collation)
            asked = self._wrapped(f"SELECT {wanted}", where)
            with closing(self._execute(connection, asked, *more, streams=True)) as result:
                for part in self._database.parts(result, AT_ONCE):
                    for identifier, row in zip(self._ids([row[0] for row in part]), part, strict=True):
                        yield identifier, tuple(row[1:])

    def _key_parts(self, connection: Connection) -> Generator[list[Any], None, None]:
        """The key column as it comes, some values at a time."""
        key = self._database.quoted(self.query.key)
        with closing(self._execute(connection, self._wrapped(f"SELECT {key}"), streams=True)) as result:
            for part in self._database.parts(result, PAGE):
                yield [row[0] for row in part]

    def _pages(self) -> Generator[Page, None, None]:
        """The key column in its order, each page as it comes."""
        with self._database.connected() as connection:
            name, _, kind = self._columns(connection, ())
            key = self._database.quoted(name)
            # Objects of UUIDs cost more than all the rest.
            wanted = f"CAST({key} AS text)" if kind == PG_UUID else key
            ending = f"ORDER BY {key}" + (' COLLATE "C"' if kind in PG_TEXTS else "")
            with closing(self._execute(connection, self._wrapped(f"SELECT {wanted}", ending), streams=True)) as result:
                for part in self._database.parts(result, PAGE):
                    values = [row[0] for row in part]
                    page = plain_page(values)
                    yield from pages_of(self._ids(values)) if page is None else (page,)

    def _columns(self, connection: Connection, also: Sequence[str]) -> tuple[str, tuple[str, ...], int | type | None]:
        """The key, the columns, and PostgreSQL's type of the key; checked against what the query really has."""
        if self._shape is None or also:
            if self.query.whole and self._shape is None:
                self._refuse_copies(connection)
            described = self._described(connection)
            names = [name for name, _ in described]
            for column in (self.query.key, *self.query.columns, *also):
                if names.count(column) != 1:
                    what = "twice" if column in names else "not at all"
                    raise RowsError(
                        f"the query on {self.name} has the column {column!r} {what}; it has {', '.join(names)}",
                        hint=_way_to(column, names),
                    )
            number = next(kind for name, kind in described if name == self.query.key)
            kind = number if self._database.backend == "postgresql" else self._sample(connection)
            if kind is None and self._database.backend != "sqlite":
                # Without a row the type is unknown, and rows may come.
                return self.query.key, self.query.columns, None
            self._shape = (self.query.key, self.query.columns, kind)
        return self._shape

    def _described(self, connection: Connection) -> list[tuple[str, Any]]:
        """The names of the query's columns, and what the driver calls their types."""
        with closing(self._execute(connection, self._wrapped("SELECT *", "WHERE 1 = 0"))) as result:
            return [(entry[0], entry[1]) for entry in result.cursor.description or ()]

    def _refuse_copies(self, connection: Connection) -> None:
        """See that no row is hidden by a copy that is behind, as a materialized view is until it is refreshed.

        Raises:
            RowsError: the query reads one.
        """
        if self._database.backend != "postgresql":
            return
        plan = self._execute(connection, f"EXPLAIN (VERBOSE, FORMAT JSON) {self._wrapped('SELECT *')}").scalar_one()
        asked = "SELECT relkind = 'm' FROM pg_class WHERE oid = to_regclass(format('%I.%I', :schema, :relation))"
        for schema, relation in sorted(set(_relations(plan))):
            named = [bound("schema", schema), bound("relation", relation)]
            if self._database.execute(connection, asked, *named).scalar():
                raise RowsError(
                    f"the query on {self.name} reads the materialized view {relation}: a row that came since it was "
                    "refreshed would look as if it were gone",
                    hint="ask the tables that it is made of",
                )

    def _sample(self, connection: Connection) -> type | None:
        """The type of a value of the key column; None without a row, and in SQLite, where each may have its own."""
        if self._database.backend == "sqlite":
            return None
        asked = self._wrapped(f"SELECT {self._database.quoted(self.query.key)}")
        with closing(self._execute(connection, asked, streams=True)) as result, self._database.explained():
            row = result.fetchone()
        return type(row[0]) if row is not None else None

    def _spelled(self, ids: Sequence[PointId]) -> list[Any]:
        """Ids as the key column may hold them."""
        if self._shape is None:
            with self._database.connected() as connection:
                self._columns(connection, ())
        return spelled(ids, self._shape[2] if self._shape else None, self._database.backend)

    def _ids(self, values: Sequence[Any]) -> Sequence[PointId]:
        """The ids of values of the key column.

        Raises:
            RowsError: one is none.
        """
        return self._keys.all_of(values, self.query.key, f"the column {self.query.key!r} of the query on {self.name}")

    def _disorder(self, before: PointId, after: PointId) -> RowsError:
        if before == after:
            return self._twice(after)
        return RowsError(
            f"the ids of the query on {self.name} are not in one order: {after} came after {before}",
            hint="keep ids in one form: all integers, or UUIDs in one spelling "
            + ("(CAST(… AS CHAR))" if self._database.backend in MYSQL else "(CAST … AS uuid, or lower(…))"),
        )

    def _twice(self, identifier: PointId) -> RowsError:
        return RowsError(
            f"the query on {self.name} returns the id {identifier} more than once",
            hint="one row per point: use DISTINCT or GROUP BY",
        )

    def _execute(self, connection: Connection, sql: str, *more: Any, streams: bool = False) -> Any:
        named = statement.parameters(sql)
        given = [bound(name, value) for name, value in (self.query.parameters or {}).items() if name in named]
        return self._database.execute(connection, sql, *given, *more, streams=streams)

    def _wrapped(self, head: str, ending: str = "") -> str:
        """The user's query inside another one; on lines of its own, since a comment may end it."""
        return f"{head} FROM (\n{statement.body(self.query.sql)}\n) AS qmigrate_rows {ending}"


def _way_to(column: str, names: Sequence[str]) -> str:
    """How a query gets a column that it lacks: ``meta.person`` is mostly a value inside the JSON of ``meta``."""
    outer, dot, inside = column.partition(".")
    if dot and outer in names:
        said = f"--json-column {quote(outer)} (json=[{outer!r}] in Python and presets)"
        return f"{said} reads {inside} inside the JSON of {outer}, be it jsonb or text"
    return "name it in the SELECT: … AS " + column


def _relations(plan: Any) -> Iterator[tuple[str, str]]:
    """Schema and name of every relation in a plan of PostgreSQL."""
    if isinstance(plan, list):
        for one in plan:
            yield from _relations(one)
    elif isinstance(plan, Mapping):
        if "Relation Name" in plan and "Schema" in plan:
            yield plan["Schema"], plan["Relation Name"]
        for one in plan.values():
            yield from _relations(one)
