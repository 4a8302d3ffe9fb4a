"""Which requests of this process are still under way, or ended without an answer. It sends nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import tenacity

from qmigrate.errors import ConfigError, QmigrateError
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.faults import LimitedError, SlowError, TransientError, is_unclear

#: What a server answers once it is through with a request: nothing of it continues then.
_SETTLED = frozenset({
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
})


class Answers:
    """Keeps count of requests; safe to use from several threads.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._flying: set[Any] = set()
        self._unclear_at: float | None = None

    def sent(self, future: Any) -> Any:
        """A request went out; its future, which reports itself when it is over."""
        with self._changed:
            self._flying.add(future)
        future.add_done_callback(self._landed)
        return future

    def failed(self, error: BaseException) -> None:
        """A request ended in an error: whether it may still be carried out is remembered."""
        if not _is_settled(error):
            with self._changed:
                self._unclear_at = self._clock()

    def all_known(self, timeout: float) -> bool:
        """Whether nothing of what was sent can still be carried out.

        Args:
            timeout: the longest time in seconds that one request can take inside the server. What is under way is
                waited for so long; what ended without an answer longer ago is over.
        """
        deadline = self._clock() + timeout
        with self._changed:
            while self._flying:
                if not self._changed.wait(max(0.0, deadline - self._clock())):
                    return False
            return self._unclear_at is None or self._clock() - self._unclear_at > timeout

    def _landed(self, future: Any) -> None:
        error: BaseException | None = None
        try:
            # What was cancelled was read: a write is never cancelled.
            error = None if future.cancelled() else future.exception()
        except (grpc.FutureCancelledError, futures.CancelledError):
            pass
        except Exception as raised:  # whatever it is, it doesn't show what the server does
            error = raised
        if error is not None:
            self.failed(error)
        with self._changed:
            self._flying.discard(future)
            self._changed.notify_all()


def _is_settled(error: BaseException) -> bool:
    """Whether the server is through with a request that ended so."""
    if isinstance(error, grpc.RpcError):
        code = getattr(error, "code", None)
        return code is not None and code() in _SETTLED
    return isinstance(error, QmigrateError) and not is_unclear(error)


#: Qdrant's own default.
DEFAULT_PORT = 6334
#: grpcio's bit set of allowed algorithms with identity only: the server compresses whatever is allowed, at ten
#: times the cost of reading it.
_IDENTITY_ONLY = ("grpc.compression_enabled_algorithms_bitset", 1)


def address(settings: ConnectionSettings) -> str:
    """``host:port`` of the gRPC service."""
    host = settings.grpc_host or urlsplit(str(settings.url)).hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{settings.grpc_port or DEFAULT_PORT}"


def open_channel(settings: ConnectionSettings) -> Any:
    """A channel of our own.

    No connection shared with others, no compression unless asked for, no size limits, no hidden retries.
    """
    options: list[tuple[str, int]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    compression = grpc.Compression.Gzip if settings.compression else None
    if compression is None:
        options.append(_IDENTITY_ONLY)
    encrypted = urlsplit(str(settings.url)).scheme == "https" if settings.grpc_tls is None else settings.grpc_tls
    if encrypted:
        credentials = grpc.ssl_channel_credentials(_authorities(settings.ca_cert))
        return grpc.secure_channel(address(settings), credentials, options=options, compression=compression)
    return grpc.insecure_channel(address(settings), options=options, compression=compression)


def _authorities(ca_cert: str | None) -> bytes | None:
    if ca_cert is None:
        return None
    try:
        return Path(ca_cert).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the certificate {ca_cert} can't be read: {error}", hint="qdrant.ca_cert names a PEM file"
        ) from error


Result = TypeVar("Result")

#: How often a request that ran into its timeout is repeated: the server may need long for what it has accepted.
SLOW_TRIES = 30
#: A limiter is waited for at most this many request timeouts.
LIMITER_TIMEOUTS = 2.0


_ONCE: ContextVar[bool] = ContextVar("qmigrate_once", default=False)


@contextmanager
def sent_once() -> Iterator[None]:
    """Send what is sent in the block once: it changes points that were checked, and that check has grown old by then.

    Where an answer got lost the change may have been made, and another client may have written since: repeated blindly
    it would take that away. To repeat the block, check again first.
    """
    token = _ONCE.set(True)
    try:
        yield
    finally:
        _ONCE.reset(token)


class _Patience(tenacity.stop.stop_base):
    """Stops after `timeout` seconds of failures, :data:`SLOW_TRIES` slow answers, or a limiter that asks for more."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._slow = 0

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, SlowError):
            self._slow += 1
            return self._slow >= SLOW_TRIES
        if isinstance(error, LimitedError):
            waited = (state.seconds_since_start or 0.0) + (error.retry_after or 1.0)
            return waited > LIMITER_TIMEOUTS * self._timeout
        return (state.seconds_since_start or 0.0) > self._timeout * (1 + self._slow)


_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.05, max=5.0)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, LimitedError):
        return error.retry_after or 1.0
    return 0.0 if isinstance(error, SlowError) else _BACK_OFF(state)


def repeated(call: Callable[[], Result], timeout: float) -> Result:
    """Call until it succeeds, fails for good, or patience ends; the last error is raised as it is.

    Args:
        call: must be safe to repeat.
        timeout: of one request, in seconds; also how long an unreachable server is waited for.
    """
    if _ONCE.get():
        return call()
    return tries(timeout)(call)


def tries(timeout: float) -> tenacity.Retrying:
    """The same for a block: iterated, each try is entered; the last error is raised as it is."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=_pause,
        stop=_Patience(timeout),
        reraise=True,
    )
