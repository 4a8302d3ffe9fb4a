"""Gate: from here on every memory collection has the vector `relationship`. It holds no SQL of its own.

Create Date: 2025-10-12 10:00:00

"""

from qmigrate.alembic import qdrant

revision = "a3"
down_revision = "a2"


def upgrade() -> None:
    qdrant.require("0002")


def downgrade() -> None:
    # The vector stays: old code doesn't mind it. `qmigrate rollback 0001` removes it.
    pass
