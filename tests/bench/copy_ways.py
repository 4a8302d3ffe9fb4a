"""What `scripts/bench copy` compares: workloads, ways to copy a collection, and what has to be there afterwards."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from tests.harness import by_hand

from qmigrate import CopyOf, op
from qmigrate.engine import rebuild
from qmigrate.engine.work import OneAtATime, Work
from qmigrate.ledger import Ledger
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.state import CollectionState
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect, records

SOURCE = "bench__g0001"
#: Where tools write to that can name their target, and where `migrate`, which can't, does on a server of its own.
TARGET = "bench_target"
#: Names under which the official tool may be on PATH.
TOOLS = ("qdrant-migration", "migration")
#: Pages and streams of the two ceilings.
PAGE, STREAMS = 1000, 4


@dataclass(frozen=True)
class Workload:
    """Points of one shape.

    Attributes:
        vectors: name -> dimension of dense vectors.
        sparse: name of a sparse vector with 30 values, or empty.
        fields: of the payload: 3 small ones, or 9, one of them nested and one a text of 400 characters.
        uuids: ids are UUIDs, else numbers.
    """

    name: str
    vectors: dict[str, int]
    sparse: str = ""
    fields: int = 3
    uuids: bool = False


WORKLOADS = {
    one.name: one
    for one in (
        Workload("512", {"v": 512}),
        Workload("512-payload", {"v": 512}, fields=9),
        Workload("named", {"v": 512, "w": 384}, sparse="s", uuids=True),
        Workload("1536", {"v": 1536}),
    )
}


@dataclass(frozen=True)
class Place:
    """Where a server is."""

    url: str
    grpc_port: int

    def client(self, *, over_grpc: bool = True) -> QdrantClient:
        """The client as it is shipped."""
        return QdrantClient(url=self.url, grpc_port=self.grpc_port, prefer_grpc=over_grpc, timeout=300)

    def store(self) -> Any:
        """Ours."""
        return connect(ConnectionSettings(url=self.url, grpc_port=self.grpc_port, timeout=120))


def create(client: QdrantClient, name: str, workload: Workload) -> None:
    """The collection of a workload, with indexing off. Distances keep values as they are, so that bytes compare."""
    client.create_collection(
        name,
        vectors_config={
            one: models.VectorParams(size=size, distance=models.Distance.DOT) for one, size in workload.vectors.items()
        },
        sparse_vectors_config={workload.sparse: models.SparseVectorParams()} if workload.sparse else None,
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
    )


def payload(number: int, fields: int) -> dict[str, Any]:
    """Small ones; the larger has some 600 bytes."""
    small = {"n": number, "kind": "even" if number % 2 == 0 else "odd", "text": f"text {number}"}
    if fields == 3:
        return small
    return {
        **small,
        "url": f"https://example.com/pictures/{number % 977}/{number}.jpg",
        "width": 640,
        "ratio": 1.5,
        "safe": True,
        "caption": (f"a picture of number {number} " * 20)[:400],
        "source": {"name": "crawl", "year": 2020 + number % 5, "tags": ["a", "b"]},
    }


def load(place: Place, workload: Workload, points: int) -> None:
    """The source collection."""
    client = place.client()
    create(client, SOURCE, workload)
    random = np.random.default_rng(1)
    for start in range(0, points, PAGE):
        many = min(PAGE, points - start)
        rows: dict[str, Any] = {
            name: random.normal(size=(many, size)).astype(np.float32).tolist() for name, size in workload.vectors.items()
        }
        if workload.sparse:
            rows[workload.sparse] = [
                models.SparseVector(
                    indices=sorted(random.choice(30_000, 30, replace=False).tolist()),
                    values=random.random(30).astype(np.float32).tolist(),
                )
                for _ in range(many)
            ]
        numbers = range(start, start + many)
        ids: list[Any] = [str(uuid.UUID(int=n * 2**80)) if workload.uuids else n for n in numbers]
        payloads = [payload(n, workload.fields) for n in numbers]
        client.upsert(SOURCE, models.Batch(ids=ids, vectors=rows, payloads=payloads), wait=True)
    client.close()


Change = Callable[[Any], None]


def digest(place: Place, name: str, change: Change | None = None) -> tuple[int, str]:
    """How many points there are, and a sum over all of them that has no order.

    Args:
        change: what is done to each point before, to the message that was read.
    """
    store = place.store()
    count, total = 0, 0
    for page in store.scan(name, page=PAGE):
        for stored in page:
            if change is not None:
                change(stored)
            kept = messages.RetrievedPoint(id=stored.id, payload=stored.payload)
            kept.vectors.CopyFrom(stored.vectors)
            count += 1
            body = kept.SerializeToString(deterministic=True)
            total += int.from_bytes(hashlib.blake2b(body, digest_size=16).digest(), "big")
    store.close()
    return count, f"{total % 2**128:032x}"


@dataclass
class Run:
    """What a way works with, in a process of its own.

    Attributes:
        stopwatch: given what is measured; what is prepared before it isn't.
    """

    here: Place
    there: Place
    workload: Workload
    points: int
    stopwatch: Callable[[Callable[[], object]], None]
    proof: Callable[[Callable[[], object]], None]
    where: tuple[Place, str] = field(init=False)

    def __post_init__(self) -> None:
        self.where = (self.here, TARGET)


def in_threads(work: Callable[[int], None]) -> None:
    """In as many as there are streams; an error of one is an error of all."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _raw(place: Place) -> Any:
    """A channel without compression, as ours are."""
    import grpc

    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.compression_enabled_algorithms_bitset", 1),
    ]
    host = place.url.removeprefix("http://").partition(":")[0]
    return grpc.insecure_channel(f"{host}:{place.grpc_port}", options=options)


