"""Errors as plain values, for their way out of a worker. It raises none."""

from __future__ import annotations

import traceback
from typing import Any

from qmigrate import errors
from qmigrate.errors import QmigrateError


def said(error: BaseException) -> dict[str, Any]:
    """What :func:`heard` makes the error of."""
    if isinstance(error, QmigrateError):
        known = [cls.__name__ for cls in type(error).__mro__ if getattr(errors, cls.__name__, None) is cls]
        facts = dict(error.facts)
        return {"type": known[0], "message": error.message, "hint": error.hint, "facts": facts}
    message = f"a worker failed: {type(error).__name__}: {error}"
    return {"type": "QmigrateError", "message": message, "trace": "".join(traceback.format_exception(error))}


def heard(words: dict[str, Any]) -> QmigrateError:
    """The error that a worker has met; of an unforeseen one it has the trace as a note."""
    kind = getattr(errors, words["type"])
    # Some classes take other arguments; what they are for has happened in the worker.
    error: QmigrateError = kind.__new__(kind)
    QmigrateError.__init__(error, words["message"], hint=words.get("hint"), facts=words.get("facts"))
    if "trace" in words:
        error.add_note(words["trace"])
    return error
