"""Costs in the plan, and a budget that stops a fill at a checkpoint with exit 12; a larger one lets it go on."""

from __future__ import annotations

import pytest
from tests.embed_server import EmbeddingServer
from tests.harness import CREATE, Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import jobs, upgrade
from qmigrate.engine.build import copy
from qmigrate.engine.points.budget import Budget
from qmigrate.model.transform import Point

ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=3, distance=Distance.DOT), values=Embed("far", text="text"))]
"""
POINTS = 600


@pytest.fixture
def server():
    """Where texts are embedded, stopped at the end."""
    made = EmbeddingServer()
    yield made
    made.close()


def sent(server: EmbeddingServer) -> int:
    """How many texts it was asked for."""
    return sum(len(body.get("input", ())) for _, _, body in server.seen)


@pytest.fixture
def priced(deployment, server):
    """Points with texts of three to seven words, and an embedder behind HTTP with a price and a tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.models.WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(deployment.root / "tokenizer.json"))
    far = {"type": "http", "url": server.url, "model": "tiny", "price": 20, "tokenizer": "tokenizer.json", "max_tokens": 6}
    deployment.extra["embedders"] = {"far": far}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    store = deployment.store()
    texts = [" ".join(["word", str(one), "x", *["word"] * (one % 5)]) for one in range(1, POINTS + 1)]
    write(store, deployment.name, [Point(one + 1, {"text": text}, {"a": [1.0 + one, *[1.0] * 7]}) for one, text in enumerate(texts)])
    store.close()
    deployment.revise("0002", ADD)
    return deployment


TOKENS = sum(3 + one % 5 for one in range(1, POINTS + 1))


def limited(made: Deployment, **budget: object) -> None:
    """The settings with a budget."""
    made.extra["rebuild"] = {"budget": budget, "sample": 0, "workers": 1} if budget else {"sample": 0, "workers": 1}
    made.__post_init__()


def test_a_plan_has_the_cost(priced, server):
    """Tokens within a range that holds the truth, requests and money; nothing is sent for it but a model's name."""
    found = upgrade.plan(priced.settings()).collections[0].costs[0]
    assert (found.embedder, found.items, found.requests, found.price) == ("far", POINTS, 19, 20)
    assert found.tokens is not None
    assert found.money is not None
    assert found.tokens[0] <= TOKENS <= found.tokens[1] < 1.1 * TOKENS
    assert found.money[0] <= TOKENS / 1e6 * 20 <= found.money[1]
    shown = call(priced.root, "plan").out
    assert "far: 600 items" in shown
    assert "(20 for a million), time unknown" in shown, "a service is asked for nothing that was not asked for"
    before = sent(server)
    call(priced.root, "plan", "--no-trial")
    looked = sent(server) - before
    assert before == 2 * looked, "but for the few texts of a plan that looks for what would be refused"
    assert "(20 for a million), ~ " in call(priced.root, "plan", "--trial").out
    assert 3 * looked < sent(server) - before <= 3 * looked + 600


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_several_embedders_have_a_sum(priced, tmp_path):
    """Of what is known; the page has it, too."""
    two = ADD.replace("return [", "return [op.AddVector(\"{name}\", \"c\", VectorParams(size=3, distance=Distance.DOT), values=Embed(\"more\", text=\"text\")), ")
    priced.extra["embedders"]["more"] = {**priced.extra["embedders"]["far"], "price": 10}
    priced.__post_init__()
    priced.revise("0002", two, down="0001")
    plan = upgrade.plan(priced.settings())
    assert plan.money is not None
    assert plan.money[0] <= TOKENS / 1e6 * 30 <= plan.money[1] < 1.1 * TOKENS / 1e6 * 30
    shown = call(priced.root, "plan", "--no-trial", "--html", str(tmp_path / "plan.html")).out
    words = f"{plan.money[0]:.2f} to {plan.money[1]:.2f} in all"
    assert words in shown
    assert words in (tmp_path / "plan.html").read_text()


