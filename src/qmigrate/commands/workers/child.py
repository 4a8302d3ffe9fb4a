"""The worker process of one device on this machine: ``python -m qmigrate.commands.workers.child FD``.

It is commanded by its parent through that socket, ends when the connection does, and prints nothing.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qmigrate.commands.workers.messages import Channel, GarbledError

if TYPE_CHECKING:
    from qmigrate.commands.workers.worker import JoinedWorker

#: Seconds between two reports.
REPORT_EVERY = 0.5
#: Seconds that ranges may take to stop, once they are asked to.
LAST = 120.0


def main() -> int:
    """Serve one parent until it sends stop, or is gone."""
    # Ctrl-C reaches the entire group: the parent gets it, and decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Channel(socket.socket(fileno=int(sys.argv[1])))
    words = _heard(line)
    if words is None:
        return 1
    made: list[JoinedWorker] = []
    ended = threading.Event()
    threading.Thread(target=_report, args=(line, made, ended), daemon=True).start()
    # The folders that the user's code is found in may have been added by the parent.
    sys.path[:] = words[1]
    from qmigrate.commands.workers.messages import error_to_dict
    from qmigrate.commands.workers.settings_json import from_json
    from qmigrate.commands.workers.worker import JoinedWorker as Made
    from qmigrate.engine.workers.protocol import Order

    try:
        body = Made(from_json(words[2]), Order(**words[3]))
    except BaseException as error:
        line.say("refused", error_to_dict(error))
        return 1
    line.say("ready")
    made.append(body)
    threads: list[threading.Thread] = []

    def copy(number: int, again: bool) -> None:
        try:
            body.copy(number, again=again)
        except BaseException as error:
            line.say("failed", number, error_to_dict(error))
        else:
            line.say("report", asdict(body.report()))
            line.say("done", number)

    while (words := _heard(line)) is not None and words[0] == "copy":
        thread = threading.Thread(target=copy, args=words[1:], name=f"range {words[1]}", daemon=True)
        thread.start()
        threads.append(thread)
    body.stop()
    deadline = time.monotonic() + LAST
    for thread in threads:
        # The parent may be gone, which would end this process.
        thread.join(max(0.0, deadline - time.monotonic()))
    ended.set()
    body.close()
    return 0


def _heard(line: Channel) -> list[Any] | None:
    """The parent's next word; nothing comes any more from one that is gone, or that isn't understood."""
    try:
        return line.hear()
    except GarbledError:
        return None


def _report(line: Channel, made: list[Any], ended: threading.Event) -> None:
    """How far it is, or that it is there at all: a silent worker counts as stalled."""
    while not ended.is_set():
        if made:
            line.say("report", asdict(made[0].report()))
        else:
            line.say("loading")
        ended.wait(REPORT_EVERY)


if __name__ == "__main__":
    sys.exit(main())
