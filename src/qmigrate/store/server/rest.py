"""Plain JSON requests to one node over REST. Addresses, keys and retries only, no collections."""

from __future__ import annotations

import math
import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from qmigrate.errors import ConfigError, StoreError
from qmigrate.store import faults
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.server.requests import Answers, repeated

Result = TypeVar("Result")
#: Bytes of a streamed body that are handed out at once.
_PIECE = 2**20


def segment(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


class Rest:
    """One node of Qdrant; safe to use from several threads.

    Args:
        url: its address, without the prefix.
        settings: key, timeout, certificate and prefix.
    """

    def __init__(self, url: str, settings: ConnectionSettings) -> None:
        self.label = urlsplit(url).netloc.rpartition("@")[2]
        self._timeout = settings.timeout
        self.url = url
        self._listed = url != settings.url
        self.answers = Answers()
        prefix = settings.prefix.strip("/")
        self._client = httpx.Client(
            base_url=url.rstrip("/") + (f"/{prefix}" if prefix else ""),
            # A compressed answer comes in chunks, and a kept-alive connection waits 40 ms for the second one.
            headers={"accept-encoding": "identity"} | ({"api-key": settings.api_key} if settings.api_key else {}),
            timeout=settings.timeout,
            verify=_verification(url, settings.ca_cert),
        )

    @property
    def address(self) -> str:
        """Its address with the prefix, without a slash at the end."""
        return str(self._client.base_url).rstrip("/")

    @property
    def bounded(self) -> httpx.Timeout:
        """Timeouts of one request that together are bounded: those of the client begin again with every part of it."""
        return httpx.Timeout(self._timeout, connect=self._timeout / 4, write=self._timeout / 4, pool=self._timeout / 4)

    @property
    def longest(self) -> float:
        """Seconds that a request with :attr:`bounded` can take; its answer is small, so it comes in one piece."""
        return 2 * self._timeout

    def get(self, path: str, *, retry: bool = True, **params: Any) -> Any:
        """``result`` of a GET."""
        return self.call("GET", path, params=params, retry=retry)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        retry: bool = True,
    ) -> Any:
        """``result`` of one request.

        Args:
            method: of HTTP.
            path: below the prefix, starting with a slash.
            body: sent as JSON when it isn't None.
            params: of the query; None values are left out.
            retry: repeat after transport errors and while a limiter refuses; only for what may be repeated.

        Raises:
            StoreError: see :mod:`qmigrate.store.faults`.
        """

        def once() -> Any:
            return self.envelope(self.send(method, path, body, params=params))

        return self.repeat(once) if retry else once()

    def repeat(self, once: Callable[[], Result]) -> Result:
        """Call until it succeeds, or patience ends; see :mod:`qmigrate.store.server.requests`."""
        return repeated(once, self._timeout)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        timeout: httpx.Timeout | float | None = None,
    ) -> httpx.Response:
        """One request, once; errors are translated, a good answer is returned as it came.

        Args:
            method: of HTTP.
            path: below the prefix.
            body: sent as JSON.
            params: of the query; None values are left out.
            files: sent as a form instead of a body, streamed: name -> (file name, open file).
            timeout: in seconds, or of its parts; None for that of the settings.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        limit = timeout if isinstance(timeout, int | float) else self._timeout
        chosen = self._client.timeout if timeout is None else timeout
        try:
            response = self._client.request(
                method, path, json=body, params=given or None, files=files, timeout=chosen
            )
        except httpx.HTTPError as error:
            raise self._noted(method, faults.of_transport(error, self.label, limit, listed=self._listed)) from error
        if response.status_code >= 300:
            raise self._noted(method, faults.of_response(response, self.label))
        return response

    def _noted(self, method: str, error: StoreError) -> StoreError:
        """The same error, after it was noted whether the request may still be carried out."""
        if method != "GET":
            self.answers.failed(error)
        return error

    def why_silent(self, patience: float) -> StoreError | None:
        """Why it gives no answer, or None when it gives any: whether it is a good one is asked later."""
        try:
            self.send("GET", "/", timeout=min(patience, self._timeout))
        except faults.TransientError as error:
            # How long a request may take is not what is wrong.
            return StoreError(error.message, hint=faults.reach(self.label, listed=self._listed))
        except StoreError:
            return None
        return None

    def stream(self, path: str) -> Iterator[bytes]:
        """The body of a GET in pieces, as it arrives; errors are translated like those of :meth:`send`."""
        try:
            with self._client.stream("GET", path) as response:
                if response.status_code >= 300:
                    response.read()
                    raise faults.of_response(response, self.label)
                yield from response.iter_bytes(_PIECE)
        except httpx.HTTPError as error:
            raise faults.of_transport(error, self.label, self._timeout, listed=self._listed) from error

    def envelope(self, response: httpx.Response) -> Any:
        """The ``result`` inside Qdrant's answer."""
        try:
            return response.json()["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise faults.not_qdrant(self.label, "its answer is not Qdrant's JSON") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def own_client(settings: ConnectionSettings) -> Any:
    """A ``qdrant_client.QdrantClient`` for the same server, over REST."""
    from qdrant_client import QdrantClient

    with warnings.catch_warnings():
        # The settings have been judged already, among them a key without TLS.
        warnings.simplefilter("ignore")
        return QdrantClient(
            url=str(settings.url),
            # Without one in the address it is that of http or https, as everywhere else.
            port=None,
            api_key=settings.api_key,
            prefix=settings.prefix or None,
            timeout=max(1, math.ceil(settings.timeout)),
            verify=_verification(str(settings.url), settings.ca_cert),
            check_compatibility=False,
        )


def _verification(url: str, ca_cert: str | None) -> ssl.SSLContext | bool:
    if not url.startswith("https"):
        # Never used; loading the system's authorities would cost more than a request.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_cert is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_cert)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the certificate {ca_cert} can't be read: {error}", hint="qdrant.ca_cert names a PEM file"
        ) from error
