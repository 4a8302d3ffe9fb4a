"""docs/recipes.md does what it promises: every recipe's revisions and commands, with built-in models."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tests.harness import Deployment, write
from tests.scenarios.cli import call

from qmigrate.commands import history
from qmigrate.model.transform import Point

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)
FIRST, *RECIPES = re.split(r"^## ", PAGE, flags=re.MULTILINE)
#: One picture is not there: the recipes say what becomes of such a point.
POINTS = 12


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


def run(made: Deployment, text: str) -> str:
    """Write the revisions of a part of the page and run its commands; everything that they printed."""
    said = ""
    for kind, body in BLOCK.findall(text):
        if kind == "python":
            name = re.match(r"# versions/(\S+)\n", body)
            (made.root / "qdrant_migrations" / "versions" / name[1]).write_text(body[name.end() :])
            continue
        for line in body.splitlines():
            command, _, comment = line.removeprefix("$ ").partition("#")
            wanted = re.match(r" exit (\d+)", comment)
            answer = call(made.root, *shlex.split(command)[1:])
            assert answer.code == (int(wanted[1]) if wanted else 0), f"{line}\n{answer.text}"
            said += answer.text
    return said


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


def test_every_recipe_is_run():
    """The page has the three that are asked for, each with revisions and commands."""
    assert len(RECIPES) == 3
    assert all({kind for kind, _ in BLOCK.findall(text)} == {"python", "console"} for text in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES, ids=[text.split("\n", 1)[0] for text in RECIPES])
def test_a_recipe_passes_the_lint(tmp_path, recipe):
    """What the page shows is what the product itself would let through."""
    made = Deployment(
        tmp_path, {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", name="images",
        extra={"embedders": yaml.safe_load(re.search(r"```yaml\n(.*?)```", FIRST, re.DOTALL)[1])["embedders"]},
    )  # fmt: skip
    for kind, body in BLOCK.findall(FIRST + recipe):
        if kind == "python":
            name = re.match(r"# versions/(\S+)\n", body)
            (made.root / "qdrant_migrations" / "versions" / name[1]).write_text(body[name.end() :])
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
