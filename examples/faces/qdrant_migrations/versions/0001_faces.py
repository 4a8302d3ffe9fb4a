"""The faces: one point per face that was found, with the person on it where that is known."""

from qdrant_client.models import Distance, PayloadSchemaType, VectorParams

from qmigrate import op

revision = "0001"
down_revision = None
requires_sql = "0001"


def upgrade():
    return [
        op.CreateCollection("faces", vectors={"face": VectorParams(size=16, distance=Distance.COSINE)}),
        op.CreatePayloadIndex("faces", "person_id", PayloadSchemaType.KEYWORD),
    ]
