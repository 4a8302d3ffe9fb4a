"""When SQL was read, and whether a transaction of then is still open: as each database reports it. It reads no row."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, String, bindparam

from qmigrate.errors import RowsError
from qmigrate.rows.database import MYSQL, Database

#: MySQL refreshes that table only when it was not read for 0.1 s.
_STALE = 0.15
#: Each transaction holds such a lock from its start, and every session sees it; processes of the server have no user.
_VIRTUAL = (
    "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE l.locktype = 'virtualxid' AND l.granted AND l.virtualxid = l.virtualtransaction "
    "AND a.datname = current_database() AND a.usesysid IS NOT NULL AND l.pid <> pg_backend_pid()"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was read, by the database's clock and its transaction numbers; None where it has none.

    Attributes:
        at: the clock.
        border: the first transaction number that was not given yet.
        open: which transactions were open, by what PostgreSQL calls them before they have a number: who may not see
            the sessions of others sees that.
    """

    at: datetime | None
    border: int
    open: tuple[str, ...] = ()


def now(database: Database) -> Moment:
    """The clock, and which transactions are open. A database that reports neither gives no time.

    Raises:
        RowsError: it is a replica, which may be behind.
    """
    if database.backend not in (*MYSQL, "postgresql"):
        return Moment(None, 0)
    with database.connected() as connection:
        database.refuse_replica(connection)
        if database.backend in MYSQL:
            return Moment(database.execute(connection, "SELECT now(6)").scalar_one(), 0)
        asked = "SELECT clock_timestamp(), pg_snapshot_xmax(pg_current_snapshot())::text"
        at, border = database.execute(connection, asked).one()
        found = database.execute(connection, _VIRTUAL).scalars()
        return Moment(at, int(border), tuple(sorted(found)))



def open_since(database: Database, moment: Moment) -> bool:
    """Whether a transaction that was open at a moment still is.

    MySQL and MariaDB show them to who has PROCESS.

    Raises:
        RowsError: this user may not look, or it is a replica.
    """
    if moment.at is None:
        return False
    if database.backend in MYSQL:
        return _mysql_open_since(database, moment)
    with database.connected() as connection:
        database.refuse_replica(connection)
        asked = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
        oldest = int(database.execute(connection, asked).scalar_one())
        at = bindparam("qmigrate_at", moment.at, type_=DateTime(timezone=True))
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' AND xact_start <= :qmigrate_at"
        )
        if oldest < moment.border or database.execute(connection, asked, at).scalar_one():
            return True
        names = bindparam("qmigrate_open", list(moment.open), type_=String(), expanding=True)
        again = f"{_VIRTUAL} AND l.virtualtransaction IN :qmigrate_open"
        return bool(moment.open) and database.execute(connection, again, names).first() is not None


def _mysql_open_since(database: Database, moment: Moment) -> bool:
    asked = (
        "SELECT count(*) FROM information_schema.innodb_trx "
        "WHERE trx_mysql_thread_id <> connection_id() AND trx_started <= :qmigrate_at"
    )
    time.sleep(_STALE)
    with database.connected() as connection:
        try:
            at = bindparam("qmigrate_at", moment.at, type_=DateTime())
            return bool(database.execute(connection, asked, at).scalar_one())
        except RowsError as error:
            raise RowsError(
                f"whether a transaction on {database.name} is still open can't be seen, and it may be about to insert "
                f"rows: {error.message}",
                hint="GRANT PROCESS ON *.* to the user of this URL",
            ) from None
