"""The example pydocs, and the reference deployment at the project's root, run as their users would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from qdrant_client import QdrantClient
from tests.scenarios import image_assets_data as images
from tests.scenarios import pydocs_data as pydocs

from qmigrate import embed
from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.settings.load import Settings

ROOT = Path(__file__).resolve().parents[2]


def qmigrate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a folder of its own."""
    return run_module(folder, "qmigrate", *arguments)


def run_alembic(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Alembic's command line in a folder that has its settings and revisions."""
    return run_module(folder, "qmigrate.alembic", *arguments)


def run_module(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module as a program; only the folder defines where everything is."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("QMIGRATE_")}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_pydocs_is_migrated_searched_and_taken_back(tmp_path):
    """The tour of scripts/demo: plain words find the right function before, between and after."""
    folder = pydocs.copy_example(tmp_path)
    assert qmigrate(folder, "upgrade", "0001").returncode == 0
    loaded = pydocs.run_program(folder, "load.py")
    assert loaded.returncode == 0, loaded.stderr
    search(folder)
    planned = qmigrate(folder, "plan")
    assert "copy" in planned.stdout
    assert "0003" in planned.stdout
    done = qmigrate(folder, "upgrade")
    assert done.returncode == 0, done.stderr
    search(folder, "--vector", "words_large")
    search(folder, "--vector", "words")
    assert qmigrate(folder, "rollback", "0001").returncode == 0
    search(folder)
    assert qmigrate(folder, "upgrade").returncode == 0
    shown = qmigrate(folder, "status").stdout
    assert "pydocs" in shown
    assert "0003" in shown
    assert "g0003" in shown


def search(folder: Path, *options: str) -> None:
    """Every expected name is among the first three."""
    for words, names in list(pydocs.EXPECTED.items())[:3]:
        found = pydocs.run_program(folder, "search.py", *options, words)
        assert found.returncode == 0, found.stderr
        assert names & set(pydocs.found_names(found.stdout)[:3]), f"{words}: {found.stdout}"


@pytest.fixture
def service(qdrant_config, tmp_path):
    """The root's deployment with its settings pointed at a folder of pictures and at this test's stores."""
    settings = images.copy_service(tmp_path / "service", qdrant_config, images.embedder_settings(tmp_path / "images"))
    yield settings
    if "url" in qdrant_config:
        remove_collections(settings)


def remove_collections(settings: Settings) -> None:
    """What the service leaves on a server that others use, too."""
    client = client_of(settings)
    for name in [one.name for one in client.get_collections().collections]:
        if name.startswith(images.COLLECTION):
            client.delete_collection(name)
    client.close()


@pytest.mark.timeout(400)
def test_a_fresh_checkout_says_what_waits_for_sql_and_goes_up_at_once(tmp_path):
    """The root as it is, embedded: a plan writes nothing, an upgrade stops at the gate, Alembic alone does everything."""
    for name in ("qdrant_migrations", "alembic"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("qmigrate.yaml", "alembic.ini"):
        shutil.copy(ROOT / name, tmp_path)
    planned = qmigrate(tmp_path, "plan")
    assert planned.returncode == 0, planned.stderr
    assert "0003 waits for the SQL revision s003" in planned.stdout
    assert not (tmp_path / ".qmigrate").exists()
    reached = qmigrate(tmp_path, "upgrade")
    assert (reached.returncode, "alembic upgrade s003" in reached.stdout) == (3, True), reached.stderr
    done = run_alembic(tmp_path, "-x", "qdrant=run", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert qmigrate(tmp_path, "status", "--exit-code").returncode == 0
    # Every SQL revision goes back; applied again, no gate has to wait, since the vectors stayed.
    for way in (("downgrade", "base"), ("upgrade", "head")):
        moved = run_alembic(tmp_path, *way)
        assert moved.returncode == 0, moved.stderr
    clean = run_alembic(tmp_path, "check")
    assert clean.returncode == 0, clean.stdout + clean.stderr


def client_of(settings: Settings) -> QdrantClient:
    """The service's own client: it is independent of qmigrate."""
    if settings.qdrant.path:
        return QdrantClient(path=str(settings.qdrant.path))
    return QdrantClient(url=settings.qdrant.url, grpc_port=settings.qdrant.grpc_port, timeout=30, check_compatibility=False)


@pytest.mark.timeout(400)
def test_image_search_gets_its_next_model(service, tmp_path):
    """A few hundred pictures: created, indexed, given the next model's vector, and found by either."""
    upgrade.upgrade(service, "0001")
    assets = images.make_assets(tmp_path / "images", 240)
    small = embed.load("b32", service.embedders["b32"])
    client = client_of(service)
    client.upsert(images.COLLECTION, images.points(assets, {"b32": small}))
    client.close()
    # The tables of the service, whose gate takes its collection to 0002; 0003 needs the column that s003 adds.
    sql = run_alembic(service.folder, "-x", "qdrant=run", "upgrade", "s003")
    assert sql.returncode == 0, sql.stderr
    result = upgrade.upgrade(service, "0003")
    report = next(facts["report"] for facts in result.outcomes[-1].report.values() if "report" in facts)
    assert (report["points"], report["proven"], report["embedded"]) == (240, 240, 240)
    assert report["sampled"] > 0
    client = client_of(service)
    large = embed.load("l14", service.embedders["l14"])
    wanted = assets[17]
    for name, embedder in (("b32", small), ("l14", large)):
        (vector,) = embedder.embed([wanted.path])
        best = client.query_points(images.COLLECTION, query=vector.tolist(), using=name, limit=1, with_payload=True)
        assert best.points[0].id == wanted.id
        assert best.points[0].payload == wanted.payload
    if not service.qdrant.path:
        found = client.get_collection(images.COLLECTION).payload_schema
        assert {name: one.data_type.value for name, one in found.items()} == images.INDEXES
    client.close()
    back.rollback(service, "0001")
    row = next(row for row in status.status(service).collections if row.name == images.COLLECTION)
    assert (row.revision, row.points) == ("0001", 240)
