"""Which revision of Alembic went with which of ours. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column, DateTime, MetaData, String, Table, Text

from qmigrate.ledger.extend import create_or_extend

revision = "0002"
down_revision = "0001"

metadata = MetaData()
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
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
