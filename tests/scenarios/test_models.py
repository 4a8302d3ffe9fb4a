"""Which model filled which vector: recorded, carried along, shown before it changes, and never mixed."""

from __future__ import annotations

import importlib.util

import pytest
import yaml
from tests.embed_server import EmbeddingServer
from tests.harness import CREATE, Deployment
from tests.scenarios.cli import call

from qmigrate.cli import main
from qmigrate.commands import rollback, upgrade
from qmigrate.errors import DriftError, EmbedderError
from qmigrate.ledger import Ledger

FILL = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""
RENAME = """
def upgrade():
    return [op.RenameVector("{name}", "b", "words", cutover="immediate")]
"""
AGAIN = """
def upgrade():
    return [op.Reembed("{name}", "words", values=Embed("words", text="kind"), cutover="immediate")]
"""
COMPUTE = """
def numbers(point):
    return [float(point.payload["n"]) + place for place in range(16)]

def upgrade():
    return [op.Reembed("{name}", "words", values=Compute(numbers), cutover="immediate")]
"""


def recorded(made):
    """Vector -> fingerprint, as the ledger and the seal have it; both say the same."""
    ledger = Ledger.open(made.ledger_url)
    store = made.store()
    try:
        view = ledger.collections()[made.name]
        seal = store.describe(made.name).seal
        assert seal["embedders"] == view.embedders
        return dict(view.embedders)
    finally:
        store.close()
        ledger.close()


def configure(made, **embedders):
    """Change the embedders of the settings."""
    config = yaml.safe_load(made.config.read_text())
    config["embedders"] |= embedders
    made.config.write_text(yaml.safe_dump(config))


@pytest.fixture
def server():
    """An embedding server, stopped at the end."""
    found = EmbeddingServer()
    yield found
    found.close()


@pytest.fixture
def filled(tmp_path):
    """A deployment in local mode whose points have a vector filled by the built-in model."""
    made = Deployment(tmp_path, {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings(), "0001")
    made.load(40)
    made.revise("0002", FILL)
    upgrade.upgrade(made.settings())
    return made


def test_a_model_is_recorded_carried_along_and_forgotten_with_its_values(filled, server, capsys, monkeypatch):
    """Rename carries the fingerprint, another model replaces it and is shown by plan, a function has none."""
    hashing = recorded(filled)["b"]
    assert (hashing["type"], hashing["size"]) == ("hashing", 16)
    filled.revise("0003", RENAME)
    upgrade.upgrade(filled.settings())
    assert recorded(filled) == {"words": hashing}

    filled.revise("0004", AGAIN)
    said = f"{filled.name}: vector words is filled again by the model that it has: hashing, 16 values"
    assert said in upgrade.plan(filled.settings()).notes
    monkeypatch.setattr("tests.embed_server.vector", lambda text: [float(len(text))] * 15 + [1.0])
    configure(filled, words={"type": "http", "url": server.url, "model": "tiny", "size": 16})
    said = f"{filled.name}: vector words changes its model: hashing, 16 values, library xxhash xxh3_64, normalisation l2 → "
    said += "http, tiny, 16 values, library openai embeddings, normalisation as served"
    assert upgrade.plan(filled.settings()).notes[-1:] == (said,)
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--config", str(filled.config)])
    assert ended.value.code in (0, 3)
    assert "changes its model: hashing" in " ".join(capsys.readouterr().out.split())
    upgrade.upgrade(filled.settings())
    assert recorded(filled)["words"]["model"] == "tiny"
    # The sample of the proof asks once more; otherwise each of the two different texts went out once per page.
    assert {text for _, _, body in server.seen for text in body["input"]} == {"even", "odd"}

    filled.revise("0005", COMPUTE)
    upgrade.upgrade(filled.settings())
    assert recorded(filled) == {}
    rollback.rollback(filled.settings(), "0004")
    assert recorded(filled)["words"]["model"] == "tiny"


def test_a_run_that_another_model_would_finish_is_refused(filled, server, monkeypatch):
    """A server that fails in the middle leaves a run to resume; with another model behind the name it is refused."""
    monkeypatch.setattr("tests.embed_server.vector", lambda text: [float(len(text))] * 15 + [1.0])
    remote = {"type": "http", "url": server.url, "api": "tei", "size": 16, "max_batch": 4, "max_retries": 1}
    configure(filled, words=remote)
    filled.revise("0003", AGAIN.replace('"words", values', '"b", values').replace('text="kind"', 'text="text"'))
    # One request tells which model it is, two are for the points that are tried before anything is made, and one behind
    # them tells that it was that model.
    server.limit = 6
    with pytest.raises(EmbedderError, match="503: busy; given up after 2 tries"):
        upgrade.upgrade(filled.settings())
    server.limit = None
    assert recorded(filled)["b"]["type"] == "hashing"
    server.model = "another"
    with pytest.raises(DriftError, match="would be filled by two models"):
        upgrade.upgrade(filled.settings())
    server.model = "tiny"
    before = filled.contents()
    upgrade.upgrade(filled.settings())
    assert recorded(filled)["b"]["model"] == "tiny"
    assert filled.contents().keys() == before.keys()


def test_a_server_that_gets_another_model_in_the_middle_of_a_fill_is_found(filled, server, monkeypatch):
    """However few vectors the sample of the proof meets: not one of the other model is written, and the run goes on."""
    made = []

    def vector(text):
        made.append(text)
        if len(made) == 20:
            server.model = "another"
        return [float(len(text)), -1.0 if server.model == "another" else 1.0] * 8

    monkeypatch.setattr("tests.embed_server.vector", vector)
    remote = {"type": "http", "url": server.url, "api": "tei", "size": 16, "max_batch": 1, "concurrency": 1}
    configure(filled, words=remote)
    config = yaml.safe_load(filled.config.read_text())
    filled.config.write_text(yaml.safe_dump({**config, "rebuild": {"sample": 1}}))
    filled.revise("0003", AGAIN.replace('"words", values', '"b", values').replace('text="kind"', 'text="text"'))
    with pytest.raises(DriftError, match="another model now"):
        upgrade.upgrade(filled.settings())
    server.model = "tiny"
    upgrade.upgrade(filled.settings())
    assert recorded(filled)["b"]["model"] == "tiny"
    assert all(vectors["b"][1] > 0 for _, vectors in filled.contents().values())


def test_a_plan_says_that_a_model_is_random_or_cannot_be_loaded(filled):
    """Random weights are named without loading anything; what can't be loaded is reported before it runs."""
    filled.revise("0003", AGAIN.replace('"words", values', '"b", values'))
    configure(filled, words={"type": "open_clip", "model": "ViT-Z-99", "random_weights": 7})
    notes = upgrade.plan(filled.settings()).notes
    assert any("is filled by words with random weights (seed 7): for trials only" in note for note in notes)
    (here,) = (note for note in notes if "embedder 'words'" in note and "an upgrade from here is refused (2)" in note)
    said = call(filled.root, "plan")
    assert (said.code, "Nothing was written. Run it where nothing of what the notes name is missing: " in said.out) == (0, True)
    if importlib.util.find_spec("torch") is None:
        assert "pip install 'qdrant-migrations[open-clip]'" in here
    configure(filled, words={"type": "hashin"})
    [refusal] = upgrade.plan(filled.settings()).refusals
    assert (refusal.exit_code, "the unknown type 'hashin'" in refusal.message) == (2, True)
