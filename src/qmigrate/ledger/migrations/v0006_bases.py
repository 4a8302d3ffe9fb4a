"""A key for digests, which bases were made under it, and points whose base entry doesn't count. Frozen."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column, DateTime, Integer, LargeBinary, MetaData, String, Table

from qmigrate.ledger.schema import create_or_extend

revision = "0006"
down_revision = "0005"

metadata = MetaData()
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Make the table, and add the columns to those of the first revision. What fills the key comes after it."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_ledger",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("digest_key", LargeBinary),
)

Table(
    "qdrant_copy_bases",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("committed", Integer),
    Column("staged", Integer),
    Column("digest", String(16)),
)

Table(
    "qdrant_copy_dirty",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("range_number", Integer, primary_key=True, autoincrement=False),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
