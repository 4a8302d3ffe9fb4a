"""How many points collections had, a row a day. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table

from qmigrate.ledger.schema import create_or_extend

revision = "0013"
down_revision = "0012"

metadata = MetaData()
# SQLite has one type of whole numbers.
Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_point_counts",
    metadata,
    Column("collection", String(255), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("points", Number, nullable=False),
    Column("counted_at", DateTime(timezone=True), nullable=False),
)
