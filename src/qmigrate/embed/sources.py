"""Where the bytes of an image come from: a path below the roots, bytes, base64, or an allowed URL. It decodes none."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import threading
from pathlib import Path
from typing import Any

from qmigrate.embed.fetch import MOST_BYTES, SECONDS, Bounds, Fetcher
from qmigrate.embed.options import Options
from qmigrate.errors import ConfigError, EmbedError, without_secrets


class ImageSources:
    """Opens what a payload names as an image. Threads may share it.

    Args:
        options: ``image_roots`` (folders that paths are confined to, links resolved), ``image_base64`` (texts are
            base64, no paths), ``image_hosts`` and ``image_networks`` (what URLs may name; private networks only
            where they are listed), ``image_timeout``, ``image_max_bytes``.

    Raises:
        EmbedError: one of them is malformed.
    """

    def __init__(self, options: Options) -> None:
        self._name = options.name
        self._roots = tuple(Path(root).expanduser() for root in options.texts("image_roots"))
        self._resolved: tuple[Path, ...] | None = None
        self._base64 = bool(options.flag("image_base64", False))
        self._max_bytes = options.integer("image_max_bytes", MOST_BYTES, highest=2**31) or MOST_BYTES
        self._bounds = Bounds(
            hosts=options.texts("image_hosts"),
            networks=tuple(_network(options, text) for text in options.texts("image_networks")),
            seconds=options.seconds("image_timeout", SECONDS),
            size=self._max_bytes,
        )
        self._fetcher: Fetcher | None = None
        self._lock = threading.Lock()

    def read(self, item: Any) -> tuple[Path | io.BytesIO, str]:
        """What an item names, ready to be opened, and the name for it.

        Args:
            item: a path, ``data:`` or ``http(s):`` URL, or base64, as a text; or the bytes of a file.

        Raises:
            EmbedError: it is outside what may be read, missing, too large, or no image at all.
            ConfigError: a configured folder is not there, so that every image would fail.
        """
        if isinstance(item, bytes | bytearray | memoryview):
            return self._bytes(item)
        if isinstance(item, str) and item[:5].lower() == "data:":
            return self._bytes(self._data_url(item))
        if isinstance(item, str) and item[:8].lower().startswith(("http://", "https://")):
            return io.BytesIO(self._fetch(item)), _label(item)
        if isinstance(item, str) and self._base64:
            return self._bytes(self._decoded(item))
        if isinstance(item, str | Path):
            return self._path(item), _label(item)
        raise EmbedError(
            f"embedder {self._name!r} takes the path or bytes of an image, not {type(item).__name__}"
        )

    def _bytes(self, data: bytes | bytearray | memoryview) -> tuple[io.BytesIO, str]:
        if len(data) > self._max_bytes:
            raise EmbedError(f"an image of {len(data):,} bytes is too large: at most {self._max_bytes:,} are read")
        return io.BytesIO(data), f"an image of {len(data):,} bytes"

    def _data_url(self, item: str) -> bytes:
        head, comma, body = item.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise EmbedError(f"{_label(item[:40])} is not a data URL in base64")
        return self._decoded(body)

    def _decoded(self, text: str) -> bytes:
        # Before it is decoded: four signs are three bytes.
        if len(text) * 3 // 4 > self._max_bytes + 3:
            raise EmbedError(f"an image of {len(text):,} base64 characters is too large")
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise EmbedError(f"{_label(text[:40])} is not base64: {error}") from error

    def _fetch(self, url: str) -> bytes:
        with self._lock:
            if self._fetcher is None:
                self._fetcher = Fetcher(f"embedder {self._name!r}", self._bounds)
        return self._fetcher.fetch(url)

    def _path(self, item: str | Path) -> Path:
        roots = self._checked_roots()
        named = Path(item)
        try:
            candidates = [named] if named.is_absolute() else [root / named for root in roots]
            found = [path.resolve() for path in candidates]
            inside = [path for path in found if any(path.is_relative_to(root) for root in roots)]
            if not inside:
                raise EmbedError(
                    f"{_label(item)} is outside the image_roots of embedder {self._name!r}",
                    hint="add its folder to image_roots in qmigrate.yaml, if it may be read",
                )
            path = next((path for path in inside if path.is_file()), None)
        except (OSError, ValueError, RuntimeError) as error:  # null byte, name too long, circular links
            raise EmbedError(f"{_label(item)} can't be opened: {error}") from error
        if path is None:
            raise EmbedError(f"{_label(item)} is not there")
        return path

    def _checked_roots(self) -> tuple[Path, ...]:
        if self._resolved is not None:
            return self._resolved
        if not self._roots:
            raise ConfigError(
                f"embedder {self._name!r} was given a path but has no image_roots",
                hint="name the folders it may read: image_roots in qmigrate.yaml",
            )
        for root in self._roots:
            if not root.is_dir():
                raise ConfigError(
                    f"image root {str(root)!r} of embedder {self._name!r} is not a folder",
                    hint="mount it, or correct image_roots in qmigrate.yaml",
                )
        self._resolved = tuple(root.resolve() for root in self._roots)
        return self._resolved


def _label(item: str | Path) -> str:
    """The name of an image in messages; what signs its URL is left out."""
    return f"image {without_secrets(str(item))!r}"


def _network(options: Options, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise options.wrong("image_networks", "a list of networks such as 10.1.0.0/16", text) from None
