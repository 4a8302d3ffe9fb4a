"""One thing that is asked now and then: at most once at a time, in a thread of its own, its answer kept for a while.

It is independent of what it asks, and never makes a caller wait: a caller gets a future.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from qmigrate.errors import LeaseHeldError, QmigrateError, UnavailableError

#: Longest time in seconds that a failure is believed: who comes back should be noticed.
FAILURE_KEPT = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking.

    Attributes:
        ok: None when it could not be asked at all, which counts as nothing wrong.
        seconds: how long the last try took.
        at: when it came, by the monotonic clock.
        value: what the function returned.
        error: why not, without secrets.
        tries: how often it was tried.
    """

    ok: bool | None
    seconds: float
    at: float
    value: Any = None
    error: str | None = None
    tries: int = 1


class Slot:
    """Asks one function.

    Args:
        name: of the thread, and in answers.
        function: raises when it isn't well. It may block for long; no caller waits for it longer than its timeout.
        retries: further tries after an error that may pass.
        cache: seconds that a good answer is given again.
        clock: monotonic.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], Any],
        *,
        retries: int = 0,
        cache: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._function = function
        self._retries = retries
        self._cache = cache
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._running: Future[Answer] | None = None
        self.last: Answer | None = None

    def ask(self) -> Future[Answer]:
        """The answer: a fresh one that is kept, or the one that is on its way, or a new one."""
        if self._pid != os.getpid():
            # A server that forks its workers: no thread came along.
            self._begin()
        with self._lock:
            if self._running is not None:
                return self._running
            future: Future[Answer] = Future()
            # From here on no caller that stops waiting can cancel it for the others.
            future.set_running_or_notify_cancel()
            if self.last is not None and self._is_fresh(self.last):
                future.set_result(self.last)
                return future
            self._running = future
        threading.Thread(target=self._work, args=(future,), name=f"qmigrate-health-{self.name}", daemon=True).start()
        return future

    def _is_fresh(self, answer: Answer) -> bool:
        kept = self._cache if answer.ok else min(self._cache, FAILURE_KEPT)
        return self._clock() - answer.at < kept

    def _work(self, future: Future[Answer]) -> None:
        answer = self._tried()
        with self._lock:
            self.last = answer
            self._running = None
        future.set_result(answer)

    def _tried(self) -> Answer:
        for tries in range(1, self._retries + 2):
            started = self._clock()
            try:
                value = self._function()
            except LeaseHeldError as error:
                # Local mode: the process that has the folder open uses it.
                return self._answer(None, started, error=error.message, tries=tries)
            except QmigrateError as error:
                found = self._answer(False, started, error=error.message, tries=tries)
                if not isinstance(error, UnavailableError):
                    return found
            except BaseException as error:
                # Not its text: it was not written for readers, and may hold a password. And whatever it is:
                # a thread that ends without an answer would be waited for forever.
                found = self._answer(False, started, error=type(error).__name__, tries=tries)
            else:
                return self._answer(True, started, value=value, tries=tries)
        return found

    def _answer(
        self, ok: bool | None, started: float, *, value: Any = None, error: str | None = None, tries: int
    ) -> Answer:
        now = self._clock()
        return Answer(ok, now - started, now, value, error, tries)
