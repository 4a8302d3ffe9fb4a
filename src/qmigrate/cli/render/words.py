"""Numbers, sizes and times as people read them. It prints nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from qmigrate.model.words import counted, number, size

__all__ = ["counted", "moment", "number", "rate", "size", "took"]


def rate(per_second: float) -> str:
    """``1,910/s``; one decimal below ten."""
    return f"{per_second:,.1f}/s" if per_second < 10 else f"{number(per_second)}/s"


def took(seconds: float) -> str:
    """``5 ms``, ``0.4 s``, ``12 s``, ``1 min 12 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two_units(whole, 60, "min", 1, "s")
    if whole < 86400:
        return _two_units(whole, 3600, "h", 60, "min")
    return _two_units(whole, 86400, "d", 3600, "h")


def _two_units(whole: int, large: int, unit: str, small: int, part: str) -> str:
    count, rest = divmod(whole, large)
    return f"{count:,} {unit} {rest // small} {part}" if rest // small else f"{count:,} {unit}"


def moment(value: datetime) -> str:
    """Local time, ``2025-11-21 14:02``; a time without a zone is UTC."""
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return f"{aware.astimezone():%Y-%m-%d %H:%M}"
