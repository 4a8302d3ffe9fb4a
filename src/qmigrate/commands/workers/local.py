"""Workers on this machine: a process per device. It copies nothing, and starts none before there is a range for it."""

from __future__ import annotations

import multiprocessing
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from qmigrate.commands.workers.words import heard
from qmigrate.embed import devices_for
from qmigrate.errors import ConfigError
from qmigrate.settings import Settings
from qmigrate.steps.hands import LostError, Order, Report

#: Seconds between two looks at the stop signal, the lease and the display.
LOOK = 0.2
#: Seconds that a worker gets beyond the longest request to end at a checkpoint.
PATIENCE = 15.0


class LocalHands:
    """Starts a process per device.

    Args:
        settings: of the collection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self) -> None:
        """See ``steps.hands``."""
        if self._settings.rebuild.devices and self._settings.qdrant.path is not None:
            raise ConfigError(
                "rebuild.devices needs a Qdrant server: the folder of local mode belongs to one process",
                hint="leave rebuild.devices out, or set qdrant.url",
            )

    def places(self, embedders: Sequence[str]) -> Sequence[str | None]:
        """See ``steps.hands``: the configured devices, else every GPU when there are several."""
        chosen = self._settings.rebuild.devices
        if self._settings.qdrant.path is not None:
            return ()
        if chosen is not None:
            return chosen
        configured = [self._settings.embedders[name] for name in embedders if name in self._settings.embedders]
        found: Sequence[str] = max((devices_for(config) for config in configured), key=len, default=())
        return found if len(found) > 1 else ()

    def start(self, order: Order, look: Callable[[], None]) -> ProcessHand:
        """See ``steps.hands``."""
        hand = ProcessHand(self._settings, order)
        try:
            hand.begin(look)
        except BaseException:
            hand.close()
            raise
        return hand

    def close(self) -> None:
        """See ``steps.hands``: there is nothing beside the workers."""


class ProcessHand:
    """A worker process; see ``steps.hands.Hand``."""

    def __init__(self, settings: Settings, order: Order) -> None:
        mine, its = multiprocessing.Pipe()
        self._patience = settings.qdrant.timeout + PATIENCE
        self._line: Any = mine
        self._lock = threading.Lock()
        # "" is the worker as a whole, a number one of its ranges.
        self._answers: dict[int | str, queue.SimpleQueue[tuple[Any, ...] | None]] = {"": queue.SimpleQueue()}
        self._report = Report()
        self._lost = False
        command = [sys.executable, "-m", "qmigrate.commands.workers.child", str(its.fileno())]
        # What the user's code prints there must not get into the result of this process.
        self._process = subprocess.Popen(
            command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        its.close()
        with suppress(OSError):
            # Settings may hold keys: they go through this pipe alone, not by arguments or environment.
            mine.send((sys.path, settings, order))
        self._reader = threading.Thread(target=self._read, name="worker", daemon=True)
        self._reader.start()

    def begin(self, look: Callable[[], None]) -> None:
        """Wait until it is ready."""
        words = self._wait("", look)
        if words[0] == "refused":
            raise heard(words[1])

    def copy(self, number: int, *, again: bool, look: Callable[[], None]) -> None:
        """See ``steps.hands``."""
        with self._lock:
            self._answers[number] = queue.SimpleQueue()
            if self._lost:
                raise LostError(self._ending())
            with suppress(OSError):
                self._line.send(("copy", number, again))
        words = self._wait(number, look)
        if words[0] == "failed":
            raise heard(words[2])

    def report(self) -> Report:
        """See ``steps.hands``."""
        return self._report

    def close(self) -> None:
        """See ``steps.hands``."""
        with self._lock, suppress(OSError):
            self._line.send(("stop",))
        try:
            self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._line.close()

    def _wait(self, about: int | str, look: Callable[[], None]) -> tuple[Any, ...]:
        while True:
            try:
                words = self._answers[about].get(timeout=LOOK)
            except queue.Empty:
                look()
                continue
            if words is None:
                raise LostError(self._ending())
            return words

    def _ending(self) -> str:
        code = self._process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                words = self._line.recv()
                if words[0] == "report":
                    self._report = Report(**words[1])
                else:
                    self._answers[words[1] if words[0] in ("done", "failed") else ""].put(words)
        with self._lock:
            self._lost = True
            for answer in self._answers.values():
                answer.put(None)
