"""docs/recipes.md does what it promises: every recipe's revisions and commands, with built-in models."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from qdrant_client import QdrantClient
from tests.harness import Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import history, status
from qmigrate.embed import load
from qmigrate.embed.inputs import ImageName
from qmigrate.model.transform import Point

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)
FIRST, *_ALL = re.split(r"^## ", PAGE, flags=re.MULTILINE)
_TEXTS = next(place for place, text in enumerate(_ALL) if text.startswith("Texts: where"))
RECIPES, TEXTS_FIRST, TEXTS = _ALL[:_TEXTS], _ALL[_TEXTS], _ALL[_TEXTS + 1 :]
#: One picture is not there: the recipes say what becomes of such a point.
POINTS = 12
TOPICS = ["cats", "dogs", "boats", "trains", "apples", "clocks", "rivers", "violins"]
DOCS = 160
#: In the place of a model of late interaction: a row for each word.
ROWS = """
from qmigrate.embed import load

words = load("words", {"type": "hashing", "size": 8})


def rows(texts):
    return [words.embed(text.split()) for text in texts]
"""


def title(text: str) -> str:
    """The heading of a recipe."""
    return text.split("\n", 1)[0]


@pytest.fixture
def made(tmp_path):
    """The collection that all recipes begin with, in local mode, with pictures."""
    (tmp_path / "pictures").mkdir()
    for number in range(POINTS):
        Image.new("RGB", (40, 30), (number * 20, 90, 255 - number * 20)).save(tmp_path / "pictures" / f"{number}.png")
    roots = {"type": "pixels", "image_roots": [str(tmp_path / "pictures")]}
    found = Deployment(
        tmp_path / "project",
        {"path": str(tmp_path / "qdrant")},
        f"sqlite:///{tmp_path}/ledger.db",
        name="images",
        extra={"embedders": {"b32": {**roots, "size": 16}, "l14": {**roots, "size": 24}}},
    )
    run(found, FIRST)
    assert call(found.root, "upgrade").code == 0
    store = found.store()
    points = [Point(n + 1, {"path": f"{n}.png"}, {"b32": [1.0, *map(float, range(n, n + 15))]}) for n in range(POINTS)]
    write(store, "images", points)
    store.close()
    return found


def saved(made: Deployment, body: str) -> None:
    """A block of Python under the name in its first line: a revision, or a module of the application."""
    name = re.match(r"# (versions/)?(\S+)\n", body)
    folder = made.root / "qdrant_migrations" / "versions" if name[1] else made.root
    (folder / name[2]).write_text(body[name.end() :])


def run(made: Deployment, text: str) -> str:
    """Write the revisions of a part of the page and run its commands; everything that they printed."""
    said = ""
    for kind, body in BLOCK.findall(text):
        if kind == "python":
            saved(made, body)
            continue
        for line in body.splitlines():
            command, _, comment = line.removeprefix("$ ").partition("#")
            wanted = re.match(r" exit (\d+)", comment)
            answer = call(made.root, *shlex.split(command)[1:])
            assert answer.code == (int(wanted[1]) if wanted else 0), f"{line}\n{answer.text}"
            said += answer.text
    return said


def topic_vector(number: int) -> list[float]:
    """Near to those of its topic, nearer to that of its product; it knows nothing of single words."""
    made = [np.random.default_rng(seed).normal(0, size, 64) for seed, size in ((number % 8, 1), (number % 80 + 100, 0.4))]
    noise = np.random.default_rng(number + 1000).normal(0, 0.1, 64)
    # The first values say most, as those of a model that is trained to be shortened.
    return ((sum(made) + noise) * np.linspace(2, 0.2, 64)).tolist()


def texts(folder: Path, qdrant: dict) -> Deployment:
    """The collection that the recipes for texts begin with, filled by the application."""
    embedders = {
        "large": {"type": "hashing", "size": 64},
        "terms": {"type": "bm25", "language": "english"},
        "splade": {"type": "bm25", "language": "none"},
        "tokens": {"type": "callable", "function": "rows:rows", "size": 8, "version": "1", "sys_path": [str(folder / "project")]},
    }
    made = Deployment(folder / "project", {**qdrant, "timeout": 5}, f"sqlite:///{folder}/ledger.db", name="docs")
    made.extra["embedders"] = embedders
    made.__post_init__()
    (made.root / "rows.py").write_text(ROWS)
    run(made, TEXTS_FIRST)
    assert call(made.root, "upgrade").code == 0
    store = made.store()
    points = [
        Point(one, {"title": f"number{one}", "body": f"about {TOPICS[one % 8]}", "product": one % 80}, {"": topic_vector(one)})
        for one in range(1, DOCS + 1)
    ]
    write(store, "docs", points)
    store.close()
    return made


def found_by(made: Deployment, module: str, function: str, *arguments: object, **client: object) -> list[int]:
    """Ids that a function of a page's module finds."""
    source = (made.root / module).read_text()
    names: dict = {}
    exec(compile(source, module, "exec"), names)  # noqa: S102  the page's own code
    opened = QdrantClient(**client)
    try:
        return [point.id for point in names[function](opened, *arguments)]
    finally:
        opened.close()


