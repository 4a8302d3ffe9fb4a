"""The tables of the image-search service as the newest revision leaves them; `alembic check` compares with them."""

from sqlalchemy import (
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    func,
)

# Names for every constraint, so that a later revision can drop one on any database.
metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


def _created_at() -> Column:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


categories = Table(
    "categories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("description", Text),
    _created_at(),
)

#: One row per picture. Its id is the id of its point in the collection image_assets.
image_assets = Table(
    "image_assets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("l14_checksum", String(64)),
    _created_at(),
    Column("indexed_at", DateTime(timezone=True)),
)

#: One training is one pass over a folder: pictures are embedded and their points get the category.
training_sessions = Table(
    "training_sessions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("category_id", Integer, ForeignKey("categories.id", ondelete="SET NULL")),
    Column("root_path", Text, nullable=False),
    Column("status", String(20), nullable=False, server_default="pending"),
    Column("model", String(64), nullable=False),
    _created_at(),
    Column("reset_at", DateTime(timezone=True)),
    Column("reset_reason", Text),
    Index("ix_training_sessions_category_id", "category_id"),
)

persons = Table(
    "persons",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(255), nullable=False),
    _created_at(),
)

#: One row per face that was found in a picture; its point in the collection faces is `qdrant_point_id`.
face_instances = Table(
    "face_instances",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("asset_id", Integer, ForeignKey("image_assets.id", ondelete="CASCADE"), nullable=False),
    Column("person_id", Uuid, ForeignKey("persons.id", ondelete="SET NULL")),
    Column("qdrant_point_id", Uuid, nullable=False, unique=True),
    _created_at(),
    Index("ix_face_instances_asset_id", "asset_id"),
    Index("ix_face_instances_person_id", "person_id"),
)
