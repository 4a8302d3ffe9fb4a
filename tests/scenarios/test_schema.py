"""Documents of collections: the same for the same state, readable for a wiki, exact for programs."""

from __future__ import annotations

import json

import pytest
import yaml
from tests.harness import ADD, INDEX, Deployment
from tests.scenarios.cli import call

from qmigrate.cli.schema import as_yaml
from qmigrate.commands import rollback, upgrade
from qmigrate.commands.schema import Document, Schemas
from qmigrate.model.schema import CollectionSchema

CREATE = '''
def upgrade():
    return [
        op.CreateCollection(
            "{name}",
            {{"a": VectorParams(size=8, distance=Distance.COSINE, hnsw_config=HnswConfigDiff(m=20))}},
            {{"s": SparseVectorParams(modifier=Modifier.IDF)}},
            hnsw_config=HnswConfigDiff(m=16),
            metadata={{"owner": "search | ads"}},
        ),
        op.SetAlias("{name}_read", "{name}"),
    ]
'''


@pytest.fixture
def made(deployment):
    """A collection at its third revision, undone and applied again once."""
    deployment.revise("0001", CREATE, doc="Texts with a vector a.")
    upgrade.upgrade(deployment.settings())
    deployment.load(10)
    deployment.revise("0002", INDEX, doc="Filters by kind.")
    upgrade.upgrade(deployment.settings())
    deployment.revise("0003", ADD, doc="A vector of words.")
    upgrade.upgrade(deployment.settings())
    rollback.rollback(deployment.settings(), "-1", only=[deployment.name])
    upgrade.upgrade(deployment.settings())
    return deployment


def document(made: Deployment, *flags: str) -> dict:
    """The one collection, out of YAML and JSON alike."""
    said = call(made.root, "schema", made.name, *flags)
    assert said.code == 0, said.text
    plain = yaml.safe_load(said.out)
    assert json.loads(call(made.root, "schema", made.name, *flags, "--format", "json").out) == plain
    assert call(made.root, "schema", made.name, *flags).out == said.out
    return plain["collections"][made.name]


def elsewhere(made: Deployment, **sections) -> tuple[str, str]:
    """The option for the same project with other addresses."""
    config = {**yaml.safe_load(made.config.read_text()), **sections}
    (made.root / "elsewhere.yaml").write_text(yaml.safe_dump(config))
    return ("--config", "elsewhere.yaml")


def test_recorded(made):
    """What revisions declared and nothing else, wherever it runs."""
    found = document(made, "--recorded")
    digest = found["embedders"].pop("b")
    assert digest.startswith("embed words(text), fingerprint ")
    assert found == {
        "source": "recorded",
        "revision": "0003",
        "physical": f"{made.name}__g0003",
        "vectors": {"a": {"distance": "Cosine", "hnsw_config": {"m": 20}, "size": 8}, "b": {"distance": "Cosine", "size": 16}},
        "sparse_vectors": {"s": {"modifier": "idf"}},
        "payload_indexes": {"kind": {"type": "keyword"}},
        "settings": {"hnsw_config": {"m": 16}, "metadata": {"owner": "search | ads"}},
        "aliases": [f"{made.name}_read"],
        "embedders": {},
    }


def test_live(made):
    """What Qdrant has, with points and everything that a server fills in; local mode reports what it doesn't keep."""
    found = document(made, "--live")
    local = "path" in made.qdrant
    assert (found["source"], found["points"], found["physical"]) == ("live", 10, f"{made.name}__g0003")
    assert found["vectors"]["b"] == {"distance": "Cosine", "size": 16}
    assert ("payload_indexes" in found) != local
    assert ("hnsw_config" in found["settings"]) != local
    assert found["aliases"] == [f"{made.name}_read"]
    assert ("--recorded" in call(made.root, "schema", made.name).err) == local
    assert document(made) == found


