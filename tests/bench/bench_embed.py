"""Filling a vector by a model: the product's own fill next to a plain loop, and next to its slowest part alone.

One server. Every embedder fills the same points in each round, once by the fill of a rebuild (ranges, pipeline,
checkpoints) and once by the loop that one would write: scroll a page, embed point by point, upsert, wait (over the first
points). What the model alone and the opening alone take is measured in the same run. Medians and ratios are printed.
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
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread for the arithmetic: two on busy cores wait for each other longer than they work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient, models
from tests.bench.bench_clone import Ways
from tests.bench.servers import Server
from tests.bench.small_models import FIXED, ArrivalOrder, Fixed, transformer, uneven_texts
from tests.harness import by_hand

from qmigrate import Embed, op
from qmigrate.embed import load
from qmigrate.embed.inputs import ImageName
from qmigrate.embed.pipeline import Job as Item
from qmigrate.embed.pipeline import chosen
from qmigrate.embed.staged import StagedEmbedder, settled
from qmigrate.engine.points.streams import shown
from qmigrate.engine.work import OneAtATime, Work
from qmigrate.model.facts.phases import Fill
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect

SOURCE = "bench__g0001"
#: Points of the plain loop at most: it needs as long for each.
PLAIN = 128
#: Images per second of one A100, among eight and by itself, as clip-retrieval publishes them.
PUBLISHED = {"ViT-B-32": (875, 2500), "ViT-L-14": (312, 312)}


@dataclass(frozen=True, slots=True)
class Case:
    """An embedder and what it fills.

    Attributes:
        field: of the payload: ``text``, ``uneven`` or ``image``.
        other: an embedder that fills the same points, to be compared with it.
        model: whose published figures are printed next to it.
    """

    title: str
    embedder: Any
    points: int
    field: str
    other: Any = None
    model: str = ""


class Code:
    """One operation, one embedder."""

    turn = OneAtATime()

    def __init__(self, embedder, operation) -> None:
        self.made, self.wanted = embedder, operation

    def operation(self, ref):
        """It is always this one."""
        return self.wanted

    def embedder(self, name):
        """It is always this one."""
        return self.made


def memory(name: str, *, reset: bool = False) -> float:
    """Megabytes of this process: what it has (VmRSS), or the most since the last reset (VmHWM)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


class Fills(Ways):
    """Both ways to fill a new vector."""

    def ours(self, embedder, operation) -> tuple[float, dict, float]:
        """Seconds of the fill, its stages, and the megabytes that it took; the generation is removed again."""
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
            before = memory("VmRSS", reset=True)
            took = self.phases(work, ("fill",))
            grown = memory("VmHWM") - before
            stages = work.facts(Fill).stages
            assert self.store.count(target) == self.store.count(SOURCE)
            lease.finish_run(work.run, "done")
        for alias in self.store.aliases():
            self.store.drop_alias(alias)
        self.store.drop_collection(by_hand(target))
        return took, stages, grown

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
    jobs = [Item(None, None, [], one) for one in prepared]
    groups, _ = chosen(jobs, embedder.max_batch, embedder.max_weight, keep=False)
    began = time.perf_counter()
    under_way: deque[Any] = deque()
    for group in groups:
        batch = [job.prepared for job in group]
        under_way.append(embedder.encode(batch[0].kind, embedder.collate(batch)))
        # A device has its next batch while it is at one.
        if len(under_way) > 1:
            settled(under_way.popleft())
    for made in under_way:
        settled(made)
    return opened, time.perf_counter() - began


