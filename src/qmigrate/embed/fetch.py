"""Bytes behind a URL of a payload, from public or expressly allowed hosts only. It follows no redirect unchecked."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from qmigrate.embed.patience import TransientError, patiently, retry_after
from qmigrate.errors import EmbedError, without_secrets
from qmigrate.model.patterns import fits
from qmigrate.settings_read import redact

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
