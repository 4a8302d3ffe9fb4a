"""Pictures as vectors without a model, for trials and tests. It opens no file outside the configured folders.

The picture is turned by its EXIF, put on white, and shrunk to 32 x 32 colours; these are multiplied by a
fixed matrix of plus and minus ones. Everything up to the last division is whole numbers that float32 holds
exactly, so the product is the same bit by bit on every machine and in every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from qmigrate.embed.options import Options
from qmigrate.embed.sources import ImageSources, with_picture
from qmigrate.embed.staged import Prepared
from qmigrate.errors import EmbedError
from qmigrate.model.schema import JsonObject
from qmigrate.ports import Embedder

#: Counts up with every change of the output.
ALGORITHM = 1
#: Width and height that a picture is shrunk to.
SIDE = 32
_VALUES = SIDE * SIDE * 3
#: Keeps plain grey pictures away from zero, where a shade more or less would turn their direction around.
#: Odd, so that no sum is zero; sums stay below _VALUES x 255 + _BIAS < 2^24, the whole numbers of float32.
_BIAS = 1531
_SEED = 20240607


def build(options: Options) -> Embedder:
    """From ``{type: pixels, size: 512, image_roots: [/data/images]}``.

    Without ``image_roots`` no paths are taken; the other keys are those of :class:`ImageSources`.
    """
    return _Pixels(options.size(lowest=8), ImageSources(options))


class _Pixels:
    """Items are what :class:`ImageSources` reads."""

    max_batch = 64
    max_weight = None
    threads = 4

    def __init__(self, size: int, sources: ImageSources) -> None:
        self._sources = sources
        self._matrix: NDArray[np.float32] | None = None
        self.size = size

    def fingerprint(self) -> JsonObject:
        """Algorithm and size; where the pictures lie changes nothing."""
        return {
            "type": "pixels",
            "library": "pillow",
            "algorithm": ALGORITHM,
            "size": self.size,
            "preprocessing": f"exif, white, {SIDE}x{SIDE}",
            "normalisation": "l2",
        }

    def prepare(self, items: Sequence[Any]) -> list[Prepared | Exception]:
        """Thumbnails, or an ``EmbedError`` in the place of a picture that can't be opened."""
        made: list[Prepared | Exception] = []
        for item in items:
            try:
                thumb = self._thumb(item)
                made.append(Prepared(thumb, 0, 1, thumb.nbytes))
            except EmbedError as error:
                made.append(error)
        return made

    def collate(self, batch: Sequence[Prepared]) -> NDArray[np.float32]:
        """Thumbnails as rows."""
        return np.stack([one.value for one in batch])

    def encode(self, kind: int, batch: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ARG002
        """Rows of length one."""
        if self._matrix is None:
            self._matrix = _projection(self.size)
        biased = np.full((len(batch), 1), _BIAS, dtype=np.float32)
        made = (np.hstack([batch, biased]) @ self._matrix).astype(np.float64)
        norms = np.sqrt(np.square(made).sum(axis=1, keepdims=True))
        return np.asarray(made / norms, dtype=np.float32)

    def embed(self, items: Sequence[Any]) -> NDArray[np.float32]:
        """Rows of length one.

        Raises:
            EmbedError: a picture is outside the folders, missing, too large or damaged.
            ConfigError: a configured folder is not there, so that every picture would fail.
        """
        return self.encode(0, np.stack([self._thumb(item) for item in items]))

    def source_of(self, item: Any) -> tuple[Path | BytesIO, str]:
        """See :class:`~qmigrate.embed.staged.OpensImages`."""
        return self._sources.read(item)

    def _thumb(self, item: Any) -> NDArray[np.float32]:
        return with_picture(*self._sources.read(item), _decoded)


def _decoded(opened: Image.Image) -> NDArray[np.float32]:
    """The colours of a picture as whole numbers from -255 to 255."""
    # JPEG decodes straight to a size of this kind, several times faster.
    opened.draft("RGB", (SIDE * 4, SIDE * 4))
    turned = ImageOps.exif_transpose(opened)
    flat = _on_white(turned).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(flat, dtype=np.float32).reshape(-1) * 2 - 255


def _on_white(image: Image.Image) -> Image.Image:
    """RGB without transparency: what lies under transparent pixels is arbitrary."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = image.convert("RGBA")
    ground = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(ground, layered).convert("RGB")


def _projection(size: int) -> NDArray[np.float32]:
    """Plus and minus ones from the raw bits of PCG64, the one stream that NumPy promises not to change."""
    count = (_VALUES + 1) * size
    raw = np.random.PCG64(_SEED).random_raw(-(-count // 64)).astype("<u8")
    bits = np.unpackbits(raw.view(np.uint8), bitorder="little")[:count]
    return (bits.astype(np.float32) * 2 - 1).reshape(_VALUES + 1, size)
