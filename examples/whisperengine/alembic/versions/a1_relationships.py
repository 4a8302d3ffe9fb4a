"""What a bot knows about a user, with an embedding that can't be searched by.

Create Date: 2025-10-01 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "a1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "user_relationships",
        sa.Column("bot", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("trust", sa.Integer, nullable=False),
        sa.Column("relationship_embedding", sa.LargeBinary),
    )


def downgrade() -> None:
    op.drop_table("user_relationships")
