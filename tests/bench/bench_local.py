"""Writing in local mode: one request of ours, next to the client as it is shipped, on the same disk, in turn.

The client commits each point, a flush of the disk for every one; ours commits a request. The figures are those of the
folder's disk: on one in memory nothing is flushed, and there is nothing to see.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import RestToGrpc

from qmigrate.store.local.local import LocalStore

CONFIG = {"a": models.VectorParams(size=256, distance=models.Distance.COSINE)}
#: Points of a request: the client's own default, and pages of a copy.
AS_SHIPPED, OURS = 64, 1000


def made(points: int) -> list[models.PointStruct]:
    """A vector and three fields each."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(points, 256)).astype(np.float32)
    return [
        models.PointStruct(id=n, vector={"a": row.tolist()}, payload={"n": n, "kind": "even", "text": f"text {n}"})
        for n, row in enumerate(rows)
    ]


def as_shipped(folder: Path, points: list[models.PointStruct]) -> float:
    """Seconds of the client's upserts; how many a request has makes no difference to it."""
    client = QdrantClient(path=str(folder))
    client.create_collection("c", CONFIG)
    started = time.perf_counter()
    for first in range(0, len(points), AS_SHIPPED):
        client.upsert("c", points[first : first + AS_SHIPPED])
    took = time.perf_counter() - started
    client.close()
    return took


def ours(folder: Path, points: list[models.PointStruct]) -> float:
    """Seconds of the store's upserts, which are those of a copy."""
    ready = [RestToGrpc.convert_point_struct(point).SerializeToString() for point in points]
    store = LocalStore.open(str(folder))
    with store.client() as client:
        client.create_collection("c", CONFIG)
    started = time.perf_counter()
    for first in range(0, len(ready), OURS):
        store.upsert("c", ready[first : first + OURS]).wait()
    took = time.perf_counter() - started
    store.close()
    return took


def in_a_folder(where: Path, write: Callable[[Path, list[models.PointStruct]], float], points: int) -> float:
    """Points per second, in a folder of its own; every point is there when it is opened again."""
    folder = Path(tempfile.mkdtemp(prefix="bench-local-", dir=where))
    try:
        took = write(folder / "q", made(points))
        client = QdrantClient(path=str(folder / "q"))
        if client.count("c").count != points:
            raise SystemExit(f"{write.__name__}: not all points are on disk")
        client.close()
        return points / took
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Parse, run the rounds in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=5000, help="of ours; the client as shipped gets a tenth of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build"), help="on the disk to be measured")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    rates: dict[str, list[float]] = {"the client as shipped": [], "one transaction per request": []}
    for _ in range(options.rounds):
        rates["the client as shipped"].append(in_a_folder(options.folder, as_shipped, options.points // 10))
        rates["one transaction per request"].append(in_a_folder(options.folder, ours, options.points))
    for name, found in rates.items():
        between = f"{min(found):,.0f} – {max(found):,.0f}"
        sys.stdout.write(f"{name:30} {statistics.median(found):8,.0f} points/s   ({between})\n")
    slow, fast = (statistics.median(found) for found in rates.values())
    sys.stdout.write(f"\n{fast / slow:.1f} times as fast, load {os.getloadavg()[0]:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
