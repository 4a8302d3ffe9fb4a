"""One collection for all tenants, with one vector per segment."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import op

revision = "0001"
down_revision = None
requires_sql = None


def upgrade():
    return [op.CreateCollection("embeddings", {"": VectorParams(size=384, distance=Distance.COSINE)})]
