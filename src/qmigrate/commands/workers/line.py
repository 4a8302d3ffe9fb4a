"""The line between a process and its worker: a JSON list per line, over a socket that only these two have.

Nothing that is heard can become code, and nothing is waited for that has no end. What is said is decided elsewhere.
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
    """What came is no word of the other side's; the text says what is wrong with it, without what it says."""


class Line:
    """One end; threads share it for saying, and one of them hears.

    Args:
        end: of a pair of sockets.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._heard = end.makefile("rb")
        self._lock = threading.Lock()

    def say(self, word: str, *more: Any) -> None:
        """One message of plain values; to whoever is gone it is said in vain, which :meth:`hear` tells."""
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
            # Whoever was killed in the middle of a word has not said it.
            return None
        try:
            words = json.loads(message)
        except (ValueError, RecursionError) as error:
            raise GarbledError(f"{len(message):,} bytes that are no JSON") from error
        if not isinstance(words, list) or not words or not isinstance(words[0], str):
            raise GarbledError(f"{len(message):,} bytes of JSON that are no message")
        return words

    def hang_up(self) -> None:
        """Nothing is said or heard any more, whoever still has the other end: :meth:`hear` ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._heard.close()
        self._socket.close()
