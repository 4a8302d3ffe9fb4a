"""The recipes of CONTRIBUTING.md: applied to a copy of the source they do what they say, and the checks accept them."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
BLOCK = re.compile(r"^```(python|diff) (src/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A project in local mode with twenty points, behind whose beginning each recipe is tried.
HEAD = """
import sys
from pathlib import Path
import yaml
import qmigrate
from qdrant_client.models import Distance, VectorParams
from qmigrate import fix
from qmigrate.commands import upgrade, undo
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect
from tests.harness import Deployment, contents, make_point, write

root = Path(sys.argv[1])
assert Path(qmigrate.__file__).is_relative_to(root / "src"), qmigrate.__file__
made = Deployment(root / "project", {"path": str(root / "qdrant")}, f"sqlite:///{root}/ledger.db", name="docs", extra=EXTRA)
CREATE = '''
def upgrade():
    return [op.CreateCollection("docs", {"a": VectorParams(size=8, distance=Distance.COSINE)})]
'''
path = root / "project" / "qdrant_migrations" / "versions"
def revise(number, down, body):
    head = f'"r"\\nfrom qdrant_client.models import *\\nfrom qmigrate import *\\nrevision = {number!r}\\ndown_revision = {down!r}\\n'
    (path / f"{number}.py").write_text(head + body)
def payloads():
    return [payload for payload, _ in made.contents().values()]
revise("0001", None, CREATE)
upgrade.upgrade(made.settings())
store = made.store()
write(store, "docs", [make_point(number, text=f" text {number} ") for number in range(20)])
store.close()
"""
TRIED = {
    "A new operation": """
revise("0002", "0001", 'def upgrade():\\n    return [op.RenamePayload("docs", "text", "body")]\\n')
plan = upgrade.plan(made.settings())
assert "rename payload text to body" in repr(plan), plan
upgrade.upgrade(made.settings())
assert len(payloads()) == 20
assert all(one["body"].startswith(" text ") and "text" not in one for one in payloads())
store = made.store()
write(store, "docs", [make_point(7, text="new")])
store.close()
before = payloads()
revise("0003", "0002", 'def upgrade():\\n    return [op.RenamePayload("docs", "body", "text")]\\n')
try:
    upgrade.upgrade(made.settings())
except qmigrate.errors.PlanError as error:
    assert "already has a key 'text'" in error.message, error.message
else:
    raise AssertionError("a key was replaced")
assert payloads() == before
""",
    "A new kind of data fix": """
from qmigrate import op
before = sorted(one["text"] for one in payloads())
(done,) = fix.run(op.TrimPayload("docs", "text", max_share=1.0), settings=made.settings()).done
assert sorted(one["text"] for one in payloads()) == sorted(text.strip() for text in before)
fix.undo(done.log, settings=made.settings())
assert sorted(one["text"] for one in payloads()) == before
""",
    "A new verb": """
import json
from contextlib import redirect_stdout
from io import StringIO
from qmigrate.cli.app import run
said = []
for form in ([], ["--json"]):
    with redirect_stdout(StringIO()) as out:
        assert run(["embedders", "--config", str(made.config), *form]) == 0
    said.append(out.getvalue())
assert said[0].split() == ["words", "hashing"]
assert json.loads(said[1])["data"] == {"types": {"words": "hashing"}}
""",
    "A new embedder": """
revise("0002", "0001", '''
def upgrade():
    params = VectorParams(size=26, distance=Distance.COSINE)
    return [op.AddVector("docs", "b", params, values=Embed("abc", text="text"))]
''')
upgrade.upgrade(made.settings())
assert {len(vectors["b"]) for _, vectors in made.contents().values()} == {26}
""",
}
#: Lines of code of a recipe, at most: without blanks, imports, comments and docstrings, with the lines of its diffs.
MOST = {"A new operation": 17, "A new kind of data fix": 10, "A new verb": 15, "A new embedder": 12}
EXTRA = {"A new embedder": {"embedders": {"words": {"type": "hashing", "size": 16}, "abc": {"type": "letters"}}}}


def recipes() -> dict[str, list[tuple[str, str, str]]]:
    """Heading -> (form, file, text) of its blocks."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("\n## Recipes\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### (.+)\n", section, flags=re.MULTILINE)[1:]
    return {heading: BLOCK.findall(body) for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def lines_of_code(text: str) -> int:
    """Lines that are neither blank, comment, import nor docstring."""
    silent: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if checking or words or isinstance(node, ast.Import | ast.ImportFrom):
            silent.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = (line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in silent)
    return sum(bool(line) and not line.startswith("#") for line in lines)


def apply(root: Path, blocks: list[tuple[str, str, str]]) -> list[Path]:
    """Make the new files of a recipe, and put its lines in; the files that it has made or changed."""
    for form, name, text in blocks:
        path = root / name
        if form == "python":
            assert not path.exists(), f"{name} is there already"
            path.write_text(text, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        at = -1
        for line in text.splitlines():
            if line.startswith("+"):
                at += 1
                lines.insert(at, line[1:])
            else:
                found = [number for number, one in enumerate(lines) if one == line[1:]]
                assert len(found) == 1, f"{name} has {len(found)} lines {line[1:]!r}"
                at = found[0]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [root / name for _, name, _ in blocks]


@pytest.fixture
def copied(tmp_path):
    """A copy of the source, and of what the checks go by."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_there_is_a_trial_for_each_recipe():
    """A recipe that is added gets a program that tries it."""
    assert recipes().keys() == TRIED.keys()
    assert all(blocks for blocks in recipes().values())


@pytest.mark.parametrize("heading", TRIED)
def test_a_recipe_is_short(heading):
    """What an extension has to say, and nothing that the package could know by itself."""
    blocks = recipes()[heading]
    code = sum(lines_of_code(text) for form, _, text in blocks if form == "python")
    added = sum(line.startswith("+") for form, _, text in blocks if form == "diff" for line in text.splitlines())
    assert code + added <= MOST[heading], (code, added)


@pytest.mark.parametrize("heading", TRIED)
def test_a_recipe_does_what_it_says(heading, copied):
    """Its blocks alone, applied to the source of today, make what it promises."""
    changed = apply(copied, recipes()[heading])
    program = f"EXTRA = {EXTRA.get(heading, {})!r}\n{HEAD}{TRIED[heading]}"
    environ = {**os.environ, "PYTHONPATH": f"{copied / 'src'}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(copied)], env=environ, cwd=copied, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ruff = Path(sys.executable).with_name("ruff")
    if ruff.exists():
        checked = subprocess.run([ruff, "check", "--no-cache", "--ignore", "I001", *changed], cwd=copied, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
