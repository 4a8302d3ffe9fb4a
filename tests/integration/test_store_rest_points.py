"""Points over REST alone: the same messages as over gRPC, whatever vectors, payloads and filters they hold."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.local.qdrant_local import QdrantLocal
from tests.conftest import clean
from tests.conftest_qdrant import free_port
from tests.harness import ADD, CREATE, Deployment

from qmigrate.commands import rollback, upgrade
from qmigrate.errors import StoreError, UsageError
from qmigrate.ports import PayloadEdit
from qmigrate.store import connect, filters, portable, records
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.exact import value_of
from qmigrate.store.server import payloads, rest_points
from qmigrate.store.server.points import Points

pytestmark = pytest.mark.timeout(60)

UUID = "00000000-0000-0000-0000-00000000002a"
VECTORS = {
    "dense": models.VectorParams(size=3, distance=models.Distance.DOT),
    "rows": models.VectorParams(
        size=2,
        distance=models.Distance.DOT,
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
PAYLOAD = {"n": 2**53 + 1, "f": 1.0, "t": "é\u2028", "deep": {"list": [1, 2.5, None, True, {"x": []}]}, "none": None}

#: Digests of points under some key.
DIGEST = records.digest_under(b"k" * 32)


class Api(BaseHTTPRequestHandler):
    """Qdrant's REST methods for points over the client's local mode, which reads bodies with Qdrant's own models."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        """Do what the path names."""
        path = urlsplit(self.path).path.split("/")
        name, method = unquote(path[2]), "/".join(path[4:])
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        self.server.asked.append((self.command, self.path, self.headers.get("api-key"), body))
        with self.server.turn:
            try:
                result = getattr(self, "do_" + method.replace("/", "_"))(self.server.local, name, body)
                code, said = 200, {"result": result, "status": "ok"}
            except Exception as error:  # as the server answers what it can't read
                code, said = 400, {"status": {"error": f"Bad request: {error}"}}
        content = json.dumps(said, default=lambda one: one.model_dump(mode="json")).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = answer  # noqa: N815  the names that the base class wants

    def log_message(self, *_):
        """Say nothing."""

    def do_scroll(self, local, name, body):
        """A page."""
        asked = models.ScrollRequest(**body)
        found, following = local.scroll(
            name, scroll_filter=asked.filter, limit=asked.limit, offset=asked.offset,
            with_payload=asked.with_payload, with_vectors=asked.with_vector,
        )  # fmt: skip
        return {"points": found, "next_page_offset": following}

    def do_(self, local, name, body):
        """Points by id, and an upsert."""
        if "points" in body:
            local.upsert(name, models.PointsList(**body).points)
            return {"operation_id": 7, "status": "completed"}
        asked = models.PointRequest(**body)
        return local.retrieve(name, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector)

    def do_delete(self, local, name, body):
        """By id."""
        local.delete(name, models.PointIdsList(**body))
        return {"operation_id": 8, "status": "completed"}

    def do_vectors(self, local, name, body):
        """Set vectors."""
        local.update_vectors(name, models.UpdateVectors(**body).points)
        return {"operation_id": 9, "status": "completed"}

    def do_query_batch(self, local, name, body):
        """Nearest points; local mode is always exact and refuses search parameters."""
        searches = models.QueryRequestBatch(**body).searches
        return local.query_batch_points(name, [one.model_copy(update={"params": None}) for one in searches])

    def do_batch(self, local, name, body):
        """Several edits."""
        operations = models.UpdateOperations(**body).operations
        local.batch_update_points(name, operations)
        return [{"operation_id": 10, "status": "completed"} for _ in operations]


