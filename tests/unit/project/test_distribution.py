"""What is uploaded: it builds, its metadata can be shown, and what users' type checkers and editors get of it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The two files of a release, made from the working tree."""
    folder = tmp_path_factory.mktemp("dist")
    made = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return sorted(folder.iterdir())


def test_the_metadata_is_accepted(built):
    """`twine check --strict` finds nothing to say of either file, as the index would."""
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (checked.stdout.count("PASSED"), len(built)) == (2, 2)


def test_what_is_no_code_is_shipped(built):
    """The wheel has types, templates and license; nothing of tests, and no file outside the package."""
    wheel = next(file for file in built if file.suffix == ".whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"qmigrate/py.typed", "qmigrate/templates/qmigrate.yaml", "qmigrate/templates/script.py.mako"} <= set(names)
    shown = {"templates/base.html", "assets/qmigrate.css", "assets/htmx.min.js", "assets/VERSIONS", "assets/licences/htmx.txt"}
    assert {f"qmigrate/console/{name}" for name in shown} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"qmigrate", "qdrant_migrations"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(next(file for file in built if file.suffix == ".gz")) as archive:
        assert {name.split("/")[1] for name in archive.getnames()} >= {"src", "README.md", "LICENSE", "pyproject.toml"}


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """What mypy reports of a text, as the user of an installed package has it."""
    folder = tmp_path_factory.mktemp("typed")

    def check(text: str) -> str:
        (folder / "revision.py").write_text(text)
        found = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), "revision.py"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        return found.stdout + found.stderr

    return check


IMPORTS = """from qdrant_client import models
from qdrant_client.models import Distance, PayloadSchemaType, SparseVectorParams, VectorParams
from qmigrate import Compute, CopyOf, Embed, Empty, op
"""
ACCEPTED = """
dense = VectorParams(size=4, distance=Distance.COSINE)
where = models.Filter(must=[models.FieldCondition(key="k", match=models.MatchValue(value=1))])
made = [
    op.CreateCollection("a", dense),
    op.CreateCollection("a", {"size": 4, "distance": "Cosine"}, hnsw_config={"m": 8}),
    op.CreateCollection(
        "a", {"v": dense}, {"s": SparseVectorParams()}, {"f": PayloadSchemaType.KEYWORD, "g": "keyword"},
        hnsw_config=models.HnswConfigDiff(m=3),
    ),
    op.AddVector("a", "b", dense, values=Embed("e", text="t")),
    op.AddVector("a", "b", SparseVectorParams(), values=Empty()),
    op.AddVector("a", "b", {"size": 4, "distance": "Cosine"}, values=CopyOf("c")),
    op.AlterVector("a", "b", dense, cutover="hold"),
    op.CreatePayloadIndex("a", "f", PayloadSchemaType.INTEGER),
    op.CreatePayloadIndex("a", "f", models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)),
    op.UpdateCollection("a", quantization_config=models.Disabled.DISABLED),
    op.UpdateCollection("a", vectors_config={"": models.VectorParamsDiff(on_disk=True)}),
    op.DeletePoints("a", filter=where, reason="x"),
    op.SetPayload("a", {"k": 1}, filter={"must": []}),
]
"""
REFUSED = [
    'op.AddVector("a", "b", 42, values=Empty())',
    'op.AddVector("a", "b", Distance.COSINE, values=Empty())',
    'op.AddVector("a", "b", {}, values="e")',
    'op.AddVector("a", "b", {}, values=Empty(), strategy="hurry")',
    'op.AlterVector("a", "b", {}, cutover="soon")',
    'op.CreateCollection("a", "v")',
    'op.CreateCollection("a", {}, hnsw_config=8)',
    'op.CreatePayloadIndex("a", "f", 5)',
    'op.DeletePoints("a", filter="k = 1", reason="x")',
    'op.CreateColection("a", {})',
    "op.did_you_mean",
    "op.Operation",
]


def test_mypy_accepts_what_revisions_say(mypy):
    """Objects of the client, their JSON, and names: all that the documentation shows."""
    assert "Success: no issues found" in mypy(IMPORTS + ACCEPTED)


def test_verbs_are_typed(mypy):
    """What the verbs take and return is known to a type checker, and a verb that isn't there is refused."""
    good = """from qmigrate import commands
settings = commands.Settings.load(config="other.yaml")
names: list[str] = [row.name for row in commands.status(settings).collections]
code: int = commands.upgrade(target="0003", only=["docs"]).exit_code
rows = commands.snapshot_create(None, "docs*").rows
"""
    said = mypy(good)
    assert "Success: no issues found" in said, said
    bad = ["commands.upgrade(target=3)", "commands.upgrad()", "commands.status().colections", "commands.stamp(settings)"]
    errors = [int(line.split(":")[1]) for line in mypy(good + "\n".join(bad)).splitlines() if ": error:" in line]
    first = good.count("\n") + 1
    assert sorted(set(errors)) == list(range(first, first + len(bad)))


def test_mypy_refuses_what_upgrade_would_refuse(mypy):
    """One error for each wrong line, in its line, and no other."""
    said = mypy(IMPORTS + "\n".join(REFUSED)).splitlines()
    first = IMPORTS.count("\n") + 1
    found = {int(line.split(":")[1]) for line in said if ": error:" in line}
    assert found == set(range(first, first + len(REFUSED))), said
