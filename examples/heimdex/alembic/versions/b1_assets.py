"""Assets of the tenants, each cut into segments, and the jobs that embed them.

Create Date: 2025-10-30 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "b1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "segments",
        sa.Column("org_id", sa.String(36), primary_key=True),
        sa.Column("asset_id", sa.String(64), primary_key=True),
        sa.Column("segment_id", sa.String(64), primary_key=True),
        sa.Column("point_id", sa.String(36), nullable=False),
        sa.Column("mock_seed", sa.Integer),
    )


def downgrade() -> None:
    op.drop_table("segments")
