"""Pictures, categories and trainings."""

import sqlalchemy as sa
from alembic import op

revision = "s001"
down_revision = None


def upgrade():
    op.create_table(
        "categories",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("name", name="uq_categories_name"),
    )
    op.create_table(
        "image_assets",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("b32_checksum", sa.String(64)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("indexed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_image_assets"),
        sa.UniqueConstraint("path", name="uq_image_assets_path"),
    )
    op.create_table(
        "training_sessions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("category_id", sa.Integer),
        sa.Column("root_path", sa.Text, nullable=False),
        sa.Column("status", sa.String(20), nullable=False, server_default="pending"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("reset_at", sa.DateTime(timezone=True)),
        sa.Column("reset_reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_training_sessions"),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.id"], name="fk_training_sessions_category_id", ondelete="SET NULL"
        ),
    )
    op.create_index("ix_training_sessions_category_id", "training_sessions", ["category_id"])


def downgrade():
    op.drop_table("training_sessions")
    op.drop_table("image_assets")
    op.drop_table("categories")
