"""A larger picture vector next to the first; the application switches, a later revision drops the old one."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import Embed, op

revision = "0003"
down_revision = "0002"
# The release that writes both vectors keeps the checksum of each in a column, which has to be there first.
requires_sql = "s003"


def upgrade():
    return [
        op.AddVector(
            "image_assets",
            "l14",
            VectorParams(size=768, distance=Distance.COSINE),
            values=Embed("l14", image="path"),
        ),
    ]
