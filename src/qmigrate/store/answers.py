"""Which requests of this process are still under way, or ended without an answer. It sends nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc

from qmigrate.errors import QmigrateError
from qmigrate.store.faults import is_unclear

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
