"""The application: bots that remember. It makes its collections itself, as it always did, until qmigrate does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from qdrant_client import QdrantClient, models
from sqlalchemy import create_engine, text

import qmigrate
from qmigrate import embed

FOLDER = Path(__file__).resolve().parent
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "qmigrate.yaml").read_text(encoding="utf-8"))
DATABASE = os.environ.get("DATABASE_URL", f"sqlite:///{FOLDER}/.qmigrate/app.db")
MODEL = embed.load("memories", CONFIG["embedders"]["memories"])
BOTS = ("elena", "marcus", "ryan")
INDEXES = {
    "user_id": "keyword",
    "memory_type": "keyword",
    "timestamp_unix": "float",
    "semantic_key": "keyword",
    "emotional_context": "keyword",
    "content_hash": "integer",
}
USERS = ("ada", "ben", "cleo", "dan")
TOPICS = ("the sea and its tides", "a new job in the city", "her sister's wedding", "chess and old books")
MOODS = ("joy", "worry", "calm", "pride", "longing")


@contextmanager
def open_client() -> Iterator[QdrantClient]:
    """A client of the server in QMIGRATE_QDRANT_URL, else of the folder, which takes one process at a time."""
    url = os.environ.get("QMIGRATE_QDRANT_URL")
    client = QdrantClient(url=url) if url else QdrantClient(path=str(FOLDER / CONFIG["qdrant"]["path"]))
    try:
        yield client
    finally:
        client.close()


def name_of(bot: str) -> str:
    return f"whisperengine_memory_{bot}"


def memories(bot: str) -> list[dict[str, Any]]:
    """What a bot has received: made on the spot, the same every time."""
    found = []
    for number in range(40):
        user, topic, mood = USERS[number % 4], TOPICS[(number // 4) % 4], MOODS[number % 5]
        content = f"{user} talked with {bot} about {topic}, for the time number {number // 16 + 1}"
        found.append(
            {
                "user_id": user,
                "memory_type": "conversation",
                "content": content,
                "timestamp_unix": 1_760_000_000.0 + number * 60,
                "semantic_key": topic.split()[-1],
                "emotional_context": mood,
                "content_hash": int(hashlib.sha256(content.encode()).hexdigest()[:12], 16),
            }
        )
    return found


def start(bot: str, client: QdrantClient) -> None:
    """As on every start before qmigrate: make the collection when it isn't there, and write what was received."""
    if not client.collection_exists(name_of(bot)):
        params = models.VectorParams(size=384, distance=models.Distance.COSINE)
        client.create_collection(name_of(bot), dict.fromkeys(("content", "emotion", "semantic"), params))
        for field, kind in INDEXES.items():
            client.create_payload_index(name_of(bot), field, kind)
    remember(bot, client)


def remember(bot: str, client: QdrantClient) -> None:
    """Write the memories with every vector that the collection has by now."""
    heard = memories(bot)
    made = {
        "content": MODEL.embed([one["content"] for one in heard]),
        "emotion": MODEL.embed([one["emotional_context"] for one in heard]),
        "semantic": MODEL.embed([one["semantic_key"] for one in heard]),
        "relationship": MODEL.embed([relation(one) for one in heard]),
    }
    there = client.get_collection(name_of(bot)).config.params.vectors
    client.upsert(
        name_of(bot),
        [
            models.PointStruct(
                id=number,
                payload=one,
                vector={vector: rows[number].tolist() for vector, rows in made.items() if vector in there},
            )
            for number, one in enumerate(heard)
        ],
        wait=True,
    )


def relation(memory: dict[str, Any]) -> str:
    """The text that revision 0002 embeds, too."""
    return f"{memory['user_id']} {memory['emotional_context']} {memory['content']}"


def know(bot: str) -> None:
    """The SQL side: the users that the bot knows."""
    engine = create_engine(DATABASE)
    with engine.begin() as connection:
        for trust, user in enumerate(USERS):
            connection.execute(
                text("INSERT INTO user_relationships (bot, user_id, trust) VALUES (:bot, :user, :trust)"),
                {"bot": bot, "user": user, "trust": trust},
            )
    engine.dispose()


def recall(bot: str, user: str, words: str, client: QdrantClient) -> list[str]:
    """Memories of a user, by the vector that SQL names."""
    engine = create_engine(DATABASE)
    with engine.begin() as connection:
        searched_by = connection.execute(
            text("SELECT searched_by FROM user_relationships WHERE bot = :bot AND user_id = :user"),
            {"bot": bot, "user": user},
        ).scalar_one()
    engine.dispose()
    found = client.query_points(
        name_of(bot),
        query=MODEL.embed([f"{user} {words}"])[0].tolist(),
        using=searched_by,
        query_filter=models.Filter(must=[models.FieldCondition(key="user_id", match=models.MatchValue(value=user))]),
        limit=3,
    )
    return [f"{searched_by}: {one.payload['content']}" for one in found.points]


def serve(bot: str, client: QdrantClient) -> None:
    """A new bot's collection is made at the newest revision; one that this code doesn't fit is not served."""
    qmigrate.ensure(client, name_of(bot), config=FOLDER / "qmigrate.yaml")
    qmigrate.expect(
        name_of(bot),
        revision="0002",
        vectors={"relationship": 384},
        client=client,
        config=FOLDER / "qmigrate.yaml",
    )
