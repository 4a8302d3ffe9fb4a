"""Why a late write is doubtful, and what it met; settings as last applied. Frozen: later shapes are later revisions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from qmigrate.ledger.schema import create_or_extend

revision = "0008"
down_revision = "0007"

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Add the columns to the tables that the first revision has made."""
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
Table(
    "qdrant_generations",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("physical", Name, nullable=False),
    Column("parent", Integer),
    Column("revisions", Json, nullable=False),
    Column("recorded", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("held_until", DateTime(timezone=True)),
    Column("fence", Json),
    Column("swept", Boolean, nullable=False),
    Column("server", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("settings", Json),
)
