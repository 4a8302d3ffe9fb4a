"""The examples do what their READMEs say: on local mode with SQLite, on a server with PostgreSQL."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from tests.conftest_postgres import fresh_database
from tests.scenarios.cli import environment

ROOT = Path(__file__).resolve().parents[2]
#: Example -> (prefix of its collections, lines that its tour must print).
TOURS = {
    "whisperengine": (
        "whisperengine_memory_",
        (
            "whisperengine_memory_marcus 0001 plain 40 fits",
            "→ qmigrate upgrade 0002",
            "Done: 3 collections at 0002",
            "semantic: ada talked with elena about chess and old books",
            "relationship: ada talked with elena about chess and old books",
            "whisperengine_memory_nova 0002",
            "2 revisions and 4 of Alembic: no findings",
        ),
    ),
    "heimdex": (
        "embeddings",
        (
            "Waiting: 0003 for the SQL schema",
            "refused: embeddings is at 0002, and this application needs 0003 (built, and held)",
            '"status": "pending"',
            "→ qmigrate cutover embeddings",
            "ready: True",
            "acme, production: the invoice of march was paid twice",
            "globex, production: the recipe asks for two cups of flour",
            "acme, production: a late invoice came in by fax",
            "points: 11",
            "1 ignored with a reason",
        ),
    ),
}


def tour(name: str, folder: Path, **variables: str) -> str:
    """Run a copy of an example as in its README; what it printed."""
    copy = folder / name
    shutil.copytree(ROOT / "examples" / name, copy, ignore=shutil.ignore_patterns(".qmigrate", "__pycache__"))
    if "QMIGRATE_QDRANT_URL" in variables:
        config = yaml.safe_load((copy / "qmigrate.yaml").read_text())
        config["qdrant"]["grpc_port"] = int(variables.pop("GRPC_PORT"))
        (copy / "qmigrate.yaml").write_text(yaml.safe_dump(config))
    env = environment({"PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1", **variables})
    done = subprocess.run(
        [sys.executable, "demo.py"], cwd=copy, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for line in TOURS[name][1]:
        assert line in said, (line, done.stdout + done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", sorted(TOURS))
def test_an_example_needs_no_server(name, tmp_path):
    """Local mode and SQLite, in a folder of its own; nothing is left in the source tree."""
    said = tour(name, tmp_path)
    assert "local Qdrant" in said
    assert (tmp_path / name / ".qmigrate" / "app.db").is_file()
    assert not (ROOT / "examples" / name / ".qmigrate").exists()


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.postgres
@pytest.mark.parametrize("name", sorted(TOURS))
def test_an_example_on_a_server_with_postgres(name, tmp_path, qdrant_server, postgres_url):
    """The same against a Qdrant server, with Alembic and the ledger in one PostgreSQL database."""
    with httpx.Client(base_url=qdrant_server.url) as http, fresh_database(postgres_url) as database:
        try:
            said = tour(
                name,
                tmp_path,
                QMIGRATE_QDRANT_URL=qdrant_server.url,
                GRPC_PORT=str(qdrant_server.grpc_port),
                QMIGRATE_LEDGER_URL=database,
                DATABASE_URL=database,
            )
            assert "ledger postgresql" in said
            info = {one: http.get(f"/collections/{one}").json()["result"] for one in names(http, TOURS[name][0])}
            assert len(info) == (4 if name == "whisperengine" else 1)
            for one in info.values():
                vectors = one["config"]["params"]["vectors"]
                assert ("relationship" in vectors) is (name == "whisperengine")
                assert one["points_count"] == (40 if name == "whisperengine" else 11)
        finally:
            clean(http, TOURS[name][0])


def names(http: httpx.Client, prefix: str) -> list[str]:
    """Aliases that applications use."""
    found = [one["alias_name"] for one in http.get("/aliases").json()["result"]["aliases"]]
    return [one for one in found if one.startswith(prefix) and "__" not in one]


def clean(http: httpx.Client, prefix: str) -> None:
    """Remove everything of an example from the shared server."""
    for one in http.get("/aliases").json()["result"]["aliases"]:
        if one["alias_name"].startswith(prefix):
            http.post("/collections/aliases", json={"actions": [{"delete_alias": {"alias_name": one["alias_name"]}}]})
    for one in http.get("/collections").json()["result"]["collections"]:
        if one["name"].startswith(prefix):
            http.delete(f"/collections/{one['name']}")
