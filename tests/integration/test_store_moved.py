"""On a real server: every kind of point, copied by all ways that there are, is the same point afterwards."""

from __future__ import annotations

import logging
import math
import uuid

import pytest
from qdrant_client import QdrantClient, models
from tests.harness import by_hand

from qmigrate.model.transform import PointTransform
from qmigrate.store import exact, pages, records

pytestmark = pytest.mark.server

DENSE = {"size": 3, "distance": "Cosine"}
NAMED = {
    "dense": models.VectorParams(size=3, distance=models.Distance.DOT),
    "half": models.VectorParams(size=2, distance=models.Distance.EUCLID, datatype=models.Datatype.FLOAT16),
    "rows": models.VectorParams(
        size=2, distance=models.Distance.COSINE, multivector_config=models.MultiVectorConfig(comparator="max_sim")
    ),
}
EVERY = {
    "dense": [1.0, -0.0, 0.25],
    "half": [0.1, 3.0],
    "rows": [[1.0, 0.0], [0.5, 0.5]],
    "sparse": models.SparseVector(indices=[7, 2], values=[0.5, 1.5]),
}
DEEP: object = "end"
for _ in range(30):
    DEEP = {"a": [DEEP, None]}
PAYLOADS = [
    {},
    {"n": 1, "f": 1.5, "whole": 1.0, "t": "text", "yes": True, "nothing": None, "ä 日本": "é"},
    {"big": "x" * 40_000, "nested": {"b": [1, 2.5, {"c": None}], "a": {"z": 1, "y": []}, "": {}}, "deep": DEEP},
    {"beyond": 2**63, "list": [2**64 - 1, 2**63 - 1, -(2**63)], "double": 2.0**63},
]
IDS = [0, 1, 127, 128, 2**21, 2**63, 2**64 - 1, *(str(uuid.UUID(int=number * 7**40)) for number in range(1, 6))]


def load(url: str, name: str, *, unnamed: bool) -> int:
    """Points of every kind: each id has another payload and other vectors; over REST, which carries every number."""
    client = QdrantClient(url=url, timeout=60)
    vectors = models.VectorParams(**DENSE) if unnamed else NAMED
    sparse = None if unnamed else {"sparse": models.SparseVectorParams()}
    client.create_collection(name, vectors_config=vectors, sparse_vectors_config=sparse)
    points = []
    names = [(), tuple(EVERY), *((one,) for one in EVERY), ("dense", "sparse")]
    for place, identifier in enumerate(IDS):
        vector = [1.0, float(place), 0.0] if unnamed else {one: EVERY[one] for one in names[place % len(names)]}
        points.append(models.PointStruct(id=identifier, payload=PAYLOADS[place % len(PAYLOADS)], vector=vector))
    client.upsert(name, points, wait=True)
    client.close()
    return len(points)


def bodies(store, name: str) -> bytes:
    """Everything of a collection, in one form."""
    return b"".join(page.body for page in store.scan_canonical(name, page=5))


@pytest.mark.parametrize("unnamed", [False, True], ids=["named", "unnamed"])
def test_every_kind_of_point_is_the_same_by_every_way(server_store, qdrant_server, fresh_name, unnamed, monkeypatch):
    """Moved as bytes, spliced from messages, or built of them: the server holds what it held, bit by bit."""
    count = load(qdrant_server.url, fresh_name, unnamed=unnamed)
    schema = server_store.describe(fresh_name).schema
    names = frozenset({""} if unnamed else {*EVERY})
    built = PointTransform(vectors={name: name for name in names}, drops=True)
    wanted = bodies(server_store, fresh_name)

    def moved():
        return [page.points for page in server_store.scan_ready(fresh_name, page=5)]

    def messages():
        with monkeypatch.context() as patch:
            patch.setattr(pages, "retagged", _foreign)
            return moved()

    def made():
        found = server_store.scan(fresh_name, page=5)
        return [[records.make_ready(stored, built, {}) for stored in page] for page in found]

    for number, way in enumerate((moved, messages, made)):
        target = f"{fresh_name}_{number}"
        server_store.create_collection(target, schema, seal=None)
        for points in way():
            server_store.upsert(target, points).wait()
        try:
            assert server_store.count(target) == count, way
            assert bodies(server_store, target) == wanted, way
        finally:
            server_store.drop_collection(by_hand(target))
    large = {identifier for place, identifier in enumerate(IDS) if "beyond" in PAYLOADS[place % len(PAYLOADS)]}
    found = server_store.payloads(fresh_name, list(large))
    assert all(payload["beyond"] == 2**63 for payload in found.values())
    assert found.keys() == large


def _foreign(*_args):
    raise pages.ForeignError


def test_an_answer_with_news_is_taken_apart_and_told_once(server_store, qdrant_server, fresh_name, monkeypatch, caplog):
    """A field that a newer server adds: points come all the same, and one warning."""
    load(qdrant_server.url, fresh_name, unnamed=False)
    monkeypatch.setattr(server_store._points, "_moves_bytes", True)
    monkeypatch.setattr(exact, "may_hold_large", lambda _: False)
    monkeypatch.setattr(pages, "retagged", _foreign)
    with caplog.at_level(logging.WARNING):
        found = [one for page in server_store.scan_ready(fresh_name, page=2) for one in page.points]
    assert len(found) == len(IDS)
    assert [record.getMessage().count("doesn't know") for record in caplog.records] == [1]
    monkeypatch.setattr(server_store._points, "_moves_bytes", True)


@pytest.mark.parametrize(("start", "after", "stop"), [(None, None, None), (1, 1, 2**63), (1, 0, IDS[-2]), (128, 128, 129)])
def test_parts_of_a_collection(server_store, qdrant_server, fresh_name, start, after, stop):
    """From an id, behind a cursor, up to before another id; as bytes for comparing, too."""
    load(qdrant_server.url, fresh_name, unnamed=False)
    keys = [key for key in map(records.order_key, IDS) if start is None or key >= records.order_key(start)]
    keys = [key for key in keys if stop is None or key < records.order_key(stop)]
    for page in (1, 3, 100):
        canonical = server_store.scan_canonical(fresh_name, start=start, stop=stop, page=page)
        assert b"".join(one.keys for one in canonical) == b"".join(keys)
        ready = list(server_store.scan_ready(fresh_name, start=start, after=after, stop=stop, page=page))
        found = [records.order_key(records.point_id(records.grpc.PointStruct.FromString(one))) for part in ready for one in part.points]
        assert found == [key for key in keys if after is None or key != records.order_key(after)]
        assert all(math.isfinite(len(part.points)) and part.points for part in ready)
