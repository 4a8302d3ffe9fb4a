"""Suggestions were accepted in SQL only for months: every point gets the person that its row has."""

from qmigrate import op

revision = "0002"
down_revision = "0001"
requires_sql = "0001"


def upgrade():
    return [
        op.SyncPayload(
            "faces",
            "SELECT point_id, person_id FROM faces",
            key="point_id",
            fields=["person_id"],
            reason="suggestions accepted before the fix of the endpoint",
        )
    ]
