"""Old search against new search before the name moves: a planted better, equal and worse model, and what is shown."""

from __future__ import annotations

import json

import pytest
from tests.harness import Deployment, write

from qmigrate import Compare, KnownItem, Logged, op
from qmigrate.commands import rollback, status, upgrade
from qmigrate.errors import PlanError, UsageError, VerificationError
from qmigrate.model.transform import Point

WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("ano", "eri", "olu", "ika", "usa", "emi", "oto", "ari", "ine")]
CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{"text": VectorParams(size=64, distance=Distance.COSINE)}})]
"""
FILL = """
def upgrade():
    return [op.Reembed("{name}", "text", values=Embed("old", text="{{title}} {{body}}"), cutover="immediate")]
"""
CHANGE = """
def upgrade():
    return [op.Reembed("{{name}}", "text", values=Embed("{model}", text="{{{{title}}}} {{{{body}}}}"), cutover="immediate",
                       quality=Compare({gate}))]
"""
#: Of the words of a text it sees every second letter only: many look alike.
BLIND = '''
import numpy as np

def vectors(texts):
    made = np.full((len(texts), 64), 0.01, dtype=np.float32)
    for row, text in zip(made, texts):
        for word in text.split():
            row[sum(map(ord, word)) % 5] += 1
    return made
'''
POINTS = 240


def text_of(number: int) -> dict:
    """Three words of a title that no other point has, and a body of four."""
    pair = number // 2
    title = " ".join(WORDS[(pair * step + pair // 7) % len(WORDS)] for step in (1, 5, 11))
    body = " ".join(WORDS[(pair * step) % len(WORDS)] for step in (3, 7, 13, 17))
    return {"title": f"{title} {number}", "body": body, "language": "de" if number % 4 == 0 else "en", "pair": pair}


def filled(made: Deployment) -> Deployment:
    """A collection that the old model has filled."""
    made.extra["embedders"] = {
        "old": {"type": "hashing", "size": 64},
        "blind": {"type": "callable", "function": "blind:vectors", "size": 64, "version": "1", "sys_path": [str(made.root)]},
    }
    made.__post_init__()
    (made.root / "blind.py").write_text(BLIND)
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [Point(one, text_of(one), {"text": [1.0, *[0.0] * 63]}) for one in range(1, POINTS + 1)])
    store.close()
    made.revise("0002", FILL)
    upgrade.upgrade(made.settings())
    return made


def change(made: Deployment, model: str, gate: str) -> None:
    """The pending revision."""
    made.revise("0003", CHANGE.format(model=model, gate=gate), down="0002")


@pytest.mark.parametrize("gate", ['KnownItem("title"), at_least=0.9, by="language"', 'SameValue("pair"), at_least=0.9, measure="recall"'])
def test_the_same_model_goes_live(deployment, gate):
    """What it finds is recorded, per segment where they are grouped, and no text of a point is."""
    made = filled(deployment)
    change(made, "old", gate)
    assert "of the old one" in str(upgrade.plan(made.settings()).collections[0].lines)
    upgrade.upgrade(made.settings())
    found = status.history(made.settings()).rows[0].report["compared"][0]
    assert (found["go"], found["misses"], found["total"]["ratio"]["value"]) == (True, [], 1.0)
    assert [one["name"] for one in found["segments"]] == (["de", "en"] if "language" in gate else [])
    assert found["total"]["overlap"]["value"] == 1.0
    assert found["total"]["questions"] >= 100


def test_a_worse_model_does_not(deployment):
    """Exit 5 before the swap with figures and misses; the old generation serves on, and an abort leads back."""
    made = filled(deployment)
    before = made.contents()
    change(made, "blind", 'KnownItem("title"), at_least=0.95, by="language"')
    with pytest.raises(VerificationError, match=r"NO-GO for search by vector 'text' .*: the new search has to reach 0.95") as refused:
        upgrade.upgrade(made.settings())
    assert refused.value.exit_code == 5
    found = refused.value.facts["compared"]
    assert (found["go"], found["total"]["state"]) == (False, "no-go")
    assert found["total"]["after"]["ndcg"]["high"] < found["total"]["before"]["ndcg"]["low"]
    miss = found["misses"][0]
    assert miss["relevant"][0] == miss["before"][0] != miss["after"][0]
    assert len(miss["after"]) == 5
    assert made.contents() == before
    assert (made.row().revision, made.row().state) == ("0002", "failed")
    rollback.abort(made.settings())
    assert made.contents() == before


def test_questions_of_a_file_and_of_a_log(deployment, tmp_path):
    """Graded or not, in JSON Lines or CSV; without relevant points only the overlap can be measured."""
    made = filled(deployment)
    lines = [{"query": text_of(one)["title"], "relevant": {str(one): 2, str(one % POINTS + 1): 1}} for one in range(1, 200)]
    (made.root / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (made.root / "asked.csv").write_text("query,clicks\n" + "".join(f"{text_of(one)['title']},3\n" for one in range(1, 200)))
    change(made, "old", '"asked.csv", at_least=0.9')
    with pytest.raises(UsageError, match="names no relevant point"):
        upgrade.upgrade(made.settings())
    change(made, "old", '"asked.csv", at_least=0.9, measure="overlap"')
    rollback.abort(made.settings())
    upgrade.upgrade(made.settings())
    found = status.history(made.settings()).rows[0].report["compared"][0]
    assert (found["total"]["before"]["ndcg"], found["total"]["ratio"]["value"]) == (None, 1.0)
    made.revise("0004", CHANGE.format(model="old", gate='"asked.jsonl", at_least=0.9, measure="mrr"'))
    upgrade.upgrade(made.settings())
    assert status.history(made.settings()).rows[0].report["compared"][0]["total"]["questions"] == 199


@pytest.mark.parametrize("gate", ['KnownItem("title")', 'SameValue("pair")', '"asked.jsonl"'])
def test_a_collection_without_a_point_is_not_compared(deployment, gate):
    """A fresh environment, or a new tenant: nothing could be asked, and no search can be worse."""
    deployment.extra["embedders"] = {"old": {"type": "hashing", "size": 64}}
    deployment.__post_init__()
    (deployment.root / "asked.jsonl").write_text(json.dumps({"query": "bano", "relevant": [1]}))
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.revise("0003", CHANGE.format(model="old", gate=f'{gate}, old_embedder="old"'), down="0001")
    upgrade.upgrade(deployment.settings())
    assert (deployment.row().revision, status.history(deployment.settings()).rows[0].report.get("compared")) == ("0003", None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Compare(7), "queries must be"),
        (lambda: Compare("q.jsonl", at_least=0), "at_least must be a number"),
        (lambda: Compare("q.jsonl", confidence=1), "confidence must be a number"),
        (lambda: Compare("q.jsonl", k=0), "k must be a whole number"),
        (lambda: Compare("q.jsonl", measure="map"), "measure must be one of"),
        (lambda: Compare("q.jsonl", by=""), "by must be a name"),
        (lambda: KnownItem(""), "expected a name"),
        (lambda: Logged("DELETE FROM a"), "Logged: "),
        (lambda: Logged("SELECT query FROM a WHERE b = :b"), "without a value"),
    ],
)
def test_a_gate_that_makes_no_sense_is_named(make, said):
    """Wrong values are errors of the revision."""
    with pytest.raises(PlanError, match=said):
        make()
    assert op.Reembed("c", "b", values=None, quality=Compare("q.csv")).gates()["b"].k == 10
