"""doctor --vectors: planted faults are found with their points and what repairs them, and sound ones aren't accused."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from qdrant_client import QdrantClient
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import jobs, upgrade
from qmigrate.commands.examined import examination
from qmigrate.commands.session import opened_ledger
from qmigrate.embed import load
from qmigrate.model.transform import Point


def contents_of(made: Deployment) -> dict:
    """Id -> point, as it is."""
    return {one: Point(one, payload, vectors) for one, (payload, vectors) in made.contents().items()}


def distinct(number: int) -> list[float]:
    """No two points have one."""
    return [math.sin(number * (place + 1) * 1.3) for place in range(8)]


@pytest.fixture
def sound(deployment):
    """Points with a vector that nothing has filled, and one that the embedder of the settings has."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    points = [Point(one, {"text": f"the text number {one} of {one * 7}"}, {"a": distinct(one)}) for one in range(1, 81)]
    write(store, deployment.name, points)
    store.close()
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    return deployment


def found_in(made: Deployment, *more: str) -> dict:
    """Kind -> finding, of what the command prints."""
    said = call(made.root, "doctor", "--vectors", *more, "--json")
    assert said.code == 0, said.text
    findings = [one["facts"]["finding"] for one in said.json["data"]["checks"] if "finding" in one["facts"]]
    return {f"{one['vector']}.{one['kind']}": one for one in findings}


def test_sound_vectors_are_not_accused(sound):
    """Neither on a sample nor when all are read; nothing is changed."""
    before = sound.contents()
    for more in ((), ("--all",), ("--only", sound.name)):
        assert found_in(sound, *more) == {}
    said = call(sound.root, "doctor", "--vectors")
    assert "80 points of 80 seen, nothing odd" in said.out
    assert sound.contents() == before


def test_planted_faults_are_found(sound):
    """Copies with other payloads, a text that changed since, another model's vector, and one that is missing."""
    points = contents_of(sound)
    names = sorted(points)
    # Also one that is not among the points of a sample that is embedded again.
    copied, of, stale, foreign, lacking = names[3], names[4], names[10], names[20], names[75]
    planted = [
        *(Point(one, points[one].payload, {**points[one].vectors, "a": distinct(500)}) for one in (copied, of)),
        Point(stale, {**points[stale].payload, "text": points[stale].payload["text"] + " and more"}, points[stale].vectors),
        Point(foreign, points[foreign].payload, {**points[foreign].vectors, "b": [-x for x in points[foreign].vectors["b"]]}),
        Point(lacking, points[lacking].payload, {"a": points[lacking].vectors["a"]}),
    ]
    store = sound.store()
    write(store, sound.name, planted)
    store.close()
    found = found_in(sound, "--all")
    assert set(found) == {"a.copies", "b.stale", "b.other-model", "b.missing"}, json.dumps(found, indent=1)
    assert set(found["a.copies"]["ids"]) == {copied, of}
    assert found["b.stale"]["ids"] == [stale]
    assert found["b.other-model"]["ids"] == [foreign]
    assert (found["b.missing"]["points"], found["b.missing"]["ids"]) == (1, [lacking])
    assert "qmigrate fix delete" in found["a.copies"]["command"]
    assert 'op.Reembed("' in found["b.stale"]["command"]
    examined(sound, found, [copied, of, stale, foreign, lacking])


def examined(made: Deployment, found: dict, points: list) -> None:
    """A job finds the same by a sample, and keeps no point's id: an erasure would have to find it there."""
    jobs.submit(made.settings().acting("kim"), "examine", {"collection": made.name})
    assert jobs.work(made.settings(), once=True).ended == 1
    with opened_ledger(made.settings()) as ledger:
        seen = examination(ledger, made.name)
    assert (seen.state, seen.by, seen.health.points) == ("completed", "kim", 80)
    # Not every point is embedded again for a sample.
    assert {"a.copies", "b.missing"} <= {f"{one.vector}.{one.kind}" for one in seen.health.findings} <= set(found)
    kept = json.dumps(jobs.jobs(made.settings()).rows[0].result)
    assert "(ids" not in kept
    assert not re.search(rf"--id|'({'|'.join(map(str, points))})'", kept)
    assert any(one.command == f"qmigrate doctor --vectors --only {made.name}" for one in seen.health.findings)