@pytest.mark.parametrize("budget", [{"tokens": TOKENS // 2}, {"money": TOKENS / 2 / 1e6 * 20}], ids=["tokens", "money"])
def test_a_budget_stops_and_a_larger_one_goes_on(priced, budget):
    """Exit 12 before more is sent, the live collection serves on, the same budget stops at once, a larger one ends it."""
    before = priced.contents()
    limited(priced, **budget)
    stopped = call(priced.root, "upgrade", "--json")
    assert stopped.code == 12, stopped.text
    spent = stopped.json["error"]["facts"]["tokens"]["far"]
    assert 0 < spent <= TOKENS // 2
    assert priced.contents() == before
    again = call(priced.root, "upgrade", "--json")
    assert (again.code, again.json["error"]["facts"]["tokens"]["far"]) == (12, spent)
    limited(priced, **{name: value * 4 for name, value in budget.items()})
    assert call(priced.root, "upgrade").code == 0
    assert all("b" in vectors for _, vectors in priced.contents().values())


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_a_killed_process_has_spent_what_it_has_spent(priced, server, monkeypatch):
    """The next attempt counts from its last checkpoint on, and sends nothing where that is all that may be spent."""
    limited(priced, tokens=TOKENS)
    monkeypatch.setattr(copy, "CHECKPOINT_EVERY", 0.0)
    take, calls = Budget.take, []

    def taken(self, name, items):
        calls.append(len(items))
        if len(calls) == 2:
            raise KeyboardInterrupt
        take(self, name, items)

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "take", taken)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(priced.settings())
    before = sent(server)
    limited(priced, tokens=10)
    stopped = call(priced.root, "upgrade", "--json")
    assert stopped.code == 12, stopped.text
    assert stopped.json["error"]["facts"]["tokens"]["far"] == sum(3 + one % 5 for one in range(1, calls[0] + 1))
    assert sent(server) == before


def test_a_budget_that_can_not_be_kept_is_refused(priced):
    """Without a tokenizer, and for money without a price: before anything is written."""
    limited(priced, tokens="1M")
    del priced.extra["embedders"]["far"]["tokenizer"]
    priced.__post_init__()
    said = call(priced.root, "upgrade")
    assert (said.code, "budget can't be kept with embedder 'far'" in said.err) == (2, True)
    limited(priced, money=1)
    priced.extra["embedders"]["far"] |= {"tokenizer": "tokenizer.json"}
    del priced.extra["embedders"]["far"]["price"]
    priced.__post_init__()
    said = call(priced.root, "upgrade")
    assert (said.code, "it has no price" in said.err) == (2, True), (priced.config.read_text(), said.text)
    limited(priced, tokens="many")
    assert "such as 500000 or 40M" in call(priced.root, "plan").err
    limited(priced)


def test_texts_that_the_model_does_not_read_to_the_end(priced):
    """Doctor --vectors counts them by the same tokenizer: of five lengths one is above the six tokens it reads."""
    limited(priced)
    assert call(priced.root, "upgrade").code == 0
    said = call(priced.root, "doctor", "--vectors", "--all", "--json")
    found = [one["facts"]["finding"] for one in said.json["data"]["checks"] if "finding" in one["facts"]]
    cut = next(one for one in found if one["kind"] == "truncated")
    assert cut["ids"] == [4, 9, 14, 19, 24]
    assert "longer than the 6 tokens" in cut["detail"]


def test_a_budget_ends_the_job_and_not_its_worker(priced):
    """The next worker of the job would be stopped by the same budget, and every job behind it would wait."""
    limited(priced, tokens=TOKENS // 2)
    job, _ = jobs.submit(priced.settings(), "upgrade", {})
    jobs.submit(priced.settings(), "undo", {"log": 999})
    assert jobs.work(priced.settings(), once=True).ended == 2
    found = jobs.job(priced.settings(), job.id)
    assert (found.state, found.error["exitCode"], "raise rebuild.budget" in found.error["hint"]) == ("failed", 12, True)
