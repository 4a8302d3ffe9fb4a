"""What it costs to know which points were written, on a real server: versions next to a full pass, in one run.

One collection is built and proven as in the product, then listed by the versions of both sides: the full pass reads
and digests both sides, a listing reads no point. Medians are printed: seconds, client CPU and server CPU per point of
one side. The delta part lists both sides and their ids again and reads what a share of writes has changed.

`--since`: what was written since a generation went live, by the product's own commands: an upgrade by copy, some writes,
the count that refuses a rollback, `status --count-writes`, and the rollback that carries. All of it by the versions that
are kept, and once more by reading everything, as where nothing is kept.
One collection is built and proven as in the product; then its delta passes, next to a full pass that reads and digests
both sides. Medians are printed: seconds, client CPU and server CPU per point of one side. Once nothing was written in
between, and once a share of the points on both sides.

With ``--writers N`` instead N runs of a rebuild under three writers, for each policy and kind of name, with what was
acknowledged, carried, listed, refused, lost and undone: see writers.py. With ``--killed N`` rebuilds that are killed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from tests.bench.killed import killed
from tests.bench.servers import Ours, Server, load
from tests.bench.writers import CHANGES, writers
from tests.harness import Deployment, counts

from qmigrate.commands import rollback, status, upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.barriers import delta_of
from qmigrate.engine.epoch_aliases import own
from qmigrate.engine.points.base import base_name
from qmigrate.engine.prove import proof, recorded
from qmigrate.engine.prove.choice import ByVersion, choose
from qmigrate.engine.prove.passes import Sample, Sides, last_pass
from qmigrate.engine.prove.versions import listing
from qmigrate.engine.work import Work
from qmigrate.errors import NoVersionsError, RefusedError
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
            sides = Sides(
                *self.sides, own(work, step.target), base_name(*self.sides, back=False), 0, rebuild.maker_of(step, work)
            )
            # The first one lists both sides, and reads all of them.
            self.delta = delta_of(work)
            self.again(work, sides, 0)
            for _ in range(self.rounds):
                self.round(work, sides)

    def timed(self, name: str, call):
        """Note what a call costs; its result."""
        results = []
        self.found.setdefault(name, []).append(self.measured(lambda: results.append(call())))
        return results[0]

    def again(self, work: Work, sides: Sides, passes: int = 1):
        """A pass over what was written, as the product makes it."""
        return proof._pass(work, sides, passes, delta=self.delta, carrying=False)

    def edit(self, name: str, ids) -> None:
        """Another client writes to these points."""
        for part in in_parts(ids, 1000):
            self.store.edit_payloads(EpochAlias(name), [PayloadEdit(list(part), {"n": int(time.time())})])

    def round(self, work: Work, sides: Sides) -> None:
        """Two listings, delta passes without and with writes in between, and a pass over all.

        The two barriers of the listings were not sent by a pass, so that the next pass lists both sides.
        """
        source, target = self.sides
        self.timed("listing of the source", lambda: listing(work, source, self.way.source)).close()
        self.timed("listing of the target", lambda: listing(work, target, self.way.shadow)).close()
        found = self.timed("delta pass, both sides listed", lambda: self.again(work, sides))
        assert found.read == 0, found
        found = self.timed("delta pass, unchanged", lambda: self.again(work, sides))
        assert found.read == 0, found
        self.edit(source, [0])
        found = self.timed("delta pass, 1 point", lambda: self.again(work, sides))
        assert found.read == 1, found
        written = list(range(0, self.points, EVERY))
        self.edit(source, written)
        found = self.timed("delta pass, 1 of 1,000", lambda: self.again(work, sides))
        assert found.read == len(written), found
        self.timed("full pass", lambda: last_pass(work, sides, Sample(0.0)))


def main() -> int:
    """Parse, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int)
    parser.add_argument("--dim", type=int, help="values of a vector: 128; of the writers' 8, other ones by an alias only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--since", action="store_true", help="what was written since a generation went live")
    parser.add_argument("--writes", type=int, default=50, help="with --since: points that are written")
    parser.add_argument("--writers", type=int, metavar="RUNS", help="runs of a rebuild under writers, of each kind")
    parser.add_argument("--policies", nargs="+", default=["converge", "freeze", "auto"], help="policies of these runs")
    parser.add_argument("--names", nargs="+", default=["alias", "plain"], help="what the writers' name is before")
    parser.add_argument("--change", default="fill", choices=sorted(CHANGES), help="what these runs change")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of a cluster for these runs")
    parser.add_argument("--replicas", type=int, default=1, help="of each shard, with several nodes")
    parser.add_argument("--unindexed", action="store_true", help="no index of these, which takes cores for long")
    parser.add_argument("--each", action="store_true", help="show each of these runs, too")
    parser.add_argument("--killed", type=int, metavar="RUNS", help="rebuilds that are killed at 60 %% and run again")
    parser.add_argument("--timeout", type=int, default=60, help="qdrant.timeout of these, in seconds")
    parser.add_argument("--sql", help="URL of a PostgreSQL server on which each has a database of its own, in place of SQLite")
    options = parser.parse_args()
    options.dim = options.dim or (8 if options.writers else 128)
    options.points = options.points or (12_000 if options.writers else 200_000)
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    if options.writers:
        writers(options)
        return 0
    server = Server()
    try:
        if options.since:
            since(options, server)
        elif options.killed:
            killed(options, server)
        else:
            report(options, measure(options, server))
    finally:
        server.stop()
    return 0


