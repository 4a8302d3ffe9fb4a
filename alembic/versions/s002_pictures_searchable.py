"""Gate: the collection of the pictures is there, with an index on every field that filters use."""

from qmigrate.alembic import qdrant

revision = "s002"
down_revision = "s001"


def upgrade():
    qdrant.require("0002")


def downgrade():
    """Nothing in SQL; the collection stays."""
