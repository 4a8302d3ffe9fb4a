"""Where the bytes of an image come from: a path below the roots, bytes, base64, or an allowed URL. It decodes none."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx
from PIL import Image, ImageOps, UnidentifiedImageError

from qmigrate.embed.options import Options
from qmigrate.embed.patience import TransientError, patiently, retry_after
from qmigrate.errors import ConfigError, EmbedError, without_secrets
from qmigrate.model.names import fits
from qmigrate.settings.values import redact

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_REDIRECTS = 5
#: Hosts to which connections are kept open; further ones share a client that keeps none.
MOST_HOSTS = 64
SECONDS = 10.0
MOST_BYTES = 64 * 2**20
#: An image server that is busy is asked this many times more.
RETRIES = 3
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
#: IPv6 prefix behind which a gateway reaches IPv4 addresses, private ones too (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: The only IPv6 addresses that are given out on the public Internet. What is outside is of one network, such as its own
#: NAT64 (64:ff9b:1::/48), or another way to write an IPv4 address (::ffff:0:0:0/96, ::/96).
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
#: Inside, but only for documents, and for relays that no longer exist; older versions of Python don't know.
_NOT_IN_USE: tuple[Network, ...] = (
    ipaddress.IPv6Network("3fff::/20"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv4Network("192.0.0.0/24"),
)
#: Interface identifiers of ISATAP, which end in the IPv4 address that a host tunnels to (RFC 5214).
_ISATAP = (0x00005EFE, 0x02005EFE)


def _without_signature(record: logging.LogRecord) -> bool:
    """The client logs the URL of every request: what signs it is not for any log."""
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


logging.getLogger("httpx").addFilter(_without_signature)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be fetched.

    Attributes:
        hosts: patterns such as ``cdn.example.com``, ``*.example.com`` or ``*``; none: nothing may.
        networks: networks that are allowed although they are not public.
        seconds: of one item, redirects and all.
        size: in bytes.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    seconds: float = SECONDS
    size: int = MOST_BYTES


class Fetcher:
    """Gets bytes within bounds. Threads may share it.

    Args:
        label: whose settings the bounds are, for messages.
        trust: whose certificates are believed; None for the usual authorities.
    """

    def __init__(self, label: str, bounds: Bounds, trust: ssl.SSLContext | None = None) -> None:
        self._label = label
        self._bounds = bounds
        self._trust: ssl.SSLContext | bool = True if trust is None else trust
        self._clients: dict[str, httpx.Client] = {}
        self._lock = threading.Lock()

    def fetch(self, url: str) -> bytes:
        """The bytes behind a URL.

        Raises:
            EmbedError: it isn't allowed, leads to an address that isn't, is too large or too slow, or isn't there.
        """
        deadline = time.monotonic() + self._bounds.seconds
        try:
            return patiently(lambda: self._followed(url, deadline), retries=RETRIES)
        except TransientError as error:
            raise EmbedError(f"image {redact(url)} can't be fetched: {error}") from error

    def _followed(self, url: str, deadline: float) -> bytes:
        here = url
        for _ in range(MOST_REDIRECTS + 1):
            found = self._once(here, deadline)
            if isinstance(found, bytes):
                return found
            target = urljoin(here, found)
            if here.startswith("https:") and not target.startswith("https:"):
                raise EmbedError(f"image {redact(url)} is redirected from https to {redact(target)}, which is refused")
            here = target
        raise EmbedError(f"image {redact(url)} is redirected more than {MOST_REDIRECTS} times")

    def _once(self, url: str, deadline: float) -> bytes | str:
        """The bytes, or where the server sends us."""
        parts = self._allowed(url)
        address = self._resolved(url, parts)
        host = str(parts.hostname)
        # The address that was checked is the one that is asked: a name could resolve differently a moment later.
        asked = httpx.URL(url).copy_with(host=str(address), userinfo=b"", fragment=None)
        client = self._client(host)
        request = client.build_request(
            "GET",
            asked,
            headers={"Host": _authority(parts), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": host},
            timeout=self._left(url, deadline),
        )
        try:
            answer = client.send(request, stream=True)
            try:
                return self._body(url, answer, deadline)
            finally:
                answer.close()
        except (httpx.TransportError, httpx.StreamError) as error:
            self._left(url, deadline)
            raise TransientError(f"{type(error).__name__}: {error}") from error

    def _client(self, host: str) -> httpx.Client:
        """One for each host: connections are kept by address, and one that was opened for a name proves no other."""
        with self._lock:
            kept = host in self._clients or len(self._clients) < MOST_HOSTS
            found = self._clients.get(host if kept else "")
            if found is not None:
                return found
            # No proxy of the environment: it would resolve the name again, and differently.
            client = httpx.Client(
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_keepalive_connections=20 if kept else 0),
                verify=self._trust,
            )
            weakref.finalize(self, client.close)
            self._clients[host if kept else ""] = client
            return client

    def _body(self, url: str, answer: httpx.Response, deadline: float) -> bytes | str:
        if answer.is_redirect and "location" in answer.headers:
            return str(answer.headers["location"])
        if answer.status_code in _LATER:
            asked = retry_after(answer.headers.get("retry-after"))
            said = f"the server answered {answer.status_code}"
            if (asked or 0.0) >= deadline - time.monotonic():
                raise EmbedError(f"image {redact(url)}: {said}, and is not ready in time")
            raise TransientError(said, after=asked)
        if not answer.is_success:
            raise EmbedError(f"image {redact(url)}: the server answered {answer.status_code}")
        limit = self._bounds.size
        told = answer.headers.get("content-length", "")
        if told.isdigit() and int(told) > limit:
            raise EmbedError(f"image {redact(url)} has {int(told):,} bytes; at most {limit:,} are fetched")
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > limit:
                raise EmbedError(f"image {redact(url)} has more than the {limit:,} bytes that are fetched")
            self._left(url, deadline)
        return bytes(body)

    def _left(self, url: str, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            raise EmbedError(f"image {redact(url)} did not arrive within {self._bounds.seconds:g} s")
        return left

    def _allowed(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError as error:
            raise EmbedError(f"image {redact(url)} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not host:
            raise EmbedError(f"image {redact(url)}: only http and https are fetched")
        if not any(fits(host, pattern.lower()) for pattern in self._bounds.hosts):
            raise EmbedError(
                f"image {redact(url)}: {self._label} may not fetch from {host}",
                hint="add the host to image_hosts in qmigrate.yaml, if it may be asked",
            )
        return parts

    def _resolved(self, url: str, parts: SplitResult) -> Address:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise TransientError(f"the name {parts.hostname} can't be resolved: {error}") from error
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        # One forbidden address is enough: which of them a client takes is chance.
        for address in addresses:
            if not is_public(address) and not _within(address, self._bounds.networks):
                raise EmbedError(
                    f"image {redact(url)}: {parts.hostname} is {address}, which is not a public address",
                    hint="name its network under image_networks in qmigrate.yaml, if it may be asked",
                )
        return addresses[0]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public Internet, also where it carries another address inside."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and (address in _NAT64 or int(address) >> 32 & 0xFFFFFFFF in _ISATAP):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        known = address in _GIVEN_OUT or address in _NAT64 or address.ipv4_mapped is not None
        if not known or inner is not None:
            return known and inner is not None and is_public(inner)
    return address.is_global and not address.is_multicast and not any(address in one for one in _NOT_IN_USE)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    plain = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped else address
    return any(plain in network for network in networks)


def _authority(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    return f"{host}:{parts.port}" if parts.port else host


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
