"""What several benches share: a Qdrant server of their own, a loaded collection, and the product's own fill and proof."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models
from tests.harness import by_hand

from qmigrate.engine import rebuild
from qmigrate.engine.work import Work
from qmigrate.ledger import Ledger
from qmigrate.model.plan import Build, Job
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings

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
