"""A larger word vector next to the small one: it keeps more words apart, so it finds better."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import Embed, op

revision = "0003"
down_revision = "0002"
requires_sql = None


def upgrade():
    return [
        op.AddVector(
            "pydocs",
            "words_large",
            VectorParams(size=1024, distance=Distance.COSINE),
            values=Embed("words-large", text="text"),
        )
    ]
