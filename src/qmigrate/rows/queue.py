"""A table of the application that gets what to embed: it writes to the application's SQL, and only new rows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, Numeric, Table, Uuid, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import String

from qmigrate.errors import RowsError
from qmigrate.model.transform import PointId
from qmigrate.rows.database import Database

#: Its columns; others must have a default.
COLUMNS = ("collection", "id", "found_at")
#: Ids of one statement.
_AT_ONCE = 1000


class Queue:
    """Ids of one collection in a table; an id that is there already is not put in again.

    Args:
        url: SQLAlchemy URL, with the right to SELECT and INSERT.
        table: its name, or ``schema.name``.
        collection: the value of the column ``collection``.
        name: how messages call the database.
    """

    def __init__(self, url: str, table: str, collection: str, *, name: str) -> None:
        schema, _, bare = table.rpartition(".")
        self._where, self._name = (schema or None, bare), table
        self._collection = collection
        self._database = Database(url, name, writes=True)
        self._table: Table | None = None

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def add(self, ids: Sequence[PointId]) -> int:
        """Put in those that are not there yet, in one transaction per portion.

        Returns:
            How many were new.

        Raises:
            RowsError: there is no such table, it lacks a column, or an id has no place in it.
            DatabaseError: the database can't be reached.
        """
        new = 0
        for first in range(0, len(ids), _AT_ONCE):
            with self._database.connected() as connection, self._database.explained():
                new += self._added(connection, self._read(connection), ids[first : first + _AT_ONCE])
        return new

    def check(self) -> None:
        """See that the table is there, before anything is looked for.

        Raises:
            RowsError: it isn't, or lacks a column.
        """
        with self._database.connected() as connection, self._database.explained():
            self._read(connection)

    def _added(self, connection: Connection, table: Table, ids: Sequence[PointId]) -> int:
        values = {one: self._fitting(table.c["id"], one) for one in ids}
        mine = table.c["collection"] == self._collection
        there = set(connection.execute(select(table.c["id"]).where(mine, table.c["id"].in_(values.values()))).scalars())
        now = datetime.now(UTC)
        if not getattr(table.c["found_at"].type, "timezone", False):
            now = now.replace(tzinfo=None)
        rows = [
            {"collection": self._collection, "id": value, "found_at": now}
            for value in values.values()
            if value not in there
        ]
        if rows:
            connection.execute(self._insert(table), rows)
        return len(rows)

    def _insert(self, table: Table) -> Any:
        """Where the table has a unique key, another process that is faster is not an error."""
        known: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
        made = known.get(self._database.backend)
        return insert(table) if made is None else made(table).on_conflict_do_nothing()

    def _fitting(self, column: Column[Any], identifier: PointId) -> Any:
        """An id as the column holds it.

        Raises:
            RowsError: it can't.
        """
        kind = column.type
        if isinstance(kind, Uuid) and isinstance(identifier, str):
            try:
                return uuid.UUID(identifier) if kind.as_uuid else identifier
            except ValueError:
                pass
        elif isinstance(kind, Integer | Numeric) and isinstance(identifier, int):
            return identifier
        elif isinstance(kind, String):
            return str(identifier)
        raise RowsError(
            f"the id {identifier} has no place in {self._name}.id on {self._database.name}, which is {kind}",
            hint="make the column a text: it holds every kind of id",
        )

    def _read(self, connection: Connection) -> Table:
        """The table as it is.

        Raises:
            RowsError: there is none, or it lacks a column.
        """
        if self._table is not None:
            return self._table
        schema, bare = self._where
        columns = "collection TEXT, id TEXT, found_at TIMESTAMP, PRIMARY KEY (collection, id)"
        wanted = f"CREATE TABLE {self._name} ({columns})"
        try:
            found = Table(bare, MetaData(), schema=schema, autoload_with=connection)
        except NoSuchTableError:
            raise RowsError(f"there is no table {self._name} on {self._database.name}", hint=wanted) from None
        lacking = [name for name in COLUMNS if name not in found.c]
        if lacking:
            raise RowsError(
                f"the table {self._name} on {self._database.name} has no column {', '.join(lacking)}", hint=wanted
            )
        self._table = found
        return found
