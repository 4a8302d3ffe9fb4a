"""Twelve collections in production under plain names come under management, with readers and writers running."""

from __future__ import annotations

import time

import httpx
import pytest
from tests.conftest import clean
from tests.harness import CREATE, Deployment
from tests.scenarios.cli import call
from tests.scenarios.traffic import Reader, Writer

from qmigrate.commands import adopt, check, gc, upgrade

POINTS = 400
#: Four services with three collections each; the schemas of the applications that the tool was made for.
SCHEMAS: dict[str, dict] = {
    "memory": {
        "vectors": {
            "content": {"size": 24, "distance": "Cosine"},
            "emotion": {"size": 16, "distance": "Cosine"},
            "semantic": {"size": 24, "distance": "Cosine", "on_disk": True},
        },
        "hnsw_config": {"m": 24, "ef_construct": 128},
    },
    "images": {"vectors": {"size": 32, "distance": "Dot"}, "on_disk_payload": True},
    "faces": {
        "vectors": {"size": 16, "distance": "Euclid", "quantization_config": {"scalar": {"type": "int8"}}},
        "optimizers_config": {"default_segment_number": 2},
    },
    "mixed": {
        "vectors": {"dense": {"size": 8, "distance": "Cosine"}},
        "sparse_vectors": {"words": {"modifier": "idf"}},
        "strict_mode_config": {"enabled": True, "max_query_limit": 1000},
    },
}
INDEXES = {"memory": {"kind": "keyword", "n": "integer"}, "images": {"n": "integer"}, "faces": {"kind": "keyword"},
           "mixed": {"text": {"type": "text", "tokenizer": "word", "lowercase": True}}}


def vector_of(kind: str, number: int) -> object:
    """A point's vectors, a function of its number."""

    def dense(size: int) -> list[float]:
        return [float((number * 7 + place * 3) % 11 - 5) + 0.5 for place in range(size)]

    if kind == "memory":
        return {"content": dense(24), "emotion": dense(16), "semantic": dense(24)}
    if kind == "images":
        return dense(32)
    if kind == "faces":
        return dense(16)
    return {"dense": dense(8), "words": {"indices": [number % 50, 60], "values": [1.0, 0.5]}}


def query_of(kind: str) -> dict:
    """A search that both the old and the new schema accept."""
    found = vector_of(kind, 3)
    if isinstance(found, dict):
        name = next(iter(found))
        return {"query": found[name], "using": name}
    return {"query": found}


def make(client: httpx.Client, name: str, kind: str) -> None:
    """A collection as its application made it, with indexes and points."""
    client.put(f"/collections/{name}", json=SCHEMAS[kind]).raise_for_status()
    for field, schema in INDEXES[kind].items():
        body = {"field_name": field, "field_schema": schema}
        client.put(f"/collections/{name}/index", params={"wait": "true"}, json=body).raise_for_status()
    points = [
        {
            "id": number + 1,
            "vector": vector_of(kind, number),
            "payload": {"text": f"text {number}", "kind": "even" if number % 2 == 0 else "odd", "n": number},
        }
        for number in range(POINTS)
    ]
    client.put(f"/collections/{name}/points", params={"wait": "true"}, json={"points": points}).raise_for_status()


