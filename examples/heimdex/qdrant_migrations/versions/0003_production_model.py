"""Searches find meanings: real embeddings in place of the mock ones. Deploy the service that embeds with them first."""

from qmigrate import Embed, op

revision = "0003"
down_revision = "0002"
requires_sql = "b2"  # the service writes down there which model it used


def upgrade():
    return [
        op.TransformPoints("embeddings", to_production, inverse=to_mock),
        # The same name and size, another model: a reader with the old model would find nonsense. It is built and
        # proven, and goes live with `qmigrate cutover`, together with the readers.
        # qmigrate: ignore[QM305] one unnamed vector is all that this collection can have
        op.Reembed("embeddings", "", values=Embed("production", text="text"), cutover="hold"),
    ]


def downgrade():
    return [
        op.TransformPoints("embeddings", to_mock, inverse=to_production),
        op.Reembed("embeddings", "", values=Embed("mock", text="{asset_id}/{segment_id}"), cutover="immediate"),
    ]


def to_production(point):
    return {**point.payload, "model": "production", "model_ver": "v1"}


def to_mock(point):
    return {**point.payload, "model": "mock", "model_ver": "v1"}
