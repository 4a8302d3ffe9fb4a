"""What Alembic's revisions went with, and revisions that stand in them. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Integer, MetaData, String, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0002"
down_revision = "0001"

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the tables."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_alembic_links",
    metadata,
    Column("version_table", Name, primary_key=True),
    Column("sql_revision", Name, primary_key=True),
    Column("step", Name, primary_key=True),
    Column("directive", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
Table(
    "qdrant_inline_revisions",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("revision", Name, nullable=False, unique=True),
    Column("checksum", Text, nullable=False),
    Column("operations", Text, nullable=False),
    Column("down", Json, nullable=False),
    Column("source", Text, nullable=False),
    Column("wanted", Boolean, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
