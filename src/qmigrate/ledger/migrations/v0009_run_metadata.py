"""What the caller of a run says of it. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, Column, inspect

revision = "0009"
down_revision = "0008"

TABLE = "qdrant_migration_runs"


def upgrade(operations: Operations, schema: str | None) -> None:
    """Add the column to the table that the first revision has made."""
    known = inspect(operations.get_bind()).get_columns(TABLE, schema=schema)
    if all(column["name"] != "metadata" for column in known):
        operations.add_column(TABLE, Column("metadata", JSON(none_as_null=True), nullable=True), schema=schema)
