"""Filling a vector by a model: the product's own fill beside a plain loop, and beside its slowest part alone.

One server. Every embedder fills the same points in each round, once by the fill of a rebuild (ranges, pipeline,
checkpoints) and once by the loop that one would write: scroll a page, embed point by point, upsert, wait (over the first points). What the
model alone and the opening alone take is measured in the same run. Medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# One thread for the arithmetic: two on busy cores wait for each other longer than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient, models
from tests.bench.bench_clone import Ways
from tests.bench.bench_copy import Server

from qmigrate import Embed, op
from qmigrate.embed import load
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.staged import StagedEmbedder
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings import Settings
from qmigrate.steps.streams import shown
from qmigrate.steps.work import Work
from qmigrate.store import ConnectionSettings, connect

SOURCE = "bench__g0001"
#: Points of the plain loop at most: it needs as long for each.
PLAIN = 256
#: Seconds of one batch of the synthetic model.
FIXED = 0.05


class Fixed:
    """A model that takes the same time for every batch, and lets go of the interpreter meanwhile, as a device does."""

    size, max_batch = 64, 64

    def fingerprint(self):
        """None that matters."""
        return {"type": "fixed"}

    def embed(self, items):
        """Rows that differ."""
        time.sleep(FIXED)
        lengths = np.array([len(item) for item in items], dtype=np.float32)
        return lengths[:, None] + np.arange(1, 65, dtype=np.float32)


class Code:
    """One operation, one embedder."""

    def __init__(self, embedder, operation) -> None:
        self.made, self.wanted = embedder, operation

    def operation(self, ref):
        """It is always this one."""
        return self.wanted

    def embedder(self, name):
        """It is always this one."""
        return self.made


class Fills(Ways):
    """Both ways to fill a new vector."""

    def ours(self, embedder, operation) -> tuple[float, dict]:
        """Seconds of the fill, and its stages; the generation is removed again."""
        self.number += 1
        target = f"bench__g{self.number:04d}"
        schema = operation.apply(self.store.describe(SOURCE).schema.with_(aliases=()))
        step = Build((OpRef("1", 0),), SOURCE, target, self.number, schema, "copy", "bench")
        job = Job("bench", str(self.number), (step,))
        with self.ledger.hold("bench", timeout=30) as lease:
            state, settings = CollectionState("bench", "alias", True), Settings.load(stores=False)
            code = Code(embedder, operation)
            work = Work("bench", self.store, lease, code, settings, Silent(), state, job, self.identity)
            work.run = lease.open_run("upgrade", job, {}, actor="bench", tool="bench", server="bench")
            work.learned[(0, "preflight")] = {"points": self.store.count(SOURCE)}
            self.phases(work, ("shadow",))
            took = self.phases(work, ("fill",))
            stages = work.facts("fill")["stages"]
            assert self.store.count(target) == self.store.count(SOURCE)
            lease.finish_run(work.run, "done")
        for alias in self.store.aliases():
            self.store.drop_alias(alias)
        self.store.drop_collection(target)
        return took, stages

    def plain(self, client: QdrantClient, embedder, params, read) -> float:
        """Seconds per point of the loop that one would write, over the first points."""
        client.create_collection("plain", vectors_config={"a": models.VectorParams(size=8, distance="Cosine"), "b": params})
        began, offset, done = time.perf_counter(), None, 0
        while done < PLAIN and (offset is not None or not done):
            rows, offset = client.scroll(SOURCE, limit=64, offset=offset, with_vectors=True)
            points = [
                models.PointStruct(
                    id=row.id,
                    payload=row.payload,
                    vector={"a": row.vector["a"], "b": np.asarray(embedder.embed([read(row.payload)])[0]).tolist()},
                )
                for row in rows
            ]
            client.upsert("plain", points, wait=True)
            done += len(points)
        took = (time.perf_counter() - began) / done
        client.delete_collection("plain")
        return took


def alone(embedder, items) -> tuple[float, float]:
    """Seconds of opening by as many threads as it wants, and of the model, without anything around them."""
    if not isinstance(embedder, StagedEmbedder):
        began = time.perf_counter()
        for start in range(0, len(items), embedder.max_batch):
            embedder.embed(items[start : start + embedder.max_batch])
        return 0.0, time.perf_counter() - began
    began = time.perf_counter()
    with ThreadPoolExecutor(embedder.threads) as pool:
        prepared = [one for some in pool.map(lambda item: embedder.prepare([item]), items) for one in some]
    opened = time.perf_counter() - began
    began = time.perf_counter()
    for start in range(0, len(prepared), embedder.max_batch):
        embedder.encode(0, embedder.collate(prepared[start : start + embedder.max_batch]))
    return opened, time.perf_counter() - began


def cases(folder: Path, points: int):
    """Name, embedder, points, and what it embeds of a payload."""
    roots = [str(folder)]
    yield "fixed time per batch", Fixed(), points, "text"
    yield "hashing, texts", load("bench", {"type": "hashing", "size": 256}), points, "text"
    yield "pixels, JPEG 500x375", load("bench", {"type": "pixels", "size": 256, "image_roots": roots}), points // 4, "image"
    if all(importlib.util.find_spec(one) for one in ("torch", "open_clip")):
        import torch

        torch.set_num_threads(1)
        clip = {"type": "open_clip", "model": "ViT-B-32", "random_weights": 1, "device": "cpu", "image_roots": roots}
        yield "open_clip ViT-B-32, random weights, fp32", load("bench", clip), points // 16, "image"
        clip["precision"] = "pure_bf16"
        yield "open_clip ViT-B-32, random weights, pure_bf16", load("bench", clip), points // 8, "image"


def pictures(folder: Path, count: int) -> None:
    """JPEGs with something in them; repeated by name, so that few are made."""
    random = np.random.default_rng(2)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, size=(48, 64, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=88)


def fill_source(client: QdrantClient, points: int, folder: Path) -> None:
    """Points with a text each, and a picture that no other point names in the same words."""
    client.create_collection(SOURCE, vectors_config={"a": models.VectorParams(size=8, distance="Cosine")})
    files = len(list(folder.iterdir()))
    for start in range(0, points, 500):
        ids = range(start, min(start + 500, points))
        payloads = [{"text": f"text number {n} " * (1 + n % 9), "image": f"{'./' * (n // files)}{n % files}.jpg"} for n in ids]
        client.upsert(SOURCE, models.Batch(ids=list(ids), vectors={"a": [[1.0] * 8] * len(ids)}, payloads=payloads))


def main() -> int:
    """Parse, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name has this")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Qdrant client version")
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    with tempfile.TemporaryDirectory(prefix="bench-images-") as name:
        pictures(Path(name), 200)
        for title, embedder, points, field in cases(Path(name), options.points):
            if options.only in title:
                case(title, embedder, points, field, Path(name), options.rounds)
    return 0


