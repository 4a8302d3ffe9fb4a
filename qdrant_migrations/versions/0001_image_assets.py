"""One point per image asset, its id the asset's, with a vector of the picture."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import op

revision = "0001"
down_revision = None
requires_sql = None


def upgrade():
    return [
        op.CreateCollection(
            "image_assets",
            vectors={"b32": VectorParams(size=512, distance=Distance.COSINE)},
        ),
    ]
