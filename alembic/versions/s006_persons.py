"""Persons, and the faces that were found in the pictures; 0004 makes the collection of the faces."""

import sqlalchemy as sa
from alembic import op

revision = "s006"
down_revision = "s005"


def upgrade():
    op.create_table(
        "persons",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_persons"),
    )
    op.create_table(
        "face_instances",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("asset_id", sa.Integer, nullable=False),
        sa.Column("person_id", sa.Uuid),
        sa.Column("qdrant_point_id", sa.Uuid, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_face_instances"),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["image_assets.id"], name="fk_face_instances_asset_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["person_id"], ["persons.id"], name="fk_face_instances_person_id", ondelete="SET NULL"),
        sa.UniqueConstraint("qdrant_point_id", name="uq_face_instances_qdrant_point_id"),
    )
    op.create_index("ix_face_instances_asset_id", "face_instances", ["asset_id"])
    op.create_index("ix_face_instances_person_id", "face_instances", ["person_id"])


def downgrade():
    op.drop_table("face_instances")
    op.drop_table("persons")
