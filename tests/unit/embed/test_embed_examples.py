"""The example's programs and the data of the image service, on local mode. It runs no migration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, VectorParams
from tests.scenarios import image_assets_data, pydocs_data

from qmigrate.embed import load
from qmigrate.embed.stream import Failure, embed_all


def _collection(path: Path, vectors: dict[str, int]) -> None:
    client = QdrantClient(path=str(path))
    sizes = {name: VectorParams(size=size, distance=Distance.COSINE) for name, size in vectors.items()}
    client.create_collection(pydocs_data.COLLECTION, vectors_config=sizes)
    client.close()


@pytest.fixture(scope="module", params=[{"words": 256}, {"words": 256, "words_large": 1024}])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example whose collection has the vectors of revision 0001, or of 0003, and is filled."""
    folder = pydocs_data.copy_example(tmp_path_factory.mktemp("example"))
    _collection(folder / ".qmigrate" / "qdrant", request.param)
    done = pydocs_data.run_program(folder, "load.py")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_example_finds_functions_by_plain_words(example: Path) -> None:
    """Before and after the migration, a search has a right answer among its first three."""
    for query, names in list(pydocs_data.EXPECTED.items())[:3]:
        done = pydocs_data.run_program(example, "search.py", query)
        assert done.returncode == 0, done.stderr
        assert names & set(pydocs_data.found_names(done.stdout)[:3]), done.stdout


def test_loading_again_adds_nothing(example: Path) -> None:
    """Ids come from names: the second run replaces the points of the first."""
    done = pydocs_data.run_program(example, "load.py")
    assert done.returncode == 0, done.stderr
    client = QdrantClient(path=str(example / ".qmigrate" / "qdrant"))
    total = client.count(pydocs_data.COLLECTION).count
    client.close()
    assert pydocs_data.FEWEST < total < 2000
    assert f"{total:,} documents written" in done.stdout


def test_the_example_says_what_is_missing(tmp_path: Path) -> None:
    """Without the collection, and without a vector, the programs name the way on."""
    folder = pydocs_data.copy_example(tmp_path)
    done = pydocs_data.run_program(folder, "load.py")
    assert done.returncode == 1
    assert "qmigrate upgrade 0001" in done.stderr
    _collection(folder / ".qmigrate" / "qdrant", {"words": 256})
    done = pydocs_data.run_program(folder, "search.py", "anything", "--vector", "words_large")
    assert done.returncode == 2
    assert "it has: words" in done.stderr


def test_image_assets_are_the_same_every_time(tmp_path: Path) -> None:
    """Rows and files of one seed are equal, whatever the folder; another seed gives other pictures."""
    made = {name: image_assets_data.make_assets(tmp_path / name, 8) for name in ("one", "two")}
    made["other"] = image_assets_data.make_assets(tmp_path / "other", 8, seed=8)
    files = {name: [Path(asset.path).read_bytes() for asset in assets] for name, assets in made.items()}
    assert files["one"] == files["two"]
    assert files["one"] != files["other"]
    assert {Path(asset.path).suffix for asset in made["one"]} == {".jpg", ".png"}
    assert [asset.category_id is None for asset in made["one"]] == [False] * 6 + [True, False]


def test_image_assets_have_the_payload_of_the_service(tmp_path: Path) -> None:
    """The point's id is the integer, the payload's asset_id its text; absent fields are left out."""
    assets = image_assets_data.make_assets(tmp_path, 7)
    embedders = {
        name: load(name, config) for name, config in image_assets_data.embedder_settings(tmp_path).items()
    }
    points = image_assets_data.points(assets, embedders)
    assert [point.id for point in points] == [1, 2, 3, 4, 5, 6, 7]
    assert set(points[0].payload or {}) == set(image_assets_data.INDEXES)
    assert set(points[6].payload or {}) == set(image_assets_data.INDEXES) - {"category_id"}
    assert (points[0].payload or {})["asset_id"] == "1"
    vectors = points[0].vector
    assert isinstance(vectors, dict)
    sizes = {name: len(np.asarray(vector)) for name, vector in vectors.items()}
    assert sizes == image_assets_data.VECTORS


def test_spoiled_image_assets_fail_alone(tmp_path: Path) -> None:
    """A truncated, a missing and an outside picture are three failures; the others have their vectors."""
    root, outside = tmp_path / "images", tmp_path / "outside"
    outside.mkdir()
    assets = image_assets_data.make_assets(root, 8)
    image_assets_data.truncate(assets[1])
    image_assets_data.remove(assets[3])
    image_assets_data.link_outside(assets[5], outside)
    embedder = load("l14", image_assets_data.embedder_settings(root)["l14"])
    made = embed_all(embedder, [asset.path for asset in assets], size=768)
    failures = {result.index: result.message for result in made if isinstance(result, Failure)}
    assert sorted(failures) == [1, 3, 5]
    assert "can't be decoded" in failures[1]
    assert "is not there" in failures[3]
    assert "outside the image_roots" in failures[5]


def test_settings_of_the_reference_deployment_load() -> None:
    """Every embedder of the project's own qmigrate.yaml loads, with the size its revision declares."""
    settings = yaml.safe_load((pydocs_data.ROOT / "qmigrate.yaml").read_text(encoding="utf-8"))
    sizes = {name: load(name, config).size for name, config in settings["embedders"].items()}
    assert sizes == image_assets_data.VECTORS
