"""Something that moves from the first moment on, while Python still loads what a verb needs. It prints no result.

Nothing of rich is loaded here: that is part of what is waited for.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
#: Seconds before it shows, and between two frames: what is quick shows nothing.
_AFTER, _EVERY = 0.25, 0.12
_CLEAR = "\r\x1b[2K"

_shown: list[_Starting] = []


class _Starting:
    """One line on a terminal, until :meth:`over`."""

    def __init__(self, stream: TextIO, after: float) -> None:
        self._stream = stream
        self._over = threading.Event()
        self._after = after
        self._thread = threading.Thread(target=self._run, name="starting", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        wait, frame = self._after, 0
        while not self._over.wait(wait):
            self._stream.write(f"\r{_FRAMES[frame % len(_FRAMES)]} starting")
            self._stream.flush()
            wait, frame = _EVERY, frame + 1
        if frame:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def over(self) -> None:
        """Take it away; when this returns nothing of it comes any more."""
        self._over.set()
        self._thread.join()


def begin(stream: TextIO | None = None, *, after: float = _AFTER) -> None:
    """Show it on a terminal that can move its cursor; anywhere else nothing.

    Args:
        stream: stderr where it is None.
        after: seconds before it shows.
    """
    stream = stream or sys.stderr
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" and encoding.startswith("utf"):
        _shown.append(_Starting(stream, after))


def over() -> None:
    """Before anything else is written."""
    while _shown:
        _shown.pop().over()
