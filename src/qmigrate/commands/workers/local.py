"""Workers on this machine: a process per device. It copies nothing, and starts none before there is a range for it."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from qmigrate import children
from qmigrate.commands.workers.messages import Channel, GarbledError, error_from_dict
from qmigrate.commands.workers.settings_json import to_json
from qmigrate.embed import devices_for
from qmigrate.engine.workers.protocol import Order, Report, WorkerLostError
from qmigrate.errors import ConfigError, QmigrateError
from qmigrate.settings.load import Settings

#: What a caller waits for: that it is done, how it failed, or that the worker is gone.
_Answer = Literal["done", "lost"] | QmigrateError
#: Seconds between two checks of the stop signal, the lease and the display.
LOOK = children.LOOK
#: Seconds without a word after which a worker counts as stalled; it sends several a second, also while a model loads.
SILENCE = 120.0
#: Seconds in which the last words of a worker that has ended arrive.
LAST_WORDS = 2.0
#: Seconds that a worker gets beyond the longest request to end at a checkpoint.
PATIENCE = 15.0


class LocalWorkers:
    """Starts a process per device.

    Args:
        settings: of the collection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self) -> None:
        """See ``engine.workers.protocol``."""
        if self._settings.rebuild.devices and self._settings.qdrant.path is not None:
            raise ConfigError(
                "rebuild.devices needs a Qdrant server: the folder of local mode belongs to one process",
                hint="leave rebuild.devices out, or set qdrant.url",
            )
        if self._settings.rebuild.devices and sys.platform == "win32":
            raise ConfigError(
                "rebuild.devices hands a connection to a process for each device, which Windows can't do",
                hint="leave rebuild.devices out: one process fills the vectors; or set rebuild.engine: ray",
            )

    def places(self, embedders: Sequence[str]) -> Sequence[str | None]:
        """See ``engine.workers.protocol``: the configured devices, else every GPU when there are several."""
        chosen = self._settings.rebuild.devices
        if self._settings.qdrant.path is not None or sys.platform == "win32":
            return ()
        if chosen is not None:
            return chosen
        configured = [self._settings.embedders[name] for name in embedders if name in self._settings.embedders]
        found: Sequence[str] = max((devices_for(config) for config in configured), key=len, default=())
        return found if len(found) > 1 else ()

    def start(self, order: Order, look: Callable[[], None]) -> ProcessWorker:
        """See ``engine.workers.protocol``."""
        hand = ProcessWorker(self._settings, order)
        try:
            hand.begin(look)
        except BaseException:
            hand.close()
            raise
        return hand

    def close(self) -> None:
        """See ``engine.workers.protocol``: there is nothing besides the workers."""


class ProcessWorker:
    """A worker process; see ``engine.workers.protocol.Worker``."""

    def __init__(self, settings: Settings, order: Order) -> None:
        # Settings may hold keys: they go over the line alone, not by arguments or environment.
        words = ([str(one) for one in sys.path], to_json(settings), asdict(order))
        mine, its = socket.socketpair()
        self._patience = settings.qdrant.timeout + PATIENCE
        self._line = Channel(mine)
        self._lock = threading.Lock()
        # "" is the worker itself, a number one of its ranges.
        self._answers: dict[int | str, queue.SimpleQueue[_Answer]] = {"": queue.SimpleQueue()}
        self._report = Report()
        self._lost = False
        self._why = ""
        self._heard_at = time.monotonic()
        # What the user's code prints there must not get into the result of this process.
        self._process = subprocess.Popen(
            command(its.fileno()), pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        its.close()
        self._reader = threading.Thread(target=self._read, name="worker", daemon=True)
        self._reader.start()
        self._line.say("begin", *words)

    def begin(self, look: Callable[[], None]) -> None:
        """Wait until it is ready."""
        self._wait("", look)

    def copy(self, number: int, *, again: bool, look: Callable[[], None]) -> None:
        """See ``engine.workers.protocol``."""
        with self._lock:
            self._answers[number] = queue.SimpleQueue()
            if self._lost:
                raise WorkerLostError(self._ending())
            self._line.say("copy", number, again)
        self._wait(number, look)

    def report(self) -> Report:
        """See ``engine.workers.protocol``."""
        return self._report

    def close(self) -> None:
        """See ``engine.workers.protocol``."""
        self._line.say("stop")
        children.end(self._process, self._patience)
        # Whatever it has started may still hold the other end, which is not waited for.
        self._line.hang_up()
        self._reader.join(children.KILLED)
        self._line.close()

    def _wait(self, about: int | str, look: Callable[[], None]) -> None:
        while True:
            try:
                answer = self._answers[about].get(timeout=LOOK)
            except queue.Empty:
                look()
                self._check_silence()
                continue
            if answer == "lost":
                raise WorkerLostError(self._ending())
            if isinstance(answer, QmigrateError):
                raise answer
            return

    def _check_silence(self) -> None:
        """End a worker that is there, and does nothing: stopped, swapped out, or blocked for good."""
        silence, there = time.monotonic() - self._heard_at, self._process.poll() is None
        if silence <= (SILENCE if there else LAST_WORDS):
            return
        if there:
            self._why = self._why or f"killed: no message for {SILENCE:g} s"
            children.end(self._process, 0.0)
        # Whatever it has started may still hold the other end, so that no end of it is ever received.
        self._line.hang_up()

    def _ending(self) -> str:
        # Its end of the line is closed, so that it has ended or is about to.
        children.end(self._process, self._patience)
        if self._why:
            return self._why
        code = self._process.returncode
        if code is None:
            return "killed, and not gone yet"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def _read(self) -> None:
        try:
            while (words := self._line.hear()) is not None:
                self._heard_at = time.monotonic()
                self._take(*words)
        except (GarbledError, LookupError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, GarbledError) else "an unexpected message"
            self._why = f"ended, since it sent something unreadable: {why}"
            self._process.kill()
        with self._lock:
            self._lost = True
            for answer in self._answers.values():
                answer.put("lost")

    def _take(self, word: str, *more: Any) -> None:
        """One word of the worker; what it was about is checked here, where no caller waits for it yet."""
        if word == "ready":
            self._answers[""].put("done")
        elif word == "refused":
            self._answers[""].put(error_from_dict(*more))
        elif word == "done":
            self._answers[more[0]].put("done")
        elif word == "failed":
            number, error = more
            self._answers[number].put(error_from_dict(error))
        elif word == "report":
            self._report = Report(**more[0])
        elif word == "loading":
            return
        else:
            raise GarbledError("a message of another kind")


def command(number: int) -> list[str]:
    """What a worker is started by.

    Args:
        number: of the open socket that it inherits.
    """
    return children.command("qmigrate.commands.workers.child", str(number))
