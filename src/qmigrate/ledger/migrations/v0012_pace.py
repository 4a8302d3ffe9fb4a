"""What people ask of a run that is worked on: pause, go slower, stop. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Integer, MetaData, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0012"
down_revision = "0011"

metadata = MetaData()
# SQLite has one type of whole numbers.
Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_run_paces",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("epoch", Number, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("rate", Float),
    Column("actor", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
)