def test_at_a_revision(made):
    """As the files declare it at any revision, without a server and a ledger."""
    there = elsewhere(
        made, qdrant={"url": "http://qdrant.invalid:6333"}, ledger={"url": "postgresql+psycopg://x@db.invalid/x"}
    )
    first = document(made, "--revision", "0001", *there)
    assert (first["revision"], set(first["vectors"]), "payload_indexes" in first) == ("0001", {"a"}, False)
    head = document(made, "--revision", "head", "--changelog", *there)
    assert set(head["vectors"]) == {"a", "b"}
    assert [(one["revision"], one["doc"]) for one in head["changelog"]] == [
        ("0001", "Texts with a vector a."),
        ("0002", "Filters by kind."),
        ("0003", "A vector of words."),
    ]
    assert "at" not in head["changelog"][0]
    every = yaml.safe_load(call(made.root, "schema", "--revision", "head", *there).out)["collections"]
    assert set(every) == {made.name}
    assert call(made.root, "schema", "nobody", "--revision", "head", *there).code == 2
    assert call(made.root, "schema", made.name, "--revision", "0009", *there).code == 2


def test_when_qdrant_does_not_answer(made):
    """Without an option the recorded schema is shown, and stderr has the reason; --live insists."""
    there = elsewhere(made, qdrant={"url": "http://127.0.0.1:9", "timeout": 1})
    said = call(made.root, "schema", made.name, *there)
    assert said.code == 0
    assert yaml.safe_load(said.out)["collections"][made.name]["source"] == "recorded"
    assert "Qdrant can't be asked" in said.err
    assert call(made.root, "schema", made.name, "--live", *there).code == 9


def test_markdown(made):
    """Tables for a wiki: a bar inside a cell is escaped, the changelog has who, when and how, oldest first."""
    out = call(made.root, "schema", made.name, "--recorded", "--format", "markdown").out
    lines = out.splitlines()
    assert lines[0] == f"# {made.name}"
    assert "| `metadata.owner` | search \\| ads |" in lines
    assert "| `a` | 8 | Cosine | float32 | hnsw_config.m = 20 |" in lines
    assert "| `s` | modifier = idf |" in lines
    assert f"| `{made.name}_read` |" in lines
    changelog = lines[lines.index("## Changelog") + 4 :]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in changelog]
    assert [(row[1], row[2], row[3], row[4]) for row in cells] == [
        ("`0001`", "Texts with a vector a.", "upgrade", "create"),
        ("`0002`", "Filters by kind.", "upgrade", "in_place"),
        ("`0003`", "A vector of words.", "upgrade", "copy"),
        ("`0003`", "A vector of words.", "rollback", "copy"),
        ("`0003`", "A vector of words.", "upgrade", "copy"),
    ]
    assert all(row[0].endswith(" UTC") and "@" in row[5] for row in cells)
    for table in out.split("\n\n"):
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) <= 1
    assert "## Changelog" not in call(made.root, "schema", made.name, "--format", "markdown", "--no-changelog").out


def test_names_and_sources(made):
    """Globs choose, unknown names are errors, two sources are one too many, --json is the envelope."""
    assert yaml.safe_load(call(made.root, "schema", f"{made.name[:-1]}*", "--recorded").out)["collections"].keys() == {made.name}
    assert call(made.root, "schema", "nobody*").code == 2
    assert call(made.root, "schema", "--live", "--recorded").code == 2
    envelope = call(made.root, "schema", made.name, "--json").json
    assert (envelope["schema"], envelope["data"]["collections"][0]["name"]) == ("qmigrate.schema/1", made.name)


def test_the_unnamed_vector_is_a_key_that_people_know():
    """In quotes, with what it is below; it reads back as the same, and a text that looks so stays as it is."""
    made = Document("docs", "live", None, None, 1, CollectionSchema({"": {"size": 4, "distance": "Dot"}}), {}, ())
    text = as_yaml(Schemas("live", (made,)), changelog=False)
    assert "    vectors:\n      '':\n        distance: Dot\n        size: 4" in text
    assert yaml.safe_load(text)["collections"]["docs"]["vectors"] == {"": {"size": 4, "distance": "Dot"}}
