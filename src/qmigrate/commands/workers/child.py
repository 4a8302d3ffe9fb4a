"""The worker process of one device on this machine: ``python -m qmigrate.commands.workers.child FD``.

It is told by its parent through that connection, ends when the connection does, and prints nothing.
"""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

#: Seconds between two reports.
REPORT_EVERY = 0.5


class _Line:
    """The connection to the parent; threads share it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.Lock()

    def say(self, *words: Any) -> None:
        # A parent that is gone needs no answer.
        with self._lock, suppress(OSError):
            self.connection.send(words)


def main() -> int:
    """Serve one parent until it says stop, or is gone."""
    # Ctrl-C reaches the whole group: the parent hears it, and says what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = _Line(Connection(int(sys.argv[1])))
    path, settings, order = line.connection.recv()
    sys.path[:] = path
    from qmigrate.commands.workers.body import Body
    from qmigrate.commands.workers.words import said

    try:
        body = Body(settings, order)
    except BaseException as error:
        line.say("refused", said(error))
        return 1
    line.say("ready")
    ended = threading.Event()
    threading.Thread(target=_report, args=(line, body, ended), daemon=True).start()
    threads: list[threading.Thread] = []

    def copy(number: int, again: bool) -> None:
        try:
            body.copy(number, again=again)
        except BaseException as error:
            line.say("failed", number, said(error))
        else:
            line.say("report", asdict(body.report()))
            line.say("done", number)

    with suppress(EOFError, OSError):
        while (words := line.connection.recv())[0] == "copy":
            thread = threading.Thread(target=copy, args=words[1:], name=f"range {words[1]}", daemon=True)
            thread.start()
            threads.append(thread)
    body.stop()
    for thread in threads:
        thread.join()
    ended.set()
    body.close()
    return 0


def _report(line: _Line, body: Any, ended: threading.Event) -> None:
    while not ended.is_set():
        line.say("report", asdict(body.report()))
        ended.wait(REPORT_EVERY)


if __name__ == "__main__":
    sys.exit(main())