def case(title: str, embedder, points: int, field: str, folder: Path, rounds: int) -> None:
    """One embedder, and its lines."""
    def read(payload):
        return ImageName(payload[field]) if field == "image" else payload[field]

    params = models.VectorParams(size=embedder.size, distance="Cosine")
    values = Embed("bench", **{field: field})
    server = Server()
    try:
        client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=300)
        fill_source(client, points, folder)
        store = connect(ConnectionSettings(url=server.url, grpc_port=server.grpc_port, timeout=60))
        fills = Fills(store)
        operation = op.AddVector("bench", "b", params, values=values)
        rows, _ = client.scroll(SOURCE, limit=points)
        items = [read(row.payload) for row in rows]
        embedder.embed(items[:2])
        found = [one(embedder, operation, params, read, items, fills, client) for _ in range(rounds)]
        store.close()
    finally:
        server.stop()
    ours, plain, opened, model = (statistics.median(row[place] for row in found) for place in range(4))
    slower = max(opened, model)
    sys.stdout.write(f"{title}: {points:,} points, medians of {rounds}\n")
    sys.stdout.write(f"  ours {points / ours:9,.0f} /s   plain loop {points / plain:9,.0f} /s")
    sys.stdout.write(f"   opening alone {points / opened:9,.0f} /s" if opened else "")
    sys.stdout.write(f"   model alone {points / model:9,.0f} /s\n")
    sys.stdout.write(f"  ours / plain {plain / ours:.1f}   ours / the slower of both alone {slower / ours:.2f}\n")
    sys.stdout.write(f"  busy: {shown(found[-1][4])}\n\n")
    sys.stdout.flush()


def one(embedder, operation, params, read, items, fills: Fills, client: QdrantClient):
    """Each way once."""
    opened, model = alone(embedder, items)
    ours, stages = fills.ours(embedder, operation)
    return ours, len(items) * fills.plain(client, embedder, params, read), opened, model, stages


if __name__ == "__main__":
    sys.exit(main())
