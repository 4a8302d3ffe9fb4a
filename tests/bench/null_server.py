"""A gRPC server that answers scrolls with points made in advance and swallows upserts: what is left is our engine alone.

It runs as a process of its own, so that its processor time isn't ours. Everything of a server but points (names,
aliases, counts, operation ids) is answered in our own process, as in the tests of memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np

#: Ids begin here, so that each is as long as any other in bytes: a page is one array whose ids alone change.
FIRST = 2**21
#: Points of a page.
PAGE = 1000
ROOT = Path(__file__).resolve().parents[2]


class Pages:
    """Answers to scrolls over `count` points of one vector and three fields.

    Args:
        dim: of the vector.
    """

    def __init__(self, count: int, dim: int) -> None:
        from qdrant_client import grpc as messages

        self.end = FIRST + count
        point = messages.RetrievedPoint(id=messages.PointId(num=FIRST))
        point.payload["n"].integer_value = 7
        point.payload["kind"].string_value = "even"
        point.payload["text"].string_value = "text 7"
        row = np.linspace(0.1, 1.0, dim, dtype="<f4")
        point.vectors.vectors.vectors["a"].dense.data.extend(row.tolist())
        self._messages = messages
        answer = messages.ScrollResponse(result=[point]).SerializeToString()
        self._rows = np.tile(np.frombuffer(answer, np.uint8), (PAGE, 1))
        self._at = answer.index(_varint(FIRST))
        self._lock = threading.Lock()

    def after(self, start: int, limit: int) -> bytes:
        """The answer from a point on."""
        many = max(0, min(limit, PAGE, self.end - start))
        ids = np.arange(start, start + many, dtype=np.uint32)
        rows = self._rows[:many].copy()
        for place in range(4):
            more = 0x80 if place < 3 else 0
            rows[:, self._at + place] = ((ids >> np.uint32(7 * place)) & np.uint32(0x7F)) | np.uint32(more)
        head = b""
        if start + many < self.end:
            following = self._messages.PointId(num=start + many).SerializeToString()
            head = bytes((0x0A, len(following))) + following
        return head + rows.tobytes()

    def scroll(self, request: bytes, _context: Any) -> bytes:
        """As the method of the service."""
        asked = self._messages.ScrollPoints.FromString(request)
        start = asked.offset.num if asked.HasField("offset") else FIRST
        return self.after(max(start, FIRST), asked.limit)

    def get(self, request: bytes, _context: Any) -> bytes:
        """Points by id."""
        asked = self._messages.GetPoints.FromString(request)
        found = self._messages.GetResponse()
        for one in asked.ids:
            page = self._messages.ScrollResponse.FromString(self.after(one.num, 1))
            found.result.extend(page.result)
        return bytes(found.SerializeToString())


def _varint(number: int) -> bytes:
    return bytes(((number >> (7 * place)) & 0x7F) | (0x80 if place < 3 else 0) for place in range(4))


def serve(count: int, dim: int) -> None:
    """Print the port, then answer until stdin is closed."""
    import grpc
    from qdrant_client import grpc as messages

    pages = Pages(count, dim)
    done = messages.PointsOperationResponse(result=messages.UpdateResult(status=messages.Completed)).SerializeToString()
    methods = {"Scroll": pages.scroll, "Get": pages.get, "Upsert": lambda _request, _context: done}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("qdrant.Points", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(None)


@contextlib.contextmanager
def running(count: int, dim: int) -> Iterator[int]:
    """The port of one."""
    command = [sys.executable, "-m", "tests.bench.null_server", "serve", str(count), str(dim)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def store_of(port: int, count: int, dim: int) -> Any:
    """A store whose points are those of a running null server."""
    from tests.fakes import EndlessStore

    from qmigrate.model.schema import CollectionSchema
    from qmigrate.store import ConnectionSettings
    from qmigrate.store.server.points import Points
    from qmigrate.store.server.server import ServerStore

    class NullStore(ServerStore):
        """Points over gRPC; the rest without a server."""

        request_timeout = 0.0
        capabilities = EndlessStore.capabilities
        aliases, create_alias, describe = EndlessStore.aliases, EndlessStore.create_alias, EndlessStore.describe
        count, barrier, operation_ids = EndlessStore.count, EndlessStore.barrier, EndlessStore.operation_ids

        def __init__(self) -> None:
            settings = ConnectionSettings(url="http://127.0.0.1:1", grpc_port=port, timeout=60)
            self._settings, self._capabilities = settings, EndlessStore.capabilities
            self._points = Points(settings, lambda _name: {}, lambda _name, _ids: {})
            self.schema = CollectionSchema(vectors={"a": {"size": dim, "distance": "Dot"}})
            self.count_points = count
            self.names: dict[str, str] = {}

        def sample_ids(self, name: str, count: int, *, having: str | None = None) -> Sequence[int]:
            """Evenly spread."""
            del name, having
            return range(FIRST, FIRST + self.count_points, max(1, self.count_points // count))[:count]

        def close(self) -> None:
            """The connections."""
            self._points.close()

    return NullStore()


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    before = (time.perf_counter(), time.process_time())
    work()
    return time.perf_counter() - before[0], time.process_time() - before[1]


def copy_of(port: int, count: int, dim: int) -> dict[str, float]:
    """Fill and proof of the product against a null server, in this process: seconds of the clock and the processor."""
    from qmigrate.engine import rebuild
    from qmigrate.engine.work import Work
    from qmigrate.ledger import Ledger
    from qmigrate.model.plan import Build, Job
    from qmigrate.model.state import CollectionState
    from qmigrate.ports import Silent
    from qmigrate.settings.load import Settings

    store, took = store_of(port, count, dim), {}
    with tempfile.TemporaryDirectory(prefix="bench-null-") as folder:
        ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
        ledger.prepare()
        step = Build((), "c__g0001", "c__g0002", 2, store.schema, "copy", "bench")
        job = Job("c", "basis", (step,))
        with ledger.hold("c", timeout=5) as lease:
            settings, state = Settings.load(stores=False), CollectionState("c", "alias", True)
            work = Work("c", store, lease, None, settings, Silent(), state, job, "x")  # type: ignore[arg-type]
            work.run = lease.open_run("upgrade", job, {}, actor="a", tool="t", server="s")
            work.learned[(0, "preflight")] = {"points": count}
            for phase in ("fill", "converge"):
                work.phase = phase
                facts: list[Any] = []
                wall, used = _timed(lambda phase=phase, facts=facts: facts.append(getattr(rebuild, phase)(step, work)))
                work.learn(facts[0])
                took |= {f"{phase} seconds": wall, f"{phase} processor": used}
            report = facts[0].report
        ledger.close()
    store.close()
    if (report.proven, report.repaired) != (count, 0):
        raise SystemExit(f"expected {count} points proven, got {report}")
    return took


def raw_of(port: int, count: int) -> float:
    """Seconds of the processor for the same bytes, read and written as they are: no point is parsed."""
    import grpc
    from qdrant_client import grpc as messages

    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        scroll, upsert = (channel.unary_unary(f"/qdrant.Points/{name}") for name in ("Scroll", "Upsert"))
        asked = messages.ScrollPoints(collection_name="c", limit=PAGE)

        def copy() -> None:
            for start in range(FIRST, FIRST + count, PAGE):
                asked.offset.num = start
                upsert(scroll(asked.SerializeToString()))

        return _timed(copy)[1]


def client_of(port: int, count: int) -> float:
    """Seconds of the processor for scroll and upsert of the client as shipped, over gRPC: its `migrate` does this."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(
        url="http://127.0.0.1:1", grpc_port=port, prefer_grpc=True, check_compatibility=False, timeout=60
    )

    def copy() -> None:
        offset: Any = None
        for _ in range(0, count, 250):
            found, offset = client.scroll("c", limit=250, offset=offset, with_payload=True, with_vectors=True)
            points = [models.PointStruct(id=one.id, payload=one.payload, vector=one.vector) for one in found]  # type: ignore[arg-type]
            client.upsert("d", points)

    used = _timed(copy)[1]
    client.close()
    return used


