"""When SQL was looked at, and whether a transaction of then is still open: as each database tells. It reads no row."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import DateTime, bindparam

from qmigrate.errors import RowsError
from qmigrate.rows.database import MYSQL, Database

#: MySQL makes that table anew only when nobody has read it for 0.1 s.
_STALE = 0.15


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was looked at, by the database's clock and its transaction numbers; None where it has none."""

    at: datetime | None
    border: int


def now(database: Database) -> Moment:
    """The clock, and which transactions are open. A database that tells neither gives no time.

    Raises:
        RowsError: it is a replica, which may be behind.
    """
    if database.backend == "postgresql":
        with database.connected() as connection:
            if database.execute(connection, "SELECT pg_is_in_recovery()").scalar_one():
                raise _replica(database)
            asked = "SELECT clock_timestamp(), pg_snapshot_xmax(pg_current_snapshot())::text"
            at, border = database.execute(connection, asked).one()
            return Moment(at, int(border))
    if database.backend in MYSQL:
        with database.connected() as connection:
            at, replica = database.execute(connection, "SELECT now(6), @@global.read_only").one()
            if replica:
                raise _replica(database)
            return Moment(at, 0)
    return Moment(None, 0)


def open_since(database: Database, moment: Moment) -> bool:
    """Whether a transaction that was open at a moment still is.

    PostgreSQL shows sessions of other users once they write; MySQL and MariaDB show all to who has PROCESS.

    Raises:
        RowsError: this user may not look.
    """
    if moment.at is None:
        return False
    if database.backend in MYSQL:
        return _mysql_open_since(database, moment)
    with database.connected() as connection:
        asked = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
        oldest = int(database.execute(connection, asked).scalar_one())
        at = bindparam("qmigrate_at", moment.at, type_=DateTime(timezone=True))
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend' AND xact_start <= :qmigrate_at"
        )
        return oldest < moment.border or bool(database.execute(connection, asked, at).scalar_one())


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


def _replica(database: Database) -> RowsError:
    return RowsError(
        f"the database {database.name} is a replica: a row that is not there yet would look as if it were gone",
        hint="name the primary under databases: in qmigrate.yaml",
    )
