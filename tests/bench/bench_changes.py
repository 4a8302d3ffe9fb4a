"""What it costs to know which points were written, on a real server: versions next to a full pass, in one run.

One collection is built and proven as in the product, then listed by the versions of both sides: the full pass reads
and digests both sides, a listing reads no point. Medians are printed: seconds, client CPU and server CPU per point of
one side. The delta part lists both sides and their ids again and reads what a share of writes has changed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time

from qdrant_client import QdrantClient
from tests.bench.bench_copy import Ours, Server, load

from qmigrate.engine.prove.choice import ByVersion, choose
from qmigrate.engine.prove.versions import listing
from qmigrate.engine.work import Work
from qmigrate.model.ids import points_of
from qmigrate.model.names import EpochAlias
from qmigrate.model.plan import Build
from qmigrate.ports import PayloadEdit
from qmigrate.sequences import in_parts
from qmigrate.store import ConnectionSettings, connect

#: Of this many points one is written between two listings.
EVERY = 1000
Cost = tuple[float, float, float]


class Changes(Ours):
    """Shadow, fill and proof as the product does them, and the versions of both sides in between and afterwards."""

    def __init__(self, store, points: int, measured, rounds: int) -> None:
        super().__init__(store, points, measured)
        self.rounds = rounds
        self.found: dict[str, list[Cost]] = {}
        self.lines: list[str] = []

    def phases(self, work: Work, step: Build, names: tuple[str, ...]) -> None:
        """As in the product; the choice before the fill, the listings behind the first proof."""
        if names == ("fill",):
            self.sides = step.source, step.target
            self.way = self.timed("choice", lambda: choose(work, *self.sides))
            assert isinstance(self.way, ByVersion), self.way
        super().phases(work, step, names)
        if names == ("converge",):
            for _ in range(self.rounds):
                self.round(work)
                self.timed("full pass", lambda: Ours.phases(work, step, names))

    def timed(self, name: str, call):
        """Note what a call costs; its result."""
        results = []
        self.found.setdefault(name, []).append(self.measured(lambda: results.append(call())))
        return results[0]

    def round(self, work: Work) -> None:
        """Two listings with writes in between, and the ids by themselves."""
        source, target = self.sides
        before = self.timed("listing of the source", lambda: listing(work, source, self.way.source))
        other = self.timed("listing of the target", lambda: listing(work, target, self.way.shadow))
        written = list(range(0, self.points, EVERY))
        for part in in_parts(written, 1000):
            self.store.edit_payloads(EpochAlias(source), [PayloadEdit(list(part), {"n": int(time.time())})])

        def delta() -> list[int]:
            with listing(work, source, self.way.source) as now, listing(work, target, self.way.shadow) as there:
                found = [one for page in now.changed_since(before) for one in points_of(page)]
                assert not list(there.changed_since(other))
            for part in in_parts(found, 256):
                self.store.fetch(source, part)
                self.store.fetch(target, part)
            return found

        assert self.timed("delta pass", delta) == written
        self.timed("ids of the source", lambda: sum(map(len, before.unlisted(self.store.scan_ids(source)))))
        before.close()
        other.close()


def main() -> int:
    """Parse, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    server = Server()
    try:
        report(options, measure(options, server))
    finally:
        server.stop()
    return 0


def measure(options, server: Server) -> dict[str, list[Cost]]:
    """Seconds, client CPU and server CPU of every part, per round."""
    client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=120)
    load(client, options.points, options.dim)
    store = connect(ConnectionSettings(url=server.url, grpc_port=server.grpc_port, timeout=60))

    def timed(work) -> Cost:
        before = (time.perf_counter(), time.process_time(), server.cpu())
        work()
        now = (time.perf_counter(), time.process_time(), server.cpu())
        return tuple(after - start for after, start in zip(now, before, strict=True))  # type: ignore[return-value]

    changes = Changes(store, options.points, timed, options.rounds)
    changes()
    changes.found["fill"] = [changes.fill]
    store.close()
    return changes.found


def report(options, found: dict[str, list[Cost]]) -> None:
    """The table: seconds and CPU per point, and the ratio of a delta pass to a full one."""
    sys.stdout.write(f"{options.points:,} points, {options.dim}-d, medians of {options.rounds}\n\n")
    medians = {name: [statistics.median(row[part] for row in rows) for part in range(3)] for name, rows in found.items()}
    for name, cost in medians.items():
        wall, client, server = (seconds / options.points * 1e6 for seconds in cost)
        sys.stdout.write(
            f"{name:24} {cost[0]:8.2f} s   wall {wall:6.2f}   client {client:6.2f}   server {server:6.2f} µs/point\n"
        )
    delta, full = medians["delta pass"], medians["full pass"]
    ratios = [one / other for one, other in zip(delta, full, strict=True)]
    sys.stdout.write(
        f"\ndelta pass / full pass: wall {ratios[0]:.2f}, client {ratios[1]:.3f}, server {ratios[2]:.2f}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