def test_what_can_not_be_asked_is_named(sound):
    """A collection that isn't there, and options that choose nothing."""
    said = call(sound.root, "doctor", "--vectors", "--only", "nothing")
    assert "nothing" in said.text
    assert "there is no collection" in said.text
    assert call(sound.root, "doctor", "--all").code == 2


RAW = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.DOT)}})]
"""


def test_odd_numbers_are_found(deployment):
    """All zeros, not of length 1 where the others are, and a dimension that never changes: each with its points and a command."""
    deployment.revise("0001", RAW)
    upgrade.upgrade(deployment.settings())
    rows = {}
    for one in range(1, 81):
        head = distinct(one)[:7]
        rows[one] = [value / math.hypot(*head) * math.sqrt(1 - 0.25) for value in head] + [0.5]
    rows[7] = [0.0] * 8
    rows[9], rows[11] = ([2 * value for value in rows[one][:7]] + [0.5] for one in (9, 11))
    store = deployment.store()
    write(store, deployment.name, [Point(one, {"n": one}, {"a": row}) for one, row in rows.items()])
    store.close()
    found = found_in(deployment, "--all")
    assert set(found) == {"a.zero", "a.unnormalised", "a.constant"}
    assert found["a.zero"]["ids"] == [7]
    assert sorted(found["a.unnormalised"]["ids"]) == [9, 11]
    assert (found["a.constant"]["points"], len(found["a.constant"]["ids"]), found["a.constant"]["suspicion"]) == (80, 5, True)
    assert all("op.Reembed(" in one["command"] for one in found.values())


SUMMED = """
def upgrade():
    return [op.AddVector("{{name}}", "b", VectorParams(size=16, distance=Distance.{distance}), values=Embed(
        "words", text="text", on_failure="keep_without_vector",
        checksum=Checksum("SELECT id, embedding_checksum AS checksum FROM evidence", kind="python-floats", embedder="words"),
    ))]
"""


def registered(made: Deployment, texts: dict[int, str]) -> None:
    """A table with what an application keeps: sha256 of the texts of the floats that the model had returned."""
    model = load("words", {"type": "hashing", "size": 16})
    made.extra["databases"] = {"app": {"url": f"sqlite:///{made.root}/app.db"}}
    made.__post_init__()
    with closing(sqlite3.connect(made.root / "app.db")) as connection:
        connection.execute("DROP TABLE IF EXISTS evidence")
        connection.execute("CREATE TABLE evidence (id INTEGER, embedding_checksum TEXT)")
        for number, text in texts.items():
            vector = [float(value) for value in model.embed([text])[0]]
            digest = hashlib.sha256("".join(str(v) for v in vector).encode()).hexdigest()
            connection.execute("INSERT INTO evidence VALUES (?, ?)", (number, digest))
        connection.commit()


@pytest.mark.parametrize("distance", ["COSINE", "DOT"])
def test_checksums_of_vectors(deployment, distance):
    """What the model returns is compared, not what is stored; where nothing agrees, that is said and no point is accused."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    texts = {one: f"the text number {one} of {one * 7}" for one in range(1, 61)}
    store = deployment.store()
    write(store, deployment.name, [Point(one, {"text": text}, {"a": distinct(one)}) for one, text in texts.items()])
    store.close()
    # Two rows are of another text: those points are not embedded from what was registered, and stay without the vector.
    registered(deployment, {**texts, 5: "another text", 6: "and one more"})
    deployment.revise("0002", SUMMED.format(distance=distance))
    upgrade.upgrade(deployment.settings())
    assert {one for one, (_, vectors) in deployment.contents().items() if "b" not in vectors} == {5, 6}
    assert "embedded by words again" in call(deployment.root, "fix", "quarantine", deployment.name).out
    registered(deployment, texts)
    said = call(deployment.root, "doctor", "--vectors", "--all").out
    assert "58 of 58 have their checksum in app" in " ".join(said.split())
    if distance == "DOT":
        assert "58 as stored" in " ".join(said.split()), "what isn't normalised is what the model returned"
    registered(deployment, {**texts, 9: "something else"})
    found = found_in(deployment, "--all")
    assert found["b.checksum"]["ids"] == [9]
    assert found["b.checksum"]["suspicion"]
    registered(deployment, {one: f"{text}!?x" for one, text in texts.items()})
    said = call(deployment.root, "doctor", "--vectors", "--all")
    assert "can't be proven by their checksum in app" in " ".join(said.out.split())
    assert "b.checksum" not in found_in(deployment, "--all")


