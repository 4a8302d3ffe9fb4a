"""Which erasure an id belongs to, and when that was over. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Column, DateTime, Integer, MetaData, String, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0004"
down_revision = "0003"

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Add the columns to the table that the first revision has made."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_erasures",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("run", Number),
    Column("id_spaces", Json),
    Column("erased_at", DateTime(timezone=True)),
)
