"""The built-in picture embedder: what it opens, what it refuses, and what its vectors show."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from qmigrate.embed import load, sources
from qmigrate.errors import ConfigError, EmbedError
from qmigrate.ports import Embedder


def _embedder(*roots: Path, size: int = 64) -> Embedder:
    return load("l14", {"type": "pixels", "size": size, "image_roots": [str(root) for root in roots]})


def _noise(seed: int = 1, side: int = 80) -> Image.Image:
    values = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((side, side), Image.Resampling.NEAREST)


def _bytes(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_a_path_and_its_bytes_have_the_same_vector(tmp_path: Path) -> None:
    """Rows are float32 of length one and don't depend on the batch, nor on how the picture came."""
    items = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for number, path in enumerate(items):
        _noise(number).save(path)
    embedder = _embedder(tmp_path)
    by_path = embedder.embed([str(path) for path in items])
    by_bytes = np.vstack([_embedder().embed([path.read_bytes()]) for path in items])
    assert by_path.dtype == np.float32
    assert by_path.shape == (2, 64)
    assert np.linalg.norm(by_path, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(by_path, by_bytes)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_colour_mode_is_read(mode: str) -> None:
    """Grey, palette, transparent, print and deep pictures all give a vector."""
    source = Image.new("I;16", (9, 9), 1200) if mode == "I;16" else _noise().convert(mode)
    made = _embedder().embed([_bytes(source, "TIFF")])
    assert np.isfinite(made).all()


def test_near_pictures_are_near() -> None:
    """A smaller JPEG of a picture is nearer to it than any other picture; a shade of grey is not an opposite."""
    embedder = _embedder(size=512)
    picture, copy = embedder.embed([_bytes(_noise(1)), _bytes(_noise(1, 60), "JPEG", quality=70)])
    others = embedder.embed([_bytes(_noise(seed)) for seed in range(2, 12)])
    assert float(picture @ copy) > 0.9
    assert float((others @ picture).max()) < 0.6
    grey, next_grey = embedder.embed([_bytes(Image.new("L", (20, 20), shade)) for shade in (127, 128)])
    assert float(grey @ next_grey) > 0.99


def test_a_picture_is_turned_as_its_exif_says() -> None:
    """A photograph that is stored on its side has the vector of the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left
    upright = _bytes(_noise())
    sideways = _bytes(_noise().transpose(Image.Transpose.ROTATE_90), exif=exif)
    one, other = _embedder().embed([upright, sideways])
    assert float(one @ other) == pytest.approx(1.0, abs=1e-6)


def test_colour_under_transparency_does_not_count() -> None:
    """Two pictures that look alike have one vector, whatever their invisible pixels hold."""
    hidden = [Image.new("RGBA", (16, 16), (*colour, 0)) for colour in ((255, 0, 0), (0, 0, 255))]
    one, other = _embedder().embed([_bytes(image) for image in hidden])
    assert np.array_equal(one, other)


def test_relative_paths_are_looked_up_below_the_roots(tmp_path: Path) -> None:
    """The first root that has the file gives it."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (second / "sub").mkdir(parents=True)
    _noise().save(second / "sub" / "a.png")
    assert _embedder(first, second).embed(["sub/a.png"]).shape == (1, 64)


def test_files_outside_the_roots_are_refused(tmp_path: Path) -> None:
    """Absolute paths, dots and links that lead out are refused; a link that stays inside is followed."""
    root, outside = tmp_path / "images", tmp_path / "images_private"
    root.mkdir()
    outside.mkdir()
    _noise().save(outside / "secret.png")
    _noise().save(root / "own.png")
    os.symlink(outside / "secret.png", root / "link.png")
    os.symlink(outside, root / "folder")
    os.symlink(root / "own.png", root / "inside.png")
    embedder = _embedder(root)
    leading_out = ["../images_private/secret.png", "link.png", "folder/secret.png", str(root / "link.png")]
    for item in [str(outside / "secret.png"), *leading_out]:
        with pytest.raises(EmbedError, match="outside the image_roots"):
            embedder.embed([item])
    assert embedder.embed(["inside.png"]).shape == (1, 64)


@pytest.mark.parametrize("item", ["none.png", "", ".", "a\0b.png", "x" * 5000, "loop.png"])
def test_what_is_no_file_is_named(tmp_path: Path, item: str) -> None:
    """A missing file, a folder and an impossible name are failures of that item alone."""
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    with pytest.raises(EmbedError) as caught:
        _embedder(tmp_path).embed([item])
    assert repr(item) in caught.value.message


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
def test_damaged_pictures_are_refused(form: str) -> None:
    """A file that ends in its middle, an empty one and a text are errors, never half a picture."""
    whole = _bytes(_noise(side=200), form)
    for data in (whole[: len(whole) // 2], b"", b"no picture"):
        with pytest.raises(EmbedError, match="can't be decoded"):
            _embedder().embed([data])


def test_a_huge_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header alone decides, so that a small file can't ask for gigabytes."""
    monkeypatch.setattr(sources, "MAX_PIXELS", 99)
    with pytest.raises(EmbedError, match="10 x 10 pixels"):
        _embedder().embed([_bytes(Image.new("L", (10, 10)))])


@pytest.mark.parametrize("form", [*sources.FORMATS, "MPO"])
def test_the_size_is_known_before_anything_is_decoded(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every format that is taken: opening decodes nothing, so a small file can't ask for gigabytes."""
    if form not in Image.SAVE and form not in Image.SAVE_ALL:
        pytest.skip(f"this Pillow has no {form}")
    data = _bytes(Image.new("RGB", (10, 10)), form)
    monkeypatch.setattr(sources, "MAX_PIXELS", 99)

    def decoded(*_args: object, **_more: object) -> None:
        pytest.fail("decoded before the size was checked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(EmbedError, match="10 x 10 pixels"):
        _embedder().embed([data])


def test_an_icon_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow decodes an icon while it opens it: a picture of any size may lie inside, whatever the header has."""
    inner = _bytes(Image.new("1", (4000, 4000)), "PNG")
    bomb = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    loads: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loads.append(image))
    with pytest.raises(EmbedError, match="in none of the formats JPEG, PNG"):
        _embedder().embed([bomb])
    assert loads == []


def test_a_decompression_bomb_is_refused() -> None:
    """What Pillow itself calls a bomb is an error of the item."""
    with pytest.raises(EmbedError, match=r"DecompressionBomb|pixels; at most"):
        _embedder().embed([_bytes(Image.new("1", (20_000, 20_000)))])


@pytest.mark.parametrize("roots", [[], ["missing"]])
def test_missing_folders_stop_the_run(tmp_path: Path, roots: list[str]) -> None:
    """A folder that isn't mounted is the fault of the settings: no item is blamed for it."""
    embedder = _embedder(*(tmp_path / root for root in roots))
    with pytest.raises(ConfigError, match="l14"):
        embedder.embed(["a.png"])


def test_other_items_are_refused() -> None:
    """Numbers and objects are not pictures."""
    with pytest.raises(EmbedError, match="not int"):
        _embedder().embed([7])
