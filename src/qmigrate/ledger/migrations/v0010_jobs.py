"""Jobs: what was asked for and is done in the background. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, MetaData, String, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0010"
down_revision = "0009"

metadata = MetaData()
# SQLite has one type of whole numbers.
Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("arguments", JSON(none_as_null=True), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("stage", Text),
    Column("done", Number, nullable=False),
    Column("total", Number),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("actor", Text, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("attempts", Integer, nullable=False),
    Column("holder", String(64)),
    Column("free_at", DateTime(timezone=True)),
    Column("cancelled_by", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
)
