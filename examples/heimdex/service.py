"""The application: tenants upload assets, a worker embeds their segments, each tenant searches its own."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from qdrant_client import QdrantClient, models
from sqlalchemy import create_engine, text

import qmigrate
from qmigrate import embed
from qmigrate.health import Expectation, Health

FOLDER = Path(__file__).resolve().parent
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "qmigrate.yaml").read_text(encoding="utf-8"))
DATABASE = os.environ.get("DATABASE_URL", f"sqlite:///{FOLDER}/.qmigrate/app.db")
COLLECTION = "embeddings"
ORGS = {
    "acme": "550e8400-e29b-41d4-a716-446655440000",
    "globex": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
}
SENTENCES = (
    "the invoice of march was paid twice",
    "a crane lifts containers from the ship",
    "the board met to vote on the merger",
    "rain delayed the second half of the match",
    "the recipe asks for two cups of flour",
)
#: What an id is made from stays what it was when the first point was written. The model was a part of it, and a
#: segment that came back under another id would be there twice.
ID_MODEL = ("mock", "v1")


def point_id_for(org_id: str, asset_id: str, segment_id: str) -> str:
    """The same segment, the same id: uploading it again replaces it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join((org_id, asset_id, segment_id, *ID_MODEL))))


def mock_vectors(keys: Sequence[str]) -> list[list[float]]:
    """Vectors of no meaning, the same for the same "asset/segment" every time."""
    found = []
    for key in keys:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        found.append(np.random.default_rng(seed).normal(size=384).tolist())
    return found


@contextmanager
def open_client() -> Iterator[QdrantClient]:
    """A client of the server in QMIGRATE_QDRANT_URL, else of the folder, which takes one process at a time."""
    url = os.environ.get("QMIGRATE_QDRANT_URL")
    client = QdrantClient(url=url) if url else QdrantClient(path=str(FOLDER / CONFIG["qdrant"]["path"]))
    try:
        yield client
    finally:
        client.close()


class Service:
    """One release of the service, with the model that it embeds by.

    Args:
        client: of Qdrant.
        embedder: as in qmigrate.yaml.
        revision: that its code was written for.
    """

    def __init__(self, client: QdrantClient, embedder: str, revision: str) -> None:
        self.client = client
        self.embedder = embedder
        self.model = embed.load(embedder, CONFIG["embedders"][embedder])
        # What the mock filled, it filled without qmigrate: no model is recorded for it.
        wanted = {"": embedder} if embedder != "mock" else None
        self.expects = Expectation(COLLECTION, revision=revision, embedder=wanted, vectors={"": 384})

    def start(self) -> None:
        """Refuse to serve what this release doesn't fit."""
        qmigrate.expect(
            COLLECTION,
            revision=self.expects.revision,
            embedder=self.expects.embedder,
            vectors=self.expects.vectors,
            client=self.client,
            config=FOLDER / "qmigrate.yaml",
        )

    def health(self) -> Health:
        """For ``app.mount("/", service.health())``: /readyz and /livez."""
        return Health(
            config=FOLDER / "qmigrate.yaml",
            service="api",
            client=self.client,
            expects=[self.expects],
            collections=[COLLECTION],
        )

    def upload(self, org: str, asset_id: str, sentences: Sequence[str] = SENTENCES) -> None:
        """Embed and write every segment of an asset, in SQL and in Qdrant."""
        rows = [(f"chunk-{number}", sentence) for number, sentence in enumerate(sentences)]
        inputs = [f"{asset_id}/{chunk}" if self.embedder == "mock" else sentence for chunk, sentence in rows]
        vectors = np.asarray(self.model.embed(inputs)).tolist()
        points = [
            models.PointStruct(
                id=point_id_for(ORGS[org], asset_id, chunk),
                vector={"": vector},
                payload={
                    "org_id": ORGS[org],
                    "asset_id": asset_id,
                    "segment_id": chunk,
                    "model": self.embedder,
                    "model_ver": "v1",
                    "text": sentence,
                },
            )
            for (chunk, sentence), vector in zip(rows, vectors, strict=True)
        ]
        engine = create_engine(DATABASE)
        with engine.begin() as connection:
            for point in points:
                # Row and point have the same id forever, so both can be written again.
                connection.execute(text("DELETE FROM segments WHERE point_id = :id"), {"id": point.id})
                connection.execute(
                    text(
                        "INSERT INTO segments (org_id, asset_id, segment_id, point_id)"
                        " VALUES (:org_id, :asset_id, :segment_id, :id)"
                    ),
                    {**point.payload, "id": point.id},
                )
        engine.dispose()
        self.client.upsert(COLLECTION, points, wait=True)

    def search(self, org: str, words: str) -> list[str]:
        """The best segments of one tenant; never another one's."""
        mine = models.Filter(must=[models.FieldCondition(key="org_id", match=models.MatchValue(value=ORGS[org]))])
        found = self.client.query_points(
            COLLECTION,
            query=np.asarray(self.model.embed([words]))[0].tolist(),
            using="",
            query_filter=mine,
            limit=1,
        )
        return [f"{org}, {one.payload['model']}: {one.payload['text']}" for one in found.points]
