"""The page about the house: its picture is that of the contracts, and what it names exists."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
SOURCE = ROOT / "src" / "qmigrate"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = sorted(file.parent.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("__init__.py") if file.parent != SOURCE)
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
#: ``engine/throttle.py:Throttle`` in a row of the page.
PLACE = re.compile(r"`([a-z_/]+\.py)(?::([\w.]+))?`")


def section(heading: str) -> str:
    """The text behind a heading of the page, up to the next one of its level."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows() -> list[tuple[str, str, str]]:
    """Question, places and tests of *Where is it*."""
    table = section("Where is it").partition("\nAnd by piece:")[0]
    found = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines() if line.startswith("|")]
    return [(question, places, tests) for question, places, tests in found[2:]]


@cache
def defined(file: str) -> frozenset[str]:
    """Functions, classes and methods of a module; those of base classes are not among them."""
    found = set()
    for node in ast.parse((SOURCE / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return frozenset(found)


@pytest.mark.parametrize(("question", "places", "tests"), rows(), ids=[row[0] for row in rows()])
def test_a_place_that_is_named_is_there(question, places, tests):
    """Each row of *Where is it* has a module, a function in it, and a test file."""
    named = PLACE.findall(places)
    assert named
    for file, name in named:
        assert (SOURCE / file).is_file(), f"{question} {file}"
        assert not name or name in defined(file), f"{question} {file} has no {name}"
    files = re.findall(r"`(test_\w+\.py)`", tests)
    assert files
    for file in files:
        assert list((ROOT / "tests").rglob(file)), f"{question} there is no test {file}"


def test_each_function_that_the_page_names_is_there():
    """Not only in the questions: in the story, in the rules and in *by piece*, too."""
    named = {(file, name) for file, name in PLACE.findall(PAGE) if name}
    assert [f"{file}:{name}" for file, name in sorted(named) if name not in defined(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_that_a_page_names_are_there(page):
    """A path with a room of the package in it is the path of a module or a room; blocks of code are not checked."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    tops = {package.partition("/")[0] for package in PACKAGES}
    for name in re.findall(r"`([a-z_]+(?:/[a-z_.]*)+)", text):
        room = name.partition("/")[0]
        # The root has a folder alembic/, too.
        if room in tops and not name.startswith(("alembic/versions", "alembic/env")):
            file = re.sub(r"(?<!\.py)\.\w+$", ".py", name) if "." in name and not name.endswith(".py") else name
            assert (SOURCE / file).exists(), f"{page.name} names {name}"
        assert room not in ("steps", "hands"), f"{page.name} names {name}, a room of the past"


def test_each_room_is_named_with_its_own_words():
    """The table of the rooms has every package, with the first line of its docstring."""
    said = dict(re.findall(r"^\| `([a-z_/]+)/` \| (.+) \|$", section("The house"), re.MULTILINE))
    for package in PACKAGES:
        words = ast.get_docstring(ast.parse((SOURCE / package / "__init__.py").read_text(encoding="utf-8"))) or ""
        assert said.get(package) == words.partition("\n")[0].replace("``", "`"), package
    assert said.keys() == set(PACKAGES)


@pytest.mark.parametrize("number", [0, 1], ids=["package", "engine"])
def test_the_picture_is_that_of_the_contracts(number):
    """The lines of a picture are the layers of a contract, in its order."""
    picture = re.findall(r"^```\n(.*?)^```", section("The house"), re.MULTILINE | re.DOTALL)[number]
    layers = [[one.strip() for one in layer.split("|")] for layer in CONTRACTS[number]["layers"]]
    for line, layer in zip(picture.splitlines(), layers, strict=True):
        names = [re.sub(r"^qmigrate\.(engine\.)?" if number else r"^qmigrate\.", "", one) for one in layer]
        pattern = (r"engine/" if number else "") + r" · ".join(map(re.escape, names)) + r"(\s|$)"
        assert re.match(pattern, line), f"{line!r} is not {names}"


def test_words_are_explained_once_and_briefly():
    """The glossary is in the order of the alphabet, each word at most two lines long."""
    words = re.findall(r"^\| (.+?) \| (.+) \|$", section("Words"), re.MULTILINE)[1:]
    assert [word for word, _ in words] == sorted({word for word, _ in words}, key=lambda word: word.casefold())
    assert [word for word, meaning in words if len(meaning) > 240] == []
    for word in ("generation", "seal", "barrier", "fence", "sweep", "gap", "way back", "quarantine", "journal", "epoch alias"):
        assert word in dict(words)


def test_the_reference_deployment_is_not_part_of_the_package():
    """Both archives are made of named folders of the root, and neither `alembic/` nor `qdrant_migrations/` is one."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert built["wheel"]["packages"] == ["src/qmigrate"]
    # Without a slash in front, README.md would be every README.md of the repository.
    assert [one for one in built["sdist"]["include"] if not one.startswith("/")] == []
    for folder in ("alembic", "qdrant_migrations"):
        assert "examples/image_search" in (ROOT / folder / "README.md").read_text(encoding="utf-8")
        assert not (ROOT / folder / "__init__.py").exists()
