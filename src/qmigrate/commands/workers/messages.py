"""The line between a process and its worker: a JSON list per line, over a socket that only these two have.

Nothing that is received can become code, and every wait has an end. What is sent is decided elsewhere.
"""

from __future__ import annotations

import json
import socket
import threading
import traceback
from contextlib import suppress
from typing import Any

from qmigrate import errors
from qmigrate.errors import QmigrateError

#: Bytes of one message at most; settings and errors have some kB.
LONGEST = 16 * 1024 * 1024


class GarbledError(Exception):
    """What came is not a message of the other side; the text says what is wrong with it, without its content."""


class Channel:
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


#: Characters of a message, of facts and of a trace: what was quoted in full into an error stays short.
_MESSAGE, _FACTS, _TRACE = 20_000, 200_000, 50_000

#: By name, so that nothing else is ever made of a word.
_KINDS = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, QmigrateError)
}


def error_to_dict(error: BaseException) -> dict[str, Any]:
    """What :func:`error_from_dict` makes the error of."""
    if isinstance(error, QmigrateError):
        known = [cls.__name__ for cls in type(error).__mro__ if getattr(errors, cls.__name__, None) is cls]
        facts = json.dumps(error.facts, default=str, skipkeys=True)
        return {
            "type": known[0],
            "message": error.message[:_MESSAGE],
            "hint": error.hint,
            "facts": json.loads(facts) if len(facts) <= _FACTS else {},
        }
    message = f"a worker failed: {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return {"type": "QmigrateError", "message": message[:_MESSAGE], "trace": trace[-_TRACE:]}


def error_from_dict(words: dict[str, Any]) -> QmigrateError:
    """The error that a worker has met; of an unforeseen one it has the trace as a note.

    Raises:
        KeyError: no error speaks like that.
    """
    kind = _KINDS[words["type"]]
    # Some classes take other arguments; what they are for has happened in the worker.
    error: QmigrateError = kind.__new__(kind)
    QmigrateError.__init__(error, str(words["message"]), hint=words.get("hint"), facts=words.get("facts"))
    if "trace" in words:
        error.add_note(words["trace"])
    return error
