"""Runs of a rebuild under writers that never stop: what was acknowledged, carried, listed, refused, lost and undone.

Three writers in a process of their own write through the logical name as fast as they are answered: they change points,
insert and delete them, by id and now and then by a filter, and remember the last operation of each id that was
acknowledged. Behind each run every id is compared with that. *Lost* is another value, or none, *undone* a point that
was deleted; neither counts where the report names the id for it.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models
from tests.bench.servers import Server
from tests.conftest import clean
from tests.conftest_qdrant import free_port, running
from tests.harness import ADD, CREATE, Deployment, make_point
from tests.scenarios.plain_names import plain

from qmigrate.commands import history, upgrade
from qmigrate.store.faults import SlowError

WRITERS = 3
#: What the process of the writers says once each of them has written.
WRITING = "writing\n"
#: Kinds of `history --carried` that name an id whatever has become of it.
NAMED = {"may_undo_delete", "may_overwrite", "kept", "not_made"}
#: What only a request by a filter may have gone past.
BY_FILTER = "may_have_missed"
#: id -> the text that it got last, None where it was deleted, and whether that was by a filter.
Truth = dict[int, tuple[str | None, bool]]


@dataclass
class Told:
    """What one writer has to tell.

    Attributes:
        unsure: ids whose last operation has ended in an error other than a refusal.
        refused: moments of the refusals.
        gap: the longest time without an acknowledgement, in seconds.
    """

    truth: Truth = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    acknowledged: int = 0
    refused: list[float] = field(default_factory=list)
    gap: float = 0.0

    def to_json(self) -> str:
        """One line."""
        rows = [(identifier, *value) for identifier, value in self.truth.items()]
        return json.dumps([rows, sorted(self.unsure), self.acknowledged, self.refused, self.gap])

    @classmethod
    def from_json(cls, line: str) -> Told:
        """What a line has."""
        rows, unsure, acknowledged, refused, gap = json.loads(line)
        return cls({row[0]: (row[1], row[2]) for row in rows}, set(unsure), acknowledged, refused, gap)


class Writer(threading.Thread):
    """One writer; each has ids of its own."""

    def __init__(self, url: str, grpc_port: int, made: tuple[str, int, int], number: int, stop) -> None:
        super().__init__(daemon=True)
        self.client = QdrantClient(url=url, grpc_port=grpc_port, prefer_grpc=True, timeout=30)
        (self.name, self.points, self.dim), self.number, self.stop = made, number, stop
        self.random = random.Random(number)
        self.told = Told()
        self.begun = threading.Event()
        self.fresh: list[int] = []

    def run(self) -> None:
        last = time.monotonic()
        count = 0
        while not self.stop.is_set():
            count += 1
            identifier, act, value, by_filter = self.next(count)
            try:
                act()
            except Exception as error:
                said = f"{type(error).__name__} {error}".lower()
                if any(one in said for one in ("rate limit", "429", "exhausted")):
                    self.told.refused.append(time.monotonic())
                    time.sleep(0.005)
                else:
                    self.told.unsure.add(identifier)
                continue
            now = time.monotonic()
            self.told.gap, last = max(self.told.gap, now - last), now
            self.told.acknowledged += 1
            self.begun.set()
            self.told.truth[identifier] = (value, by_filter)
            self.told.unsure.discard(identifier)

    def next(self, count: int):
        """An id, what is done with it, and what is there afterwards."""
        dice, text = self.random.random(), f"writer {self.number} operation {count}"
        identifier = self.random.randrange(self.points // WRITERS) * WRITERS + self.number + 1
        if dice < 0.2:
            identifier = (self.points + count) * WRITERS + self.number + 1
            self.fresh.append(identifier)
        elif dice < 0.4:
            if self.fresh and dice < 0.3:
                identifier = self.fresh.pop()
            return identifier, lambda: self.client.delete(self.name, [identifier]), None, False
        elif dice < 0.45:
            one = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=identifier - 1))])
            return identifier, lambda: self.client.delete(self.name, models.FilterSelector(filter=one)), None, True
        elif dice < 0.55 and self.told.truth.get(identifier, ("", False))[0] is not None:
            values = {"text": text}
            return identifier, lambda: self.client.set_payload(self.name, values, points=[identifier]), text, False
        point = make_point(identifier - 1, text=text)
        vector = (point.vectors["a"] * (self.dim // 8 + 1))[: self.dim]
        row = models.PointStruct(id=identifier, vector={"a": vector}, payload={**point.payload, "n": identifier - 1})
        return identifier, lambda: self.client.upsert(self.name, [row]), text, False


def main(name: str, points: str, dim: str, *nodes: str) -> None:
    """The process of the writers, each at another node: until its input ends."""
    stop, busy = threading.Event(), []
    for number in range(WRITERS):
        url, grpc_port = nodes[number % len(nodes)].split("|")
        busy.append(Writer(url, int(grpc_port), (name, int(points), int(dim)), number, stop))
    for writer in busy:
        writer.start()
    for writer in busy:
        writer.begun.wait()
    sys.stdout.write(WRITING)
    sys.stdout.flush()
    sys.stdin.read()
    stop.set()
    for writer in busy:
        writer.join()
        sys.stdout.write(writer.told.to_json() + "\n")


@dataclass(frozen=True)
class Run:
    """One run; times in milliseconds."""

    acknowledged: int
    refused: int
    carried: int
    listed: int
    by_filter: int
    lost: int
    undone: int
    window: float
    pause: float
    gap: float
    seconds: float


CREATE_ON = """
def upgrade():
    return [op.CreateCollection("{{name}}", {{{{"a": VectorParams(size=8, distance=Distance.COSINE)}}}},
                                shard_number=3, replication_factor={replicas})]
