"""Opening pictures safely: known formats, bounded size, complete files. It neither shrinks nor turns them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from qmigrate.errors import EmbedError

Result = TypeVar("Result")

#: A picture with more pixels is refused before it is decoded: its memory can't be afforded.
MAX_PIXELS = 80_000_000
#: Formats that Pillow decodes itself, and only after it has reported the size. Others start programs (EPS), are rarely
#: exercised parsers, or decode while they are opened (ICO, ICNS): what their header contains would come too late.
#: AVIF is there where Pillow was built with it; JPEG takes MPO along.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
#: Modes of more than 8 bits per channel: a conversion to RGB cuts off what is above 255, which leaves mostly white.
DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def with_picture(source: Path | io.BytesIO, label: str, use: Callable[[Image.Image], Result]) -> Result:
    """What `use` makes of a picture that is open, not yet decoded, and within bounds.

    Args:
        label: names the picture in messages.
        use: decodes it; whatever it raises is about this picture.

    Raises:
        EmbedError: it is of no known format, too large, or damaged; a file that ends early is never half a picture.
    """
    try:
        with Image.open(source, formats=_formats()) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise EmbedError(f"{label} has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
            return use(opened)
    except EmbedError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(_formats())
        raise EmbedError(f"{label} can't be decoded: it is damaged, or in none of the formats {known}") from error
    except Exception as error:  # a damaged file makes Pillow's plugins raise almost anything
        raise EmbedError(f"{label} can't be decoded: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of ours that this Pillow has."""
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def as_a_model_sees_it(image: Image.Image, label: str, *, exif_transpose: bool = False) -> Image.Image:
    """The decoded picture, as one passes it to a model's own preprocessing.

    That means: of an animation its first frame, palette and print colours left to the model's conversion to RGB, and
    not turned, since no model library turns photographs by their EXIF.

    Args:
        exif_transpose: turn it all the same, for applications that do so before they embed.

    Raises:
        EmbedError: it has more than 8 bits per channel, which that conversion would spoil without a word.
    """
    if image.mode in DEEP:
        raise EmbedError(
            f"{label} has more than 8 bits per channel (mode {image.mode}): the model's conversion to RGB would cut "
            "its values off",
            hint="convert it to 8 bits first",
        )
    image.load()
    return ImageOps.exif_transpose(image) if exif_transpose else image
