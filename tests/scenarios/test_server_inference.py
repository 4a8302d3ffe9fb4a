"""Vectors that the server makes itself: by an inference service of its own, and by its built-in qdrant/bm25."""

from __future__ import annotations

import json

import pytest
from tests.embed_server import EmbeddingServer
from tests.harness import Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import plan, upgrade
from qmigrate.embed import load
from qmigrate.errors import EmbedError, StoreError, VerificationError
from qmigrate.model.inference import ServerText
from qmigrate.model.transform import Point

UNNAMED = """
def upgrade():
    return [op.CreateCollection("{name}", VectorParams(size=4, distance=Distance.COSINE))]
"""
DENSE = """
def upgrade():
    return [op.AlterVector("{name}", "", VectorParams(size=64, distance=Distance.COSINE), cutover="immediate",
                           values=Embed("remote", text="title"))]
"""
TERMS = """
def upgrade():
    return [op.AddVector("{name}", "terms", SparseVectorParams(modifier=Modifier.IDF), values=Embed("own", text="title"))]
"""
TOPICS = ["cats", "dogs", "boats", "trains", "apples", "clocks", "rivers", "violins"]
EMBEDDERS = {
    "remote": {"type": "qdrant", "model": "our/model", "options": {"dimensions": 64}},
    "own": {"type": "qdrant", "model": "qdrant/bm25", "options": {"language": "english"}},
}
POINTS = 60


class Service(EmbeddingServer):
    """What ``inference.address`` of a server names: texts in, vectors out.

    Attributes:
        mixed: when documents are written, each gets the vector of another text.
    """

    mixed = False

    def answer(self, path, headers, body):
        self.seen.append((path, headers, body))
        texts = [one["data"] for one in body["inputs"]]
        if self.bad & set(texts):
            return 400, {}, json.dumps({"error": f"can't read {sorted(self.bad & set(texts))[0]}"})
        # Of another text, and no two have the same.
        if self.mixed and body["inference"] == "update":
            texts = [text[::-1] for text in texts]
        vectors = load("words", {"type": "hashing", "size": 64}).embed(texts)
        return 200, {"content-type": "application/json"}, json.dumps({"embeddings": vectors.tolist(), "usage": {"models": {}}})


@pytest.fixture
def service():
    """Closed when the test ends."""
    made = Service()
    yield made
    made.close()


def titled(number: int) -> str:
    """No other point has it."""
    return f"{TOPICS[number % 8]} and {TOPICS[number * 3 % 8]} number{number}"


def loaded(folder, qdrant: dict) -> Deployment:
    """Points with a title and an unnamed vector."""
    made = Deployment(folder / "project", {**qdrant, "timeout": 2}, f"sqlite:///{folder}/ledger.db", extra={"embedders": EMBEDDERS})
    made.revise("0001", UNNAMED)
    upgrade.upgrade(made.settings())
    store = made.store()
    points = [Point(one, {"title": titled(one)}, {"": [1.0, one, 2.0, 3.0]}) for one in range(1, POINTS + 1)]
    write(store, made.name, points)
    store.close()
    return made


@pytest.mark.server
def test_the_inference_service_of_the_server_fills_a_vector(qdrant_with, service, tmp_path):
    """It gets the texts, the model and its options; what it makes is proven by searches, and wrong vectors are caught."""
    server = qdrant_with({"QDRANT__INFERENCE__ADDRESS": f"{service.url}/infer"})
    made = loaded(tmp_path, {"url": server.url, "grpc_port": server.grpc_port})
    made.revise("0002", DENSE)
    before = made.contents()
    assert any("is made by the server itself, by our/model" in note for note in plan(made.settings()).notes)

    service.mixed = True
    with pytest.raises(VerificationError) as refused:
        upgrade.upgrade(made.settings())
    assert "isn't found by its own text: it was made of another one" in refused.value.message
    assert made.contents() == before
    assert call(made.root, "abort").code == 0

    service.mixed, service.bad = False, {titled(7)}
    with pytest.raises(StoreError, match=f"can't read {titled(7)}"):
        upgrade.upgrade(made.settings())
    assert made.contents() == before

    service.bad, service.seen = set(), []
    upgrade.upgrade(made.settings())
    wanted = load("words", {"type": "hashing", "size": 64}).embed([titled(one) for one in range(1, POINTS + 1)])
    found = made.contents()
    assert all(found[one][1][""] == pytest.approx(wanted[one - 1].tolist(), abs=1e-5) for one in range(1, POINTS + 1))
    asked = [one for _, _, body in service.seen for one in body["inputs"]]
    assert {(one["model"], json.dumps(one["options"])) for one in asked} == {("our/model", '{"dimensions": 64}')}
    assert {body["inference"] for _, _, body in service.seen} == {"update", "search"}
    store = made.store()
    ask = ServerText(titled(42), "our/model")
    assert store.nearest(made.name, "", [ask], limit=1, exact=False) == [[42]]
    assert store.nearest(made.name, "", [ask], limit=2, exact=True, among=[3, 9]) in ([[3, 9]], [[9, 3]])
    store.close()


@pytest.mark.server
@pytest.mark.parametrize("rest", [False, True])
def test_the_words_of_the_server_next_to_the_unnamed_vector(qdrant_server, tmp_path, rest):
    """It needs no service for qdrant/bm25; every point keeps its vector, over gRPC and over REST."""
    made = loaded(tmp_path, {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "prefer_rest": rest})
    made.revise("0002", TERMS)
    before = made.contents()
    upgrade.upgrade(made.settings())
    after = made.contents()
    assert {one: vectors[""] for one, (_, vectors) in after.items()} == {one: vectors[""] for one, (_, vectors) in before.items()}
    assert {len(vectors["terms"]["indices"]) for _, vectors in after.values()} == {2, 3}
    store = made.store()
    ask = ServerText("number42", "qdrant/bm25")
    assert store.nearest(made.name, "terms", [ask], limit=1, exact=False) == [[42]]
    own = load("words", {"type": "bm25", "task": "query"}).embed(["number42"])
    assert store.nearest(made.name, "terms", own, limit=1, exact=False) == [[42]]
    store.close()


@pytest.mark.server
def test_a_server_without_a_service_is_found_out_beforehand(qdrant_server, tmp_path):
    """Nothing was made, and the message has the server's own words."""
    made = loaded(tmp_path, {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port})
    made.revise("0002", DENSE)
    with pytest.raises(EmbedError, match="leaves it to the server to make vectors, and it doesn't: .*InferenceService"):
        upgrade.upgrade(made.settings())
    store = made.store()
    assert [one for one in store.physical_names() if one.startswith(made.name)] == [f"{made.name}__g0001"]
    store.close()


def test_local_mode_makes_none(tmp_path):
    """It is refused in words, before anything is made."""
    made = loaded(tmp_path, {"path": str(tmp_path / "qdrant")})
    made.revise("0002", TERMS)
    with pytest.raises(EmbedError, match="local mode makes no vectors itself"):
        upgrade.upgrade(made.settings())
