"""Contract, one release after the gate: ViT-B-32 is no longer searched by, and every training names its model."""

import sqlalchemy as sa
from alembic import op

revision = "s005"
down_revision = "s004"

_sessions = sa.table("training_sessions", sa.column("model", sa.String))


def upgrade():
    op.execute(_sessions.update().where(_sessions.c.model.is_(None)).values(model="ViT-B-32"))
    with op.batch_alter_table("training_sessions") as table:
        table.alter_column("model", existing_type=sa.String(64), nullable=False)
    with op.batch_alter_table("image_assets") as table:
        table.drop_column("b32_checksum")


def downgrade():
    op.add_column("image_assets", sa.Column("b32_checksum", sa.String(64)))
    with op.batch_alter_table("training_sessions") as table:
        table.alter_column("model", existing_type=sa.String(64), nullable=True)
