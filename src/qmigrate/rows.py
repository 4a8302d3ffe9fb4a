"""Ordered, read-only, streamed rows of the application's SQL. It writes nothing."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import URL, BigInteger, Connection, DateTime, Engine, Numeric, bindparam, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from qmigrate.errors import DatabaseError, RowsError
from qmigrate.model import statement
from qmigrate.model.transform import PointId

#: Rows that are fetched at a time.
AT_ONCE = 5000
#: Ids of one look-up; a text column is asked for four spellings of each.
IDS_AT_ONCE = 2000
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_MOST_ID = 2**64
_INT64 = 2**63
#: Type numbers of PostgreSQL whose order is that of a collation, not of bytes.
_PG_TEXTS = frozenset({18, 19, 25, 705, 1042, 1043})
_PG_UUID = 2950
#: Parameters of the URL win. Prepared statements break behind a transaction-pooling proxy.
_PG_DEFAULTS: Mapping[str, Any] = {"application_name": "qmigrate", "connect_timeout": 10, "prepare_threshold": None}

Row = tuple[PointId, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a database.

    Attributes:
        sql: one SELECT, without ORDER BY.
        key: its column with the point's id.
        columns: its columns that are wanted beside the key.
        parameters: values of its ``:parameters``.
    """

    sql: str
    key: str
    columns: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was looked at, by the database's clock and its transaction numbers; None where it has none."""

    at: datetime | None
    border: int


