"""The line between a process and its worker: a JSON list per line, over a socket that only these two have.

Nothing that is received can become code, and every wait has an end. What is sent is decided elsewhere.
"""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from typing import Any

#: Bytes of one message at most; settings and errors have some kB.
LONGEST = 16 * 1024 * 1024


class GarbledError(Exception):
    """What came is not a message of the other side; the text says what is wrong with it, without its content."""


class Line:
    """One end; threads share it for sending, and one of them receives.

    Args:
        end: of a pair of sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._heard = end.makefile("rb")
        self._lock = threading.Lock()

    def say(self, word: str, *more: Any) -> None:
        """One message of plain values; where the other side is gone it is lost, which :meth:`hear` reports."""
        message = json.dumps([word, *more]).encode() + b"\n"
        with self._lock, suppress(OSError):
            self._socket.sendall(message)

    def hear(self) -> list[Any] | None:
        """The next message, its word first; None when the other side is gone.

        Raises:
            GarbledError: it is none.
        """
        try:
            message = self._heard.readline(LONGEST)
        except OSError:
            return None
        if len(message) >= LONGEST:
            raise GarbledError(f"a message of more than {LONGEST:,} bytes")
        if not message.endswith(b"\n"):
            # A process that was killed in the middle of a message has not sent it.
            return None
        try:
            words = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise GarbledError(f"{len(message):,} bytes that are not JSON") from error
        if not isinstance(words, list) or not words or not isinstance(words[0], str):
            raise GarbledError(f"{len(message):,} bytes of JSON that are not a message")
        return words

    def hang_up(self) -> None:
        """Nothing is sent or received any more, whatever still has the other end: :meth:`hear` ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._heard.close()
        self._socket.close()
