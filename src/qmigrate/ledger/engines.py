"""SQLAlchemy's engines: how one is made, and that the next session uses it again. Independent of tables and errors.

What an engine has learned, which is the compiled form of every statement and what its server is, costs more than all
that a short session reads. So an engine that was closed is kept without its connections, and taken by the next who
needs one for the same database. Never two share one: each has a pool of its own, which no other can keep busy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

from qmigrate.ledger.codec import dumps
from qmigrate.ledger.files import open_file

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


class Place(NamedTuple):
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
_left: dict[Place, Engine] = {}


def take(place: Place) -> Engine:
    """An engine for this caller alone: one that was left, or a new one. Nothing connects before it is used."""
    return _left.pop(place, None) or _made(place)


def leave(place: Place, engine: Engine) -> None:
    """Close the connections of an engine that the caller doesn't use any more."""
    engine.dispose()
    if len(_left) >= _MOST:
        _left.clear()
    _left[place] = engine


def _made(place: Place) -> Engine:
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
