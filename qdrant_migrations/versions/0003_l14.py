"""A larger picture vector beside the first; the application switches, a later revision drops the old one."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import Embed, op

revision = "0003"
down_revision = "0002"
requires_sql = None


def upgrade():
    return [
        op.AddVector(
            "image_assets",
            "l14",
            VectorParams(size=768, distance=Distance.COSINE),
            values=Embed("l14", image="path"),
        ),
    ]
