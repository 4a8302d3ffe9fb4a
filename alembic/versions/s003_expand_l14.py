"""Expand, for the next model: the release that comes with this writes both vectors of a new picture, as 0003 adds them.

What the old release writes stays valid: both columns may be empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "s003"
down_revision = "s002"


def upgrade():
    op.add_column("image_assets", sa.Column("l14_checksum", sa.String(64)))
    op.add_column("training_sessions", sa.Column("model", sa.String(64)))


def downgrade():
    with op.batch_alter_table("training_sessions") as table:
        table.drop_column("model")
    with op.batch_alter_table("image_assets") as table:
        table.drop_column("l14_checksum")
