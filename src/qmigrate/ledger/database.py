"""The connection to the SQL database: URL, transactions, clock, errors without secrets. Independent of tables."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Interval,
    Table,
    Text,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from qmigrate.atomic_file import private_file, private_folder
from qmigrate.errors import ConfigError, LedgerError
from qmigrate.ledger.codec import dumps
from qmigrate.ledger.tables import UtcDateTime

#: Seconds that a SQLite statement waits for another writer of the same file.
BUSY_TIMEOUT = 60.0

#: File systems of one machine, whose locks and shared memory SQLite relies on. On any other, of a network, of a virtual
#: machine's host or of a program, two holders could both believe that they are alone.
LOCAL_FILE_SYSTEMS = frozenset(
    # On disks; in memory; layers over those; only to be read.
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2", "ufs", "apfs"}
    | {"hfs", "hfsplus", "ntfs", "ntfs3", "vfat", "exfat", "fuseblk"}
    | {"tmpfs", "ramfs", "rootfs"}
    | {"overlay", "aufs", "ecryptfs"}
    | {"squashfs", "erofs", "iso9660"}
)


def unlisted_mount(path: str, mounts: str, allowed: Collection[str] = ()) -> str | None:
    """The file system that `path` lies on, unless it is known to be local; None too where that is unknown.

    Args:
        path: absolute and without links.
        mounts: the text of ``/proc/mounts``.
        allowed: further types of file systems that are taken for local ones.

    Returns:
        For people: ``nfs4 at /mnt/share``.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _unescaped(fields[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one covers the earlier.
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return f"{kind} at {best}" if kind and kind not in LOCAL_FILE_SYSTEMS and kind not in allowed else None


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def refuse_unlisted(file: Path, allowed: Collection[str] = ()) -> None:
    """Stop before a SQLite file is touched on a file system that is not known to be local.

    Args:
        file: it need not exist yet.
        allowed: further types of file systems that are taken for local ones.

    Raises:
        LedgerError: it lies on another one.
    """
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    found = unlisted_mount(str(file.resolve()), mounts, allowed)
    if found is not None:
        kind = found.partition(" ")[0]
        raise LedgerError(
            f"the SQLite ledger {file} lies on a file system that is not known to be local ({found}): others may not "
            "see its locks",
            hint="set ledger.url to a file on a local disk, or to a PostgreSQL database when several hosts migrate; "
            f"if no other machine reaches this file system: ledger.file_systems: [{kind}] in qmigrate.yaml",
        )


def make_file(file: Path) -> None:
    """Create an empty database file (0600) and its missing folders (0700); what exists keeps its rights.

    Raises:
        LedgerError: the folder or the file can't be made or written.
    """
    try:
        private_folder(file.parent)
        os.close(private_file(file))
    except OSError as error:
        raise LedgerError(
            f"the SQLite ledger {file} can't be written: {error.strerror or error}",
            hint="give this user the right to write there, or set ledger.url to another place",
        ) from error
    if not os.access(file.parent, os.W_OK):
        # SQLite keeps its log and its locks in files next to the database.
        raise LedgerError(
            f"the folder {file.parent} of the SQLite ledger can't be written by this user",
            hint="give this user the right to write there, or set ledger.url to another place",
        )


def use_log(file: Path) -> None:
    """Switch the file to write-ahead logging, for good: readers and the writer don't block each other then.

    Raises:
        LedgerError: it is not a SQLite database, or others keep it locked.
    """
    try:
        # SQLite doesn't wait by itself for the lock that this switch needs.
        for attempt in Retrying(
            retry=retry_if_exception_type(sqlite3.OperationalError),
            stop=stop_after_delay(BUSY_TIMEOUT),
            wait=wait_random(0.01, 0.05),
            reraise=True,
        ):
            with attempt, closing(open_file(file)) as connection:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
    except sqlite3.Error as error:
        raise LedgerError(
            f"the SQLite ledger {file} can't be used: {error}",
            hint="set ledger.url to a file of the ledger's own, or end the process that keeps it locked",
        ) from error


def open_file(file: Path) -> sqlite3.Connection:
    """A connection to a file that exists; it begins no transaction by itself."""
    # Never "rwc": only make_file makes a file. A read-only file can still be read.
    mode = "rw" if os.access(file, os.W_OK) else "ro"
    return sqlite3.connect(
        f"{file.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )


#: Defaults for PostgreSQL; the URL's own parameters win. A dead network must show before a lease runs out.
POSTGRES_DEFAULTS: dict[str, Any] = {
    "application_name": "qmigrate",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    # Server-side prepared statements break behind a transaction-pooling proxy.
    "prepare_threshold": None,
}
#: Seconds that a statement on PostgreSQL waits for a lock of another session; leases take milliseconds.
LOCK_TIMEOUT = 30
#: Engines that are kept at most; a process has few databases.
_MOST = 8


class DatabaseAddress(NamedTuple):
    """What an engine is for.

    Attributes:
        url: of the database, with its secrets.
        file: of SQLite, or None.
        schema: PostgreSQL schema of the tables, or None for the connection's default.
        connections: the most that are open at once.
    """

    url: URL
    file: Path | None
    schema: str | None
    connections: int


#: Engines that are free. Only single operations of the dictionary touch it: threads then need no lock, which a fork
#: could find locked forever.
_left: dict[DatabaseAddress, Engine] = {}


def take(place: DatabaseAddress) -> Engine:
    """An engine for this caller alone: one that was left, or a new one. Nothing connects before it is used."""
    return _left.pop(place, None) or _made(place)


def leave(place: DatabaseAddress, engine: Engine) -> None:
    """Close the connections of an engine that the caller doesn't use any more."""
    engine.dispose()
    if len(_left) >= _MOST:
        _left.clear()
    _left[place] = engine


def _made(place: DatabaseAddress) -> Engine:
    kept = min(place.connections, 5)
    shared: dict[str, Any] = {
        "pool_size": kept,
        "max_overflow": place.connections - kept,
        "hide_parameters": True,
        "json_serializer": dumps,
    }
    if place.file is not None:
        file = place.file
        engine = create_engine("sqlite://", creator=lambda: open_file(file), poolclass=QueuePool, **shared)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    known = place.url.query
    arguments = {name: value for name, value in POSTGRES_DEFAULTS.items() if name not in known}
    engine = create_engine(
        place.url, connect_args=arguments, pool_pre_ping=True, isolation_level="READ COMMITTED", **shared
    )
    event.listen(engine, "connect", _set_up)
    return engine.execution_options(schema_translate_map={None: place.schema}) if place.schema else engine


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("ledger_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up(dbapi_connection: Any, _record: Any) -> None:
    with dbapi_connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        # The caller may hold a lock on our tables through a connection of its own: that would never end.
        cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}s'")
    dbapi_connection.commit()


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
        self._place = DatabaseAddress(parsed, self.file, schema, connections)
        self._secrets = _secrets(parsed)
        self._engine: Engine | None = None
        self._seen: set[str] = set()
        self.label = f"sqlite {self.file}" if self.file else _postgres_label(parsed)

    def __repr__(self) -> str:
        return f"Database({self.label!r})"

    @property
    def exists(self) -> bool:
        """False only for a SQLite file that is not there yet."""
        return self.file is None or self.file.exists()

    def has(self, table: Table) -> bool:
        """Whether a table is there; the ledger of an earlier qmigrate lacks some. It is asked until it is there.

        Raises:
            LedgerError: the database can't be reached or read.
        """
        if table.name not in self._seen and self.exists:
            with self.reading() as connection:
                if inspect(connection).has_table(table.name, schema=self.schema):
                    self._seen.add(table.name)
        return table.name in self._seen

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
            leave(self._place, left)

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
            engine = self._engine = take(self._place)
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
