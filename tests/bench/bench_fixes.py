"""Data fixes next to what they are made of, in one run: payload sync, deletion by ids, and the check for orphans.

One server, and for SQL a SQLite file (`--sql postgresql`: a PostgreSQL as the tests find one). Sync is compared with one ``set_payload`` per point (of a part of the points), deletion
with raw batched deletes of the same ids, the check with reading the ids alone from Qdrant and the rows alone from SQL.
Medians of several rounds; each fix runs as users run it, through plan, journal, verification and audit.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from qdrant_client import QdrantClient, grpc, models
from sqlalchemy import create_engine, text
from tests.bench.servers import Server
from tests.conftest_postgres import NONE_FOUND, found_postgres, fresh_database

from qmigrate import fix, op
from qmigrate.commands import fix as command
from qmigrate.commands import upgrade
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings

NAME = "bench"
CREATE = '''"""Make it."""

from qmigrate import op
from qdrant_client.models import VectorParams

revision = "0001"
down_revision = None


def upgrade():
    """One small vector: what is measured are ids and payloads."""
    return [op.CreateCollection("bench", {"": VectorParams(size=4, distance="Dot")})]
'''
#: Points that get a set_payload of their own; all of them would take minutes.
SINGLE = 2000
#: Ids of a raw delete.
BATCH = 1000


class Bench:
    """A deployment with a loaded collection, and a table of the same ids."""

    def __init__(self, server: Server, folder: Path, points: int, url: str) -> None:
        self.points = points
        self.sql = create_engine(url)
        (folder / "qdrant_migrations" / "versions").mkdir(parents=True)
        (folder / "qdrant_migrations" / "versions" / "0001_create.py").write_text(CREATE)
        config = {
            "qdrant": {"url": server.url, "grpc_port": server.grpc_port, "timeout": 60},
            "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
            "scripts": "qdrant_migrations",
            "databases": {"app": {"url": url}},
            "fixes": {"max_share": 1, "exports": str(folder / "exports")},
        }
        (folder / "qmigrate.yaml").write_text(yaml.safe_dump(config))
        self.settings = Settings.load(config=folder / "qmigrate.yaml")
        upgrade.upgrade(self.settings)
        self.client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=300)
        self.load(range(points))
        # By the type INTEGER SQLite keeps rows in the order of the key.
        number = "INTEGER" if self.sql.dialect.name == "sqlite" else "BIGINT"
        self.run(f"CREATE TABLE faces (id {number} PRIMARY KEY, person_id INTEGER)")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :most)"
        self.run(f"INSERT INTO faces {numbers} SELECT i, i % 500 FROM n", most=points)

    def run(self, statement: str, **values: int) -> None:
        """A statement of the application."""
        with self.sql.begin() as connection:
            connection.execute(text(statement), values)

    def load(self, ids: range) -> None:
        """Points with a small payload."""
        for first in range(ids.start, ids.stop, 5000):
            some = range(first, min(first + 5000, ids.stop))
            self.client.upsert(
                NAME,
                models.Batch(
                    ids=list(some),
                    vectors=[[1.0, float(n % 7), 2.0, 3.0] for n in some],
                    payloads=[{"person_id": -1, "path": f"/photos/{n % 100}/{n}.jpg"} for n in some],
                ),
                wait=True,
            )

    def persons(self, shift: int) -> None:
        """Another person for every face."""
        self.run("UPDATE faces SET person_id = (id + :shift) % 500", shift=shift)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of this process's CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu


def sync(bench: Bench, rounds: int) -> None:
    """Every point's person has changed; 500 persons."""
    ours, single = [], []
    for number in range(rounds):
        bench.persons(number + 1)
        ours.append(timed(lambda: fix.sync_payload(
            NAME, sql="SELECT id, person_id FROM faces", fields=["person_id"], max_share=1, settings=bench.settings
        )))

        def one_by_one(number: int = number) -> None:
            for key in range(SINGLE):
                bench.client.set_payload(NAME, {"person_id": -number}, points=[key], wait=True)

        single.append(timed(one_by_one))
    mine = statistics.median(took for took, _ in ours) / bench.points
    theirs = statistics.median(took for took, _ in single) / SINGLE
    say(f"sync of {bench.points:,} points, 500 values", mine, statistics.median(cpu for _, cpu in ours) / bench.points)
    say(f"one set_payload per point ({SINGLE:,} of them)", theirs)
    sys.stdout.write(f"  one by one / ours: {theirs / mine:.1f}\n\n")


