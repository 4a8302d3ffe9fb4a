"""What an application wraps its own Qdrant client in, to see no error while writes are refused. It opens no client.

Importing it loads no client library.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, QdrantClient

__all__ = ["retrying"]

Client = TypeVar("Client", bound="QdrantClient | AsyncQdrantClient")

#: The methods that a write limit refuses, each as often repeatable as one likes. Not those that upload: they read an
#: iterator only once, and the library waits by itself there. Not ``create_vector_name``: refused, it has still changed
#: the collection.
_WRITES = frozenset({
    "batch_update_points",
    "clear_payload",
    "create_payload_index",
    "delete",
    "delete_payload",
    "delete_vectors",
    "overwrite_payload",
    "set_payload",
    "update_vectors",
    "upsert",
})
#: How a server begins the text of every such refusal, over REST and over gRPC, of one point and of many.
_REFUSED = "Write rate limit exceeded"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25


def retrying(client: Client, *, timeout: float = 30.0) -> Client:
    """The same client, whose writes wait while a freeze or a fence of qmigrate refuses them.

    ``client = retrying(QdrantClient(url))``, and the same for an ``AsyncQdrantClient``. Exactly one answer is tried
    again: the 429 of the write limit. The server looks up at each try where the name leads, so that after the swap the
    write is in the new generation. How long the server asks to wait (a minute) is not waited: a freeze ends earlier.
    A write may be carried out more than once, as by every client that tries again. Reads, every other error, and all
    that the client has besides are its own.

    Args:
        client: of the application; it stays usable by itself, and is closed as ever.
        timeout: seconds that one write is tried for; then the server's last answer is raised as the client raises it.
            A freeze takes no longer than ``limits.freeze``.
    """
    return cast("Client", _Retrying(client, timeout))


class _Retrying:
    """Stands for a client: an instance of its class, for who asks, with all of its attributes."""

    __slots__ = ("__weakref__", "_client", "_timeout")

    def __init__(self, client: QdrantClient | AsyncQdrantClient, timeout: float) -> None:
        object.__setattr__(self, "_client", client)
        object.__setattr__(self, "_timeout", timeout)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._client)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return _patient(found, self._timeout) if name in _WRITES and callable(found) else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._client, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._client, name)

    def __dir__(self) -> list[str]:
        return dir(self._client)

    def __repr__(self) -> str:
        return f"retrying({self._client!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _Retrying, (self._client, self._timeout)


def _patient(method: Callable[..., Any], timeout: float) -> Callable[..., Any]:
    """A method that is called again while a write limit refuses it; an awaitable result is awaited in the same way."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        # What can be read only once would be empty at the second try, and nothing would be written.
        args = tuple(list(one) if isinstance(one, Iterator) else one for one in args)
        kwargs = {name: list(one) if isinstance(one, Iterator) else one for name, one in kwargs.items()}
        pauses = _pauses(timeout)
        while True:
            try:
                result = method(*args, **kwargs)
            except Exception as error:
                pause = next(pauses, None) if _is_refused(error) else None
                if pause is None:
                    raise
                time.sleep(pause)
            else:
                again = functools.partial(method, *args, **kwargs)
                return _awaited(result, again, pauses) if inspect.isawaitable(result) else result

    return call


async def _awaited(result: Awaitable[Any], again: Callable[[], Awaitable[Any]], pauses: Iterator[float]) -> Any:
    while True:
        try:
            return await result
        except Exception as error:
            pause = next(pauses, None) if _is_refused(error) else None
            if pause is None:
                raise
        await asyncio.sleep(pause)
        result = again()


def _pauses(timeout: float) -> Iterator[float]:
    """Seconds to the next try, each more than the one before; they end when the next one would come too late."""
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while (left := deadline - time.monotonic()) > 0:
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_refused(error: Exception) -> bool:
    """Whether an error of the client library is the answer of a write limit, whichever way it travelled.

    With a time to wait it is a ``ResourceExhaustedResponse``; without one, since the request has more points than the
    limit allows at once, an ``UnexpectedResponse`` over REST and an ``RpcError`` over gRPC.
    """
    if _REFUSED not in str(error):
        return False
    code = getattr(error, "code", None)
    exhausted = callable(code) and getattr(code(), "name", "") == "RESOURCE_EXHAUSTED"
    return exhausted or hasattr(error, "retry_after_s") or getattr(error, "status_code", None) == 429
