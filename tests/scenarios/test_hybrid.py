"""The recipes of docs/quality.md, run: words next to a dense vector, a shortened one, a scaled one, each with its gate."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from tests.harness import Deployment, write
from tests.scenarios.cli import call
from tests.scenarios.test_compare import filled

from qmigrate.commands import plan, status, upgrade
from qmigrate.errors import EmbedError, PlanError, VerificationError
from qmigrate.model.transform import Point

UNNAMED = """
def upgrade():
    return [op.CreateCollection("{name}", VectorParams(size=64, distance=Distance.COSINE))]
"""
HYBRID = """
def upgrade():
    return [op.AddVector("{name}", "terms", SparseVectorParams(modifier=Modifier.IDF),
                         values=Embed("terms", text="{{title}} {{body}}"))]
"""
SCORED = """
def upgrade():
    return [op.CreatePayloadIndex("{name}", "title", TextIndexParams(type="text", scoring=True))]
"""
AGAIN = """
def upgrade():
    return [op.AddVector("{name}", "short", VectorParams(size=8, distance=Distance.COSINE),
                         values=Compute(lambda point: [1.0] * 8))]
"""
UNSCORED = """
def upgrade():
    return [op.DropPayloadIndex("{name}", "title")]
"""
SHORTER = """
def upgrade():
    return [op.AddVector("{name}", "short", VectorParams(size=48, distance=Distance.COSINE),
                         values=Compute(Shorten("text", 48)),
                         quality=Compare(SameValue("pair"), measure="recall", at_least=0.5, old_vector="text"))]
"""
SCALED = """
def upgrade():
    return [op.AddVector("{name}", "small", VectorParams(size=64, distance=Distance.EUCLID, datatype=Datatype.UINT8),
                         values=CopyOf("text", scale=Scale(-1.0, 1.0)),
                         quality=Compare(SameValue("pair"), measure="overlap", at_least=0.9, old_vector="text"))]
"""
NAMED = """
def upgrade():
    return [op.CreateCollection("{name}", {{"text": VectorParams(size=64, distance=Distance.COSINE)}})]
