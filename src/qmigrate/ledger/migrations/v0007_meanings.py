"""What each revision said when it was applied. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, Column, DateTime, MetaData, String, Table

from qmigrate.ledger.schema import create_or_extend

revision = "0007"
down_revision = "0006"

metadata = MetaData()


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_revision_meanings",
    metadata,
    Column("revision", String(255), primary_key=True),
    Column("checksum", String(64), primary_key=True),
    Column("meaning", JSON(none_as_null=True), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
