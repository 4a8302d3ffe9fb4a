"""Persons, and the faces that were found in pictures; a face has the id of its point in Qdrant."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "persons",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "faces",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("point_id", sa.String(36), nullable=False, unique=True),
        sa.Column("person_id", sa.String(36), sa.ForeignKey("persons.id")),
        sa.Column("updated_at", sa.DateTime, nullable=False),
    )


def downgrade():
    op.drop_table("faces")
    op.drop_table("persons")
