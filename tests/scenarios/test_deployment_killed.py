"""The next model of the reference deployment, killed in the middle: by pixels, and by a real CLIP model where there is one."""

from __future__ import annotations

import importlib.util
import json
import signal

import numpy as np
import pytest
from qdrant_client.models import PointStruct
from tests.faults import forked
from tests.scenarios import image_assets_data as images
from tests.scenarios.test_deployments import client_of, remove_collections, run_alembic

from qmigrate.commands import status, upgrade
from qmigrate.ledger import Ledger

POINTS, LIMIT = 120, 80
#: A CLIP model as small as one can be with vectors of this deployment's size; its weights are made from a seed.
TINY = {
    "embed_dim": images.VECTORS["l14"],
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}
MODELS = [
    {"type": "pixels", "size": images.VECTORS["l14"]},
    pytest.param(
        {"type": "open_clip", "model": "tiny", "random_weights": 7, "device": "cpu", "batch_size": 16},
        marks=pytest.mark.skipif(
            importlib.util.find_spec("open_clip") is None, reason="open_clip is not installed; scripts/test --embed installs it"
        ),
    ),
]


@pytest.mark.server
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["type"])
def test_the_next_model_is_killed_and_opens_no_picture_twice(model, tmp_path, qdrant_server):
    """Revision 0003, SIGKILL, and again: what Qdrant had acknowledged is not embedded again, and every point is proven."""
    config = {**model, "image_roots": [str(tmp_path / "images")]}
    service = images.copy_service(
        tmp_path / "service",
        {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 1},
        {"b32": {"type": "pixels", "size": 512}, "l14": config},
        rebuild={"sample": 0},
    )
    if model["type"] == "open_clip":
        (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    assets = images.make_assets(tmp_path / "images", POINTS)
    try:
        upgrade.upgrade(service, "0001")
        client = client_of(service)
        rows = np.random.default_rng(1).normal(size=(POINTS, images.VECTORS["b32"])).tolist()
        points = [PointStruct(id=one.id, payload=one.payload, vector={"b32": row}) for one, row in zip(assets, rows, strict=True)]
        client.upsert(images.COLLECTION, points)
        sql = run_alembic(service.folder, "-x", "qdrant=run", "upgrade", "s003")
        assert sql.returncode == 0, sql.stderr
        named = [note for note in upgrade.plan(service, "0003").notes if "l14 with random weights (seed 7)" in note]
        assert len(named) == (model["type"] == "open_clip")
        (tmp_path / "limit").write_text(str(LIMIT))
        first, there = killed(service, tmp_path, client), written(client)
        assert there
        again = forked.run("tests.faults.child_deployment", str(service.folder / "qmigrate.yaml"), str(tmp_path), "l14")
        assert again.returncode == 0, again.stderr
        second = (tmp_path / "seen.log").read_text().splitlines()
        assert (len(first), len(second)) == (len(set(first)), len(set(second)))
        assert not there & set(second)
        assert set(second) < {one.path for one in assets}
        proof = status.history(service).rows[0].report["verification"]
        assert (proof["points"], proof["proven"], proof.get("without_vector", 0)) == (POINTS, POINTS, 0)
        client.close()
        ledger = Ledger.open(service.ledger.url)
        recorded = ledger.collections()[images.COLLECTION].embedders["l14"]
        ledger.close()
        assert (recorded["type"], recorded.get("random_weights")) == (model["type"], model.get("random_weights"))
    finally:
        remove_collections(service)


def killed(service, folder, client) -> list[str]:
    """Run until the child kills itself; the pictures that it has opened."""
    ended = forked.run("tests.faults.child_deployment", str(service.folder / "qmigrate.yaml"), str(folder), "l14")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    seen = (folder / "seen.log").read_text().splitlines()
    (folder / "seen.log").unlink()
    return seen


def written(client) -> set[str]:
    """Pictures whose point has its vector in the shadow."""
    shadow = max(one.name for one in client.get_collections().collections if one.name.startswith(f"{images.COLLECTION}__g"))
    points, _ = client.scroll(shadow, limit=2 * POINTS, with_vectors=["l14"])
    return {one.payload["path"] for one in points if "l14" in one.vector}
