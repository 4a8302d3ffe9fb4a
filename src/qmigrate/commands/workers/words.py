"""Errors as plain values, for their way out of a worker. It raises none."""

from __future__ import annotations

import json
import traceback
from typing import Any

from qmigrate import errors
from qmigrate.errors import QmigrateError

#: Characters of a message, of facts and of a trace: what was quoted in full into an error stays short.
_MESSAGE, _FACTS, _TRACE = 20_000, 200_000, 50_000

#: By name, so that nothing else is ever made of a word.
_KINDS = {
    name: found for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, QmigrateError)
}


def said(error: BaseException) -> dict[str, Any]:
    """What :func:`heard` makes the error of."""
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


def heard(words: dict[str, Any]) -> QmigrateError:
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
