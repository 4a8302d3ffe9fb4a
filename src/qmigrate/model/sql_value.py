"""SQL values as a payload holds them. It reads nothing."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from qmigrate.errors import RowsError

_INT64 = 2**63


def is_plain(value: Any) -> bool:
    """Whether a payload holds just this: most values, so callers with many of them ask this before :func:`plain`."""
    kind = type(value)
    return kind is str or value is None or (kind is int and -_INT64 <= value < _INT64)


def plain(value: Any, where: str) -> Any:
    """A SQL value as a payload holds it: UUIDs and times as texts, decimals as numbers; None stays None.

    Args:
        where: for the message.

    Raises:
        RowsError: no payload can hold it.
    """
    if is_plain(value) or isinstance(value, bool | str):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, float) and value == value and value not in (float("inf"), float("-inf")):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(item, where) for key, item in value.items()}
    raise RowsError(f"{where} is {value!r:.60}, which no payload can hold", hint="CAST it in the query")
