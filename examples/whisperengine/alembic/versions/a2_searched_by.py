"""Expand: which named vector the service searches a user's memories by. Old code doesn't use it.

Create Date: 2025-10-12 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "a2"
down_revision = "a1"


def upgrade() -> None:
    op.add_column("user_relationships", sa.Column("searched_by", sa.String(32), server_default="semantic"))


def downgrade() -> None:
    op.drop_column("user_relationships", "searched_by")
