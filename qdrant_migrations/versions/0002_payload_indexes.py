"""Filters and deletions go by asset, path, date and category: one payload index each."""

from qdrant_client.models import PayloadSchemaType

from qmigrate import op

revision = "0002"
down_revision = "0001"
requires_sql = None


def upgrade():
    return [
        # The payload holds the asset's id as text, next to the integer that is the point's id.
        op.CreatePayloadIndex("image_assets", "asset_id", PayloadSchemaType.KEYWORD),
        op.CreatePayloadIndex("image_assets", "path", PayloadSchemaType.KEYWORD),
        op.CreatePayloadIndex("image_assets", "created_at", PayloadSchemaType.DATETIME),
        op.CreatePayloadIndex("image_assets", "category_id", PayloadSchemaType.INTEGER),
    ]