@pytest.mark.parametrize("recipe", TEXTS, ids=map(title, TEXTS))
def test_a_recipe_for_texts_works_as_it_stands(tmp_path, recipe):
    """Every command ends with the code on the page, nothing is lost, and each has what it promises."""
    made = texts(tmp_path, {"path": str(tmp_path / "qdrant")})
    before = made.contents()
    said = run(made, recipe)
    after = made.contents()
    assert {one: payload for one, (payload, _) in after.items()} == {one: payload for one, (payload, _) in before.items()}
    old = {one: vectors[""] for one, (_, vectors) in before.items()}
    if recipe.startswith("Dense to hybrid"):
        assert {one: vectors[""] for one, (_, vectors) in after.items()} == old
        assert {len(vectors["terms"]["indices"]) for _, vectors in after.values()} == {2}
    elif recipe.startswith("Learned words"):
        assert {one: vectors["text"] for one, (_, vectors) in after.items()} == old
        assert {(len(vectors["splade"]["indices"]), len(vectors["tokens"])) for _, vectors in after.values()} == {(3, 3)}
    elif recipe.startswith("A name for"):
        # The last command goes back; the one before it gave the name.
        assert after == before
        assert "docs__g0002 serves" in said
    elif recipe.startswith("From 3072"):
        assert {len(vectors[""]) for _, vectors in after.values()} == {32}
        assert status.history(made.settings()).rows[0].report["compared"][0]["go"] is True
    elif recipe.startswith("From float32"):
        assert {one: vectors[""] for one, (_, vectors) in after.items()} == old
    else:
        assert recipe.startswith("BM25 of the server")
        assert found_by(made, "ranked.py", "ranked", "number77", path=str(tmp_path / "qdrant")) == [77]


def test_hybrid_search_without_a_server(tmp_path, monkeypatch):
    """In local mode the embedder of the settings makes the words of a question, as on the page."""
    made = texts(tmp_path, {"path": str(tmp_path / "qdrant")})
    run(made, next(text for text in TEXTS if text.startswith("Dense to hybrid")))
    monkeypatch.chdir(made.root)
    found = found_by(made, "search_here.py", "hybrid", "number77", topic_vector(5), path=str(tmp_path / "qdrant"))
    # By the vector alone it is of another topic.
    assert 77 in found
    assert any(one % 8 == 5 for one in found if one != 77)