"""


#: What the rebuild is: a vector that is filled, or a copy in which every point stays what it is.
CHANGES = {
    "fill": ADD,
    "reshard": """
def upgrade():
    return [op.Reshard("{name}", shard_number=2)]
""",
}


@contextmanager
def at_work(options) -> Iterator[list]:
    """One server, or as many nodes of a cluster."""
    with ExitStack() as stack:
        if options.nodes == 1:
            one = Server()
            stack.callback(one.stop)
            yield [one]
            return
        first, found = free_port(), []
        for number in range(options.nodes):
            port = first if number == 0 else free_port()
            env = {"QDRANT__CLUSTER__ENABLED": "true", "QDRANT__CLUSTER__P2P__PORT": str(port)}
            join = () if number == 0 else ("--bootstrap", f"http://127.0.0.1:{first}")
            found.append(stack.enter_context(running(env, (*join, "--uri", f"http://127.0.0.1:{port}"))))
        yield found


def prepared(servers: list, folder: Path, options, policy: str, kind: str) -> Deployment:
    """A collection with points, served by an alias or by its plain name, and a revision that fills a vector."""
    server = servers[0]
    qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 60}
    if len(servers) > 1:
        qdrant["nodes"] = [one.url for one in servers]
    extra = {"rebuild": {"writes": policy}, "limits": {"settle": "10m"}}
    made = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db", extra=extra)
    if kind == "plain":
        plain(made, 1)
    else:
        create = CREATE if len(servers) == 1 else CREATE_ON.format(replicas=options.replicas)
        made.revise("0001", create.replace("size=8", f"size={options.dim}"))
        upgrade.upgrade(made.settings())
    _load(server, made.name, options)
    made.revise("0002", CHANGES[options.change])
    return made


def _load(server, name: str, options) -> None:
    """Points as the writers make them, but for their vectors, of which no two are equal."""
    client = QdrantClient(url=server.url, grpc_port=server.grpc_port, prefer_grpc=True, timeout=120)
    if options.unindexed:
        client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0))
    random = np.random.default_rng(1)
    for start in range(0, options.points, 1000):
        numbers = range(start, min(start + 1000, options.points))
        rows = random.normal(size=(len(numbers), options.dim)).astype(np.float32).tolist()
        payloads = [make_point(number).payload for number in numbers]
        client.upsert(name, models.Batch(ids=[number + 1 for number in numbers], vectors={"a": rows}, payloads=payloads))
    client.close()


def one_run(servers: list, options, policy: str, kind: str) -> Run:
    """Upgrade once under writers, and compare."""
    folder = Path(tempfile.mkdtemp(prefix="bench-writers-"))
    made = prepared(servers, folder, options, policy, kind)
    command = [sys.executable, "-m", "tests.bench.writers", made.name, str(options.points), str(options.dim)]
    command += [f"{one.url}|{one.grpc_port}" for one in servers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != WRITING:
            raise SystemExit("the writers have ended before they had written anything")
        started = time.monotonic()
        outcome = upgrade.upgrade(made.settings()).outcomes[0]
        seconds = time.monotonic() - started
        time.sleep(0.3)
    finally:
        lines = process.communicate()[0]
    run = compared(made, outcome, [Told.from_json(line) for line in lines.splitlines()], seconds)
    # A server that still builds an index may take longer for that than a request may.
    with suppress(SlowError):
        clean(made)
    shutil.rmtree(folder, ignore_errors=True)
    return run


def compared(made: Deployment, outcome, told: list[Told], seconds: float) -> Run:
    """What is there next to what was acknowledged."""
    rows = history.carried(made.settings(), "0002", made.name).rows
    kinds = {row.id: row.kind for row in rows}
    store = made.store()
    there = {
        point.id.num: point.payload["text"].string_value
        for page in store.scan(made.name, vectors=False) for point in page
    }
    store.close()
    lost, undone = [], []
    for one in told:
        for identifier, (text, by_filter) in one.truth.items():
            if identifier in one.unsure or there.get(identifier) == text:
                continue
            kind = kinds.get(identifier)
            if kind in NAMED or (kind == BY_FILTER and by_filter):
                continue
            (undone if text is None else lost).append((identifier, text, there.get(identifier), kind))
    for what, odd in (("LOST", lost), ("UNDONE", undone)):
        for row in odd:
            sys.stdout.write(f"  {what}: {row}\n")
    facts = [facts for facts in outcome.report.values() if isinstance(facts, dict)]
    sweep = next((one["sweep"] for one in facts if isinstance(one.get("sweep"), dict)), {})
    late = [one["late"]["seconds"] for one in facts if isinstance(one.get("late"), dict)]
    refused = sorted(moment for one in told for moment in one.refused)
    return Run(
        acknowledged=sum(one.acknowledged for one in told),
        refused=len(refused),
        carried=sweep.get("carried", 0),
        listed=sum(kind in NAMED for kind in kinds.values()),
        by_filter=Counter(kinds.values())[BY_FILTER],
        lost=len(lost),
        undone=len(undone),
        window=(late[-1] if late else 0.0) * 1000,
        pause=(refused[-1] - refused[0]) * 1000 if refused else 0.0,
        gap=max(one.gap for one in told) * 1000,
        seconds=seconds,
    )


def writers(options) -> None:
    """All runs that were asked for, and a table of their sums and medians."""
    head = "writes acknowledged refused carried listed by filter lost undone window ms pause ms (longest) gap ms seconds"
    what = f"{options.points:,} points, {WRITERS} writers, {options.writers} runs each, change: {options.change}"
    sys.stdout.write(f"{what}\n\n{head}\n")
    for kind in options.names:
        for policy in options.policies:
            with at_work(options) as servers:
                runs = []
                for _ in range(options.writers):
                    runs.append(one_run(servers, options, policy, kind))
                    if options.each:
                        sys.stdout.write(f"  {runs[-1]}\n")
                        sys.stdout.flush()
            sys.stdout.write("| " + " | ".join(_row(f"{policy}, {kind}", runs)) + " |\n")
            sys.stdout.flush()


def _row(label: str, runs: list[Run]) -> list[str]:
    """Sums of what is counted, medians of what is timed."""

    def middle(name: str) -> float:
        return statistics.median(getattr(run, name) for run in runs)

    counts = ("acknowledged", "refused", "carried", "listed", "by_filter", "lost", "undone")
    sums = [f"{sum(getattr(run, name) for run in runs):,}" for name in counts]
    longest = max(run.pause for run in runs)
    pause = f"{middle('pause'):,.0f} ({longest:,.0f})"
    return [label, *sums, f"{middle('window'):,.0f}", pause, f"{middle('gap'):,.0f}", f"{middle('seconds'):.1f}"]


if __name__ == "__main__":
    main(*sys.argv[1:])
