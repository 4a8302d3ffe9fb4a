"""Times as SQLite's columns hold them, which has no type for them: texts and numbers. It reads nothing."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SECOND, _DAY = 1_000_000, 86_400_000_000
#: Seconds, milliseconds, microseconds and nanoseconds since 1970, each from 1973 to 2286: none is taken for another.
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
_LEAST, _MOST = 10**8, 10**10
#: Days as SQLite counts them, from the year 1 on, and the day 1970-01-01 among them.
_DAYS, _DAY_ZERO = (1721425.5, 5373484.5), 2440587.5
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
#: A text of this many digits is a day: 20261125.
_DAY_DIGITS = 8


def at_or_after(value: object, moment: datetime) -> bool:
    """Whether a stored time is at or after a moment.

    Of what is rounded, such as a day, the end counts: something of it may be after the moment.

    Args:
        value: a text of a time or a day, in UTC where it names no zone; or a number: seconds since 1970, thousandths,
            millionths or billionths of them, or days as SQLite's ``julianday`` has them. 0 is long ago.
        moment: with a time zone.

    Raises:
        ValueError, TypeError, OverflowError: it is none of these.
    """
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or len(text) == _DAY_DIGITS:
            return _text_reaches(text, moment)
        value = float(text) if "." in text else int(text)
    if not isinstance(value, int | float):
        raise TypeError(f"{type(value).__name__} is not a time")
    return _latest(value) >= (moment - _EPOCH) // _MICROSECOND


def _text_reaches(text: str, moment: datetime) -> bool:
    try:
        return date.fromisoformat(text) >= moment.astimezone(UTC).date()
    except ValueError:
        found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)) >= moment


def _latest(value: float) -> int:
    """Microseconds since 1970, the latest that a number may mean."""
    if value == 0:
        return 0
    if isinstance(value, float) and _DAYS[0] <= value < _DAYS[1]:
        # SQLite itself counts no less than milliseconds of them.
        return math.ceil((value - _DAY_ZERO) * _DAY) + _SECOND // 1000
    for unit in _UNITS:
        if _LEAST * unit <= value < _MOST * unit:
            # A double of seconds is exact to less than a microsecond.
            return value * _SECOND // unit if isinstance(value, int) else math.ceil(value * _SECOND / unit) + 1
    raise ValueError(f"{value} is not a time")