def growth(sizes: Sequence[int]) -> dict[str, Any]:
    """Copy and proof of more and more points, each in a process of its own, printed as they are done."""
    dim = 128
    found = []
    head = f"{'points':>12}{'copy':>12}{'processor':>12}{'proof':>12}{'processor':>12}{'peak':>9}\n"
    sys.stdout.write(f"{dim}-d, the product's fill and proof, and a server that does nothing\n\n{head}")
    for size in sizes or (10_000, 100_000, 1_000_000, 10_000_000):
        command = [sys.executable, "-m", "tests.bench.null_server", "measure", str(size), str(dim)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        one = json.loads(done.stdout)
        found.append(one)
        sys.stdout.write(
            f"{size:12,}{size / one['fill seconds']:8,.0f} /s{one['fill processor'] / size * 1e6:9.1f} µs"
            f"{size / one['converge seconds']:8,.0f} /s{one['converge processor'] / size * 1e6:9.1f} µs"
            f"{one['peak']:6.0f} MB\n"
        )
        sys.stdout.flush()
    return {"dim": dim, "growth": found}


def _measure(count: int, dim: int) -> None:
    with running(count, dim) as port:
        took = copy_of(port, count, dim)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"points": count, "peak": peak, **took}) + "\n")


if __name__ == "__main__":
    {"serve": serve, "measure": _measure}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
