"""Where the collection is and which models it takes: what load.py and search.py share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from qdrant_client import QdrantClient

from qmigrate import embed

COLLECTION = "pydocs"
FOLDER = Path(__file__).resolve().parent
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "qmigrate.yaml").read_text(encoding="utf-8"))
#: Vector -> the name of its embedder in qmigrate.yaml.
MODELS = {"words": "words", "words_large": "words-large"}


@contextmanager
def open_client() -> Iterator[QdrantClient]:
    """A client of the server in QMIGRATE_QDRANT_URL, else of the folder in qmigrate.yaml.

    The folder takes one process at a time, so the client is closed as soon as the block ends.
    """
    url = os.environ.get("QMIGRATE_QDRANT_URL")
    client = QdrantClient(url=url) if url else QdrantClient(path=str(FOLDER / CONFIG["qdrant"]["path"]))
    try:
        # A migrated collection is an alias, which collection_exists() doesn't see on older servers.
        names = {entry.name for entry in client.get_collections().collections}
        names |= {entry.alias_name for entry in client.get_aliases().aliases}
        if COLLECTION not in names:
            sys.exit(f"There is no collection {COLLECTION} yet. Make it first: qmigrate upgrade 0001")
        yield client
    finally:
        client.close()


def embedders(client: QdrantClient) -> dict[str, Any]:
    """Vector -> embedder, for the vectors that the collection has at this moment, the newest last."""
    there = client.get_collection(COLLECTION).config.params.vectors or {}
    return {vector: load(name) for vector, name in MODELS.items() if vector in there}


def load(name: str) -> Any:
    """The embedder of that name in qmigrate.yaml."""
    return embed.load(name, CONFIG["embedders"][name])
