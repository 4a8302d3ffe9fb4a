"""Which generation's deletion has begun, and what it was before. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, Boolean, Column, DateTime, Integer, MetaData, String, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0005"
down_revision = "0004"

metadata = MetaData()
Json = JSON(none_as_null=True)
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Add the column to the table that the first revision has made."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_generations",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("physical", Name, nullable=False),
    Column("parent", Integer),
    Column("revisions", Json, nullable=False),
    Column("recorded", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("held_until", DateTime(timezone=True)),
    Column("fence", Json),
    Column("swept", Boolean, nullable=False),
    Column("server", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("deletion", Json),
)
