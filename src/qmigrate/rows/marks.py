"""Statements of a preset that mark rows of the application, after a deletion. It selects nothing and decides nothing.

They come from the settings, never from a command line, and every value in them is bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, TextClause, bindparam, text

from qmigrate.errors import RowsError
from qmigrate.model import statement
from qmigrate.rows.database import Database, bound, with_driver

#: Parameters that every statement may have, whatever the preset has.
GIVEN = frozenset({"reason", "now", "deleted"})
#: Columns of the queue that every row has.
QUEUED = frozenset({"value", "reason", "requested_at"})
_COLUMN = "qmigrate_column_"


def is_parameter(said: object) -> bool:
    """Whether the value of a further column of the queue is a ``:parameter``."""
    return isinstance(said, str) and said.startswith(":") and said[1:].isidentifier()


def named_in(columns: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that further columns of the queue name."""
    return frozenset(said[1:] for said in columns.values() if is_parameter(said))


@dataclass(frozen=True, slots=True)
class Marking:
    """What is to be marked.

    Attributes:
        database: its name, for messages.
        statements: each one UPDATE, INSERT, DELETE or MERGE; may be repeated without harm.
        queue: table that gets a row ``(value, reason, requested_at)``, or None.
        parameters: values of their ``:parameters``; ``value`` is what the queue gets.
        said: names of the statements, where the settings give them some; else their tables are their names.
        columns: further columns of the queue -> a ``:parameter``, or a value.
    """

    database: str
    statements: tuple[str, ...] = ()
    queue: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """What the statements are called, each by another name, the queue last."""
        wanted = list(self.said or map(statement.table_of, self.statements))
        wanted += [self.queue] if self.queue is not None else []
        found: list[str] = []
        for name in wanted:
            again = sum(one == name or one.startswith(f"{name} (") for one in found)
            found.append(f"{name} ({again + 1})" if again else name)
        return tuple(found)


class Marks:
    """Statements on one database, tried without effect, or done in a transaction.

    Args:
        url: SQLAlchemy URL; may hold a password, which is never shown.
        marking: what is to be done.

    Raises:
        RowsError: a statement is none that marks rows, or lacks a value.
    """

    def __init__(self, url: str, marking: Marking) -> None:
        for sql in marking.statements:
            trouble = statement.problem_of_change(sql)
            if trouble:
                raise RowsError(f"{trouble}: {sql.strip()[:80]!r}", hint="write one UPDATE or INSERT per statement")
            self._check_given(marking, statement.parameters(sql))
        self._check_given(marking, named_in(marking.columns))
        self._marking = marking
        self._url = url
        self._reading = Database(url, marking.database)
        self._writing = Database(url, marking.database, writes=True)

    @staticmethod
    def _check_given(marking: Marking, names: frozenset[str]) -> None:
        missing = names - set(marking.parameters) - GIVEN
        if missing:
            raise RowsError(f"a statement on {marking.database} has a parameter :{min(missing)} without a value")

    def close(self) -> None:
        """Close the connections."""
        self._reading.close()
        self._writing.close()

    def shares(self, url: str) -> bool:
        """Whether another URL leads to the same database as the same user, so that one transaction may do both."""
        ours, theirs = with_driver(self._url), with_driver(url)
        if ours.get_backend_name() == theirs.get_backend_name() == "sqlite":
            return Path(ours.database or "").resolve() == Path(theirs.database or "").resolve()
        return ours == theirs

    def check(self) -> None:
        """Have the database plan every statement, and do none: a slip shows before anything is deleted.

        Raises:
            RowsError: the database refuses one.
            DatabaseError: it can't be reached.
        """
        with self._reading.connected() as connection:
            for sql in self._statements():
                self._do(connection, f"EXPLAIN {sql}", "", datetime.now(UTC), 0).close()

    def trial(self, reason: str, now: datetime, deleted: int) -> list[int]:
        """How many rows each would change, found out in a transaction that is rolled back.

        Raises:
            RowsError: the database refuses one.
            DatabaseError: it can't be reached.
        """
        with self._writing.connected(keep=False) as connection:
            return self._counts(connection, reason, now, deleted)

    def run(self, reason: str, now: datetime, deleted: int) -> list[int]:
        """Do them in a transaction of their own.

        Args:
            reason: of the deletion.
            now: when it was begun; the same when it is repeated.
            deleted: points that were deleted.

        Returns:
            How many rows each has changed; -1 where the database doesn't say.
        """
        with self._writing.connected() as connection:
            return self.run_in(connection, reason, now, deleted)

    def run_in(self, connection: Connection, reason: str, now: datetime, deleted: int) -> list[int]:
        """The same in the transaction of a caller, which commits it."""
        return self._counts(connection, reason, now, deleted)

    def _counts(self, connection: Connection, reason: str, now: datetime, deleted: int) -> list[int]:
        return [int(self._do(connection, sql, reason, now, deleted).rowcount) for sql in self._statements()]

    def _statements(self) -> Iterator[str]:
        for sql in self._marking.statements:
            yield statement.body(sql)
        if self._marking.queue is not None:
            table = ".".join(self._reading.quoted(part) for part in self._marking.queue.split("."))
            columns = self._marking.columns
            names = "".join(f", {self._reading.quoted(name)}" for name in columns)
            named = (one if is_parameter(one) else f":{_COLUMN}{place}" for place, one in enumerate(columns.values()))
            values = "".join(f", {one}" for one in named)
            # What a killed attempt has inserted already is not inserted again.
            yield (
                f"INSERT INTO {table} (value, reason, requested_at{names}) "  # noqa: S608
                f"SELECT :qmigrate_value, :reason, :now{values} "
                f"WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE value = :qmigrate_value AND requested_at = :now)"
            )

    def _do(self, connection: Connection, sql: str, reason: str, now: datetime, deleted: int) -> Any:
        given = {**self._marking.parameters, "reason": reason, "deleted": deleted}
        given["qmigrate_value"] = str(self._marking.parameters.get("value", ""))
        given |= {f"{_COLUMN}{place}": said for place, said in enumerate(self._marking.columns.values())}
        named = statement.parameters(sql)
        values = [bound(name, value) for name, value in given.items() if name in named]
        return self._writing.execute(connection, sql, *values, *self._moments(named, now))

    def _moments(self, named: frozenset[str], now: datetime) -> Sequence[Any]:
        if "now" not in named:
            return ()
        if self._reading.backend == "postgresql":
            return (bindparam("now", now, type_=DateTime(timezone=True)),)
        # Elsewhere times have no zone, and UTC is what they are taken for.
        return (bindparam("now", now.astimezone(UTC).replace(tzinfo=None), type_=DateTime()),)


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
