"""${message}"""
from qdrant_client.models import Distance, PayloadSchemaType, VectorParams
from qmigrate import Embed, op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
requires_sql = None


def upgrade():
    return []
