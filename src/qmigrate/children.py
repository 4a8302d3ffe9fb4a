"""Helper processes: how one is started, listened to and ended, each within a limit. It depends on none of them.

They are started with ``-P``: a file of the current folder that has the name of a module is never run by them.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Seconds that the system may take to end a process that was killed.
KILLED = 10.0
#: Seconds between two checks of what waits: a stop signal, the lease.
LOOK = 0.2
#: What a helper runs: its own package is found where ours is, after everything else.
_START = """import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), None, "__main__", True)"""


def command(module: str, *arguments: str) -> list[str]:
    """What starts a module of ours as a helper.

    Args:
        module: that is run as ``__main__``.
        arguments: for it; every user of the machine can read them.
    """
    folder = str(Path(__file__).resolve().parent.parent)
    return [sys.executable, "-P", "-c", _START, folder, module, *arguments]


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes], patience: float) -> bool:
    """Wait until a helper has ended, and kill it when it doesn't; either way it is reaped.

    Args:
        patience: seconds that it may take by itself.

    Returns:
        Whether it ended by itself.
    """
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience)
        return True
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        # A process that the system itself holds back can't be waited for; it is gone when that is over.
        process.wait(KILLED)
    return False


def first_line(process: subprocess.Popen[str], limit: float, look: Callable[[], object]) -> str | None:
    """The first line that a helper sends; empty when it ended without one.

    Args:
        limit: seconds until it has to come.
        look: called while waiting, several times a second; may raise.

    Returns:
        None when nothing came within the limit.
    """
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    stream = process.stdout
    if stream is None:
        return ""
    # Nothing interrupts the reading of a pipe; with the process it ends.
    threading.Thread(target=lambda: said.put(stream.readline()), daemon=True, name="helper").start()
    deadline = time.monotonic() + limit
    while (left := deadline - time.monotonic()) > 0:
        try:
            return said.get(timeout=min(LOOK, left)).strip()
        except queue.Empty:
            look()
    return None
