"""When a request over HTTP is repeated, and after which pause. It sends nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

import tenacity

from qmigrate.text import aware

Result = TypeVar("Result")

#: A server that asks for a longer pause is given up: a user should know.
LONGEST_PAUSE = 600.0
_BACK_OFF = tenacity.wait_random_exponential(multiplier=0.25, max=30.0)


class TransientError(Exception):
    """It may go well later.

    Attributes:
        after: seconds that the server asked for, or None.
        tries: how often it was tried, once it was given up.
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.tries = 1


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds a number or a date; None where it holds neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        wanted = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, (aware(wanted) - (now or datetime.now(UTC))).total_seconds())


def patiently(call: Callable[[], Result], *, retries: int) -> Result:
    """Call until it succeeds, fails for good, or was repeated `retries` times; the last error is raised.

    Raises:
        TransientError: it failed to the end, or the server asks for a longer pause than is waited.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_worth_it),
        wait=_pause,
        stop=tenacity.stop_after_attempt(retries + 1),
        reraise=True,
    )
    try:
        return retrying(call)
    except TransientError as error:
        error.tries = int(retrying.statistics.get("attempt_number", 1))
        raise


def _worth_it(error: BaseException) -> bool:
    return isinstance(error, TransientError) and (error.after or 0.0) <= LONGEST_PAUSE


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, TransientError) else None
    return _BACK_OFF(state) if asked is None else asked
