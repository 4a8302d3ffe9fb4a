"""A holder in a process of its own that stops itself (SIGSTOP) right before one of its requests. It tests nothing.

``python -m tests.faults.child_pause CONFIG VERB NUMBER LOG``: the settings, a row of ``verbs.VERBS``, how many requests
that change something are sent before (``-`` for all), and a file to write them to (``-`` for none).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.pause import wired
from tests.faults.verbs import VERBS

from qmigrate.commands import session
from qmigrate.errors import QmigrateError
from qmigrate.settings.load import Settings


class Stop:
    """Counts requests, and stops this process before one. It has the interface of ``pause.Gate``."""

    #: What is cut here is the network.
    cut = False

    def __init__(self, number: int | None, log: Path | None) -> None:
        self._number = number
        self._log = log
        self._sent = 0
        self._lock = threading.Lock()

    def send(self, label: str, request: Callable[[], Any], _unanswered: Callable[[], Any]) -> Any:
        """Have a request made, once this process may go on."""
        with self._lock:
            if self._log is not None:
                with self._log.open("a") as out:
                    out.write(label + "\n")
            if self._sent == self._number:
                os.kill(os.getpid(), signal.SIGSTOP)
            self._sent += 1
        return request()


def main() -> int:
    """Run the verb; 3 for an error of the product, whose message goes to stdout."""
    config, verb, number, log = sys.argv[1:5]
    stop = Stop(None if number == "-" else int(number), None if log == "-" else Path(log))
    connect = session.connect
    session.connect = lambda *args, **kwargs: wired(connect(*args, **kwargs), stop)
    try:
        VERBS[verb].work(Settings.load(config=Path(config)))
    except QmigrateError as error:
        print(f"{type(error).__name__}: {error.message}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