@pytest.fixture
def api():
    """A server, and a collection ``c d`` with every kind of vector."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    server.local, server.asked, server.turn = QdrantLocal(":memory:", force_disable_check_same_thread=True), [], threading.Lock()
    server.local.create_collection("c d", vectors_config=VECTORS, sparse_vectors_config={"words": models.SparseVectorParams()})
    server.local.create_collection("plain", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def points(api):
    """Requests for points over REST."""
    url = f"http://127.0.0.1:{api.server_address[1]}"
    opened = Points(ConnectionSettings(url=url, api_key="k", prefer_rest=True, timeout=5), lambda _: {}, lambda _, ids: {})
    yield opened
    opened.close()


def ready(identifier, payload, vectors) -> bytes:
    """A point as the copy makes it."""
    made = messages.PointStruct(id=messages.PointId(num=identifier) if isinstance(identifier, int) else messages.PointId(uuid=identifier))
    for key, value in payload.items():
        made.payload[key].CopyFrom(value_of(value))
    records._set_vectors(made, {name: records.vector_wire(one) for name, one in vectors.items()})
    return made.SerializeToString()


def every(count: int = 0) -> list[bytes]:
    """A point with everything, one with nothing, and `count` more."""
    exact = np.array([0.1, -1e-30, 16777217.0], np.float32)
    words = {"indices": [1, 70000], "values": [0.25, 1.5]}
    full = ready(5, PAYLOAD, {"dense": exact, "rows": np.array([[1, 2], [0.3, 4]], np.float32), "words": words})
    return [full, ready(UUID, {}, {}), *(ready(100 + n, {"n": n}, {"dense": [n, 1, 0]}) for n in range(count))]


def test_what_is_written_is_read_back_as_the_same_message(points, api):
    """Every kind of vector and value arrives bit by bit, and the key goes along."""
    written = every()
    points.upsert("c d", written).wait()
    found = points.fetch("c d", [5, UUID], payload=True, vectors=True)
    wanted = {records.point_id(one): DIGEST(one) for one in map(portable.stored_of, written)}
    assert {records.point_id(one): DIGEST(one) for one in found} == wanted
    assert {key for _, _, key, _ in api.asked} == {"k"}


def test_an_unnamed_vector(points):
    """A collection with one vector without a name."""
    written = [ready(1, {}, {"": [0.1, 2]})]
    points.upsert("plain", written).wait()
    (found,) = points.fetch("plain", [1], payload=True, vectors=True)
    assert DIGEST(found) == DIGEST(portable.stored_of(written[0]))


def test_pages_ids_and_filters(points):
    """Scans go through every page, ids alone too, up to where they should stop, and of what a filter selects."""
    points.upsert("c d", every(25)).wait()
    scan = {"payload": ["n"], "vectors": False, "page": 10}
    rows = [one for page in points.scan("c d", start=None, stop=None, **scan) for one in page]
    assert [records.point_id(one) for one in rows] == [5, *range(100, 125), UUID]
    assert {len(one.payload) for one in rows} == {1, 0}
    part = [records.point_id(one) for page in points.scan("c d", start=103, stop=120, **scan) for one in page]
    assert part == list(range(103, 120))
    where = filters.wire_of({"must": [{"key": "n", "range": {"lt": 3}}]})
    ids = [one for page in points.scan_ids("c d", page=2, where=where) for one in rest_points_ids(page)]
    assert ids == [100, 101, 102]
    assert points.fetch_ids("c d", [5, 7, UUID]) == {5, UUID}


def rest_points_ids(page) -> list:
    """The ids of a page."""
    from qmigrate.model.ids import points_of

    return list(points_of(page))


def test_deleting_and_editing(points, api):
    """Deletions, payload edits and vectors that are set, each answered with the server's own answer."""
    points.upsert("c d", every(3)).wait()
    assert points.delete("c d", [100]) == 8
    for request in payloads.requests("c d", [PayloadEdit((101, 102), {"new": {"x": 1}}, ("n",))]):
        points.update(request)
    points.edit_vectors("c d", [records.with_vectors(101, {"dense": [7, 8, 9]})])
    found = {records.point_id(one): one for one in points.fetch("c d", [100, 101, 102], payload=True, vectors=True)}
    assert set(found) == {101, 102}
    assert records.payload_of(found[101]) == {"new": {"x": 1}}
    assert records.vectors_of(found[101])["dense"] == [7.0, 8.0, 9.0]
    assert points.nearest("c d", "dense", [[7, 8, 9]], {"limit": 2, "exact": True, "ef": None}) == [[5, 101]]


def test_an_edit_inside_an_object_says_where(points, api):
    """The path of the object goes with what is set in it: else it would be set at the top, next to the object."""
    points.upsert("c d", [ready(1, {"a": {"b": 1, "c": 2}}, {})]).wait()
    for request in payloads.requests("c d", [PayloadEdit((1,), {"a.b": 7, "a.größe.y": 8, "n": 2**64 - 1}, ("a.c",))]):
        points.update(request)
    (batch,) = [body["operations"] for _, path, _, body in api.asked if "/batch" in path]
    assert [one["set_payload"] for one in batch[:3]] == [
        {"points": [1], "payload": {"b": 7}, "key": "a"},
        {"points": [1], "payload": {"y": 8}, "key": 'a."größe"'},
        {"points": [1], "payload": {"n": 2**64 - 1}},
    ]
    assert batch[3] == {"delete_payload": {"points": [1], "keys": ["a.c"]}}


@pytest.mark.server
def test_edits_inside_objects_are_the_same_over_rest(qdrant_server):
    """What a fix sets and removes inside an object is so on a real server, whatever the way."""
    client = QdrantClient(url=qdrant_server.url, api_key=qdrant_server.settings().api_key, check_compatibility=False)
    name = "rest and paths"
    client.delete_collection(name)
    client.create_collection(name, vectors_config=VECTORS)
    edit = PayloadEdit((1, 2), {"a.b": 7, "a.größe.y": 8, "t": "new"}, ("a.c",))
    seen = []
    try:
        for rest in (False, True):
            store = connect(qdrant_server.settings(prefer_rest=rest))
            client.upsert(name, [models.PointStruct(id=one, vector={}, payload={"a": {"b": 1, "c": 2}}) for one in (1, 2)])
            store.edit_payloads(name, [edit])
            seen.append(store.payloads(name, [1, 2]))
            store.close()
        assert seen[0] == {one: {"a": {"b": 7, "größe": {"y": 8}}, "t": "new"} for one in (1, 2)}
        assert seen[1] == seen[0]
    finally:
        client.delete_collection(name)
        client.close()


