"""Searches are narrowed to functions or classes: an index for the field kind."""

from qdrant_client.models import PayloadSchemaType

from qmigrate import op

revision = "0002"
down_revision = "0001"
requires_sql = None


def upgrade():
    return [op.CreatePayloadIndex("pydocs", "kind", PayloadSchemaType.KEYWORD)]