def cases(folder: Path, points: int, gpu: str) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Names, and what makes a case: models are made one at a time."""
    images = {"image_roots": [str(folder / "images")]}

    def case(*parts: Any, **more: Any) -> tuple[str, Callable[[], Case]]:
        title, config, *rest = parts
        return title, lambda: Case(title, load("bench", config), *rest, **more)

    for count in (1000, 20_000):
        title = f"device, {FIXED * 1000:.0f} ms per batch of 64, {count:,} points"
        yield title, lambda title=title, count=count: Case(title, Fixed(), count, "text")
    yield case("hashing, texts of 3 to 27 words", {"type": "hashing", "size": 256}, points, "text")
    yield case("pixels, JPEG 500x375", {"type": "pixels", "size": 256, **images}, points // 4, "image")
    if not all(importlib.util.find_spec(one) for one in ("torch", "open_clip", "sentence_transformers")):
        sys.stdout.write("torch, open_clip or sentence_transformers is not installed: no models of theirs\n\n")
        return
    import torch

    torch.set_num_threads(1)
    clip = {"type": "open_clip", "model": "ViT-B-32", "random_weights": 1, "device": "cpu", **images}
    yield case("open_clip ViT-B-32 on the CPU, random weights, fp32", clip, points // 32, "image")
    clip["precision"] = "pure_bf16"
    yield case("open_clip ViT-B-32 on the CPU, random weights, pure_bf16", clip, points // 16, "image")
    yield "sentence-transformers, texts of 5 to 200 words", lambda: uneven(folder, points // 4)
    if gpu == "cuda" and not torch.cuda.is_available():
        sys.stdout.write("no CUDA device here: ViT-B-32 and ViT-L-14 on a GPU are not measured\n\n")
        return
    share = 4 if gpu == "cuda" else 1 / 64
    threads = {"threads": max(8, os.cpu_count() or 1)}
    for model in PUBLISHED:
        config = {**clip, "model": model, "device": gpu, **threads}
        yield case(f"gpu: open_clip {model} on {gpu}, random weights, pure_bf16", config, int(points * share), "image", model=model)


def uneven(folder: Path, points: int) -> Case:
    """The same model by token budget, and as it comes."""
    config = {"type": "sentence_transformers", "model": transformer(folder), "device": "cpu", "batch_size": 32}
    title = "sentence-transformers, two layers, random weights, texts of 5 to 200 words"
    embedder = load("bench", config)
    return Case(title, embedder, points, "uneven", other=ArrivalOrder(embedder, 32))


def pictures(folder: Path, count: int) -> None:
    """JPEGs with something in them; repeated by name, so that few are made."""
    folder.mkdir()
    random = np.random.default_rng(2)
    for number in range(count):
        small = Image.fromarray(random.integers(0, 256, size=(48, 64, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=88)


def values_of(field: str, points: int, files: int) -> list[str]:
    """A text for each point, or a picture that no other point names in the same words."""
    if field == "uneven":
        return uneven_texts(points)
    if field == "image":
        return [f"{'./' * (n // files)}{n % files}.jpg" for n in range(points)]
    return [f"text number {n} " * (1 + n % 9) for n in range(points)]


def fill_source(client: QdrantClient, field: str, values: list[str]) -> None:
    """A point for each value."""
    client.create_collection(SOURCE, vectors_config={"a": models.VectorParams(size=8, distance="Cosine")})
    for start in range(0, len(values), 500):
        part = values[start : start + 500]
        ids, vectors = list(range(start, start + len(part))), {"a": [[1.0] * 8] * len(part)}
        client.upsert(SOURCE, models.Batch(ids=ids, vectors=vectors, payloads=[{field: one} for one in part]))


def main() -> int:
    """Parse, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=8000, help="of the quickest case; the others have a share of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--gpu", default="cuda", help="the device of the last cases; cpu tries them with few points")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Qdrant client version")
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    with tempfile.TemporaryDirectory(prefix="bench-images-") as name:
        pictures(Path(name) / "images", 200)
        for title, make in cases(Path(name), options.points, options.gpu):
            if options.only in title:
                measure(make(), Path(name) / "images", options.rounds)
    return 0


def measure(case: Case, folder: Path, rounds: int) -> None:
    """One case, and its lines."""
    def read(payload):
        return ImageName(payload[case.field]) if case.field == "image" else payload[case.field]

    params = models.VectorParams(size=case.embedder.size, distance="Cosine")
    spec = {"image": case.field} if case.field == "image" else {"text": case.field}
    operation = op.AddVector("bench", "b", params, values=Embed("bench", **spec))
    values = values_of(case.field, case.points, len(list(folder.iterdir())))
    items = [read({case.field: one}) for one in values]
    server = Server()
    try:
        client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=300)
        fill_source(client, case.field, values)
        store = connect(ConnectionSettings(url=server.url, grpc_port=server.grpc_port, timeout=60))
        fills = Fills(store)
        case.embedder.embed(items[:2])
        found = []
        for _ in range(rounds):
            opened, model = alone(case.embedder, items)
            ours, stages, memory = fills.ours(case.embedder, operation)
            plain = len(items) * fills.plain(client, case.embedder, params, read)
            other = fills.ours(case.other, operation)[0] if case.other is not None else 0.0
            found.append((ours, plain, opened, model, other, memory, stages))
        store.close()
    finally:
        server.stop()
    report(case, found)


def report(case: Case, found: list[tuple]) -> None:
    """Medians, ratios, and what the stages did in the last round."""
    ours, plain, opened, model, other, memory = (statistics.median(row[place] for row in found) for place in range(6))
    slower, write = max(opened, model), sys.stdout.write
    write(f"{case.title}: {case.points:,} points, medians of {len(found)}\n")
    write(f"  ours {case.points / ours:9,.0f} /s   plain loop {case.points / plain:9,.0f} /s")
    write(f"   opening alone {case.points / opened:9,.0f} /s" if opened else "")
    write(f"   model alone {case.points / model:9,.0f} /s\n")
    spread = ", ".join(f"{max(row[2], row[3]) / row[0]:.2f}" for row in found)
    write(f"  ours / plain {plain / ours:.1f}   ours / the slower of both alone {slower / ours:.2f} ({spread})")
    write(f"   ours / model alone {model / ours:.2f}   memory +{memory:,.0f} MB\n")
    if other:
        write(f"  arrival order {case.points / other:,.0f} /s   token budget / arrival order {other / ours:.2f}\n")
    if case.model:
        among, single = PUBLISHED[case.model]
        write(f"  published, per A100: {among:,} /s of eight, {single:,} /s of one; ours {case.points / ours / single:.1f} times\n")
    write(f"  busy: {shown(found[-1][6])}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
