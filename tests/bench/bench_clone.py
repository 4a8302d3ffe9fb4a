"""A dropped vector, by clone and by copy, in one run: seconds until the new generation is ready to search, and proven.

One server holds a collection of two indexed vectors. Rounds rotate the order; medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np
from qdrant_client import QdrantClient, models
from tests.bench.servers import Server
from tests.harness import by_hand

from qmigrate import op
from qmigrate.engine import rebuild
from qmigrate.engine.work import OneAtATime, Work
from qmigrate.ledger import Ledger
from qmigrate.model.facts.phases import Proof
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect

SOURCE = "bench__g0001"
DROP = op.DropVector("bench", "b", cutover="immediate")
#: What a generation needs until it can be searched, and what proves it.
READY = ("snapshot", "shadow", "fill", "index")


class Code:
    """The one operation of the revision."""

    turn = OneAtATime()

    def operation(self, ref: OpRef):
        """It is always this one."""
        return DROP


class Ways:
    """Both ways of the product's own phases, with a ledger on disk."""

    def __init__(self, store) -> None:
        self.store = store
        self.number = 1
        self.folder = tempfile.mkdtemp(prefix="bench-ledger-")
        self.ledger = Ledger.open(f"sqlite:///{self.folder}/ledger.db")
        self.identity = self.ledger.prepare()
        store.write_seal(SOURCE, {"ledger": self.identity, "generation": 1, "state": "live"})

    def run(self, fill: str) -> tuple[float, float]:
        """Seconds until ready, and seconds of the proof behind it; the generation is removed again."""
        self.number += 1
        target = f"bench__g{self.number:04d}"
        schema = DROP.apply(self.store.describe(SOURCE).schema.with_(aliases=()))
        step = Build((OpRef("1", 0),), SOURCE, target, self.number, schema, fill, "bench")
        job = Job("bench", str(self.number), (step,))
        with self.ledger.hold("bench", timeout=30) as lease:
            state = CollectionState("bench", "alias", True)
            settings = Settings.load(stores=False)
            work = Work("bench", self.store, lease, Code(), settings, Silent(), state, job, self.identity)
            work.snapshot = fill == "clone"
            work.run = lease.open_run("upgrade", job, {}, actor="bench", tool="bench", server="bench")
            work.learned[(0, "preflight")] = {"points": self.store.count(SOURCE)}
            took = [self.phases(work, READY), self.phases(work, ("converge",))]
            proof = work.facts(Proof).report
            assert work.job.steps[0].fill == fill, work.job.steps[0].reason
            assert (proof.proven, proof.repaired) == (proof.points, 0), proof
            lease.finish_run(work.run, "done")
        for alias in self.store.aliases():
            self.store.drop_alias(alias)
        self.store.drop_collection(by_hand(target))
        for made in self.store.list_snapshots(SOURCE):
            self.store.delete_snapshot(SOURCE, made.name)
        return took[0], took[1]

    @staticmethod
    def phases(work: Work, names: tuple[str, ...]) -> float:
        """Run phases by name, as the executor does; seconds."""
        started = time.perf_counter()
        for name in names:
            work.phase = name
            facts = getattr(rebuild, name)(work.job.steps[0], work)
            work.learn(facts)
        return time.perf_counter() - started


def load(client: QdrantClient, points: int, dim: int) -> None:
    """Two vectors, the second a quarter as long, and a small payload with an index; waits until both are indexed."""
    client.create_collection(
        SOURCE,
        vectors_config={
            "a": models.VectorParams(size=dim, distance=models.Distance.COSINE),
            "b": models.VectorParams(size=dim // 4, distance=models.Distance.COSINE),
        },
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1000),
    )
    client.create_payload_index(SOURCE, "kind", models.PayloadSchemaType.KEYWORD)
    random = np.random.default_rng(1)
    for start in range(0, points, 1000):
        rows = {name: random.normal(size=(1000, size)) for name, size in (("a", dim), ("b", dim // 4))}
        client.upsert(
            SOURCE,
            models.Batch(
                ids=list(range(start, start + 1000)),
                vectors={name: one.astype(np.float32).tolist() for name, one in rows.items()},
                payloads=[{"n": n, "kind": "even" if n % 2 == 0 else "odd"} for n in range(1000)],
            ),
        )


def settle(store) -> None:
    """Wait until the optimizers are done."""
    quiet = 0
    while quiet < 3:
        quiet = quiet + 1 if store.readiness(SOURCE).settled else 0
        time.sleep(0.2)


def main() -> int:
    """Parse, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=40_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    server = Server()
    try:
        client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=300)
        load(client, options.points, options.dim)
        store = connect(ConnectionSettings(url=server.url, grpc_port=server.grpc_port, timeout=60))
        settle(store)
        ways = Ways(store)
        found: dict[str, list[tuple[float, float]]] = {"clone": [], "copy": []}
        for number in range(options.rounds):
            for fill in sorted(found, reverse=bool(number % 2)):
                found[fill].append(ways.run(fill))
        store.close()
    finally:
        server.stop()
    report(options, found)
    return 0


def report(options, found: dict[str, list[tuple[float, float]]]) -> None:
    """Seconds and ratios."""
    sys.stdout.write(f"{options.points:,} points, {options.dim}-d and {options.dim // 4}-d, one vector dropped, ")
    sys.stdout.write(f"medians of {options.rounds}\n\n")
    medians = {
        fill: [statistics.median(took[part] for took in rows) for part in (0, 1)] for fill, rows in found.items()
    }
    for fill, (ready, proof) in medians.items():
        spread = ", ".join(f"{took[0]:.2f}" for took in found[fill])
        sys.stdout.write(f"{fill:6} ready after {ready:7.2f} s ({spread})   proof {proof:5.2f} s\n")
    ready = medians["copy"][0] / medians["clone"][0]
    whole = sum(medians["copy"]) / sum(medians["clone"])
    sys.stdout.write(f"\ncopy / clone: ready to search {ready:.1f}, with the proof {whole:.1f}\n")


if __name__ == "__main__":
    sys.exit(main())