class Rows:
    """One query on one database, to be read in several ways, each in a read-only transaction of its own.

    Args:
        url: SQLAlchemy URL; may hold a password, which is never shown.
        query: what is asked.
        name: how messages call the database.

    Raises:
        RowsError: the query is no SELECT, or the URL's driver is not there.
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
        self._url = _with_driver(url)
        self._engine: Engine | None = None
        self._shape: tuple[str, tuple[str, ...], int | None] | None = None

    def __repr__(self) -> str:
        return f"Rows({self.name!r})"

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def ordered(self) -> Iterator[Row]:
        """Every row, ascending by id in Qdrant's order, streamed.

        Raises:
            RowsError: an id is NULL, repeated, of a type that no point has, or the order can't be had.
        """
        last: Row | None = None
        for row in self._read("ORDER BY {key}{collation}"):
            if last is not None and not _ascends(last[0], row[0]):
                raise self._disorder(last[0], row[0])
            last = row
            yield row

    def since(self, column: str, moment: datetime) -> Iterator[Row]:
        """Rows whose `column` is at or after `moment`, in no order.

        Args:
            column: of the query; a time.
            moment: with a time zone.
        """
        condition = f"WHERE {self._quoted(column)} >= :qmigrate_since"
        bound = bindparam("qmigrate_since", moment.astimezone(UTC), type_=DateTime(timezone=True))
        if self._url.get_backend_name() == "sqlite":
            # SQLite has texts without a zone there, and UTC is what they are taken for.
            naive = moment.astimezone(UTC).replace(tzinfo=None)
            bound = bindparam("qmigrate_since", naive, type_=DateTime())
        return self._read(condition, bound, also=(column,))

    def of(self, ids: Sequence[PointId]) -> dict[PointId, tuple[Any, ...]]:
        """The rows of these ids, as they are now; an id that has none is left out.

        Raises:
            RowsError: an id has two rows.
        """
        found: dict[PointId, tuple[Any, ...]] = {}
        for first in range(0, len(ids), IDS_AT_ONCE):
            part = ids[first : first + IDS_AT_ONCE]
            keys = self._keys(part)
            if not keys:
                continue
            bound = _bound("qmigrate_ids", keys, expanding=True)
            for identifier, values in self._read("WHERE {key} IN :qmigrate_ids", bound):
                if identifier in found:
                    raise self._twice(identifier)
                found[identifier] = values
        return found

    def every(self) -> Iterator[dict[str, Any]]:
        """Every row with all its columns, in no order; the key needn't be a point's id."""
        with self._connected() as connection:
            self._columns(connection, ())
            with closing(self._execute(connection, self._wrapped("SELECT *"), streams=True)) as result:
                while True:
                    with self._explained():
                        part = result.mappings().fetchmany(AT_ONCE)
                    yield from (dict(row) for row in part)
                    if len(part) < AT_ONCE:
                        return

    def count(self) -> int:
        """How many rows the query has now."""
        with self._connected() as connection:
            return int(self._execute(connection, self._wrapped("SELECT count(*)")).scalar_one())

    def now(self) -> Moment:
        """The database's clock, and which transactions are open.

        Raises:
            RowsError: it is a replica, which may be behind.
        """
        if self._url.get_backend_name() != "postgresql":
            return Moment(None, 0)
        with self._connected() as connection:
            if self._execute(connection, "SELECT pg_is_in_recovery()").scalar_one():
                raise RowsError(
                    f"the database {self.name} is a replica: a row that is not there yet would look as if it were gone",
                    hint="name the primary under databases: in qmigrate.yaml",
                )
            row = self._execute(connection, "SELECT clock_timestamp(), pg_snapshot_xmax(pg_current_snapshot())::text")
            at, border = row.one()
            return Moment(at, int(border))

    def open_since(self, moment: Moment) -> bool:
        """Whether a transaction that was open at a moment still is; sessions of other users show once they write."""
        if moment.at is None:
            return False
        with self._connected() as connection:
            oldest = self._execute(connection, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text").scalar_one()
            bound = bindparam("qmigrate_at", moment.at, type_=DateTime(timezone=True))
            asked = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' AND xact_start <= :qmigrate_at"
            )
            return int(oldest) < moment.border or bool(self._execute(connection, asked, bound).scalar_one())

    def _read(self, ending: str, *bound: Any, also: Sequence[str] = ()) -> Iterator[Row]:
        with self._connected() as connection:
            key, columns, kind = self._columns(connection, also)
            collation = ' COLLATE "C"' if kind in _PG_TEXTS else ""
            wanted = ", ".join(self._quoted(column) for column in (key, *columns))
            where = ending.replace("{key}", self._quoted(key)).replace("{collation}", collation)
            asked = self._wrapped(f"SELECT {wanted}", where)
            with closing(self._execute(connection, asked, *bound, streams=True)) as result:
                while True:
                    with self._explained():
                        part = result.fetchmany(AT_ONCE)
                    for row in part:
                        yield self._id(row[0]), tuple(row[1:])
                    if len(part) < AT_ONCE:
                        return

    def _columns(self, connection: Connection, also: Sequence[str]) -> tuple[str, tuple[str, ...], int | None]:
        """The key, the columns, and PostgreSQL's type of the key; checked against what the query really has."""
        if self._shape is None or also:
            result = self._execute(connection, self._wrapped("SELECT *", "WHERE 1 = 0"))
            described = [(entry[0], entry[1]) for entry in result.cursor.description or ()]
            result.close()
            names = [name for name, _ in described]
            for column in (self.query.key, *self.query.columns, *also):
                if names.count(column) != 1:
                    what = "twice" if column in names else "not at all"
                    raise RowsError(
                        f"the query on {self.name} has the column {column!r} {what}; it has {', '.join(names)}",
                        hint="name it in the SELECT: … AS " + column,
                    )
            kind = next(kind for name, kind in described if name == self.query.key)
            postgres = self._url.get_backend_name() == "postgresql"
            self._shape = (self.query.key, self.query.columns, kind if postgres else None)
        return self._shape

    def _keys(self, ids: Sequence[PointId]) -> list[Any]:
        """Ids as the key column may hold them."""
        if self._shape is None:
            with self._connected() as connection:
                self._columns(connection, ())
        kind = self._shape[2] if self._shape else None
        numbers = [one for one in ids if isinstance(one, int)]
        uuids = [uuid.UUID(one) for one in ids if isinstance(one, str)]
        if self._url.get_backend_name() == "postgresql":
            if kind == _PG_UUID:
                return list(uuids)
            return [spelling for one in uuids for spelling in _spellings(one)] if kind in _PG_TEXTS else list(numbers)
        return [*numbers, *(spelling for one in uuids for spelling in (*_spellings(one), one.bytes))]

    def _id(self, value: Any) -> PointId:
        """The point's id of a value of the key column.

        Raises:
            RowsError: no point has such an id.
        """
        if isinstance(value, bytes | memoryview) and len(bytes(value)) == 16:
            return str(uuid.UUID(bytes=bytes(value)))
        if isinstance(value, uuid.UUID):
            return str(value)
        if isinstance(value, str) and _UUID.fullmatch(value):
            return str(uuid.UUID(value))
        if isinstance(value, Decimal) and value == int(value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_ID:
            return value
        where = f"the column {self.query.key!r} of the query on {self.name}"
        if value is None:
            raise RowsError(f"{where} is NULL in a row, and a point has an id", hint="leave such rows out: IS NOT NULL")
        hint = "ids are unsigned integers or UUIDs"
        if isinstance(value, str) and value.isdigit():
            hint = f"a number in a text column: CAST({self.query.key} AS BIGINT)"
        raise RowsError(f"{where} has {value!r:.60}, which is no point id", hint=hint)

    def _disorder(self, before: PointId, after: PointId) -> RowsError:
        if before == after:
            return self._twice(after)
        return RowsError(
            f"the ids of the query on {self.name} are not in one order: {after} came after {before}",
            hint="keep ids in one form: all integers, or UUIDs in one spelling (CAST … AS uuid, or lower(…))",
        )

    def _twice(self, identifier: PointId) -> RowsError:
        return RowsError(
            f"the query on {self.name} returns the id {identifier} more than once",
            hint="one row per point: use DISTINCT or GROUP BY",
        )

    def _execute(self, connection: Connection, sql: str, *bound: Any, streams: bool = False) -> Any:
        with self._explained():
            prepared = text(sql)
            named = statement.parameters(sql)
            given = [_bound(name, value) for name, value in (self.query.parameters or {}).items() if name in named]
            return connection.execute(
                prepared.bindparams(*given, *bound), execution_options={"stream_results": streams}
            )

    def _wrapped(self, head: str, ending: str = "") -> str:
        """The user's query inside another one; on lines of its own, since a comment may end it."""
        return f"{head} FROM (\n{statement.body(self.query.sql)}\n) AS qmigrate_rows {ending}"

    def _quoted(self, name: str) -> str:
        """A column's name as this database takes it. A colon would be taken for a parameter."""
        if ":" in name or "\x00" in name:
            raise RowsError(f"{name!r} is no name of a column that can be asked for")
        return str(self._open().dialect.identifier_preparer.quote_identifier(name))

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A read-only transaction, rolled back at its end."""
        try:
            connection = self._open().connect()
        except (SQLAlchemyError, OSError) as error:
            raise self._unreachable(error) from None
        with connection:
            backend = self._url.get_backend_name()
            if backend == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                self._execute(connection, "SET TIME ZONE 'UTC'")
            elif backend in ("mysql", "mariadb"):
                self._execute(connection, "SET SESSION TRANSACTION READ ONLY")
            try:
                yield connection
            finally:
                connection.rollback()

    def _open(self) -> Engine:
        if self._engine is None:
            shared: dict[str, Any] = {"hide_parameters": True, "pool_size": 1, "max_overflow": 4}
            if self._url.get_backend_name() == "sqlite":
                file = self._url.database or ""
                shared["poolclass"] = QueuePool
                self._engine = create_engine("sqlite://", creator=lambda: _open_file(file), **shared)
                return self._engine
            postgres = self._url.get_backend_name() == "postgresql"
            arguments = {one: value for one, value in _PG_DEFAULTS.items() if postgres and one not in self._url.query}
            try:
                self._engine = create_engine(self._url, pool_pre_ping=True, connect_args=arguments, **shared)
            except (SQLAlchemyError, ImportError) as error:
                raise RowsError(
                    f"the database {self.name} needs a driver that is not installed: {self._line(error)}",
                    hint=f"pip install a driver of {self._url.drivername}",
                ) from None
        return self._engine

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The driver's errors as one line, without secrets."""
        try:
            yield
        except SQLAlchemyError as error:
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            down = isinstance(error, OperationalError) and self._url.get_backend_name() != "sqlite"
            if lost or down:
                raise self._unreachable(error) from None
            raise RowsError(
                f"the query on {self.name} failed: {self._line(error)}", hint="try it in a SQL shell; it may only read"
            ) from None

    def _unreachable(self, error: Exception) -> DatabaseError:
        return DatabaseError(
            f"the database {self.name} can't be read: {self._line(error)}",
            hint="check databases: in qmigrate.yaml; qmigrate doctor tries it",
        )

    def _line(self, error: Exception) -> str:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        secret = self._url.password
        return line.replace(str(secret), "***") if secret else line


def _with_driver(url: str) -> URL:
    """The URL with a driver that waits: those of asynchronous applications stand for their plain ones."""
    parsed = make_url(url)
    drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
    return parsed.set(drivername=drivers.get(parsed.drivername.partition("+")[0], parsed.drivername))


def _open_file(file: str) -> sqlite3.Connection:
    # Opening one that isn't there would make it.
    if not Path(file).is_file():
        raise OSError(f"there is no file {file}")
    connection = sqlite3.connect(file, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _bound(name: str, value: Any, **more: Any) -> Any:
    """A bound parameter. Of an integer PostgreSQL would be told that it has 32 bits."""
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        more["type_"] = BigInteger() if all(-_INT64 <= item < _INT64 for item in items) else Numeric(asdecimal=False)
    return bindparam(name, value, **more)


def _ascends(before: PointId, after: PointId) -> bool:
    """Whether two ids follow each other in Qdrant's order: unsigned integers, then UUIDs by bytes."""
    if isinstance(before, int):
        return isinstance(after, str) or before < after
    # Canonical texts: lower case, hyphens in the same places, so their order is that of their bytes.
    return isinstance(after, str) and before < after


def _spellings(one: uuid.UUID) -> tuple[str, ...]:
    return (str(one), one.hex, str(one).upper(), one.hex.upper())