#: The extra of a distribution in a command, and a row of the table of what each type of embedder needs.
EXTRA = re.compile(r"qdrant-migrations\[[a-z0-9-]+\]")
ROW = re.compile(r"\| (`\w+`(?:, `\w+`)*) \| .* \| (.*) \|")
INSTALLED = {
    name: set(EXTRA.findall(row[2]))
    for row in map(ROW.fullmatch, (ROOT / "docs" / "embedders.md").read_text(encoding="utf-8").splitlines())
    if row is not None and (EXTRA.search(row[2]) or row[2] == "–")
    for name in re.findall(r"\w+", row[1])
}


def test_the_table_of_what_is_installed_is_read():
    """Else the next test would compare nothing."""
    assert INSTALLED["bm25"] == {"qdrant-migrations[bm25]"}
    assert INSTALLED["colbert"] == INSTALLED["splade"] == {"qdrant-migrations[sentence-transformers]"}
    assert not INSTALLED["http"]


@pytest.mark.parametrize("recipe", [*RECIPES, *TEXTS], ids=map(title, [*RECIPES, *TEXTS]))
def test_a_recipe_names_what_has_to_be_installed(recipe):
    """What its embedders need, as the page about embedders has it, and nothing else."""
    first = FIRST if recipe in RECIPES else TEXTS_FIRST
    embedders = yaml.safe_load(re.search(r"```yaml\n(.*?)```", first, re.DOTALL)[1])["embedders"]
    used = {embedders[name]["type"] for name in re.findall(r"Embed\(\s*\"(\w+)\"", recipe)}
    needs = set().union(*(INSTALLED[kind] for kind in used))
    assert set(EXTRA.findall(recipe)) == needs
    assert not needs or re.match(r"[^\n]*\n\nNeeds `pip install '", recipe)


@pytest.mark.server
def test_hybrid_search_finds_what_either_alone_does_not(qdrant_with, tmp_path):
    """Vectors know topics, words know numbers: fused as on the page, a question by either finds its point."""
    server = qdrant_with()
    made = texts(tmp_path, {"url": server.url, "grpc_port": server.grpc_port})
    run(made, next(text for text in TEXTS if text.startswith("Dense to hybrid")))
    client = {"url": server.url, "cloud_inference": True, "check_compatibility": False}
    dense, hybrid, words = set(), set(), set()
    wanted = range(8, DOCS, 19)
    for one in wanted:
        # Of the same topic, as a model has it that reads no numbers.
        question, vector = f"number{one}", topic_vector(one + 8)
        store = made.store()
        dense |= {one} & set(store.nearest("docs", "", [vector], limit=10, exact=True)[0])
        store.close()
        hybrid |= {one} & set(found_by(made, "search.py", "hybrid", question, vector, **client))
        # No text has such a word: only the vector says what is meant.
        meant = found_by(made, "search.py", "hybrid", "felines", vector, **client)
        words |= {one} if {point % 8 for point in meant} == {one % 8} else set()
    assert hybrid == set(wanted)
    assert len(dense) < 0.8 * len(wanted), dense
    assert words == set(wanted)


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.parametrize("kind", ["int8", "binary", "product"])
def test_quantization_has_its_gate_on_a_server(qdrant_with, tmp_path, kind):
    """Search by int8 is as good and goes live; where it isn't, the old generation serves on."""
    server = qdrant_with()
    made = texts(tmp_path, {"url": server.url, "grpc_port": server.grpc_port})
    recipe = next(text for text in TEXTS if text.startswith("From float32"))
    recipe = recipe.replace('"", "int8", on', f'"", "{kind}", on')
    run(made, recipe)
    history = status.history(made.settings()).rows[0]
    assert history.report["compared"][0]["go"] is True
    config = httpx.get(f"{server.url}/collections/docs", timeout=10).json()["result"]["config"]["params"]["vectors"]
    assert list(config["quantization_config"]) == ["scalar" if kind == "int8" else kind]


