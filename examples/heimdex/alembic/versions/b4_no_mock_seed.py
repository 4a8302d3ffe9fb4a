"""Contract, one release later: what only the mock needed goes.

Create Date: 2025-11-17 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "b4"
down_revision = "b3"


def upgrade() -> None:
    op.execute("UPDATE segments SET embedding_model = 'production'")
    op.drop_column("segments", "mock_seed")


def downgrade() -> None:
    op.add_column("segments", sa.Column("mock_seed", sa.Integer))
    op.execute("UPDATE segments SET embedding_model = 'mock'")
