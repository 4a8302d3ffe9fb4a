"""doctor --vectors: planted faults are found with their points and what repairs them, and sound ones aren't accused."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient
from tests.conftest import clean
from tests.embed_server import EmbeddingServer
from tests.harness import ADD, CREATE, Deployment, write
from tests.scenarios.cli import call
from tests.unit.evaluation.test_soundness import model

from qmigrate.commands import jobs, upgrade
from qmigrate.commands.examined import examination
from qmigrate.commands.session import opened_ledger
from qmigrate.embed import load
from qmigrate.model.transform import Point
from qmigrate.revisions.file import load_file


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


@pytest.fixture
def embedding_server():
    """Where texts are embedded, stopped at the end."""
    made = EmbeddingServer()
    yield made
    made.close()


def words_of_spaces(file: Path) -> None:
    """A tokenizer whose tokens are the words of a text."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(file))


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
    assert "80 points of 80 seen, 64 embedded again" in said.out
    assert "nothing odd" in said.out
    assert "80 points of 80 seen, 80 embedded again" in call(sound.root, "doctor", "--vectors", "--all").out
    assert "80 points of 80 seen, 7 embedded again" in call(sound.root, "doctor", "--vectors", "--all", "--embed", "7").out
    assert call(sound.root, "doctor", "--embed", "7").code == 2
    assert sound.contents() == before


def test_planted_faults_are_found(sound):
    """Copies with other payloads, a text that changed since, another model's vector, and one that is missing."""
    points = contents_of(sound)
    names = sorted(points)
    # Also behind as many points as are embedded again of a sample.
    copied, of, stale, foreign, lacking, bare = names[3], names[4], names[70], names[78], names[75], names[60]
    planted = [
        *(Point(one, points[one].payload, {**points[one].vectors, "a": distinct(500)}) for one in (copied, of)),
        Point(stale, {**points[stale].payload, "text": points[stale].payload["text"] + " and more"}, points[stale].vectors),
        Point(foreign, points[foreign].payload, {**points[foreign].vectors, "b": [-x for x in points[foreign].vectors["b"]]}),
        Point(lacking, points[lacking].payload, {"a": points[lacking].vectors["a"]}),
        Point(bare, {"title": "the text is gone"}, points[bare].vectors),
    ]
    store = sound.store()
    write(store, sound.name, planted)
    store.close()
    found = found_in(sound, "--all")
    assert set(found) == {"a.copies", "b.stale", "b.other-model", "b.missing", "b.no-input"}, json.dumps(found, indent=1)
    assert set(found["a.copies"]["ids"]) == {copied, of}
    assert found["b.stale"]["ids"] == [stale]
    assert found["b.no-input"]["ids"] == [bare]
    assert 'on_failure="keep_without_vector"' in found["b.no-input"]["command"]
    assert "1 of 79 points have the vector" in found["b.no-input"]["detail"]
    assert found["b.other-model"]["ids"] == [foreign]
    assert (found["b.missing"]["points"], found["b.missing"]["ids"]) == (1, [lacking])
    assert "qmigrate fix delete" in found["a.copies"]["command"]
    assert 'op.Reembed("' in found["b.stale"]["command"]
    for one in found.values():
        typed(sound, one["command"])
    examined(sound, found, [copied, of, stale, foreign, lacking])


def typed(made: Deployment, command: str) -> None:
    """A command that repairs is understood as it stands: what writes a revision does, a fix is previewed."""
    words = shlex.split(command)
    assert words[0] == "qmigrate"
    if words[1] == "revision":
        said = call(made.root, *words[1:])
        assert said.code == 0, said.text
        file = made.root / "qdrant_migrations" / "versions" / said.out.split()[1].rpartition("/")[2]
        written = load_file(file)[0]
        assert [type(one).__name__ for one in written.operations] in (["Reembed"], ["UpdateCollection"])
        file.unlink()
    elif words[2] == "delete":
        said = call(made.root, *words[1:], "--dry-run")
        assert (said.code, " 1 of " in said.out) == (0, True), said.text
    else:
        assert call(made.root, *words[1:-1]).code == 0
        assert words[1:] == ["fix", "quarantine", made.name, "--retry"]


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
    assert all("values=FILL_ME" in one["command"] for one in found.values()), "no revision fills it"
    for one in found.values():
        typed(deployment, one["command"])
    assert found["a.zero"]["ids"] == [7]
    assert sorted(found["a.unnormalised"]["ids"]) == [9, 11]
    assert (found["a.constant"]["points"], len(found["a.constant"]["ids"]), found["a.constant"]["suspicion"]) == (80, 5, True)
    assert all("op.Reembed(" in one["command"] for one in found.values())


