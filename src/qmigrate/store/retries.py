"""When a request is repeated, and for how long. It sends nothing and is independent of the transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import tenacity

from qmigrate.store.faults import LimitedError, SlowError, TransientError

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
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=_pause,
        stop=_Patience(timeout),
        reraise=True,
    )
    return retrying(call)
