"""The memories of a bot, as every bot has made its own collection until now."""

from qdrant_client.models import Distance, PayloadSchemaType, VectorParams

from qmigrate import op

revision = "0001"
down_revision = None
requires_sql = None


def upgrade():
    return [
        op.CreateCollection(
            "whisperengine_memory_*",
            vectors={
                "content": VectorParams(size=384, distance=Distance.COSINE),
                "emotion": VectorParams(size=384, distance=Distance.COSINE),
                "semantic": VectorParams(size=384, distance=Distance.COSINE),
            },
            payload_indexes={
                "user_id": PayloadSchemaType.KEYWORD,
                "memory_type": PayloadSchemaType.KEYWORD,
                "timestamp_unix": PayloadSchemaType.FLOAT,
                "semantic_key": PayloadSchemaType.KEYWORD,
                "emotional_context": PayloadSchemaType.KEYWORD,
                "content_hash": PayloadSchemaType.INTEGER,
            },
        )
    ]
