"""Digests of what is embedded: an image's file or a text, and what a recorded one may look like. It embeds nothing."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.staged import OpensImages
from qmigrate.errors import EmbedError, PlanError
from qmigrate.ports import Embedder


def digest_of(item: Any, algorithm: str, embedder: Embedder, name: str) -> bytes:
    """The digest of an input: of the bytes of an image's file, however it is named, or of a text in UTF-8.

    Args:
        item: as an embedder gets it.
        algorithm: as :mod:`hashlib` calls it.
        embedder: whose settings decide where images may be read.
        name: of that embedder, for messages.

    Raises:
        EmbedError: the image can't be read.
        ConfigError: no image could ever be read.
        PlanError: the embedder opens images by itself, so only it knows what their names mean.
    """
    if isinstance(item, str) and not isinstance(item, ImageName):
        return hashlib.new(algorithm, item.encode(), usedforsecurity=False).digest()
    if isinstance(item, bytes):
        return hashlib.new(algorithm, item, usedforsecurity=False).digest()
    if not isinstance(embedder, OpensImages):
        raise PlanError(
            f"embedder {name!r} opens images by itself, so their files can't be compared with a checksum",
            hint='compare a payload field instead: Checksum(…, field="sha256")',
        )
    source, label = embedder.source_of(item)
    try:
        if isinstance(source, BytesIO):
            return hashlib.new(algorithm, source.getbuffer(), usedforsecurity=False).digest()
        with source.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).digest()
    except OSError as error:
        raise EmbedError(f"{label} can't be read: {error.strerror or error}") from error


def recorded_digest(value: Any, algorithm: str) -> bytes | None:
    """A checksum as a column or a payload holds it; None for what is not a digest of that algorithm.

    Args:
        value: its bytes, or hexadecimal digits in any case; ``sha256:`` may precede them.
    """
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    found = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None
    if isinstance(value, str):
        digits = value.strip().lower()
        digits = digits.removeprefix(f"{algorithm.lower()}:").strip()
        try:
            found = bytes.fromhex(digits)
        except ValueError:
            return None
    return found if found is not None and len(found) == size else None
