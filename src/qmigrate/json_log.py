"""One JSON object per line, for programs that collect logs. It decides nothing about what is logged."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from qmigrate.errors import ConfigError, without_secrets
from qmigrate.text import visible_json

#: The environment variable that chooses the form of progress, logs and errors on stderr.
VARIABLE = "QMIGRATE_LOG"
FORMS = ("text", "json")


def chosen_form(written: str | None, at: str = VARIABLE) -> str:
    """``text`` or ``json``.

    Args:
        written: what was given; None and an empty text mean ``text``.
        at: where it was given, for the message.

    Raises:
        ConfigError: it is neither.
    """
    if not written:
        return FORMS[0]
    if written not in FORMS:
        raise ConfigError(f"{at}: expected text or json, got {written!r}")
    return written


def now() -> datetime:
    """The time of a line."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """``2026-11-30T01:02:03Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def line(event: str, *, at: datetime | None = None, **fields: Any) -> str:
    """One object: ``time``, ``event``, and the fields that have a value.

    Args:
        event: ``phase_started``, ``progress``, ``phase_done``, ``message``, ``outcome``, ``error`` or ``log``.
        at: when; None for this moment.
        fields: further keys, in this order.
    """
    known = {name: value for name, value in fields.items() if value not in (None, "")}
    found = {"time": stamp(at or now()), "event": event, **known}
    return visible_json(json.dumps(found, ensure_ascii=False, default=str))


class JsonFormatter(logging.Formatter):
    """Records of Python's logging as such lines: level, logger, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        trace = without_secrets(self.formatException(record.exc_info)) if record.exc_info else None
        message = without_secrets(record.getMessage())
        moment = datetime.fromtimestamp(record.created, UTC)
        return line(
            "log", at=moment, level=record.levelname.lower(), logger=record.name, message=message, trace=trace
        )
