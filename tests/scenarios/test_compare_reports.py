"""Reports of comparisons: decision, figures per segment as drawings, times and misses in one file that needs nothing else."""

from __future__ import annotations

import json

import pytest
from tests.harness import Deployment, write
from tests.scenarios.cli import call
from tests.scenarios.test_compare import CHANGE, POINTS, filled, text_of
from tests.scenarios.test_evaluate import BESIDE
from tests.scenarios.test_reports import HOSTILE, Whole

from qmigrate.model.transform import Point

ASKED = ("--queries", "asked.jsonl", "--by", "language")


@pytest.fixture
def local(tmp_path) -> Deployment:
    """Local mode with a collection that one model has filled; a title of it is hostile."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    filled(made)
    lines = [{"query": text_of(one)["title"], "relevant": [one], "language": text_of(one)["language"]} for one in range(1, 61)]
    (made.root / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return made


def hostile(made: Deployment) -> None:
    """Every second payload holds what other people wrote."""
    contents = made.contents()
    store = made.store()
    points = [
        Point(one, {**text_of(one), "body": f"{HOSTILE} {text_of(one)['body']}"}, contents[one][1]) for one in range(2, POINTS + 1, 2)
    ]
    write(store, made.name, points)
    store.close()


def test_an_evaluation(local, tmp_path):
    """NO-GO with its reason, both averages of each segment with intervals, times, and misses with both top fives."""
    made, name = local, local.name
    made.revise("0003", BESIDE)
    assert call(made.root, "upgrade").code == 0
    hostile(made)
    file = tmp_path / "evaluated.html"
    plain = call(made.root, "evaluate", f"{name}/text", f"{name}/new", *ASKED, "--json").json["data"]["result"]
    said = call(made.root, "evaluate", f"{name}/text", f"{name}/new", *ASKED, "--html", str(file))
    assert said.code == 5, said.text
    page = Whole(file)
    for words in ("qmigrate evaluate", "NO-GO", "The new search has to reach 0.98", f"{name}/text → {name}/new", "exit code 5"):
        assert words in page.text, words
    for words in ("nDCG@10 decides", "MRR", "recall@1", "recall@10", "overlap with the old results", "p50", "p95", "p99"):
        assert words in page.text, words
    for one in (plain["total"], *plain["segments"]):
        for side in ("before", "after"):
            figure = one[side]["ndcg"]
            assert f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in page.text
    drawn = [given["class"] for tag, given in page.elements if tag == "path"]
    # Both searches in three rows (all, de, en) of four measures; the share and the overlap have one mark.
    assert (drawn.count("dot old"), drawn.count("dot new"), drawn.count("limit")) == (12, 12 + 6, 3)
    miss = plain["misses"][0]
    assert miss["question"] in page.text
    assert "No field of the payloads is shown" in page.text
    assert "img src=x" not in page.text, "a payload is shown where its fields are named only"
    made.extra["console"] = {"fields": ["title", "body"]}
    made.__post_init__()
    assert call(made.root, "evaluate", f"{name}/text", f"{name}/new", *ASKED, "--html", str(file)).code == 5
    page = Whole(file)
    assert "body <img src=x onerror=alert(1)>" in page.text
    assert "\u202e" not in page.raw
    assert f"{miss['relevant'][0]} title {text_of(miss['relevant'][0])['title']}" in page.text
    better = call(made.root, "evaluate", f"{name}/new", f"{name}/text", *ASKED, "--html", str(file))
    assert better.code == 0
    page = Whole(file)
    assert "GO The new search reaches 0.98" in page.text
    assert "NO-GO" not in page.text


def test_a_gate_that_refuses_and_one_that_does_not(local, tmp_path):
    """The report of the upgrade has the comparison, with misses where it is NO-GO; kept figures have none."""
    made, file = local, tmp_path / "upgrade.html"
    gate = 'KnownItem("title"), at_least=0.95, by="language"'
    made.revise("0003", CHANGE.format(model="blind", gate=gate))
    said = call(made.root, "upgrade", "--html", str(file))
    assert said.code == 5, said.text
    continued = call(made.root, "upgrade", "--keep-going", "--html", str(tmp_path / "continued.html"))
    assert (continued.code, "NO-GO" in Whole(tmp_path / "continued.html").text) == (5, True), continued.text
    page = Whole(file)
    for words in ("no-go", "NO-GO", f"Search in {made.name}: text, before and after", "Questions that are answered worse", "found before", "found now"):
        assert words in page.text, words
    assert call(made.root, "abort").code == 0
    made.revise("0003", CHANGE.format(model="old", gate=gate), down="0002")
    said = call(made.root, "upgrade", "--html", str(file))
    assert said.code == 0, said.text
    page = Whole(file)
    assert "GO The new search reaches 0.95" in page.text
    assert "answered worse" not in page.text


def test_models_that_were_tried(local, tmp_path):
    """A row each, and each next to the first."""
    file = tmp_path / "tried.html"
    args = ("--embedder", "old", "--embedder", "blind", "--text", "{title} {body}", "--known-item", "title", "--sample", "100")
    said = call(local.root, "try-models", local.name, *args, "--html", str(file))
    assert said.code == 0, said.text
    page = Whole(file)
    for words in ("Models on 100 of 240 points", "items/s here", "256 B", "old → blind", "no-go"):
        assert words in page.text, words
