"""Expand: which model has embedded a segment. Old code doesn't use it.

Create Date: 2025-11-03 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "b2"
down_revision = "b1"


def upgrade() -> None:
    op.add_column("segments", sa.Column("embedding_model", sa.String(32), server_default="mock"))


def downgrade() -> None:
    op.drop_column("segments", "embedding_model")
