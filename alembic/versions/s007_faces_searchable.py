"""Gate: the collection of the faces is there, so that suggestions can be asked for."""

from qmigrate.alembic import qdrant

revision = "s007"
down_revision = "s006"


def upgrade():
    qdrant.require("0004")


def downgrade():
    """Nothing in SQL; the collection stays."""
