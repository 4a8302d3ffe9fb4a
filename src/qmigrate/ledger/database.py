"""The connection to the SQL database: URL, transactions, clock, errors without secrets. Independent of tables."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Interval,
    Text,
    func,
    make_url,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from qmigrate.errors import ConfigError, LedgerError
from qmigrate.ledger import engines
from qmigrate.ledger.files import make_file, refuse_unlisted, use_log
from qmigrate.ledger.tables import UtcDateTime

#: Parameters of a URL that hold secrets, besides its password.
SECRETS = ("password", "sslpassword")
URL_HINT = "write postgresql+psycopg://user@host/database, or sqlite:///path/to/ledger.db"


class Database:
    """One SQL database. Nothing connects before the first transaction.

    Args:
        url: a SQLAlchemy URL of SQLite or PostgreSQL; any driver of PostgreSQL stands for psycopg 3.
        schema: PostgreSQL schema of the tables, or None for the connection's default.
        connections: the most that are open at once.
        file_systems: types of file systems on which a SQLite file is allowed besides those known to be local.

    Raises:
        ConfigError: the URL can't be used.
        LedgerError: a SQLite file on a file system that is not known to be local.
    """

    def __init__(
        self,
        url: str,
        schema: str | None = None,
        *,
        connections: int = 30,
        file_systems: Collection[str] = (),
    ) -> None:
        parsed = _parse(url)
        self._given = (url, schema, file_systems)
        self.schema = schema
        self.file: Path | None = None
        self.is_sqlite = parsed.drivername.startswith("sqlite")
        if self.is_sqlite:
            self.file = _sqlite_file(parsed)
            if schema is not None:
                raise ConfigError("ledger.schema needs PostgreSQL; a SQLite ledger has no schemas")
            refuse_unlisted(self.file, file_systems)
        self._place = engines.Place(parsed, self.file, schema, connections)
        self._secrets = _secrets(parsed)
        self._engine: Engine | None = None
        self.label = f"sqlite {self.file}" if self.file else _postgres_label(parsed)

    def __repr__(self) -> str:
        return f"Database({self.label!r})"

    @property
    def exists(self) -> bool:
        """False only for a SQLite file that is not there yet."""
        return self.file is None or self.file.exists()

    def create(self) -> None:
        """Make the SQLite file when it is missing; PostgreSQL databases are made by their owners."""
        if self.file is not None:
            make_file(self.file)
            use_log(self.file)

    def load_driver(self) -> None:
        """Import the driver, so that the first transaction needn't; nothing connects.

        Raises:
            LedgerError: there is none.
        """
        with self.explained():
            self._made()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            LedgerError: the database can't be reached or read.
        """
        with self.explained(), self._connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back by an error.

        On SQLite it takes the write lock first: a transaction that turned into a writer later could not wait.

        Raises:
            LedgerError: the database can't be reached or written.
        """
        with (
            self.explained(),
            self._connect().execution_options(ledger_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    def now(self, plus: float = 0.0) -> ColumnElement[Any]:
        """The database's own clock, `plus` seconds ahead, as an expression of type `UtcDateTime`."""
        if self.is_sqlite:
            # Six digits, as SQLAlchemy writes them: times are compared as text.
            text = func.strftime("%Y-%m-%d %H:%M:%f", "now", f"{plus:+.3f} seconds", type_=Text)
            return type_coerce(text.concat("000"), UtcDateTime)
        clock = func.clock_timestamp(type_=UtcDateTime)
        return type_coerce(clock + func.make_interval(0, 0, 0, 0, 0, 0, plus, type_=Interval), UtcDateTime)

    def dedicated(self) -> Database:
        """The same database through a single connection of its own, which no other code can keep busy."""
        url, schema, file_systems = self._given
        return Database(url, schema, connections=1, file_systems=file_systems)

    def close(self) -> None:
        """Close every connection; the next transaction opens new ones."""
        if self._engine is not None:
            left, self._engine = self._engine, None
            engines.leave(self._place, left)

    def redacted(self, text: str) -> str:
        """`text` without any secret of the URL."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the driver's errors into a :class:`LedgerError` of one line, without secrets."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            line = self.redacted(next(iter(str(cause).strip().splitlines()), type(cause).__name__))
            failure = LedgerError(
                f"the ledger ({self.label}) can't be used: {line}",
                hint="check ledger.url and that the database is up; qmigrate doctor tries it",
            )
            # The driver's own exception would show its text, and with it the secret, in a traceback.
            leaks = any(secret in str(cause) for secret in self._secrets)
            raise failure from (None if leaks else error)

    def _made(self) -> Engine:
        engine = self._engine
        if engine is None:
            engine = self._engine = engines.take(self._place)
        return engine

    def _connect(self) -> Connection:
        return self._made().connect()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Never with the text of the error: it may repeat the URL and its password.
        raise ConfigError("ledger.url is not a database URL", hint=URL_HINT) from None
    backend = parsed.drivername.partition("+")[0]
    backend = "postgresql" if backend == "postgres" else backend
    if backend == "postgresql":
        query = dict(parsed.query)
        if "ssl" in query:  # asyncpg's name of it
            query["sslmode"] = query.pop("ssl")
        return parsed.set(drivername="postgresql+psycopg", query=query)
    if backend != "sqlite":
        raise ConfigError(f"ledger.url names {backend}; the ledger lives in SQLite or PostgreSQL", hint=URL_HINT)
    return parsed


def _sqlite_file(url: URL) -> Path:
    name = url.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or url.query:
        raise ConfigError(
            "a SQLite ledger is a plain file: in memory it would be lost, and parameters are not supported",
            hint="write sqlite:///path/to/ledger.db",
        )
    # Absolute now: the program may change its working directory later.
    return Path(os.path.abspath(Path(name).expanduser()))


def _postgres_label(url: URL) -> str:
    host = url.host or "".join(url.query.get("host", "localhost"))
    user = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"postgresql {user}{host}{port}/{url.database or ''}"


def _secrets(url: URL) -> tuple[str, ...]:
    found = [str(url.password)] if url.password else []
    for name in SECRETS:
        value = url.query.get(name)
        found += [value] if isinstance(value, str) else list(value or ())
    return tuple(secret for secret in found if secret)
