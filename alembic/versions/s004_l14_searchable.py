"""Gate: every picture has a proven ViT-L-14 vector, and the release that searches by it may start."""

from qmigrate.alembic import qdrant

revision = "s004"
down_revision = "s003"


def upgrade():
    qdrant.require("0003")


def downgrade():
    """Nothing in SQL; the larger vector stays next to the first until `qmigrate rollback` removes it."""
