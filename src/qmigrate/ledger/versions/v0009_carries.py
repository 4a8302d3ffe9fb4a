"""Why a late write is doubtful, and what it met. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, String, Table, Text

from qmigrate.ledger.extend import create_or_extend

revision = "0009"
down_revision = "0004"

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade(operations: Operations, schema: str | None) -> None:
    """Add the columns to the table that the first revision has made."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_carries",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("point_id", String(64), primary_key=True),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("reason", Text),
    Column("met", LargeBinary),
)
