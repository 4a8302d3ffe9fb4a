"""Creates a table, or extends the user's table of that name when its columns fit. It changes no column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    inspect,
)
from sqlalchemy.schema import SchemaConst
from sqlalchemy.types import TypeEngine

from qmigrate.errors import LedgerError

#: Kinds of columns that can stand for each other, most special first.
KINDS: tuple[tuple[str, type[TypeEngine[Any]]], ...] = (
    ("enumeration", Enum),
    ("text", String),
    ("number", Integer),
    ("time", DateTime),
    ("JSON", JSON),
    ("bytes", LargeBinary),
    ("flag", Boolean),
)


def create_or_extend(operations: Operations, table: Table, schema: str | None) -> None:
    """Create `table`, or add what is missing (nullable) to the user's table of that name.

    Args:
        operations: of the Alembic revision that needs it.
        table: as the ledger needs it, without a schema.
        schema: PostgreSQL schema, or None.

    Raises:
        LedgerError: a column of the existing table can't take what the ledger writes.
    """
    connection = operations.get_bind()
    inspector = inspect(connection)
    if not inspector.has_table(table.name, schema=schema):
        # A MetaData of its own: a revision may run again in the same process, for another schema.
        table.to_metadata(MetaData(schema=schema), schema=schema or SchemaConst.RETAIN_SCHEMA).create(connection)
        return
    found = {column["name"]: column for column in inspector.get_columns(table.name, schema=schema)}
    numbered = set(inspector.get_pk_constraint(table.name, schema=schema)["constrained_columns"])
    for column in table.columns:
        if column.name in found:
            problem = _mismatch(connection, column, found[column.name], numbered)
            if problem is not None:
                raise _refused(table.name, column.name, problem)
    for name, existing in found.items():
        if name not in table.columns and _must_be_given(existing):
            raise _refused(table.name, name, "is NOT NULL without a default, and the ledger doesn't fill it")
    for column in table.columns:
        if column.name not in found:
            operations.add_column(table.name, Column(column.name, column.type, nullable=True), schema=schema)


def _mismatch(
    connection: Connection, wanted: Column[Any], existing: Mapping[str, Any], numbered: set[str]
) -> str | None:
    """Why an existing column can't be used as `wanted`, or None."""
    sqlite = connection.dialect.name == "sqlite"
    have, need = _kind(existing["type"]), _kind(wanted.type)
    if have != need and not (sqlite and (have, need) in {("text", "JSON"), ("number", "flag")}):
        return f"holds {have} ({existing['type']}) where the ledger writes {need} ({wanted.type})"
    if need == "text" and not sqlite:
        have_length, need_length = existing["type"].length, getattr(wanted.type, "length", None)
        if have_length is not None and (need_length is None or have_length < need_length):
            return f"takes {have_length} characters where the ledger writes {need_length or 'any number'}"
    if wanted.primary_key and wanted.autoincrement is True:
        if not _numbers_itself(existing, sqlite=sqlite, is_key=numbered == {wanted.name}):
            return "doesn't number its rows by itself"
    elif wanted.nullable and _must_be_given(existing):
        return "is NOT NULL without a default, and the ledger leaves it empty at times"
    return None


def _kind(found: TypeEngine[Any]) -> str:
    return next((name for name, kind in KINDS if isinstance(found, kind)), type(found).__name__)


def _must_be_given(column: Mapping[str, Any]) -> bool:
    filled = column.get("default") is not None or column.get("identity") or column.get("computed")
    return not column["nullable"] and not filled


def _numbers_itself(column: Mapping[str, Any], *, sqlite: bool, is_key: bool) -> bool:
    if sqlite:
        return is_key and str(column["type"]).upper() == "INTEGER"
    return column.get("default") is not None or bool(column.get("identity"))


def _refused(table: str, column: str, why: str) -> LedgerError:
    return LedgerError(
        f"the database has a table {table} of its own that the ledger can't share: column {column} {why}",
        hint="rename it, or give the ledger its own place: ledger.url, or ledger.schema on PostgreSQL",
    )
