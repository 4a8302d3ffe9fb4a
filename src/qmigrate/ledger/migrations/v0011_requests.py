"""Requests: what needs another person's approval, and what became of it. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Column, DateTime, Float, Integer, MetaData, String, Table, Text

from qmigrate.ledger.schema import create_or_extend

revision = "0011"
down_revision = "0010"

metadata = MetaData()
# SQLite has one type of whole numbers.
Number = BigInteger().with_variant(Integer, "sqlite")


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create the table."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


Table(
    "qdrant_requests",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("collection", String(255), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("what", JSON(none_as_null=True), nullable=False),
    Column("words", Text, nullable=False),
    Column("reason", Text),
    Column("changes", Number, nullable=False),
    Column("points", Number, nullable=False),
    Column("above", Text, nullable=False),
    Column("tolerance", Float, nullable=False),
    Column("again", JSON(none_as_null=True)),
    Column("state", String(16), nullable=False, index=True),
    Column("asked_by", Text, nullable=False),
    Column("asked_as", JSON(none_as_null=True), nullable=False),
    Column("decided_by", Text),
    Column("decided_as", JSON(none_as_null=True)),
    Column("decided_at", DateTime(timezone=True)),
    Column("decided_why", Text),
    Column("run", Number, index=True),
    Column("step", Number),
    Column("claimed_at", DateTime(timezone=True)),
    Column("found", Number),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)
