"""One point per face; its payload says whose it is, as face_instances.person_id does."""

from qdrant_client.models import Distance, PayloadSchemaType, VectorParams

from qmigrate import op

revision = "0004"
down_revision = "0003"
# A face gets its row first and then its point, whose id is the row's qdrant_point_id.
requires_sql = "s006"


def upgrade():
    return [
        op.CreateCollection(
            "faces",
            vectors={"face": VectorParams(size=512, distance=Distance.COSINE)},
            payload_indexes={
                "asset_id": PayloadSchemaType.INTEGER,
                "person_id": PayloadSchemaType.KEYWORD,
            },
        ),
    ]
