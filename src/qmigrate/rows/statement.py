"""One statement of the user's that changes rows of the application's SQL, for many points. It chooses none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, TextClause, bindparam, text

from qmigrate.model import statement
from qmigrate.rows.database import Database

_INT64 = 2**63


class Statement:
    """A statement with bound parameters, on one database.

    Args:
        url: SQLAlchemy URL of a user that may do it; may hold a password, which is never shown.
        sql: one UPDATE, INSERT, DELETE or MERGE.
        name: how messages call the database.
    """

    def __init__(self, url: str, sql: str, *, name: str) -> None:
        self._database = Database(url, name, writes=True)
        self._sql = statement.body(sql)
        self.names = statement.parameters(sql)

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._database.close()

    def check(self, row: Mapping[str, Any]) -> None:
        """Let the database check whether it would do it, without doing it.

        Raises:
            RowsError: a table or a column is not there, or the user may not change it.
            DatabaseError: the database can't be reached.
        """
        with self._database.connected() as connection, self._database.explained():
            connection.execute(self._text("EXPLAIN ", [row]), self._fitting(row)).close()

    def run(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Once per row of parameters, all in one transaction.

        Returns:
            How many rows of the database were changed, as far as it reports them.

        Raises:
            RowsError: it is refused; nothing of it was done.
            DatabaseError: the connection is lost; nothing of it was done, or all.
        """
        if not rows:
            return 0
        with self._database.connected() as connection, self._database.explained():
            self._in_utc(connection)
            result = connection.execute(self._text("", rows), [self._fitting(row) for row in rows])
            return max(int(result.rowcount), 0)

    def _in_utc(self, connection: Connection) -> None:
        # A column without a time zone would get the hour of the session's.
        if self._database.backend == "postgresql":
            self._database.execute(connection, "SET TIME ZONE 'UTC'")

    def _text(self, head: str, rows: Sequence[Mapping[str, Any]]) -> TextClause:
        times = [name for name in sorted(self.names) if isinstance(rows[0].get(name), datetime)]
        # No other type is given: PostgreSQL takes it from the place of the parameter.
        return text(head + self._sql).bindparams(*(bindparam(name, type_=self._time()) for name in times))

    def _time(self) -> DateTime:
        return DateTime(timezone=self._database.backend == "postgresql")

    def _fitting(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._value(row[name]) for name in sorted(self.names)}

    def _value(self, value: Any) -> Any:
        if isinstance(value, datetime) and self._database.backend != "postgresql":
            return value.astimezone(UTC).replace(tzinfo=None)
        if isinstance(value, int) and value >= _INT64 and self._database.backend == "sqlite":
            # Its integers end there; a column that holds such ids holds texts.
            return str(value)
        return value
