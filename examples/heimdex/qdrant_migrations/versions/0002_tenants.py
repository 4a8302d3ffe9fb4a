"""A tenant's searches read only its own points: they lie together on disk."""

from qdrant_client.models import KeywordIndexParams, KeywordIndexType, PayloadSchemaType

from qmigrate import op

revision = "0002"
down_revision = "0001"
requires_sql = None


def upgrade():
    return [
        op.CreatePayloadIndex(
            "embeddings", "org_id", KeywordIndexParams(type=KeywordIndexType.KEYWORD, is_tenant=True)
        ),
        op.CreatePayloadIndex("embeddings", "asset_id", PayloadSchemaType.KEYWORD),
    ]