def test_checksums_of_inputs_are_of_all_that_is_seen(deployment):
    """Not only of the points that are embedded again."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    texts = {one: f"the text number {one} of {one * 7}" for one in range(1, 151)}
    store = deployment.store()
    write(store, deployment.name, [Point(one, {"text": text}, {"a": distinct(one)}) for one, text in texts.items()])
    store.close()
    registered(deployment, {})
    deployment.revise("0002", SUMMED.format(distance="COSINE").replace(', kind="python-floats", embedder="words"', ""))
    upgrade.upgrade(deployment.settings())
    with closing(sqlite3.connect(deployment.root / "app.db")) as connection:
        rows = [(one, hashlib.sha256((text + "!" * (one > 140)).encode()).hexdigest()) for one, text in texts.items()]
        connection.executemany("INSERT INTO evidence VALUES (?, ?)", rows)
        connection.commit()
    found = found_in(deployment, "--all")["b.checksum"]
    assert found["points"] == 10
    assert len(found["ids"]) == 5
    assert set(found["ids"]) <= set(range(141, 151))
    assert "10 of 150 points that were compared" in found["detail"]


def test_the_recall_of_a_coarse_index(qdrant_server, tmp_path):
    """How much it finds, which points miss something, and by which ef 0.99 is found, or that a finer index is needed."""
    made = Deployment(tmp_path, {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", COARSE)
    upgrade.upgrade(made.settings())
    random = np.random.default_rng(3)
    store = made.store()
    try:
        write(store, made.name, [Point(one, {"n": one}, {"a": row.tolist()}) for one, row in enumerate(random.normal(size=(3000, 32)), 1)])
        until(lambda: store.readiness(made.name).settled and indexed(made) >= 2500)
        found = found_in(made)["a.recall"]
        assert 0 < found["points"] <= 50
        assert len(found["ids"]) == min(5, found["points"])
        assert "for 0.99 hnsw_ef=" in found["detail"] or "no hnsw_ef up to 2,048" in found["detail"]
        assert "op.UpdateCollection(" in found["command"]
    finally:
        store.close()
        clean(made)


COARSE = """
def upgrade():
    return [op.CreateCollection(
        "{name}", {{"a": VectorParams(size=32, distance=Distance.COSINE)}},
        hnsw_config=HnswConfigDiff(m=4, ef_construct=4, full_scan_threshold=10),
        optimizers_config=OptimizersConfigDiff(indexing_threshold=100, default_segment_number=1),
    )]
"""


def indexed(made: Deployment) -> int:
    """How many vectors are in a graph."""
    with closing(QdrantClient(url=made.qdrant["url"])) as client:
        return client.get_collection(made.name).indexed_vectors_count or 0


def until(done) -> None:
    """Wait for the server's optimizers, at most a minute."""
    end = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end
        threading.Event().wait(0.2)