@pytest.fixture
def production(qdrant_server, tmp_path):
    """Twelve collections under plain names, their readers and writers, and an empty deployment."""
    made = Deployment(
        tmp_path / "project",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 5},
        f"sqlite:///{tmp_path}/ledger.db",
    )
    kinds = {f"{made.name}_{kind}_{tenant}": kind for kind in SCHEMAS for tenant in ("ada", "bob", "cleo")}
    with httpx.Client(base_url=qdrant_server.url, timeout=30) as client:
        for name, kind in kinds.items():
            make(client, name, kind)
    least = dict.fromkeys(kinds, POINTS)
    queries = {name: query_of(kind) for name, kind in kinds.items()}
    vectors = {name: vector_of(kind, 5) for name, kind in kinds.items()}
    readers = [Reader(qdrant_server.url, list(kinds), least, queries, seed, pause=0.005) for seed in range(3)]
    writers = [Writer(qdrant_server.url, list(kinds), vectors, seed, pause=0.02) for seed in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    yield made, kinds, readers, writers
    for thread in (*readers, *writers):
        thread.stop()
    clean(made)


ADD_ALL = """
def upgrade():
    return [op.AddVector("{name}_memory_*", "relationship", VectorParams(size=16, distance=Distance.COSINE),
                         values=Embed("words", text="text"))]
"""
TUNE_ALL = """
def upgrade():
    return [
        op.CreatePayloadIndex("{name}_images_*", "kind", PayloadSchemaType.KEYWORD),
        op.UpdateCollection("{name}_faces_*", hnsw_config=HnswConfigDiff(m=8)),
        op.AddVector("{name}_mixed_*", "small", VectorParams(size=4, distance=Distance.DOT),
                     values=Compute(lambda point: [1.0, 2.0, 3.0, 4.0])),
    ]
"""


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.timeout(600)
def test_twelve_collections_come_under_management_with_no_failed_read(production, capsys):
    """Adopt → two revisions → clean check → gc: zero failed reads, every acknowledged write is there."""
    made, kinds, readers, writers = production
    settings = made.settings()
    began = time.monotonic()
    adopted = adopt.adopt(settings, f"{made.name}_*")
    adopt_seconds = time.monotonic() - began
    assert {row.name for row in adopted.rows} == set(kinds)
    made.revise("9001", ADD_ALL, down=adopted.rows[0].revision)
    made.revise("9002", TUNE_ALL)
    began = time.monotonic()
    result = upgrade.upgrade(settings)
    upgrade_seconds = time.monotonic() - began
    assert {outcome.collection for outcome in result.outcomes} == set(kinds)
    assert check.check(settings, only=kinds).exit_code == 0
    failed_before_gc = sum(len(reader.failures) for reader in readers)
    began = time.monotonic()
    gc.gc(settings, f"{made.name}_*", now=True)
    gc_seconds = time.monotonic() - began
    for thread in (*readers, *writers):
        thread.stop()
    failures = [failure for reader in readers for failure in reader.failures]
    wrong = [entry for reader in readers for entry in reader.wrong]
    refused = [entry for writer in writers for entry in writer.refused]
    with capsys.disabled():
        print(
            f"\n{len(kinds)} collections, {sum(reader.reads for reader in readers):,} reads, "
            f"{len(failures)} failed ({failed_before_gc} before gc); "
            f"{sum(len(ids) for writer in writers for ids in writer.truth.values()):,} writes acknowledged, "
            f"{len(refused)} refused; adopt {adopt_seconds:.1f} s, upgrade {upgrade_seconds:.1f} s, gc {gc_seconds:.1f} s"
        )
    assert failures == []
    assert wrong == []
    check_points(made, kinds, writers)
    assert check.check(settings, only=kinds).exit_code == 0
    store = made.store()
    # The images got an index in place and stay as they were; every rebuilt name is an ordinary alias now.
    left = {name for name, kind in kinds.items() if kind == "images"}
    assert set(kinds) & set(store.physical_names()) == left
    assert set(kinds) - left <= store.aliases().keys()
    store.close()


def check_points(made: Deployment, kinds: dict[str, str], writers: list[Writer]) -> None:
    """Every point that was there or acknowledged is behind its name, in the new shape where it has one."""
    for name, kind in kinds.items():
        found = made.contents(name)
        for writer in writers:
            missing = writer.truth.get(name, set()) - found.keys()
            assert not missing, f"{name} lost {sorted(missing)[:5]}"
        assert set(range(1, POINTS + 1)) <= found.keys()
        if kind == "memory":
            assert sum("relationship" in vectors for _, vectors in found.values()) >= POINTS
        if kind == "mixed":
            assert sum("small" in vectors for _, vectors in found.values()) >= POINTS


def test_a_fix_of_what_another_ledger_has_does_not_advise_to_adopt_it(deployment, tmp_path):
    """With the wrong ledger the way is the right one, and nothing is taken over or changed."""
    made = deployment
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(3)
    words = ("fix", "delete", made.name, "--id", "1", "--reason", "r", "--yes", "--expect", "1")
    said = call(made.root, *words, "--ledger-url", f"sqlite:///{tmp_path}/another.db")
    assert (said.code, "sealed by another ledger" in said.err, "adopt" in said.err) == (7, True, False), said.text
    assert len(made.contents()) == 3
