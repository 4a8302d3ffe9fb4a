"""Every bot can search by what a memory says about its relationship with the user."""

from qdrant_client.models import Distance, VectorParams

from qmigrate import Embed, op

revision = "0002"
down_revision = "0001"
requires_sql = "a2"  # the service needs the column to know which vector it may search by


def upgrade():
    return [
        op.AddVector(
            "whisperengine_memory_*",
            "relationship",
            VectorParams(size=384, distance=Distance.COSINE),
            values=Embed("memories", text="{user_id} {emotional_context} {content}"),
        )
    ]