@pytest.mark.parametrize("recipe", RECIPES, ids=[text.split("\n", 1)[0] for text in RECIPES])
def test_a_recipe_works_as_it_stands(made, recipe):
    """Every command ends with the code on the page, and the points are what it promises."""
    bad = recipe.startswith("The same size")
    if not bad:
        (made.root.parent / "pictures" / "3.png").unlink()
    said = run(made, recipe)
    assert "limited by: " in said
    points = made.contents()
    vectors = {identifier: sorted(found) for identifier, (_, found) in points.items()}
    if recipe.startswith("A new vector next to"):
        assert "image '3.png' is not there" in said
        assert vectors == {number: ["l14"] if number != 4 else [] for number in range(1, POINTS + 1)}
    elif recipe.startswith("From made-up"):
        assert vectors == {number: ["b32"] for number in range(1, POINTS + 1) if number != 4}
        assert {len(found["b32"]) for _, found in points.values()} == {24}
        assert [row.kind for row in history.deletions(made.settings(), "images").rows] == ["QUARANTINE"]
    else:
        assert "vector b32 gets values of another model" in said
        assert made.row().revision == "0001"
        assert len(points) == POINTS


@pytest.mark.filterwarnings("ignore")
def test_a_larger_clip_next_to_a_smaller_one(made):
    """The first recipe by open_clip itself: two models made on the spot, in the sizes of the page."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed; scripts/test --embed installs it", exc_type=ImportError)
    import torch

    torch.set_num_threads(1)
    roots = [str(made.root.parent / "pictures")]
    for name, size in (("b32", 16), ("l14", 24)):
        config = {
            "embed_dim": size,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        }
        folder = made.root.parent / name
        folder.mkdir()
        (folder / "tiny.json").write_text(json.dumps(config))
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3}}))
        open_clip.add_model_config(folder / "tiny.json")
        torch.save(open_clip.create_model("tiny").state_dict(), folder / "open_clip_pytorch_model.bin")
        made.extra["embedders"][name] = {"type": "open_clip", "model": f"local-dir:{folder}", "device": "cpu", "image_roots": roots}
    made.__post_init__()
    run(made, RECIPES[0].replace("fix quarantine images --retry", "status"))
    wanted = load("l14", made.extra["embedders"]["l14"]).embed([ImageName(f"{n}.png") for n in range(POINTS)])
    found = made.contents()
    assert {tuple(vectors) for _, vectors in found.values()} == {("l14",)}
    assert all(found[n + 1][1]["l14"] == pytest.approx(row.tolist(), abs=1e-4) for n, row in enumerate(wanted))


def test_every_recipe_is_run():
    """The page has those that are asked for, each with revisions and commands."""
    assert (len(RECIPES), len(TEXTS)) == (3, 6)
    assert all({kind for kind, _ in BLOCK.findall(text)} == {"python", "console"} for text in [*RECIPES, *TEXTS])


@pytest.mark.parametrize("recipe", [*RECIPES, *TEXTS], ids=map(title, [*RECIPES, *TEXTS]))
def test_a_recipe_passes_the_lint(tmp_path, recipe):
    """What the page shows is what the product itself would let through."""
    first = FIRST if recipe in RECIPES else TEXTS_FIRST
    made = Deployment(
        tmp_path, {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", name="images",
        extra={"embedders": yaml.safe_load(re.search(r"```yaml\n(.*?)```", first, re.DOTALL)[1])["embedders"]},
    )  # fmt: skip
    for kind, body in BLOCK.findall(first + recipe):
        if kind == "python":
            saved(made, body)
    answer = call(made.root, "check", "--offline", "--json")
    findings = [(one["code"], one["message"]) for one in answer.json["data"]["findings"] if one["severity"] == "error"]
    assert (answer.code, findings) == (0, [])


@pytest.mark.parametrize(
    "folder", [".", *sorted(str(found.parent.relative_to(ROOT)) for found in ROOT.glob("examples/*/qmigrate.yaml"))]
)
def test_every_example_passes_the_lint(folder):
    """The reference deployment and every example pass, warnings included."""
    answer = call(ROOT / folder, "check", "--offline", "--strict")
    assert answer.code == 0, answer.text
