"""Contract, one release later: every bot searches by `relationship`, and the blob goes.

Create Date: 2025-11-02 09:00:00

"""

import sqlalchemy as sa
from alembic import op

revision = "a4"
down_revision = "a3"


def upgrade() -> None:
    op.execute("UPDATE user_relationships SET searched_by = 'relationship'")
    op.drop_column("user_relationships", "relationship_embedding")


def downgrade() -> None:
    op.add_column("user_relationships", sa.Column("relationship_embedding", sa.LargeBinary))
    op.execute("UPDATE user_relationships SET searched_by = 'semantic'")
