"""Copy speed on a real server: ours, the raw read and write ceilings, and QdrantClient.migrate, in one run.

Two servers on loopback: one holds the source (and the target of ours, as in the product), the other is the target of
`migrate`, which can't rename. Indexing is off for all. Rounds rotate the order; medians are printed, and per-point CPU.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import threading
import time

from qdrant_client import QdrantClient, grpc
from tests.bench.servers import SOURCE, Ours, Server, load
from tests.harness import by_hand

from qmigrate.store import ConnectionSettings, connect


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
