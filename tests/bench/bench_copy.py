"""Copy speed on a real server: ours, the raw read and write ceilings, and QdrantClient.migrate, in one run.

Two servers on loopback: one holds the source (and the target of ours, as in the product), the other is the target of
`migrate`, which can't rename. Indexing is off for all. Rounds rotate the order; medians are printed, and per-point CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, grpc, models
from tests.harness import by_hand

from qmigrate.engine import rebuild
from qmigrate.engine.work import Work
from qmigrate.ledger import Ledger
from qmigrate.model.plan import Build, Job
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect

SOURCE = "bench__g0001"


class Server:
    """A qdrant process with a temporary folder."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="bench-")
        self.port, self.grpc_port = _free(), _free()
        env = {
            **os.environ,
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.port),
            "QDRANT__SERVICE__GRPC_PORT": str(self.grpc_port),
            "QDRANT__STORAGE__STORAGE_PATH": f"{self.folder}/storage",
            "QDRANT__STORAGE__SNAPSHOTS_PATH": f"{self.folder}/snapshots",
            "QDRANT__TELEMETRY_DISABLED": "true",
            "QDRANT__LOG_LEVEL": "ERROR",
        }
        self.process = subprocess.Popen(
            ["qdrant"], env=env, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.url = f"http://127.0.0.1:{self.port}"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/readyz", timeout=1).close()
                return
            time.sleep(0.1)
        raise SystemExit("qdrant did not start")

    def cpu(self) -> float:
        """User and system seconds of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End the process and remove its folder."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def load(client: QdrantClient, points: int, dim: int) -> None:
    """The workload: one vector and a small payload of three fields."""
    client.create_collection(
        SOURCE,
        vectors_config={"a": models.VectorParams(size=dim, distance=models.Distance.COSINE)},
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    )
    random = np.random.default_rng(1)
    for start in range(0, points, 1000):
        rows = random.normal(size=(1000, dim)).astype(np.float32)
        client.upsert(
            SOURCE,
            models.Batch(
                ids=list(range(start, start + 1000)),
                vectors={"a": rows.tolist()},
                payloads=[{"n": n, "kind": "even" if n % 2 == 0 else "odd", "text": f"text {n}"} for n in range(1000)],
            ),
        )


def parallel(jobs: int, work) -> None:
    """Run `work(number)` in threads."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def raw_read(store, points: int) -> None:
    """Scroll everything in four ranges and drop it."""
    step = points // 4

    def read(number: int) -> None:
        stop = None if number == 3 else (number + 1) * step
        for _ in store.scan(SOURCE, start=number * step, stop=stop, page=1000):
            pass

    parallel(4, read)


def raw_write(store, pages: list, points: int) -> None:
    """Upsert requests that are prepared in advance, four at a time."""
    schema = store.describe(SOURCE).schema.with_(aliases=())
    store.create_collection("bench_write", schema, seal=None)
    store.complete_collection("bench_write", schema, defer_index=True)

    def write(number: int) -> None:
        for page in pages[number::4]:
            store.upsert("bench_write", page).wait()

    parallel(4, write)
    assert store.count("bench_write") == points


class Ours:
    """The product's own fill phase, and the proof behind it, with a ledger on disk."""

    def __init__(self, store, points: int, measured) -> None:
        self.store = store
        self.points = points
        self.measured = measured
        self.number = 1
        self.folder = tempfile.mkdtemp(prefix="bench-ledger-")
        self.ledger = Ledger.open(f"sqlite:///{self.folder}/ledger.db")
        self.ledger.prepare()
        self.fill = self.proof = (0.0, 0.0, 0.0)

    def __call__(self) -> None:
        """Shadow, fill and proof; the latter two are measured."""
        self.number += 1
        schema = self.store.describe(SOURCE).schema.with_(aliases=())
        target = f"bench__g{self.number:04d}"
        step = Build((), SOURCE, target, self.number, schema, "copy", "bench")
        job = Job("bench", str(self.number), (step,))
        with self.ledger.hold("bench", timeout=30) as lease:
            state = CollectionState("bench", "alias", True)
            work = Work("bench", self.store, lease, None, Settings.load(stores=False), Silent(), state, job, "ledger")
            work.run = lease.open_run("upgrade", job, {}, actor="bench", tool="bench", server="bench")
            work.learned[(0, "preflight")] = {"points": self.points}
            self.phases(work, step, ("shadow",))
            self.fill = self.measured(lambda: self.phases(work, step, ("fill",)))
            self.proof = self.measured(lambda: self.phases(work, step, ("converge",)))
            lease.finish_run(work.run, "done")
        assert self.store.count(target) == self.points
        for alias in self.store.aliases():
            self.store.drop_alias(alias)
        self.store.drop_collection(by_hand(target))

    @staticmethod
    def phases(work: Work, step: Build, names: tuple[str, ...]) -> None:
        """Run phases by name, as the executor does."""
        for name in names:
            work.phase = name
            facts = getattr(rebuild, name)(step, work)
            work.learn(facts)


def main() -> int:
    """Parse, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    one, two = Server(), Server()
    try:
        report(options, measure(options, one, two))
    finally:
        one.stop()
        two.stop()
    return 0


def measure(options, one: Server, two: Server) -> dict:
    """Seconds, client CPU and server CPU of every way, per round."""
    client = QdrantClient(url=one.url, grpc_port=one.grpc_port, prefer_grpc=True, timeout=120)
    other = QdrantClient(url=two.url, grpc_port=two.grpc_port, prefer_grpc=True, timeout=120)
    load(client, options.points, options.dim)
    store = connect(ConnectionSettings(url=one.url, grpc_port=one.grpc_port, timeout=60))
    pages = [[_ready(stored) for stored in page] for page in store.scan(SOURCE, page=1000)]
    proof: list[tuple[float, float, float]] = []

    def timed(work) -> tuple[float, float, float]:
        before = (time.perf_counter(), time.process_time(), one.cpu() + two.cpu())
        work()
        now = (time.perf_counter(), time.process_time(), one.cpu() + two.cpu())
        return tuple(after - start for after, start in zip(now, before, strict=True))  # type: ignore[return-value]

    ours = Ours(store, options.points, timed)

    def our_copy() -> tuple[float, float, float]:
        ours()
        proof.append(ours.proof)
        return ours.fill

    def migrate() -> tuple[float, float, float]:
        took = timed(lambda: client.migrate(other, [SOURCE]))
        other.delete_collection(SOURCE)
        return took

    def write() -> tuple[float, float, float]:
        took = timed(lambda: raw_write(store, pages, options.points))
        store.drop_collection(by_hand("bench_write"))
        return took

    ways = {"ours": our_copy, "read": lambda: timed(lambda: raw_read(store, options.points)), "write": write}
    ways["migrate"] = migrate
    found: dict = {name: [] for name in ways}
    for round_number in range(options.rounds + 1):
        names = list(ways)[round_number % 4 :] + list(ways)[: round_number % 4]
        for name in names:
            took = ways[name]()
            if round_number:
                found[name].append(took)
    found["proof"] = proof[1:]
    store.close()
    return found


def _ready(stored):
    made = grpc.PointStruct(id=stored.id)
    for key, value in stored.payload.items():
        made.payload[key].CopyFrom(value)
    made.vectors.MergeFromString(stored.vectors.SerializeToString())
    return made.SerializeToString()


def report(options, found: dict) -> None:
    """The table: points per second, CPU per point, and ratios."""
    rate = {name: options.points / statistics.median(took[0] for took in rows) for name, rows in found.items()}
    sys.stdout.write(f"{options.points:,} points, {options.dim}-d, medians of {options.rounds}\n\n")
    labels = {
        "ours": "ours: copy with base and checkpoints",
        "read": "raw read ceiling",
        "write": "raw write ceiling",
        "migrate": "QdrantClient.migrate (gRPC)",
        "proof": "ours: last pass over both sides (proof)",
    }
    for name, label in labels.items():
        cpu = [statistics.median(took[part] for took in found[name]) / options.points * 1e6 for part in (1, 2)]
        shown = f"  client {cpu[0]:6.1f} µs/pt  servers {cpu[1]:6.1f} µs/pt"
        sys.stdout.write(f"{label:42} {rate[name]:10,.0f} points/s{shown}\n")
    ceiling = min(rate["read"], rate["write"])
    sys.stdout.write(
        f"\nours / migrate {rate['ours'] / rate['migrate']:.1f}   ours / min(read, write) {rate['ours'] / ceiling:.2f}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
