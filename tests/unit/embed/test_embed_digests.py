"""Digests of inputs: of an image's file however it is named, of a text; and what a recorded checksum may look like."""

from __future__ import annotations

import base64
import hashlib

import pytest
from PIL import Image

from qmigrate.embed import load
from qmigrate.embed.inputs import ImageName
from qmigrate.engine.points.checksums import digest_of, recorded_digest
from qmigrate.errors import EmbedError, PlanError

SUM = hashlib.sha256(b"x")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (SUM.hexdigest(), SUM.digest()),
        (f" SHA256:{SUM.hexdigest().upper()} ", SUM.digest()),
        (SUM.digest(), SUM.digest()),
        (memoryview(SUM.digest()), SUM.digest()),
        (SUM.hexdigest()[:40], None),
        ("not a digest", None),
        (7, None),
        (None, None),
    ],
)
def test_a_recorded_checksum_is_digits_or_bytes(value, found):
    """Hexadecimal digits in any case, with the algorithm before them or without, and bytes; nothing else."""
    assert recorded_digest(value, "sha256") == found


def test_the_bytes_of_an_image_are_what_counts(tmp_path):
    """A path below the roots, a data URL and the bytes have one digest; a text has its own; outside is a failure."""
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (4, 4), "red").save(path)
    data = path.read_bytes()
    embedder = load("eyes", {"type": "pixels", "size": 16, "image_roots": [str(path.parent)]})
    url = ImageName(f"data:image/png;base64,{base64.b64encode(data).decode()}")
    wanted = hashlib.sha256(data).digest()
    assert [digest_of(item, "sha256", embedder, "eyes") for item in (ImageName("a.png"), url, data)] == [wanted] * 3
    assert digest_of("a.png", "md5", embedder, "eyes") == hashlib.md5(b"a.png", usedforsecurity=False).digest()
    with pytest.raises(EmbedError, match="outside the image_roots"):
        digest_of(ImageName("../b.png"), "sha256", embedder, "eyes")
    with pytest.raises(EmbedError, match="is not there"):
        digest_of(ImageName("b.png"), "sha256", embedder, "eyes")


def test_an_embedder_that_opens_images_itself_says_so():
    """What a function makes of a path is unknown: a payload field has to be compared instead."""
    embedder = load("mine", {"type": "callable", "function": "tests.harness:flat", "size": 16})
    with pytest.raises(PlanError, match="opens images by itself"):
        digest_of(ImageName("a.png"), "sha256", embedder, "mine")
