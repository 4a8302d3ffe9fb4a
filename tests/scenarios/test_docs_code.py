"""Every block of Python and JSON on the pages: run where it can be, and none is left out silently."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import re
import sqlite3
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qdrant_client import QdrantClient, models
from tests.alembic_project import AlembicProject
from tests.harness import Deployment, write
from tests.scenarios.cli import call

import qmigrate
from qmigrate import fix
from qmigrate.alembic import BridgeError
from qmigrate.errors import PendingError
from qmigrate.model.transform import Point
from qmigrate.revisions.file import load_file

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```(python|json)([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
#: Pages whose blocks are run, in their order and as a whole, by another test.
RUN_ELSEWHERE = {
    "CONTRIBUTING.md": "tests/unit/project/test_contributing.py",
    "docs/quickstart.md": "tests/scenarios/test_quickstart.py",
    "docs/recipes.md": "tests/scenarios/test_recipes.py",
    "docs/reference/functions.md": "tests/unit/project/test_reference.py",
    "docs/reference/operations.md": "tests/unit/project/test_reference.py",
    "docs/reference/python.md": "tests/scenarios/test_python_page.py",
}
#: An env.py around the blocks of docs/alembic.md.
ENV = """
from alembic import context
from sqlalchemy import MetaData, create_engine, pool

target_metadata = MetaData()
url = context.config.get_main_option("sqlalchemy.url")
engine = create_engine(url, poolclass=pool.NullPool)
import qmigrate.alembic as qma
if context.is_offline_mode():
{offline}
else:
{online}
engine.dispose()
"""


def blocks(language: str) -> list[tuple[str, str]]:
    """(page-number, text) of every block of a language that no other test runs."""
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
    found = []
    for page in pages:
        name = page.relative_to(ROOT).as_posix()
        for number, (indent, kind, info, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            quickstart = name == "README.md" and "title=" in info
            if kind == language and name not in RUN_ELSEWHERE and not quickstart:
                found.append((f"{name}-{number}", textwrap.dedent(indent + text)))
    return found


PYTHON = blocks("python")


def kind_of(text: str) -> str:
    """``revision``, ``alembic``, ``env``, ``head`` (of a revision), or ``program``."""
    tree = ast.parse(text)
    functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    if "qdrant." in text and ("upgrade" in functions or text.startswith("qdrant.")):
        return "alembic"
    if "upgrade" in functions:
        return "revision"
    if "context.configure" in text:
        return "env"
    return "head" if all(isinstance(one, ast.Assign) for one in tree.body) else "program"


def named(kind: str) -> Iterator[Any]:
    """Those of a kind, as rows of a test."""
    for where, text in PYTHON:
        if kind_of(text) == kind:
            yield pytest.param(text, id=where)


def test_no_block_is_left_out():
    """Each is of a kind that is run, and the tests that run the others are there."""
    assert {kind_of(text) for _, text in PYTHON} == {"revision", "alembic", "env", "head", "program"}
    assert all((ROOT / page).is_file() and (ROOT / test).is_file() for page, test in RUN_ELSEWHERE.items())


@pytest.mark.parametrize("text", [*named("revision"), *named("head")])
def test_a_revision_of_a_page_is_one(text, tmp_path):
    """It is loaded as a file is, with the imports that `qmigrate revision` writes, and each operation is complete."""
    head = "from qdrant_client.models import *\nfrom qmigrate import *\nrevision, down_revision = '0002', '0001'\n"
    body = text if "def upgrade" in text else f"{text}\ndef upgrade():\n    return [op.DropCollection('docs')]\n"
    file = tmp_path / "0002_page.py"
    file.write_text(head + body, encoding="utf-8")
    revision, module = load_file(file)
    operations = [*revision.operations, *(module.downgrade() if revision.has_downgrade else ())]
    assert operations
    for operation in operations:
        operation.check_words()
        assert operation.describe()


@pytest.fixture
def made(tmp_path):
    """A project with what the programs of the pages name: collections, tenants, models, a table of SQL."""
    Image.new("RGB", (40, 30), (200, 90, 55)).save(tmp_path / "a.png")
    pixels = {"type": "pixels", "size": 768, "image_roots": [str(tmp_path)]}
    found = Deployment(
        tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", name="images",
        extra={
            "embedders": {"clip-l14": pixels, "words": {"type": "hashing", "size": 16}},
            "databases": {"app": {"url": f"sqlite:///{tmp_path}/app.db"}},
        },
    )  # fmt: skip
    found.revise("0001", """
