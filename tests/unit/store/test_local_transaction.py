"""Local mode commits what a request changes at once: all of it is on disk when it is acknowledged, or none of it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.conversions.conversion import RestToGrpc

from qmigrate.errors import StoreError
from qmigrate.model.schema import Change
from qmigrate.ports import PayloadEdit
from qmigrate.store.local.local import LocalStore

POINTS = 50


def ready(identifier: int, value: float = 1.0) -> bytes:
    """A point as the engine writes it."""
    point = models.PointStruct(id=identifier, vector={"a": [value, 2.0]}, payload={"n": identifier})
    return RestToGrpc.convert_point_struct(point).SerializeToString()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    """A store with an empty collection, and an alias of it."""
    opened = LocalStore.open(str(tmp_path / "q"))
    with opened.client() as client:
        client.create_collection("c", {"a": models.VectorParams(size=2, distance=models.Distance.DOT)})
    opened.create_alias("live", "c")
    yield opened
    opened.close()


def connection(store: LocalStore) -> sqlite3.Connection:
    """The collection's file."""
    with store.client() as client:
        return getattr(client, "_client", client).collections["c"].storage.storage


def filled(store: LocalStore, name: str = "c") -> None:
    """All points are written in one request."""
    store.upsert(name, [ready(one) for one in range(POINTS)]).wait()


#: What a request does to a collection that is filled.
REQUESTS = {
    "upsert": filled,
    "upsert through an alias": lambda store: filled(store, "live"),
    "delete": lambda store: store.delete("c", list(range(POINTS))),
    "payloads": lambda store: store.edit_payloads(
        "c", [PayloadEdit(ids=tuple(range(POINTS)), values={"x": 1}), PayloadEdit(ids=(1, 2), values={}, removed=("n",))]
    ),
    "payloads inside": lambda store: store.edit_payloads(
        "c", [PayloadEdit(ids=tuple(range(POINTS)), values={"x.y": 1})]
    ),
    "vectors": lambda store: store.edit_vectors("c", {one: {"a": [3.0, 4.0]} for one in range(POINTS)}),
    "a vector is dropped": lambda store: store.apply("c", Change("vector.drop", "a")),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_is_one_transaction(store: LocalStore, request_):
    """Whatever a request changes, the file is flushed once."""
    filled(store)
    said: list[str] = []
    connection(store).set_trace_callback(said.append)
    request_(store)
    connection(store).set_trace_callback(None)
    assert said.count("COMMIT") == 1
    assert len(said) > POINTS


def test_what_is_acknowledged_is_on_disk(store, tmp_path):
    """Another connection sees it."""
    filled(store)
    with sqlite3.connect(next((tmp_path / "q").rglob("*.sqlite"))) as other:
        assert other.execute("SELECT count(*) FROM points").fetchone() == (POINTS,)


def test_killed_in_the_middle_of_a_request_nothing_of_it_is_there(tmp_path):
    """What was acknowledged before is."""
    killed = f"""
import os
from pathlib import Path
from tests.unit.store.test_local_transaction import *
store = LocalStore.open({str(tmp_path / "q")!r})
with store.client() as client:
    client.create_collection("c", {{"a": models.VectorParams(size=2, distance=models.Distance.DOT)}})
    persistence = client.collections["c"].storage
store.upsert("c", [ready(7)]).wait()
persist, seen = persistence.persist, []
def counted(point):
    persist(point)
    seen.append(point)
    if len(seen) == 30:
        os.kill(os.getpid(), 9)
persistence.persist = counted
filled(store)
"""
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", killed], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, timeout=100)
    assert ended.returncode == -9
    again = LocalStore.open(str(tmp_path / "q"))
    assert again.fetch_ids("c", range(POINTS)) == {7}
    again.close()


def test_a_point_that_is_refused_leaves_disk_and_memory_alike(store, tmp_path):
    """The points before it were changed in both."""
    filled(store)
    with pytest.raises(StoreError):
        store.edit_payloads(
            "c", [PayloadEdit(ids=(1,), values={"x": 1}), PayloadEdit(ids=(10**6,), values={"x.y": 1})]
        )
    seen = store.payloads("c", range(POINTS))
    store.close()
    again = LocalStore.open(str(tmp_path / "q"))
    assert again.payloads("c", range(POINTS)) == seen
    assert seen[1] == {"n": 1, "x": 1}
    again.close()


def test_what_could_not_be_committed_is_never_shown(store, tmp_path):
    """The client has it in memory: a proof that reads there would prove points that the next process doesn't find."""
    filled(store)
    connection(store).execute("PRAGMA busy_timeout = 0")
    reader = sqlite3.connect(next((tmp_path / "q").rglob("*.sqlite")), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM points").fetchone()
    with pytest.raises(StoreError, match="locked"):
        store.upsert("c", [ready(one, 9.0) for one in range(POINTS + 5)]).wait()
    reader.close()
    for asked in (lambda: store.count("c"), lambda: list(store.scan("c")), lambda: filled(store)):
        with pytest.raises(StoreError, match="locked"):
            asked()
    store.close()
    again = LocalStore.open(str(tmp_path / "q"))
    assert again.count("c") == POINTS
    again.close()


def test_a_disk_that_is_full_before_the_commit_is_never_hidden(store, tmp_path):
    """SQLite takes the whole request back as soon as a statement finds no room, and a commit of nothing succeeds."""
    filled(store)
    pages = connection(store).execute("PRAGMA page_count").fetchone()[0]
    connection(store).execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreError, match="full"):
        store.upsert("c", [ready(one) for one in range(POINTS, 100 * POINTS)]).wait()
    with pytest.raises(StoreError, match="full"):
        store.count("c")
    store.close()
    again = LocalStore.open(str(tmp_path / "q"))
    assert again.count("c") == POINTS
    again.close()


def test_a_lent_client_commits_each_point(tmp_path):
    """A point of its other threads is on disk when their own call returns."""
    client = QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("c", {"a": models.VectorParams(size=2, distance=models.Distance.DOT)})
    lent = LocalStore(client, str(tmp_path / "q"), threading.RLock())
    said: list[str] = []
    connection(lent).set_trace_callback(said.append)
    filled(lent)
    assert said.count("COMMIT") == POINTS
    client.close()


def test_a_client_that_keeps_its_points_elsewhere_is_left_alone():
    """There is no file to commit to."""
    held = LocalStore.open(":memory:")
    with held.client() as client:
        client.create_collection("c", {"a": models.VectorParams(size=2, distance=models.Distance.DOT)})
    filled(held)
    assert held.count("c") == POINTS