def _borders(place: Place, points: int) -> list[Any]:
    """Where four ranges begin, as messages; the first begins at the first point."""
    store = place.store()
    ids = sorted(store.sample_ids(SOURCE, min(points, 256)), key=records.order_key)
    store.close()
    chosen = [ids[len(ids) * part // STREAMS] for part in range(1, STREAMS)]
    return [None, *(messages.PointId(uuid=one) if isinstance(one, str) else messages.PointId(num=one) for one in chosen)]


def _pages(channel: Any, begin: Any, end: Any) -> Iterator[tuple[bytes, Any]]:
    """Answers of one range as bytes, with what is parsed of them: the next offset. It may go a page too far."""
    scroll = channel.unary_unary("/qdrant.Points/Scroll", request_serializer=messages.ScrollPoints.SerializeToString)
    asked = messages.ScrollPoints(collection_name=SOURCE, limit=PAGE)
    asked.with_payload.enable = asked.with_vectors.enable = True
    if begin is not None:
        asked.offset.CopyFrom(begin)
    last = records.order_key(records.point_id(messages.RetrievedPoint(id=end))) if end is not None else None
    while True:
        answer = scroll(asked)
        # The offset comes first in the bytes: nothing of the points is parsed.
        following = None
        if answer[:1] == b"\x0a":
            following = messages.PointId.FromString(answer[2 : 2 + answer[1]])
        yield answer, following
        if following is None:
            return
        if last is not None and records.order_key(records.point_id(messages.RetrievedPoint(id=following))) >= last:
            return
        asked.offset.CopyFrom(following)


def raw_read(run: Run) -> None:
    """Everything is read in four ranges, and dropped."""
    borders = _borders(run.here, run.points)
    channels = [_raw(run.here) for _ in range(STREAMS)]

    def read(number: int) -> None:
        end = borders[number + 1] if number + 1 < STREAMS else None
        for _ in _pages(channels[number], borders[number], end):
            pass

    run.stopwatch(lambda: in_threads(read))
    run.where = (run.here, SOURCE)


def raw_write(run: Run) -> None:
    """Requests that are there as bytes before, four at a time."""
    client = run.here.client()
    create(client, TARGET, run.workload)
    requests: list[bytes] = []
    for answer, _ in _pages(_raw(run.here), None, None):
        request = messages.UpsertPoints(collection_name=TARGET, wait=True)
        for one in messages.ScrollResponse.FromString(answer).result:
            made = request.points.add(id=one.id, payload=one.payload)
            made.vectors.MergeFromString(one.vectors.SerializeToString())
        requests.append(request.SerializeToString())
    channels = [_raw(run.here) for _ in range(STREAMS)]

    def write(number: int) -> None:
        upsert = channels[number].unary_unary("/qdrant.Points/Upsert")
        for request in requests[number::STREAMS]:
            upsert(request)

    run.stopwatch(lambda: in_threads(write))


class Code:
    """The one operation of a revision, where there is one."""

    turn = OneAtATime()

    def __init__(self, operation: Any) -> None:
        self._operation = operation

    def operation(self, ref: OpRef) -> Any:
        """It is always this one."""
        del ref
        return self._operation


def marked(point: Any) -> dict[str, Any]:
    """The payload function of a revision."""
    return {**point.payload, "seen": True}


def _marked(stored: Any) -> None:
    stored.payload["seen"].bool_value = True


def _doubled(stored: Any) -> None:
    vectors = stored.vectors.vectors.vectors
    vectors["copy"].CopyFrom(vectors["v"])


def ours(run: Run, operation: Any = None, *, fill: str = "copy") -> None:
    """The product's own phases, with a ledger on disk: what makes the generation, and the proof behind it."""
    store, name = run.here.store(), "bench__g0002"
    folder = tempfile.mkdtemp(prefix="bench-ledger-")
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
    identity = ledger.prepare()
    store.write_seal(SOURCE, {"ledger": identity, "generation": 1, "state": "live"})
    schema = store.describe(SOURCE).schema.with_(aliases=())
    refs = () if operation is None else (OpRef("1", 0),)
    schema = schema if operation is None else operation.apply(schema)
    step = Build(refs, SOURCE, name, 2, schema, fill, "bench")
    job = Job("bench", "2", (step,))
    before = ("snapshot",) if fill == "clone" else ("shadow",)
    try:
        with ledger.hold("bench", timeout=30) as lease:
            state, settings = CollectionState("bench", "alias", True), Settings.load(stores=False)
            work = Work("bench", store, lease, Code(operation), settings, Silent(), state, job, identity)
            work.snapshot = fill == "clone"
            work.run = lease.open_run("upgrade", job, {}, actor="bench", tool="bench", server="bench")
            work.learned[(0, "preflight")] = {"points": run.points}
            if fill == "clone":
                run.stopwatch(lambda: _phases(work, ("snapshot", "shadow", "fill")))
            else:
                _phases(work, before)
                run.stopwatch(lambda: _phases(work, ("fill",)))
            run.proof(lambda: _phases(work, ("converge",)))
            lease.finish_run(work.run, "done")
    finally:
        ledger.close()
        store.close()
        shutil.rmtree(folder, ignore_errors=True)
    run.where = (run.here, name)


def _phases(work: Work, names: tuple[str, ...]) -> None:
    for name in names:
        work.phase = name
        work.learn(getattr(rebuild, name)(work.job.steps[0], work))


def added(workload: Workload) -> Any:
    """A vector more, filled by another one: what is computed nowhere, and written to every point."""
    params = {"size": workload.vectors["v"], "distance": "Dot"}
    return op.AddVector("bench", "copy", params, values=CopyOf("v"))


def migrate(run: Run, *, over_grpc: bool) -> None:
    """The client's own way, to another server since it can't name a target."""
    client, other = run.here.client(over_grpc=over_grpc), run.there.client(over_grpc=over_grpc)
    run.stopwatch(lambda: client.migrate(other, [SOURCE]))
    run.where = (run.there, SOURCE)


def naive(run: Run) -> None:
    """The loop that one writes: a hundred at a time, over REST."""
    client = run.here.client(over_grpc=False)
    create(client, TARGET, run.workload)

    def copy() -> None:
        offset = None
        while True:
            found, offset = client.scroll(SOURCE, limit=100, offset=offset, with_payload=True, with_vectors=True)
            points = [models.PointStruct(id=one.id, payload=one.payload, vector=one.vector) for one in found]  # type: ignore[arg-type]
            client.upsert(TARGET, points, wait=True)
            if offset is None:
                return

    run.stopwatch(copy)


def upload(run: Run) -> None:
    """The client's upload, of what is in memory already: dense vectors as arrays."""
    store, client = run.here.store(), run.here.client()
    create(client, TARGET, run.workload)
    ids: list[Any] = []
    payloads: list[dict[str, Any]] = []
    rows: dict[str, list[Any]] = {name: [] for name in run.workload.vectors}
    for stored in itertools.chain.from_iterable(store.scan(SOURCE, page=PAGE)):
        ids.append(records.point_id(stored))
        payloads.append(records.payload_of(stored))
        for name, row in rows.items():
            row.append(np.asarray(stored.vectors.vectors.vectors[name].dense.data, np.float32))
    vectors = {name: np.array(row) for name, row in rows.items()}
    run.stopwatch(
        lambda: client.upload_collection(TARGET, vectors=vectors, payload=payloads, ids=ids, parallel=1, wait=True)
    )


def tool() -> str | None:
    """The official migration tool, where it is on PATH."""
    return next((found for one in TOOLS if (found := shutil.which(one))), None)


def official(run: Run, batch: int = 256) -> None:
    """Qdrant's migration tool; its default batch is 50."""
    host = run.here.url.removeprefix("http://").partition(":")[0]
    address = f"http://{host}:{run.here.grpc_port}"
    create(run.here.client(), TARGET, run.workload)
    command = [
        *(str(tool()), "qdrant", "--source.url", address, "--source.collection", SOURCE),
        *("--target.url", address, "--target.collection", TARGET, f"--migration.batch-size={batch}"),
        "--migration.create-collection=false",
    ]

    def copy() -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    run.stopwatch(copy)


@dataclass(frozen=True)
class Way:
    """One line of the table.

    Attributes:
        change: what every point of the source becomes, where it doesn't stay as it is.
        dense: only for workloads without sparse vectors.
        copies: whether it has a target of its own; the ceiling of reading hasn't.
    """

    label: str
    run: Callable[[Run], None]
    change: Change | None = None
    dense: bool = False
    copies: bool = True


def ways() -> dict[str, Way]:
    """All that can be measured here, in the order of the table."""
    found = {
        "read": Way("raw read ceiling", raw_read, copies=False),
        "write": Way("raw write ceiling", raw_write),
        "bytes": Way("ours, points unchanged", ours),
        "vector": Way("ours, a vector more (CopyOf)", lambda run: ours(run, added(run.workload)), _doubled),
        "payload": Way("ours, a payload function", lambda run: ours(run, op.TransformPoints("bench", marked)), _marked),
        "clone": Way("ours, clone", lambda run: ours(run, fill="clone")),
        "migrate": Way("QdrantClient.migrate, gRPC", lambda run: migrate(run, over_grpc=True)),
        "migrate-rest": Way("QdrantClient.migrate, REST", lambda run: migrate(run, over_grpc=False)),
        "naive": Way("loop of scroll and upsert, REST", naive),
        "upload": Way("upload_collection, from memory", upload, dense=True),
    }
    if tool() is not None:
        found["tool"] = Way("official migration tool, batch 256", official)
        found["tool-default"] = Way("official migration tool, default batch", lambda run: official(run, 50))
    return found


def remove(here: Place, there: Place) -> None:
    """What a way has left: targets, aliases, snapshots."""
    store = here.store()
    for alias in store.aliases():
        store.drop_alias(alias)
    for made in store.list_snapshots(SOURCE):
        store.delete_snapshot(SOURCE, made.name)
    for name in store.physical_names():
        if name != SOURCE:
            store.drop_collection(by_hand(name))
    store.close()
    other = there.client(over_grpc=False)
    for one in other.get_collections().collections:
        other.delete_collection(one.name)
    other.close()


def ready(place: Place, name: str) -> float:
    """Seconds until the index that every way leaves for later is built, with the server's own thresholds."""
    client, store = place.client(over_grpc=False), place.store()
    started = time.perf_counter()
    client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1000))
    quiet = 0
    while quiet < 3:
        quiet = quiet + 1 if store.readiness(name).settled else 0
        time.sleep(0.2)
    store.close()
    return time.perf_counter() - started