def upgrade():
    small = VectorParams(size=4, distance=Distance.COSINE)
    names = ("images", "faces", "memory_*", "tenant_*")
    return [*(op.CreateCollection(name, small) for name in names), op.CreateCollection("image_assets", {{"b": small}})]
""")  # fmt: skip
    found.revise("0002", """
def upgrade():
    large = VectorParams(size=768, distance=Distance.COSINE)
    return [op.AddVector("image_assets", "l14", large, values=Embed("clip-l14", image="path"))]
""")
    for number in ("0003", "0004"):
        found.revise(number, f"\ndef upgrade():\n    return [op.CreatePayloadIndex('image*', 'k{number}', 'keyword')]\n")
    assert call(found.root, "upgrade", "0001").code == 0
    store = found.store()
    for name in ("images", "faces"):
        write(store, name, [Point(number, {"kind": "cat"}, {"": [1.0, 0.5, 0.25, number]}) for number in range(5, 25)])
    write(store, "image_assets", [Point(1, {"path": "a.png"}, {"b": [1.0, 0.5, 0.25, 2.0]})])
    store.close()
    answer = call(found.root, "upgrade")
    assert answer.code == 0, answer.text
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE faces (point_id INTEGER, person_id TEXT)")
        connection.execute("INSERT INTO faces VALUES (7, 'ada')")
        connection.commit()
    return found


class Application:
    """Mounts what a framework would, and asks it as a server does."""

    def mount(self, _path: str, mounted: Any) -> None:
        """Ask the mounted application whether it is ready."""
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/readyz", "headers": [], "query_string": b"", "root_path": ""}
        asyncio.run(mounted(scope, receive, send))
        assert [one.get("status") for one in sent][:1] == [200], sent


@pytest.mark.parametrize("text", list(named("program")))
def test_a_program_of_a_page_runs(text, made, monkeypatch):
    """As it stands, with a client of the application's where the page has one."""
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("QDRANT_API_KEY", "secret")
    client = QdrantClient(path=made.qdrant["path"]) if re.search(r"\bclient\b", text) else None
    scope: dict[str, Any] = {name: getattr(models, name) for name in dir(models) if name[0] != "_"}
    scope |= {name: getattr(qmigrate, name) for name in qmigrate.__all__ if name[0] != "_"}
    scope |= {"models": models, "client": client, "vector": [1.0, 0.0, 0.0, 0.0], "asyncio": asyncio}
    scope |= {"fix": fix, "app": Application(), "changed": [7]}
    try:
        if "await " in text:
            body = textwrap.indent(text, "    ")
            text = f"async def page():\n{body}\nasyncio.run(page())"
        exec(text, scope)  # noqa: S102  what a reader would do
    finally:
        if client is not None:
            client.close()


def alembic(made: Deployment) -> AlembicProject:
    """A project of Alembic whose env.py has the two blocks of the page."""
    parts = {("offline" if "None)" in one.values[0] else "online"): one.values[0] for one in named("env")}
    env = ENV.format(**{name: textwrap.indent(text, "    ") for name, text in parts.items()})
    return AlembicProject(made, f"sqlite:///{made.root}/sql.db", env)


@pytest.mark.parametrize("text", list(named("alembic")))
def test_a_revision_of_alembic_of_a_page_is_a_gate_or_a_step(text, made):
    """With the page's own env.py: what requires waits for its revision, what adds a vector adds it."""
    project = alembic(made)
    if "def upgrade" not in text:
        assert call(made.root, "upgrade").code == 0
        body = f"def upgrade():\n    {text}".replace("whisperengine_memory_*", "image_assets").replace("384", "8")
        project.revise("a1", body)
        project.upgrade()
        assert "relationship" in json.dumps(call(made.root, "schema", "image_assets", "--json").json["data"])
        return
    assert call(made.root, "rollback", "0001").code == 0
    project.revise("a1", text)
    with pytest.raises((BridgeError, PendingError), match="0003"):
        project.upgrade()
    assert call(made.root, "upgrade").code == 0
    project.upgrade()
    with contextlib.closing(sqlite3.connect(made.root / "sql.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("a1",)]


@pytest.mark.parametrize(("where", "text"), blocks("json"), ids=[where for where, _ in blocks("json")])
def test_a_block_of_json_is_json(where, text):
    """It can be read, and has no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), where
        return dict(pairs)

    assert json.loads(text, object_pairs_hook=once)
