"""The first shape of the ledger's tables. Frozen: later shapes are later revisions."""

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

revision = "0001"
down_revision = None

metadata = MetaData()
Number = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)
Name = String(255)
Moment = DateTime(timezone=True)


def upgrade(operations: Operations, schema: str | None) -> None:
    """Create every table, or extend the user's table of that name."""
    for table in metadata.sorted_tables:
        create_or_extend(operations, table, schema)


def _id() -> Column[int]:
    return Column("id", Number, primary_key=True, autoincrement=True)


Table(
    "qdrant_ledger",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", Moment, nullable=False),
)
Table(
    "qdrant_schema_versions",
    metadata,
    _id(),
    Column("collection_name", Name, nullable=False, unique=True),
    Column("schema_version", String(50), nullable=False),
    Column("vectors_config", Json, nullable=False),
    Column("last_migration", Moment),
    Column("created_at", Moment),
    Column("updated_at", Moment),
    Column("revision", Text),
    Column("physical_name", Name),
    Column("declared", Json),
    Column("embedders", Json),
)
Table(
    "qdrant_migration_runs",
    metadata,
    _id(),
    Column("verb", String(32), nullable=False),
    Column("collection", Name, nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("job", Json, nullable=False),
    Column("checksums", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("done_points", Number, nullable=False),
    Column("total_points", Number, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("error", Text),
)
Table(
    "qdrant_migration_history",
    metadata,
    _id(),
    Column("collection", Name, nullable=False, index=True),
    Column("run", Number, nullable=False),
    Column("revision", Text, nullable=False),
    Column("direction", String(16), nullable=False),
    Column("checksum", Text, nullable=False),
    Column("strategy", String(32), nullable=False),
    Column("physical", Name),
    Column("declared", Json),
    Column("prior", Json),
    Column("changes", Json, nullable=False),
    Column("report", Json, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)
Table(
    "qdrant_migration_phases",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("phase", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("facts", Json, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("finished_at", Moment),
)
Table(
    "qdrant_copy_ranges",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("start_id", Text),
    Column("stop_id", Text),
    Column("cursor_id", Text),
    Column("points", Number, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
Table(
    "qdrant_migration_leases",
    metadata,
    Column("name", Name, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("acquired_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("boot_id", String(64)),
    Column("pid_namespace", String(64)),
    Column("pid", Number),
    Column("process_start", Number),
    Column("unlocked_by", Text),
    Column("unlocked_at", Moment),
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
    Column("held_until", Moment),
    Column("fence", Json),
    Column("swept", Boolean, nullable=False),
    Column("server", Text),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
Table(
    "qdrant_copy_bases",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("committed", Integer),
    Column("staged", Integer),
)
Table(
    "qdrant_copy_fingerprints",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("range_number", Integer, primary_key=True, autoincrement=False),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
Table(
    "qdrant_carries",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("point_id", String(64), primary_key=True),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("updated_at", Moment, nullable=False),
)
Table(
    "qdrant_quarantine",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("stage", String(64), nullable=False),
    Column("error_class", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)
Table(
    "qdrant_erasures",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)
Table(
    "vector_deletion_logs",
    metadata,
    _id(),
    Column("deletion_type", String(50), nullable=False),
    Column("deletion_target", Text, nullable=False),
    Column("vector_count", Number, nullable=False),
    Column("deletion_reason", Text),
    Column("metadata", Json),
    Column("created_at", Moment, nullable=False),
    Column("actor", Text),
    Column("collection", Name),
)
Table(
    "qdrant_accepted_checksums",
    metadata,
    _id(),
    Column("revision", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)
