"""evaluate: two searches on the same questions, by the command; a planted worse model is NO-GO and exit 5."""

from __future__ import annotations

import csv
import sqlite3
from contextlib import closing

import pytest
from tests.scenarios.cli import call
from tests.scenarios.test_compare import POINTS, filled, text_of

BESIDE = """
def upgrade():
    return [op.AddVector("{name}", "new", VectorParams(size=64, distance=Distance.COSINE),
                         values=Embed("blind", text="{{title}} {{body}}"))]
"""


@pytest.fixture
def beside(deployment):
    """A collection with an old vector and one of a worse model, and a log in SQL."""
    deployment.extra["databases"] = {"app": {"url": f"sqlite:///{deployment.root}/app.db"}}
    made = filled(deployment)
    made.revise("0003", BESIDE)
    assert call(made.root, "upgrade").code == 0
    with closing(sqlite3.connect(made.root / "app.db")) as connection:
        connection.execute("CREATE TABLE log (query TEXT, clicked INTEGER, language TEXT)")
        rows = [(text_of(one)["title"], one, text_of(one)["language"]) for one in range(1, POINTS + 1)]
        connection.executemany("INSERT INTO log VALUES (?, ?, ?)", rows)
        connection.commit()
    return made


def test_a_worse_model_is_seen_in_every_kind_of_question(beside):
    """By points that ask for themselves, by a log and by a file; the better direction is GO, and nothing is changed."""
    made, name = beside, beside.name
    before = made.contents()
    with (made.root / "q.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "relevant"])
        writer.writerows([text_of(one)["title"], one] for one in range(1, POINTS + 1))
    for chosen in (
        ("--known-item", "title", "--by", "language"),
        ("--sql", "SELECT query, clicked AS relevant, language FROM log", "--by", "language"),
        ("--queries", "q.csv"),
    ):
        said = call(made.root, "evaluate", f"{name}/text", f"{name}/new", *chosen, "--json")
        assert said.code == 5, said.err
        result = said.json["data"]["result"]
        assert (result["go"], result["total"]["state"], result["unanswered"]) == (False, "no-go", 0)
        assert result["misses"]
        if "--by" in chosen:
            assert [one["name"] for one in result["segments"]] == ["de", "en"]
            assert sum(one["questions"] for one in result["segments"]) == result["total"]["questions"]
    better = call(made.root, "evaluate", f"{name}/new", f"{name}/text", "--known-item", "title")
    assert better.code == 0
    assert "GO  the new search reaches 0.98 of the old ndcg@10" in better.out
    assert made.contents() == before


def test_what_is_open_or_missing_is_named(beside):
    """A vector of several, the same search twice, no questions at all, and a file that isn't there."""
    made, name = beside, beside.name
    for args, words in (
        ((name, name, "--known-item", "title"), "has 2 vectors: say which one"),
        ((f"{name}/text", f"{name}/text", "--known-item", "title"), "are the same search"),
        ((f"{name}/text", f"{name}/old", "--known-item", "title"), "has no vector 'old'"),
        ((f"{name}/text", f"{name}/new"), "say where the questions come from"),
        ((f"{name}/text", f"{name}/new", "--queries", "none.jsonl"), "can't be read from"),
        ((f"{name}/text", f"{name}/new", "--known-item", "nothing"), "there is no question"),
        ((f"{name}/text", f"{name}/new", "--sql", "SELECT query FROM log"), "names no relevant point"),
    ):
        said = call(made.root, "evaluate", *args)
        assert said.code == 2, said.out
        assert words in said.err


def test_a_hint_names_the_options_of_the_verb(deployment):
    """What no embedder is recorded for is named by the option of its side, and what a revision would say isn't."""
    made = filled(deployment)
    made.revise("0003", BESIDE.replace('values=Embed("blind", text="{{title}} {{body}}")', "values=Empty()"))
    assert call(made.root, "upgrade").code == 0
    for a, b, option in (("text", "new", "--embedder-b NAME"), ("new", "text", "--embedder-a NAME")):
        said = call(made.root, "evaluate", f"{made.name}/{a}", f"{made.name}/{b}", "--known-item", "title")
        assert said.code == 2, said.text
        assert f"the questions: {option}; or ask by vectors: --same-value FIELD" in said.err
        assert "embedder=" not in said.err
    made.extra["embedders"]["large"] = {"type": "hashing", "size": 128}
    made.__post_init__()
    said = call(made.root, "evaluate", f"{made.name}/text", f"{made.name}/new", "--known-item", "title", "--embedder-b", "large")
    assert (said.code, "128" in said.err, "name another embedder of the settings: --embedder-b NAME" in said.err) == (2, True, True), said.err
    (made.root / "q.jsonl").write_text('{"query": "x"}\n')
    said = call(made.root, "evaluate", f"{made.name}/text", f"{made.name}/new", "--queries", "q.jsonl", "--embedder-b", "old")
    assert (said.code, "--measure overlap" in said.err, "measure=" in said.err) == (2, True, False)


#: In the place of a model of late interaction: a row for each word.
ROWS = """
from qmigrate.embed import load

words = load("words", {"type": "hashing", "size": 16})


def rows(texts):
    return [words.embed(text.split()) for text in texts]
"""


def test_models_are_tried_on_a_sample(deployment):
    """A table of quality, room, speed and time; the worse one is seen, and nothing is written."""
    made = filled(deployment)
    before = made.contents()
    args = ("--embedder", "old", "--embedder", "blind", "--text", "{title} {body}", "--known-item", "title")
    said = call(made.root, "try-models", made.name, *args, "--sample", "200", "--json")
    assert said.code == 0, said.text
    data = said.json["data"]
    old, blind = data["models"]
    assert (data["sampled"], data["points"], data["questions"]) == (200, POINTS, 200)
    assert (old["size"], old["bytes_per_point"], old["compared"], old["cost"]["money"]) == (64, 256, None, None)
    assert old["items_per_second"] > 0
    assert old["seconds"] == pytest.approx(POINTS / old["items_per_second"], abs=0.2)
    assert blind["figures"]["ndcg"]["high"] < old["figures"]["ndcg"]["low"]
    assert (blind["compared"]["go"], blind["compared"]["total"]["state"]) == (False, "no-go")
    shown = call(made.root, "try-models", made.name, *args)
    assert "no-go" in shown.out
    assert made.contents() == before
    made.extra["embedders"] |= {
        "terms": {"type": "bm25"},
        "rows": {"type": "callable", "function": "tokens:rows", "size": 16, "version": "1", "sys_path": [str(made.root)]},
        "remote": {"type": "qdrant", "model": "qdrant/bm25"},
    }
    made.__post_init__()
    (made.root / "tokens.py").write_text(ROWS)
    more = [part for name in ("terms", "rows") for part in ("--embedder", name)]
    kinds = call(made.root, "try-models", made.name, *args, *more, "--sample", "200", "--json").json["data"]["models"]
    # A title has words that are nowhere else: by words, and by a vector for each of them, it finds its own text.
    assert all(one["figures"]["ndcg"]["low"] > 0.9 for one in kinds[2:])
    assert kinds[2]["bytes_per_point"] == 8 * kinds[2]["size"]
    assert kinds[3]["bytes_per_point"] == 16 * 4 * 8
    by_server = call(made.root, "try-models", made.name, *args[4:], "--embedder", "remote")
    assert (by_server.code, "leaves it to the server to make vectors" in by_server.err) == (2, True)
    for wrong, words in (
        (("--embedder", "none"), "'none' is not configured"),
        (("--embedder", "old", "--text", "title", "--known-item", "nothing"), "no question about any of the sampled"),
        (("--embedder", "old", "--known-item", "title"), "give what to embed"),
    ):
        more = ("--text", "title", "--known-item", "title") if len(wrong) == 2 else ()
        answer = call(made.root, "try-models", made.name, *wrong, *more)
        assert answer.code != 0
        assert words in answer.err


def test_models_are_tried_by_what_belongs_together(deployment):
    """Points with the same value find each other, by the vectors that each model makes; figures are per segment too."""
    made = filled(deployment)
    args = ("--embedder", "old", "--embedder", "blind", "--text", "{title} {body}", "--same-value", "pair", "--by", "language")
    said = call(made.root, "try-models", made.name, *args, "--json")
    assert said.code == 0, said.text
    data = said.json["data"]
    old, blind = data["models"]
    # Every pair but those whose second point the first and the last number lack.
    assert data["questions"] == POINTS // 2 - 1
    assert old["figures"]["recall_1"]["value"] > 0.9
    assert [one["name"] for one in blind["compared"]["segments"]] == ["de", "en"]
    assert sum(one["questions"] for one in blind["compared"]["segments"]) == data["questions"]
