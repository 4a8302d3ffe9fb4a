"""The ledger's tables as the code of today reads and writes them. It creates nothing: ``migrations/`` does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

metadata = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC in and out, also where the column has no zone (SQLite, tables of the user)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive values: what they mean is unknown."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes timezone-aware datetimes only")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """What has no zone is UTC: connections of the ledger are set to it."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyJson(TypeDecorator[Any]):
    """JSON, or what else an application has written into a column of texts, unchanged."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """As JSON where it is."""
        read = super().result_processor(dialect, coltype)

        def read_or_left(value: Any) -> Any:
            try:
                return value if read is None else read(value)
            except ValueError:
                return value

        return read_or_left


# SQLite numbers rows by itself only for a column of the exact type INTEGER.
Number = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True)
Name = String(255)


def _id() -> Column[int]:
    return Column("id", Number, primary_key=True, autoincrement=True)


ledger = Table(
    "qdrant_ledger",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    # Secret: an application that has it can make two points with one digest. See `qdrant_copy_bases.digest`.
    Column("digest_key", LargeBinary),
)

views = Table(
    "qdrant_schema_versions",
    metadata,
    _id(),
    Column("collection_name", Name, nullable=False, unique=True),
    Column("schema_version", String(50), nullable=False),
    Column("vectors_config", Json, nullable=False),
    Column("last_migration", UtcDateTime),
    Column("created_at", UtcDateTime),
    # The columns above are the application's own idea of this table; those below are the ledger's. A row
    # without `updated_at` was written by the application and has no meaning for revisions.
    Column("updated_at", UtcDateTime),
    Column("revision", Text),
    Column("physical_name", Name),
    Column("declared", Json),
    Column("embedders", Json),
)

runs = Table(
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
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    # Facts of the caller, for the audit.
    Column("metadata", Json),
)

history = Table(
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
    Column("created_at", UtcDateTime, nullable=False),
)

phases = Table(
    "qdrant_migration_phases",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("phase", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("facts", Json, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
)

ranges = Table(
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
    Column("updated_at", UtcDateTime, nullable=False),
)

leases = Table(
    "qdrant_migration_leases",
    metadata,
    Column("name", Name, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("epoch", Number, nullable=False),
    Column("acquired_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    # A holder that ended cleanly; False for one that died, was unlocked, or still works.
    Column("released", Boolean, nullable=False),
    # These four tell whether a holder on this machine is dead for certain; NULL where the system doesn't report it.
    Column("boot_id", String(64)),
    Column("pid_namespace", String(64)),
    Column("pid", Number),
    Column("process_start", Number),
    Column("unlocked_by", Text),
    Column("unlocked_at", UtcDateTime),
)

generations = Table(
    "qdrant_generations",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("physical", Name, nullable=False),
    Column("parent", Integer),
    Column("revisions", Json, nullable=False),
    Column("recorded", Json, nullable=False),
    Column("state", String(16), nullable=False),
    Column("held_until", UtcDateTime),
    Column("fence", Json),
    Column("swept", Boolean, nullable=False),
    Column("server", Text),
    # All settings as they were when something was last applied, those too that nothing declares.
    Column("settings", Json),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deletion", Json),
)

# Which version of the pages of a generation counts: moving this pointer is what makes a pass visible at once.
bases = Table(
    "qdrant_copy_bases",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("committed", Integer),
    Column("staged", Integer),
    # How its points are digested; NULL where it was begun before there was a key, and continues without one.
    Column("digest", String(16)),
)

fingerprints = Table(
    "qdrant_copy_fingerprints",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("range_number", Integer, primary_key=True, autoincrement=False),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

# Points that are recomputed while a pass works: until the pass is committed, no base is valid for them.
dirty = Table(
    "qdrant_copy_dirty",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("range_number", Integer, primary_key=True, autoincrement=False),
    Column("page", Integer, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

carries = Table(
    "qdrant_carries",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("point_id", String(64), primary_key=True),
    Column("before", LargeBinary, nullable=False),
    Column("after", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    # Why a person should check it; NULL where it is proven that nothing else was touched.
    Column("reason", Text),
    # Digest of what the new generation had at that moment.
    Column("met", LargeBinary),
)

quarantine = Table(
    "qdrant_quarantine",
    metadata,
    Column("generation", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("vector", Name, primary_key=True),
    Column("collection", Name, nullable=False, index=True),
    Column("run", Number),
    # What became of the point: kept without the vector, or dropped.
    Column("outcome", String(16), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("message", Text, nullable=False),
    # What should have been embedded, shortened.
    Column("source", Text),
    # Of the complete source point as it was read: while it is this one, nothing is tried again.
    Column("digest", LargeBinary),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolution", Text),
)

erasures = Table(
    "qdrant_erasures",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("point_id", String(64), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("run", Number),
    # Ids change with a Rekey: the numbers of the generations that began the sets of ids in which this one is meant.
    Column("id_spaces", Json),
    # When it was gone everywhere; NULL while that is not over.
    Column("erased_at", UtcDateTime),
)

deletions = Table(
    "vector_deletion_logs",
    metadata,
    _id(),
    Column("deletion_type", String(50), nullable=False),
    Column("deletion_target", Text, nullable=False),
    Column("vector_count", Number, nullable=False),
    Column("deletion_reason", Text),
    Column("metadata", AnyJson),
    Column("created_at", UtcDateTime, nullable=False),
    Column("actor", Text),
    Column("collection", Name),
)

accepted = Table(
    "qdrant_accepted_checksums",
    metadata,
    _id(),
    Column("revision", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# What was asked for and is done in the background, by whichever worker takes it.
jobs = Table(
    "qdrant_jobs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("arguments", Json, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("stage", Text),
    Column("done", Number, nullable=False),
    Column("total", Number),
    Column("result", Json),
    Column("error", Json),
    Column("actor", Text, nullable=False),
    # The same request with the same key is the same job.
    Column("idempotency_key", Name, unique=True),
    Column("attempts", Integer, nullable=False),
    # The worker that has it, and from when on another may take it.
    Column("holder", String(64)),
    Column("free_at", UtcDateTime),
    Column("cancelled_by", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# What takes away more points than one person may decide: asked for, decided by another one, and used once.
requests = Table(
    "qdrant_requests",
    metadata,
    _id(),
    Column("collection", Name, nullable=False),
    Column("kind", String(32), nullable=False),
    # Of collection, kind and `what`: an approval is bound to it.
    Column("digest", String(64), nullable=False, index=True),
    Column("what", Json, nullable=False),
    Column("words", Text, nullable=False),
    Column("reason", Text),
    # Counted when it was asked for.
    Column("changes", Number, nullable=False),
    Column("points", Number, nullable=False),
    Column("above", Text, nullable=False),
    Column("tolerance", Float, nullable=False),
    # By which job the same is asked for again; NULL where a command has to be typed again.
    Column("again", Json),
    Column("state", String(16), nullable=False, index=True),
    Column("asked_by", Text, nullable=False),
    Column("asked_as", Json, nullable=False),
    Column("decided_by", Text),
    Column("decided_as", Json),
    Column("decided_at", UtcDateTime),
    Column("decided_why", Text),
    # The run that has used the approval, and how many points it found then.
    Column("run", Number, index=True),
    Column("step", Number),
    Column("claimed_at", UtcDateTime),
    Column("found", Number),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

# What a revision meant when it was applied, by the checksum of its file: what a changed file is compared with.
meanings = Table(
    "qdrant_revision_meanings",
    metadata,
    Column("revision", Name, primary_key=True),
    Column("checksum", String(64), primary_key=True),
    Column("meaning", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

alembic_links = Table(
    "qdrant_alembic_links",
    metadata,
    Column("version_table", Name, primary_key=True),
    Column("sql_revision", Name, primary_key=True),
    Column("step", Name, primary_key=True),
    Column("directive", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

inline_revisions = Table(
    "qdrant_inline_revisions",
    metadata,
    _id(),
    Column("revision", Name, nullable=False, unique=True),
    Column("checksum", Text, nullable=False),
    Column("operations", Text, nullable=False),
    Column("down", Json, nullable=False),
    Column("source", Text, nullable=False),
    Column("wanted", Boolean, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# What people ask of a run that is worked on. It is for one holder of the lease: who resumes a run is not bound by it.
paces = Table(
    "qdrant_run_paces",
    metadata,
    Column("run", Number, primary_key=True, autoincrement=False),
    Column("epoch", Number, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("stopped", Boolean, nullable=False),
    # Most points per second; NULL for what the settings say.
    Column("rate", Float),
    Column("actor", Text, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
)

# How many points there were when they were counted last that day, UTC.
counts = Table(
    "qdrant_point_counts",
    metadata,
    Column("collection", Name, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("points", Number, nullable=False),
    Column("counted_at", UtcDateTime, nullable=False),
)
