"""The quarantine by vector, with what becomes of each point. Frozen: later shapes are later revisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alembic.operations import Operations
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
)

from qmigrate.ledger.schema import create_or_extend

revision = "0003"
down_revision = "0002"

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
Name = String(255)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Make the table again, since its key grows by the vector, and put what was in it back."""
    connection = operations.get_bind()
    kept: list[Mapping[str, Any]] = []
    if inspect(connection).has_table("qdrant_quarantine", schema=schema):
        earlier = Table("qdrant_quarantine", MetaData(), schema=schema, autoload_with=connection)
        generations = Table("qdrant_generations", MetaData(), schema=schema, autoload_with=connection)
        names = select(generations.c.physical, generations.c.collection)
        collections = {str(row["physical"]): str(row["collection"]) for row in connection.execute(names).mappings()}
        rows = connection.execute(select(earlier)).mappings()
        kept = [_moved({str(name): value for name, value in row.items()}, collections) for row in rows]
        operations.drop_table("qdrant_quarantine", schema=schema)
    table = metadata.tables["qdrant_quarantine"]
    create_or_extend(operations, table, schema)
    if kept:
        again = Table("qdrant_quarantine", MetaData(), schema=schema, autoload_with=connection)
        connection.execute(insert(again), kept)


def _moved(row: Mapping[str, Any], collections: Mapping[str, str]) -> Mapping[str, Any]:
    """An earlier row: its message began with the name of the vector, and its point was always kept."""
    vector, mark, reason = str(row["message"]).partition(": ")
    return {
        **{name: row[name] for name in ("generation", "point_id", "stage", "attempts", "created_at", "updated_at")},
        "vector": vector if mark else "",
        "collection": collections.get(row["generation"], row["generation"]),
        "message": reason if mark else row["message"],
        "outcome": "kept",
    }


Table(
    "qdrant_quarantine",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("vector", Name, primary_key=True),
    Column("collection", Name, nullable=False, index=True),
    Column("run", Number),
    Column("outcome", String(16), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("source", Text),
    Column("digest", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolution", Text),
)