"""
TOPICS = ["cats", "dogs", "boats", "trains", "apples", "clocks", "rivers", "violins"]


def vector(number: int) -> list[float]:
    """Two points of a pair are near to each other; the first values carry the most."""
    random = np.random.default_rng(number // 2)
    scale = np.linspace(2, 0.2, 64)
    return (random.normal(0, 1, 64) * scale + np.random.default_rng(number).normal(0, 0.2, 64) * scale).tolist()


def payload(number: int) -> dict:
    """A title that names the point, and a topic or two."""
    body = f"about {TOPICS[number * 3 % 8]}"
    return {"title": f"{TOPICS[number % 8]} number{number}", "body": body, "pair": number // 2}


def load(made: Deployment, create: str, name: str, count: int = 240) -> None:
    """Points with a dense vector, by two or more words each."""
    made.revise("0001", create)
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [Point(one, payload(one), {name: vector(one)}) for one in range(1, count + 1)])
    store.close()


@pytest.fixture
def terms(deployment):
    """With an embedder of words."""
    deployment.extra["embedders"] = {"terms": {"type": "bm25", "language": "english"}}
    deployment.__post_init__()
    return deployment


def test_words_next_to_the_unnamed_vector(terms):
    """Dense to hybrid without re-ingesting: every point keeps its vector, and its words find it."""
    load(terms, UNNAMED, "")
    before = terms.contents()
    terms.revise("0002", HYBRID)
    upgrade.upgrade(terms.settings())
    after = terms.contents()
    assert {one: vectors[""] for one, (_, vectors) in after.items()} == {one: vectors[""] for one, (_, vectors) in before.items()}
    assert all(len(vectors["terms"]["indices"]) == 2 + (one % 8 != one * 3 % 8) for one, (_, vectors) in after.items())
    store = terms.store()
    embedder = {"type": "bm25", "task": "query"}
    from qmigrate.embed import load as load_embedder

    asked = load_embedder("q", embedder).embed(["number77"])
    assert store.nearest(terms.name, "terms", asked, limit=1, exact=False) == [[77]]
    store.close()


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("params", "embedder", "said"),
    [
        ("VectorParams(size=64, distance=Distance.COSINE)", "terms", "makes sparse vectors, but vector 'b' of {name} is declared for dense vectors"),
        ("SparseVectorParams()", "words", "makes dense vectors, but vector 'b' of {name} is declared for sparse vectors"),
        (
            'VectorParams(size=16, distance=Distance.COSINE, multivector_config=MultiVectorConfig(comparator="max_sim"))',
            "words",
            "makes dense vectors, but vector 'b' of {name} is declared for a vector for each token",
        ),
    ],
)
def test_an_embedder_of_another_kind_is_refused_by_the_plan(terms, params, embedder, said):
    """It would be refused by the server, after a generation has been made."""
    load(terms, NAMED, "text", count=2)
    body = f'def upgrade():\n    return [op.AddVector("{{name}}", "b", {params}, values=Embed("{embedder}", text="title"))]\n'
    terms.revise("0002", body)
    for act in (plan, upgrade.upgrade):
        with pytest.raises(EmbedError) as refused:
            act(terms.settings())
        assert said.format(name=terms.name) in refused.value.message


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_words_pass_a_gate_against_the_dense_vector(deployment):
    """Sparse against dense on the same questions, each by its own embedder: what finds nothing doesn't go live."""
    made = filled(deployment)
    made.extra["embedders"] |= {"terms": {"type": "bm25"}, "asked": {"type": "bm25", "task": "query"}}
    made.__post_init__()
    gate = 'quality=Compare(KnownItem("title"), at_least=0.9, old_vector="text", embedder="asked")'
    body = '''
def upgrade():
    return [op.AddVector("{{name}}", "{name}", SparseVectorParams(modifier=Modifier.IDF), values=Embed("terms", text="{text}"), {gate})]
'''
    made.revise("0003", body.format(name="other", text="spoken language {{language}}", gate=gate))
    with pytest.raises(VerificationError, match="NO-GO for search by vector 'other'"):
        upgrade.upgrade(made.settings())
    assert call(made.root, "abort").code == 0
    made.revise("0003", body.format(name="terms", text="{{title}} {{body}}", gate=gate), down="0002")
    upgrade.upgrade(made.settings())
    found = status.history(made.settings()).rows[0].report["compared"][0]
    assert (found["go"], found["vector"], found["old_vector"]) == (True, "terms", "text")


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_the_words_of_the_server_are_the_same(terms):
    """A question that the server itself makes words of, by its own qdrant/bm25, finds them."""
    load(terms, UNNAMED, "")
    terms.revise("0002", HYBRID)
    upgrade.upgrade(terms.settings())
    body = {"query": {"text": "number42", "model": "qdrant/bm25"}, "using": "terms", "limit": 3}
    url = f"{terms.qdrant['url']}/collections/{terms.name}/points/query"
    answer = httpx.post(url, json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert [one["id"] for one in answer.json()["result"]["points"]] == [42]


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_text_index_ranks_where_the_server_can(terms):
    """The client's local mode ranks texts as a 1.20 server does: also in the next generation, until the index goes."""

    def found(text: str) -> list[int]:
        client = QdrantClient(path=terms.qdrant["path"])
        try:
            asked = models.TextQuery(text=text)
            return [point.id for point in client.query_points(terms.name, query=asked, using="title", limit=1).points]
        finally:
            client.close()

    load(terms, NAMED, "text")
    terms.revise("0002", SCORED)
    upgrade.upgrade(terms.settings())
    assert found("number77") == [77]
    terms.revise("0003", AGAIN)
    upgrade.upgrade(terms.settings())
    assert {tuple(sorted(vectors)) for _, vectors in terms.contents().values()} == {("short", "text")}
    assert found("number42") == [42]
    terms.revise("0004", UNSCORED)
    upgrade.upgrade(terms.settings())
    with pytest.raises(ValueError, match="needs a text index"):
        found("number42")


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_an_older_server_would_leave_the_scoring_out(terms):
    """So it is refused in words, with what there is instead; a 1.20 server isn't asked for anything else."""
    load(terms, NAMED, "text", count=3)
    terms.revise("0002", SCORED)
    store = terms.store()
    knows = store.capabilities.scores_texts
    store.close()
    if knows:
        upgrade.upgrade(terms.settings())
        return
    with pytest.raises(PlanError, match="ranks by no text index .1.20 and newer do., and would leave scoring out") as refused:
        upgrade.upgrade(terms.settings())
    assert "type bm25" in refused.value.hint


@pytest.mark.parametrize(("revision", "vector_name", "measure"), [(SHORTER, "short", "recall"), (SCALED, "small", "overlap")])
def test_a_smaller_vector_with_its_gate(deployment, revision, vector_name, measure):
    """A shortened and a scaled vector are compared with the one that they were made of, by points of one value."""
    load(deployment, NAMED, "text", count=400)
    deployment.revise("0002", revision)
    upgrade.upgrade(deployment.settings())
    found = status.history(deployment.settings()).rows[0].report["compared"][0]
    assert (found["go"], found["vector"], found["old_vector"], found["measure"]) == (True, vector_name, "text", measure)
    vectors = [vectors[vector_name] for _, vectors in deployment.contents().values()]
    if vector_name == "short":
        assert {len(one) for one in vectors} == {48}
        assert all(np.linalg.norm(one) == pytest.approx(1, abs=1e-4) for one in vectors)
    else:
        assert all(0 <= value <= 255 and value == int(value) for one in vectors for value in one)