#: A change that is made by copy, and has an inverse.
CHANGE = """
def upgrade():
    return [op.TransformPoints("{name}", there, inverse=back)]


def there(point):
    return {{**point.payload, "more": 1}}


def back(point):
    return {{key: value for key, value in point.payload.items() if key != "more"}}
"""
CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=%d, distance=Distance.COSINE)}})]
"""


def since(options, server: Server) -> None:
    """Count and carry some writes by versions, then by reading everything."""
    with tempfile.TemporaryDirectory() as folder:
        qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 120}
        limits = {"limits": {"lock_timeout": "60s"}, "rebuild": {"snapshot": False, "gc": "off"}}
        made = Deployment(Path(folder) / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra=limits)
        made.revise("0001", CREATE % options.dim)
        upgrade.upgrade(made.settings())
        client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=120)
        client.update_collection(made.name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0))
        for start in range(0, options.points, 1000):
            client.upsert(made.name, _points(range(start, start + 1000), options.dim))
        made.revise("0002", CHANGE)
        for way in ("by versions", "reading all"):
            with pytest.MonkeyPatch.context() as patch:
                if way == "reading all":
                    patch.setattr(recorded, "take", _nothing_kept)
                _timed(server, options, f"upgrade ({way})", lambda: upgrade.upgrade(made.settings()))
                _write(client, made.name, options)
                _timed(server, options, f"count, rollback refused ({way})", lambda: _refused(made, options))
                _timed(server, options, f"status --count-writes ({way})", lambda: _status(made, options))
                _timed(server, options, f"rollback --carry-writes ({way})", lambda: _carried(made))
        client.close()


def _nothing_kept(_kept) -> None:
    raise NoVersionsError("nothing is kept in this measurement")


def _points(numbers, dim: int, text: str = "text") -> models.Batch:
    rows = np.random.default_rng(min(numbers)).normal(size=(len(numbers), dim)).astype(np.float32)
    payloads = [{"n": number, "kind": "even" if number % 2 == 0 else "odd", "text": f"{text} {number}"} for number in numbers]
    return models.Batch(ids=list(numbers), vectors={"a": rows.tolist()}, payloads=payloads)


def _write(client: QdrantClient, name: str, options) -> None:
    """Two fifths changed, two fifths added, one fifth deleted, all over the collection."""
    part = options.writes // 5
    step = options.points // (3 * part)
    client.upsert(name, _points(range(0, 2 * part * step, step), options.dim, str(time.time())))
    first = options.points + int(time.time())
    client.upsert(name, _points(range(first, first + 2 * part), options.dim))
    some, _ = client.scroll(name, limit=part, offset=2 * part * step + 1, with_payload=False)
    client.delete(name, [one.id for one in some])


def _refused(made: Deployment, options) -> None:
    with pytest.raises(RefusedError) as refused:
        rollback.rollback(made.settings(), "0001")
    assert sum(counts(refused.value.facts["writes_since"])) == options.writes


def _status(made: Deployment, options) -> None:
    (row,) = status.status(made.settings(), count_writes=True).collections
    found = row.written_since
    assert found is not None, row.not_counted
    assert found.added + found.changed + found.deleted == options.writes


def _carried(made: Deployment) -> None:
    rollback.rollback(made.settings(), "0001", writes="carry")


def _timed(server: Server, options, name: str, work) -> None:
    before = (time.perf_counter(), time.process_time(), server.cpu())
    work()
    now = (time.perf_counter(), time.process_time(), server.cpu())
    wall, client, cpu = (after - start for after, start in zip(now, before, strict=True))
    sys.stdout.write(f"{name:44} {wall:8.2f} s   client CPU {client:7.2f} s   server CPU {cpu:7.2f} s\n")
    sys.stdout.flush()


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
            f"{name:30} {cost[0]:8.2f} s   wall {wall:6.2f}   client {client:6.2f}   server {server:6.2f} µs/point\n"
        )
    sys.stdout.write("\n")
    medians["listings of both, the floor"] = [
        one + other for one, other in zip(medians["listing of the source"], medians["listing of the target"], strict=True)
    ]
    whole = medians["full pass"]
    for name in ("listing of the source", "listings of both, the floor", *(name for name in medians if "delta" in name)):
        wall, client, server = (one / other for one, other in zip(medians[name], whole, strict=True))
        both = sum(medians[name][1:]) / sum(whole[1:])
        sys.stdout.write(
            f"{name} / full pass: wall {wall:.2f}, client {client:.3f}, server {server:.2f}, CPU of both {both:.2f}\n"
        )
    sys.stdout.write(f"load {os.getloadavg()[0]:.0f}\n")


if __name__ == "__main__":
    sys.exit(main())