EVERY = """
def upgrade():
    return [op.CreateCollection("{name}", {{
        "a": VectorParams(size=64, distance=Distance.DOT),
        "rows": VectorParams(size=2, distance=Distance.DOT, multivector_config=MultiVectorConfig(comparator="max_sim")),
    }}, {{"terms": SparseVectorParams()}})]
"""
FAR = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=3, distance=Distance.DOT), values=Embed("far", text="{{text}} {{n}}")),
            op.AddVector("{name}", "words", SparseVectorParams(), values=Embed("bm25", text="text"))]
"""


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_what_a_server_takes_and_no_search_can_use(deployment, embedding_server):
    """NaN and infinity too, in rows and sparse vectors as well; two models in one field; texts that are cut off."""
    far = {"type": "http", "url": embedding_server.url, "model": "tiny", "tokenizer": "tokenizer.json", "max_tokens": 5}
    words_of_spaces(deployment.root / "tokenizer.json")
    deployment.extra["embedders"] = {"far": far, "bm25": {"type": "bm25"}}
    deployment.__post_init__()
    deployment.revise("0001", EVERY)
    upgrade.upgrade(deployment.settings())
    mixed = np.concatenate([model(1, 130), model(78, 20)])
    points = {
        one: Point(one, {"n": one, "text": f"word {one * 7} {'word ' * (one % 4)}"},
                   {"a": row.tolist(), "rows": [[1.0, one], [one, 1.0]], "terms": {"indices": [1, one + 1], "values": [1.0, 2.0]}})
        for one, row in enumerate(mixed, 1)
    }  # fmt: skip
    for bad, first in ((math.nan, 11), (math.inf, 21), (0.0, 31)):
        for place, (name, value) in enumerate(
            {"a": [bad] * 64, "rows": [[1.0, 1.0], [bad, bad]], "terms": {"indices": [3], "values": [bad]}}.items()
        ):
            points[first + place].vectors[name] = value
    store = deployment.store()
    write(store, deployment.name, list(points.values()))
    store.close()
    deployment.revise("0002", FAR)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    changed = contents_of(deployment)[50]
    write(store, deployment.name, [Point(50, {**changed.payload, "text": "violins and rivers"}, changed.vectors)])
    store.close()
    asked = len(embedding_server.seen)
    found = found_in(deployment, "--all")
    kinds = {"nan": 11, "infinite": 21, "zero": 31}
    for kind, first in kinds.items():
        for place, name in enumerate(("a", "rows", "terms")):
            assert (found[f"{name}.{kind}"]["points"], found[f"{name}.{kind}"]["ids"]) == (1, [first + place])
    assert set(found["a.mixed"]["ids"]) <= set(range(131, 151))
    assert (found["b.truncated"]["points"], len(found["b.truncated"]["ids"])) == (sum(one % 4 == 3 for one in range(1, 151)), 5)
    assert found["words.other-model"]["ids"] == [50], "words of another text have nothing in common with it"
    expected = {f"{name}.{kind}" for name in ("a", "rows", "terms") for kind in kinds}
    # The service makes three numbers of a text, some of which are alike.
    others = {one for one in found if not one.startswith("b.")}
    assert others == expected | {"a.mixed", "words.other-model"}
    for one in found.values():
        typed(deployment, one["command"])
    assert len(embedding_server.seen) - asked < 10, "a service gets 64 texts, not all"
    said = call(deployment.root, "doctor", "--vectors", "--all", "--only", deployment.name)
    assert "64 of 150 points were embedded again, since far may send them to a service: --embed 150" in " ".join(said.out.split())


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
        assert '"m": 32, "ef_construct": 256' in found["command"]
        typed(made, found["command"])
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
