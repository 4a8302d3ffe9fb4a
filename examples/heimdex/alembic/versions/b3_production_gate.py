"""Gate: from here on every vector is of the production model. It holds no SQL of its own.

Create Date: 2025-11-03 10:00:00

"""

from qmigrate.alembic import qdrant

revision = "b3"
down_revision = "b2"


def upgrade() -> None:
    qdrant.require("0003")


def downgrade() -> None:
    # `qmigrate rollback 0002` goes back in milliseconds, while the old generation is kept.
    pass