def test_a_large_batch_goes_in_parts(points, api, monkeypatch):
    """As JSON a vector takes several times as much room: no request is larger than a server takes."""
    monkeypatch.setattr(rest_points, "_VALUES", 20)
    points.upsert("c d", every(10)).wait()
    sent = [len(body["points"]) for method, _, _, body in api.asked if method == "PUT"]
    assert len(sent) > 3
    assert sum(sent) == 12


def test_a_refusal_is_one_error(points):
    """What the server can't read is reported with its own words."""
    with pytest.raises(StoreError, match="Bad request"):
        points.upsert("none", every()).wait()


FILTERS = [
    {"must": [{"key": "k", "match": {"value": "a"}}, {"key": "n", "match": {"any": [1, 2]}}]},
    {"must_not": [{"key": "k", "match": {"except": ["a", "b"]}}, {"is_empty": {"key": "k"}}, {"is_null": {"key": "k"}}]},
    {"should": [{"has_id": [1, UUID]}, {"has_vector": "dense"}, {"key": "t", "match": {"text": "word"}}]},
    {"must": [{"key": "f", "range": {"gte": 0.5, "lt": 2}}, {"key": "d", "range": {"gt": "2024-01-02T03:04:05Z"}}]},
    {"must": [{"nested": {"key": "a", "filter": {"must": [{"key": "b", "match": {"value": True}}]}}}]},
    {"min_should": {"conditions": [{"key": "k", "match": {"value": 1}}], "min_count": 1}},
    {"must": [{"key": "l", "values_count": {"gte": 2}}]},
    {"must": [{"key": "g", "geo_radius": {"center": {"lon": 1.5, "lat": 2.5}, "radius": 10}}]},
]


@pytest.mark.parametrize("where", FILTERS)
def test_a_filter_says_the_same_over_rest(where):
    """From JSON to the message and back to JSON, nothing of a filter is lost."""
    back = rest_points.filter_of(filters.wire_of(where))
    assert filters.wire_of(back) == filters.wire_of(where)
    assert set(back) == set(where)


@pytest.mark.parametrize("match", [{"value": 2**63}, {"any": [2**63]}, {"except": [-(2**63) - 1]}])
def test_a_filter_for_an_integer_beyond_64_bits_is_refused(match):
    """No server can be asked for it; the error explains it."""
    with pytest.raises(UsageError, match="out of range"):
        filters.wire_of({"must": [{"key": "n", "match": match}]})


@pytest.mark.server
def test_both_ways_give_the_same_messages(qdrant_server):
    """What a real server hands out over REST is what it hands out over gRPC."""
    client = QdrantClient(url=qdrant_server.url, api_key=qdrant_server.settings().api_key, check_compatibility=False)
    name = "rest and grpc"
    client.delete_collection(name)
    client.create_collection(name, vectors_config=VECTORS, sparse_vectors_config={"words": models.SparseVectorParams()})
    ways = [Points(qdrant_server.settings(prefer_rest=rest), lambda _: {}, lambda _, ids: {}) for rest in (False, True)]
    try:
        ways[1].upsert(name, every(30)).wait()
        scan = {"payload": True, "vectors": True, "page": 7, "start": None, "stop": None}
        seen = [[DIGEST(one) for page in way.scan(name, **scan) for one in page] for way in ways]
        assert len(seen[0]) == 32
        assert seen[0] == seen[1]
        for where in (FILTERS[0], FILTERS[1], FILTERS[4], FILTERS[5], FILTERS[6]):
            wire = filters.wire_of(where)
            ids = [[one for page in way.scan_ids(name, page=9, where=wire) for one in rest_points_ids(page)] for way in ways]
            assert ids[0] == ids[1]
        assert isinstance(ways[1].delete(name, [5]), int)
        assert ways[0].fetch_ids(name, [5, 100]) == {100}
    finally:
        for way in ways:
            way.close()
        client.delete_collection(name)
        client.close()


@pytest.mark.server
def test_an_upgrade_and_its_rollback_over_rest_alone(qdrant_server, tmp_path):
    """Where no gRPC passes, a rebuild is copied, proven, served and undone nevertheless."""
    qdrant = {"url": qdrant_server.url, "grpc_port": free_port(), "prefer_rest": True, "timeout": 5}
    made = Deployment(tmp_path / "project", qdrant, f"sqlite:///{tmp_path}/ledger.db")
    try:
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(300)
        before = made.contents()
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        assert made.contents().keys() == before.keys()
        rollback.rollback(made.settings(), "0001")
        assert made.contents() == before
    finally:
        clean(made)
