"""The points of Ada's faces follow: a data fix, done here, counted, recorded, and to be undone by its number."""

from qmigrate import op as vectors
from qmigrate.alembic import qdrant

revision = "0003"
down_revision = "0002"


def upgrade():
    qdrant.fix(
        "ada_is_one_person",
        vectors.SyncPayload(
            "faces",
            "SELECT point_id, person_id FROM faces",
            key="point_id",
            fields=["person_id"],
            reason="Ada was imported twice",
        ),
    )


def downgrade():
    """The points stay as they are; ``qmigrate fix undo`` undoes the fix."""
