"""A database of the application: connections that may only read, and its errors in one line. It asks nothing itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, BigInteger, Connection, Engine, Numeric, bindparam, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from qmigrate.errors import DatabaseError, RowsError

#: Backends that speak as MySQL does.
MYSQL = frozenset({"mysql", "mariadb"})
_INT64 = 2**63
#: Its errors that are not about the statement: too many connections, no access, no such database, shut down, blocked,
#: waited too long, deadlock. From 2000 on it is the client that has lost it.
_MYSQL_AWAY = frozenset({1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1205, 1213, *range(2000, 3000)})
#: Parameters of the URL win. Prepared statements break with a transaction-pooling proxy.
_PG_DEFAULTS: Mapping[str, Any] = {"application_name": "qmigrate", "connect_timeout": 10, "prepare_threshold": None}


class Database:
    """One database; nothing is opened before it is asked.

    Args:
        url: SQLAlchemy URL; may hold a password, which is never shown.
        name: how messages call it.
        writes: whether transactions may write; by default the database itself refuses it.
        whole: a row that is not seen counts as gone, so every transaction sees to it that none is hidden: it refuses a
            replica, and rows that a policy keeps from this user.
        fresh: what a row has takes the place of something newer where it is behind: a replica is refused.
    """

    def __init__(
        self, url: str, name: str, *, writes: bool = False, whole: bool = False, fresh: bool = False
    ) -> None:
        self.name = name
        self._whole = whole
        self._fresh = whole or fresh
        self._url = with_driver(url)
        self._writes = writes
        self._engine: Engine | None = None

    @property
    def backend(self) -> str:
        """``postgresql``, ``sqlite``, or what else the URL names."""
        return self._url.get_backend_name()

    def close(self) -> None:
        """Close the connections; the next question opens another one."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def connected(self, *, keep: bool = True) -> Iterator[Connection]:
        """A transaction: read-only and rolled back at the end, or committed where writes were asked for.

        Args:
            keep: False rolls back what was written, too.
        """
        try:
            connection = self._open().connect()
        except (SQLAlchemyError, OSError) as error:
            raise self._unreachable(error) from None
        with connection:
            if not self._writes:
                connection = self._read_only(connection)
            try:
                yield connection
                if self._writes and keep:
                    with self.explained():
                        connection.commit()
            finally:
                connection.rollback()

    def execute(self, connection: Connection, sql: str, *bound: Any, streams: bool = False) -> Any:
        """The result of a statement with its parameters.

        Raises:
            RowsError: the database refuses it.
            DatabaseError: the connection is lost.
        """
        with self.explained():
            options = {"stream_results": streams}
            return connection.execute(text(sql).bindparams(*bound), execution_options=options)

    def parts(self, result: Any, most: int) -> Iterator[Sequence[Sequence[Any]]]:
        """All rows of a result, this many at a time.

        They come as the driver makes them: an object of SQLAlchemy for each costs more than they do.

        Raises:
            As :meth:`execute`.
        """
        driver = self._open().dialect.loaded_dbapi.Error
        with self.explained():
            # SQLAlchemy may have the first ones already, and has none left after this.
            part: Sequence[Sequence[Any]] = result.fetchmany(most)
        while part:
            yield part
            if len(part) < most:
                return
            with self.explained():
                try:
                    part = result.cursor.fetchmany(most)
                except driver as error:
                    raise DBAPIError.instance(None, None, error, driver) from error

    def quoted(self, name: str) -> str:
        """A column's name as this database takes it. A colon would be taken for a parameter."""
        if ":" in name or "\x00" in name:
            raise RowsError(f"{name!r} is not the name of a column that can be asked for")
        return str(self._open().dialect.identifier_preparer.quote_identifier(name))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """The driver's errors as one line, without secrets."""
        try:
            yield
        except SQLAlchemyError as error:
            if self._is_away(error):
                raise self._unreachable(error) from None
            what, hint = ("query", "try it in a SQL shell; it may only read")
            if "row-level security" in str(error):
                hint = (
                    "a row that a policy hides would look as if it were gone: let the owner of the tables ask, or a "
                    "user with BYPASSRLS"
                )
            if self._writes:
                what, hint = ("statement", "try it in a SQL shell, as the same user")
            raise RowsError(f"the {what} on {self.name} failed: {self._line(error)}", hint=hint) from None

    def _is_away(self, error: SQLAlchemyError) -> bool:
        """Whether the trouble is the database's, not the statement's."""
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return True
        if not isinstance(error, OperationalError) or self.backend == "sqlite":
            return False
        # The drivers of MySQL call almost everything an operational error.
        codes = error.orig.args if self.backend in MYSQL and error.orig is not None else ()
        return not codes or not isinstance(codes[0], int) or codes[0] in _MYSQL_AWAY

    def refuse_replica(self, connection: Connection) -> None:
        """See that what answers now is not a replica: the previous one may have been, or a URL names several.

        Raises:
            RowsError: it is one, which may be behind.
        """
        asked = {"postgresql": "SELECT pg_is_in_recovery()"} | dict.fromkeys(MYSQL, "SELECT @@global.read_only")
        if self.backend in asked and self.execute(connection, asked[self.backend]).scalar_one():
            raise RowsError(
                f"the database {self.name} is a replica: a row that is not there yet would look as if it were gone, "
                "and one that was changed as if it were not",
                hint="name the primary under databases: in qmigrate.yaml",
            )

    def _read_only(self, connection: Connection) -> Connection:
        if self.backend == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self.execute(connection, "SET TIME ZONE 'UTC'")
            if self._whole:
                # What a policy would leave out without a word becomes an error.
                self.execute(connection, "SET row_security = off")
        elif self.backend in MYSQL:
            self.execute(connection, "SET SESSION TRANSACTION READ ONLY")
        if self._fresh:
            self.refuse_replica(connection)
        return connection

    def _open(self) -> Engine:
        if self._engine is None:
            shared: dict[str, Any] = {"hide_parameters": True, "pool_size": 1, "max_overflow": 4}
            if self.backend == "sqlite":
                file, writes = self._url.database or "", self._writes
                shared["poolclass"] = QueuePool
                self._engine = create_engine("sqlite://", creator=lambda: _open_file(file, writes), **shared)
                return self._engine
            postgres = self.backend == "postgresql"
            arguments = {one: value for one, value in _PG_DEFAULTS.items() if postgres and one not in self._url.query}
            try:
                self._engine = create_engine(self._url, pool_pre_ping=True, connect_args=arguments, **shared)
            except (SQLAlchemyError, ImportError) as error:
                raise RowsError(
                    f"the database {self.name} needs a driver that is not installed: {self._line(error)}",
                    hint=f"pip install a driver of {self._url.drivername}",
                ) from None
        return self._engine

    def _unreachable(self, error: Exception) -> DatabaseError:
        what = "written to" if self._writes else "read"
        return DatabaseError(
            f"the database {self.name} can't be {what}: {self._line(error)}",
            hint="check databases: in qmigrate.yaml; qmigrate doctor tries it",
        )

    def _line(self, error: Exception) -> str:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        line = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        secret = self._url.password
        return line.replace(str(secret), "***") if secret else line


def bound(name: str, value: Any, **more: Any) -> Any:
    """A bound parameter. An integer would be sent to PostgreSQL as one of 32 bits."""
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        more["type_"] = BigInteger() if all(-_INT64 <= item < _INT64 for item in items) else Numeric(asdecimal=False)
    return bindparam(name, value, **more)


def with_driver(url: str) -> URL:
    """The URL with a driver that waits: those of asynchronous applications are replaced by their plain ones."""
    parsed = make_url(url)
    drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
    return parsed.set(drivername=drivers.get(parsed.drivername.partition("+")[0], parsed.drivername))


def _open_file(file: str, writes: bool) -> sqlite3.Connection:
    # Opening one that isn't there would make it.
    if not Path(file).is_file():
        raise OSError(f"there is no file {file}")
    connection = sqlite3.connect(file, check_same_thread=False)
    if not writes:
        connection.execute("PRAGMA query_only = ON")
    return connection
