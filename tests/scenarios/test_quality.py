"""Search quality before the name moves: a miss stops the run, can be repaired, and the run continues; files of queries."""

from __future__ import annotations

import json

import httpx
import pytest
from tests.harness import CREATE, Deployment, make_point, write

from qmigrate import Recall, op
from qmigrate.commands import status, upgrade
from qmigrate.errors import PlanError, UsageError, VerificationError

POINTS = 800
ADD = """
import math

def far_apart(point):
    seed = point.payload["n"] + 1
    return [math.sin(seed * (place + 1) * (place + 2) * 1.7) for place in range(24)]

def upgrade():
    coarse = HnswConfigDiff(m=2, ef_construct=4, full_scan_threshold=10)
    return [op.AddVector("{name}", "b", VectorParams(size=24, distance=Distance.COSINE, hnsw_config=coarse),
                         values=Compute(far_apart), quality=Recall(at_least=0.97, k=10, count=50))]
"""
SMALL_SEGMENTS = """
def upgrade():
    return [op.CreateCollection("{name}", {{"a": VectorParams(size=8, distance=Distance.COSINE)}},
                                optimizers_config=OptimizersConfigDiff(indexing_threshold=10, default_segment_number=1))]
"""
FEW = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=8, distance=Distance.COSINE), values=CopyOf("a"),
                         quality=Recall(at_least=0.9, count=1))]
"""
FROM_FILE = """
def upgrade():
    return [op.Reembed("{name}", "b", values=Embed("words", text="text"), cutover="immediate",
                       quality=Recall("queries.jsonl", at_least=0.5))]
"""


def quality_of(made: Deployment) -> dict:
    """What the newest history row has about search."""
    return status.history(made.settings()).rows[0].report["quality"][0]


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_miss_stops_before_the_swap_and_can_be_mended(deployment):
    """A coarse graph is exit 5 with the figure; a better one, made by hand on the shadow, lets the same run go on."""
    made = deployment
    made.revise("0001", SMALL_SEGMENTS)
    upgrade.upgrade(made.settings(), "0001")
    made.load(POINTS, uuids=False)
    made.revise("0002", ADD)
    assert "recall@10 of at least 0.97" in str(upgrade.plan(made.settings()).collections[0].lines)
    with pytest.raises(VerificationError, match=r"finds 0\.\d+ of what an exact search finds") as caught:
        upgrade.upgrade(made.settings())
    assert caught.value.exit_code == 5
    assert "hnsw_config" in caught.value.hint
    missed = caught.value.facts["quality"]
    assert missed["recall"] < 0.97
    assert (made.row().revision, made.row().state) == ("0001", "failed")
    finer = {"vectors": {"b": {"hnsw_config": {"m": 32, "ef_construct": 200, "full_scan_threshold": 10}}}}
    httpx.patch(f"{made.qdrant['url']}/collections/{made.name}__g0002", json=finer, timeout=30).raise_for_status()
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"
    found = quality_of(made)
    assert found["recall"] >= 0.97 > missed["recall"]
    assert (found["queries"], found["overlap"]) == (50, None)
    # The same vectors again: what is found is what was found before.
    made.revise("0003", ADD.replace("op.AddVector", "op.Reembed").replace(
        'VectorParams(size=24, distance=Distance.COSINE, hnsw_config=coarse),\n                         ', "cutover='immediate', "
    ).replace("at_least=0.97", "at_least=0.01"))
    upgrade.upgrade(made.settings())
    assert quality_of(made)["overlap"] > 0.99


def test_queries_of_a_file(deployment):
    """Lists of numbers and texts, in lines; local mode searches exactly and reports that; a bad line is named."""
    made = deployment
    made.revise("0001", CREATE)
    made.revise("0002", """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Empty())]
""")
    upgrade.upgrade(made.settings())
    made.load(40)
    made.revise("0003", FROM_FILE)
    local = "path" in made.qdrant
    lines = [[1.0] * 16, {"text": make_point(3).payload["text"]}, "the text number 4"]
    if not local:
        with pytest.raises(UsageError, match="queries of vector 'b' can't be read from .*queries.jsonl"):
            upgrade.upgrade(made.settings())
        (made.root / "queries.jsonl").write_text("[1, 2]\n")
        with pytest.raises(UsageError, match=r"line 1 of queries.jsonl is neither a string nor a list of 16 numbers"):
            upgrade.upgrade(made.settings())
    (made.root / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    upgrade.upgrade(made.settings())
    found = quality_of(made)
    if local:
        assert (found["recall"], found["why"]) == (None, "local mode has no index: every search is exact")
    else:
        assert (found["recall"], found["queries"]) == (1.0, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Recall(at_least=95), "at_least must be above 0 and at most 1"),
        (lambda: Recall(at_least=0.9, k=0), "k must be a whole number"),
        (lambda: Recall(7, at_least=0.9), "queries must be"),
        (lambda: Recall(at_least=0.9, hnsw_ef=True), "hnsw_ef must be a whole number"),
    ],
)
def test_a_gate_that_makes_no_sense_is_named(make, said):
    """Wrong numbers are errors of the revision."""
    with pytest.raises(PlanError, match=said):
        make()
    assert op.Reembed("c", "b", values=None, quality=Recall(at_least=0.9)).gates()["b"].k == 10


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_vector_that_few_points_have_is_measured(deployment):
    """The queries are drawn among the points that have it, and not among all: none of those may be met by chance."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    write(store, deployment.name, [make_point(number) for number in range(1000)])
    ids = [number + 1 for number in range(1000) if number != 7]
    body = {"points": ids, "vector": ["a"]}
    url = f"{deployment.qdrant['url']}/collections/{deployment.name}/points/vectors/delete?wait=true"
    httpx.post(url, json=body).raise_for_status()
    store.close()
    deployment.revise("0002", FEW)
    upgrade.upgrade(deployment.settings())
    assert quality_of(deployment)["queries"] == 1


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_search_that_finds_nothing_has_no_recall(deployment):
    """Where no point has the vector an index finds all of it, and that means nothing."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(3)
    (deployment.root / "queries.jsonl").write_text(json.dumps([1.0] * 16))
    values = 'values=Empty(), quality=Recall("queries.jsonl", at_least=0.9)'
    deployment.revise("0002", f'def upgrade():\n    return [op.AddVector("{{name}}", "b", VectorParams(size=16, distance=Distance.COSINE), {values})]')
    upgrade.upgrade(deployment.settings())
    found = quality_of(deployment)
    assert (found["recall"], found["queries"], "no other point has the vector" in found["why"]) == (None, 1, True)