class Phases(Silent):
    """Notes how long each phase takes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._began = "", 0.0

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        self._phase, self._began = phase, time.perf_counter()

    def end(self, summary: str = "") -> None:
        self.seconds[self._phase] = time.perf_counter() - self._began


def delete(bench: Bench, rounds: int) -> None:
    """The first half of the points, by their ids; they are written again for the next round."""
    ids = list(range(bench.points // 2))
    found: dict[str, list[tuple[float, float]]] = {"exported": [], "not exported": [], "raw": []}
    phases: dict[str, list[float]] = {"exported": [], "not exported": []}
    for number in range(rounds):
        for what in sorted(found, reverse=bool(number % 2)):
            if what == "raw":
                found[what].append(timed(lambda: raw_delete(bench, ids)))
            else:
                operation = op.DeletePoints(NAME, ids=ids, reason="bench", max_share=1, export=what == "exported")
                seen = Phases()
                found[what].append(
                    timed(lambda operation=operation, seen=seen: command.fix(bench.settings, operation, progress=seen))
                )
                phases[what].append(seen.seconds["change"])
            bench.load(range(len(ids)))
    medians = {what: statistics.median(took for took, _ in rows) / len(ids) for what, rows in found.items()}
    for what, rows in found.items():
        say(f"deletion of {len(ids):,} ids, {what}", medians[what], statistics.median(cpu for _, cpu in rows) / len(ids))
    for what, seconds in phases.items():
        alone = statistics.median(seconds) / len(ids)
        say(f"  its phase that deletes, {what}", alone)
        sys.stdout.write(
            f"  rate of that phase, {what} / raw: {medians['raw'] / alone:.2f}; "
            f"of all of it: {medians['raw'] / medians[what]:.2f}\n"
        )
    sys.stdout.write("\n")


def raw_delete(bench: Bench, ids: list[int]) -> None:
    """Batches of ids, one after the other."""
    for first in range(0, len(ids), BATCH):
        bench.client.delete(NAME, models.PointIdsList(points=ids[first : first + BATCH]), wait=True)


def orphans(bench: Bench, rounds: int) -> None:
    """All ids of both sides; a thousandth is missing on either."""
    bench.run("DELETE FROM faces WHERE id % 1000 = 7")
    raw_delete(bench, [n for n in range(bench.points) if n % 1000 == 11])
    operation = op.DeleteOrphans(NAME, sql="SELECT id FROM faces", reason="bench")
    found: dict[str, list[tuple[float, float]]] = {"check": [], "qdrant": [], "sql": []}
    ways = {
        "check": lambda: command.review(bench.settings, operation),
        "qdrant": lambda: read_ids(bench),
        "sql": lambda: read_rows(bench),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(rounds):
        for what in sorted(ways, reverse=bool(number % 2)):
            found[what].append(timed(ways[what]))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    medians = {what: statistics.median(took for took, _ in rows) / bench.points for what, rows in found.items()}
    for what, label in (("check", "orphan check"), ("qdrant", "ids from Qdrant alone"), ("sql", "rows from SQL alone")):
        cpu = statistics.median(cpu for _, cpu in found[what]) / bench.points
        say(f"{label}, {bench.points:,}", medians[what], cpu)
    slower = max(medians["qdrant"], medians["sql"])
    sys.stdout.write(f"  check / the slower side alone: {medians['check'] / slower:.2f}, memory grown {grown:.0f} MB\n\n")


def read_ids(bench: Bench) -> None:
    """Scroll through the ids and use none."""
    channel = grpc_channel(bench)
    ask = channel.unary_unary("/qdrant.Points/Scroll", request_serializer=grpc.ScrollPoints.SerializeToString)
    request = grpc.ScrollPoints(collection_name=NAME, limit=10_000)
    request.with_payload.enable = False
    request.with_vectors.enable = False
    while True:
        answer = ask(request)
        if answer[:1] != b"\x0a":
            break
        request.offset.CopyFrom(grpc.PointId.FromString(answer[2 : 2 + answer[1]]))
    channel.close()


def grpc_channel(bench: Bench):
    """An own connection, without limits of size."""
    import grpc as transport

    host = bench.settings.qdrant.url.split("//")[1].split(":")[0]
    options = [("grpc.max_receive_message_length", -1)]
    return transport.insecure_channel(f"{host}:{bench.settings.qdrant.grpc_port}", options=options)


def read_rows(bench: Bench) -> None:
    """Fetch all ids in their order by the driver alone, streamed, and use none."""
    connection = bench.sql.raw_connection()
    named = {} if bench.sql.dialect.name == "sqlite" else {"name": "rows"}
    cursor = connection.driver_connection.cursor(**named)
    cursor.execute("SELECT id FROM faces ORDER BY id")
    while cursor.fetchmany(10_000):
        pass
    connection.close()


def say(what: str, per_point: float, cpu: float | None = None) -> None:
    """A line: µs per point, of the clock and of this process."""
    more = "" if cpu is None else f"   {cpu * 1e6:8.2f} µs CPU"
    sys.stdout.write(f"{what:46} {per_point * 1e6:9.2f} µs/point{more}\n")


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """URL of an empty database of the application."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/app.db"
        return
    with found_postgres() as server:
        if server is None:
            raise SystemExit(NONE_FOUND)
        with fresh_database(server) as url:
            yield url


def main() -> int:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000, help="of sync and deletion")
    parser.add_argument("--ids", type=int, default=1_000_000, help="of the orphan check")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sql", choices=("sqlite", "postgresql"), default="sqlite", help="of the application")
    parser.add_argument("--only", choices=("sync", "delete", "orphans"))
    options = parser.parse_args()
    if shutil.which("qdrant") is None:
        raise SystemExit("scripts/bench needs a `qdrant` program on PATH")
    for what, work, points in (
        ("sync", sync, options.points),
        ("delete", delete, options.points),
        ("orphans", orphans, options.ids),
    ):
        if options.only in (None, what):
            server, folder = Server(), Path(tempfile.mkdtemp(prefix="bench-fixes-"))
            try:
                with database(options.sql, folder) as url:
                    bench = Bench(server, folder, points, url)
                    work(bench, options.rounds)
                    bench.sql.dispose()
            finally:
                server.stop()
                shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
