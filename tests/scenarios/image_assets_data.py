"""Makes the data of the image-search service: pictures on disk and their points. It runs no migration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw
from qdrant_client.models import PointStruct

from qmigrate.ports import Embedder
from qmigrate.settings.load import Settings

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "image_assets"
#: Vector -> size, in the order in which the revisions add them.
VECTORS = {"b32": 512, "l14": 768}
#: Payload field -> type of its index after revision 0002.
INDEXES = {"asset_id": "keyword", "path": "keyword", "created_at": "datetime", "category_id": "integer"}
FIRST_DAY = datetime(2024, 1, 1, 12, 0, tzinfo=UTC)
CATEGORIES = 5


@dataclass(frozen=True, slots=True)
class Asset:
    """A row of the application's table of images.

    Attributes:
        id: the row's id and the point's.
        path: of the file, absolute.
        created_at: with its time zone.
        category_id: None for every seventh asset: its training session has no category.
    """

    id: int
    path: str
    created_at: datetime
    category_id: int | None

    @property
    def payload(self) -> dict[str, Any]:
        """The payload as the service writes it: the id as text, optional fields left out."""
        payload: dict[str, Any] = {"asset_id": str(self.id), "path": self.path}
        payload["created_at"] = self.created_at.isoformat()
        if self.category_id is not None:
            payload["category_id"] = self.category_id
        return payload


def embedder_settings(root: Path) -> dict[str, dict[str, Any]]:
    """The ``embedders`` of qmigrate.yaml, for pictures below `root`."""
    return {
        name: {"type": "pixels", "size": size, "image_roots": [str(root)]} for name, size in VECTORS.items()
    }


def copy_service(folder: Path, qdrant: dict[str, Any], embedders: dict[str, Any], **more: Any) -> Settings:
    """The root's deployment in a folder of its own, with its settings pointed at pictures and stores of a test.

    Args:
        more: further sections of its settings.
    """
    folder.mkdir()
    for name in ("qdrant_migrations", "alembic"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", folder)
    config = yaml.safe_load((ROOT / "qmigrate.yaml").read_text())
    config |= {"qdrant": qdrant, "ledger": {"url": f"sqlite:///{folder}/ledger.db"}, "embedders": embedders, **more}
    (folder / "qmigrate.yaml").write_text(yaml.safe_dump(config))
    return Settings.load(config=folder / "qmigrate.yaml")


def make_assets(root: Path, count: int, *, first_id: int = 1, seed: int = 7) -> list[Asset]:
    """Write `count` small pictures below `root`, a folder per year and month, and return their rows.

    JPEG and PNG take turns. The same arguments give the same pictures.
    """
    return [_asset(root, identifier, seed) for identifier in range(first_id, first_id + count)]


def _asset(root: Path, identifier: int, seed: int) -> Asset:
    created = FIRST_DAY + timedelta(days=3 * identifier)
    suffix = "jpg" if identifier % 2 else "png"
    path = root / f"{created:%Y}" / f"{created:%m}" / f"asset_{identifier:06}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    _picture(np.random.Generator(np.random.PCG64([seed, identifier]))).save(path)
    category = None if identifier % 7 == 0 else identifier % CATEGORIES + 1
    return Asset(identifier, str(path), created, category)


def _picture(random: np.random.Generator) -> Image.Image:
    """A colour gradient with a few shapes, 48 to 96 pixels wide and high."""
    width, height = (int(side) for side in random.integers(48, 97, size=2))
    left, right = random.integers(0, 256, size=(2, 3))
    share = np.linspace(0.0, 1.0, width)[None, :, None]
    colours = (left * (1 - share) + right * share).astype(np.uint8)
    image = Image.fromarray(np.repeat(colours, height, axis=0))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
        wide, high = (int(side) for side in random.integers(8, 40, size=2))
        fill = tuple(int(part) for part in random.integers(0, 256, size=3))
        shape = draw.ellipse if random.integers(0, 2) else draw.rectangle
        shape((x, y, x + wide, y + high), fill=fill)
    return image


def points(assets: Sequence[Asset], embedders: dict[str, Embedder]) -> list[PointStruct]:
    """The points of `assets` as the service upserts them, with a vector for each of `embedders`."""
    made = {
        vector: embedder.embed([asset.path for asset in assets]) for vector, embedder in embedders.items()
    }
    return [
        PointStruct(
            id=asset.id,
            payload=asset.payload,
            vector={vector: rows[place].tolist() for vector, rows in made.items()},
        )
        for place, asset in enumerate(assets)
    ]


def truncate(asset: Asset) -> None:
    """Cut the asset's file in the middle: its header can be read, its picture can't."""
    data = Path(asset.path).read_bytes()
    Path(asset.path).write_bytes(data[: len(data) // 2])


def remove(asset: Asset) -> None:
    """Delete the asset's file; its row and point stay."""
    os.unlink(asset.path)


def link_outside(asset: Asset, outside: Path) -> None:
    """Move the asset's file to the folder `outside`, and leave a link to it in its place."""
    moved = outside / Path(asset.path).name
    os.replace(asset.path, moved)
    os.symlink(moved, asset.path)
