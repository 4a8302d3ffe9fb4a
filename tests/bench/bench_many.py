"""Many small collections: adoption, an upgrade with a rebuild of each, and its rollback, one and several at a time.

One server holds plain collections with a few points each. Every number at a time gets collections of its own, so that
each begins from nothing; seconds and their ratio to one at a time are printed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from qdrant_client import QdrantClient, models
from tests.bench.servers import Server

from qmigrate.commands import rollback, upgrade
from qmigrate.commands.adopt import adopt
from qmigrate.settings.load import Settings

SIZE = 32
ADD = """from qdrant_client.models import Distance, VectorParams
from qmigrate import Embed, op

revision = "0002"
down_revision = "0001"


def upgrade():
    return [op.AddVector("{name}_*", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""


def fill(server: Server, name: str, collections: int, points: int) -> None:
    """Plain collections with a named vector, as an application makes them."""
    client = QdrantClient(url=server.url, check_compatibility=False, timeout=60)
    random = np.random.default_rng(7)
    for number in range(collections):
        vectors = {"a": models.VectorParams(size=SIZE, distance=models.Distance.COSINE)}
        client.create_collection(f"{name}_{number:03d}", vectors_config=vectors)
        values = random.random((points, SIZE), dtype=np.float32)
        rows = [
            models.PointStruct(id=one, vector={"a": values[one].tolist()}, payload={"text": f"point {one}"})
            for one in range(points)
        ]
        client.upsert(f"{name}_{number:03d}", rows, wait=True)
    client.close()


def project(server: Server, folder: Path) -> Settings:
    """A folder with settings, and a ledger on disk."""
    (folder / "qdrant_migrations" / "versions").mkdir(parents=True)
    config = {
        "qdrant": {"url": server.url, "grpc_port": server.grpc_port},
        "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
        "embedders": {"words": {"type": "hashing", "size": 16}},
    }
    (folder / "qmigrate.yaml").write_text(yaml.safe_dump(config))
    return Settings.load(config=folder / "qmigrate.yaml", environ={})


def measured(server: Server, at_once: int, collections: int, points: int) -> tuple[float, float, float]:
    """Seconds of adoption, upgrade and rollback."""
    name, folder = f"many{at_once}", Path(tempfile.mkdtemp(prefix="bench-many-"))
    fill(server, name, collections, points)
    settings = project(server, folder)
    took = []
    try:
        began = time.monotonic()
        adopt(settings, f"{name}_*", parallel=at_once)
        took.append(time.monotonic() - began)
        (folder / "qdrant_migrations" / "versions" / "0002_b.py").write_text(ADD.format(name=name))
        began = time.monotonic()
        done = upgrade.upgrade(settings, parallel=at_once)
        took.append(time.monotonic() - began)
        assert len(done.outcomes) == collections
        began = time.monotonic()
        back = rollback.rollback(settings, "0001", parallel=at_once)
        took.append(time.monotonic() - began)
        assert len(back.outcomes) == collections
    finally:
        shutil.rmtree(folder)
    return took[0], took[1], took[2]


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collections", type=int, default=60)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4])
    given = parser.parse_args()
    server = Server()
    try:
        print(f"{given.collections} collections of {given.points} points")
        first: tuple[float, ...] | None = None
        for at_once in given.at_once:
            took = measured(server, at_once, given.collections, given.points)
            first = first or took
            figures = "  ".join(
                f"{what} {seconds:6.1f} s ({begin / seconds:.2f} x)"
                for what, seconds, begin in zip(("adopt", "upgrade", "rollback"), took, first, strict=True)
            )
            print(f"{at_once} at a time: {figures}", flush=True)
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
