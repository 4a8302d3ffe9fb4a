"""The documents: one point per module, class or function, with a small word vector."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import op

revision = "0001"
down_revision = None
requires_sql = None


def upgrade():
    return [
        op.CreateCollection("pydocs", vectors={"words": VectorParams(size=256, distance=Distance.COSINE)})
    ]
