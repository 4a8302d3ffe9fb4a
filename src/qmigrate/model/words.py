"""Numbers and sizes as people read them, in findings and on the terminal. It prints nothing."""

from __future__ import annotations


def number(value: int | float) -> str:
    """``12,030``."""
    return f"{value:,.0f}"


def counted(value: int, singular: str, plural: str | None = None) -> str:
    """``1 collection``, ``2 collections``."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def size(value: int) -> str:
    """Bytes in decimal units: ``312 B``, ``46 MB``, ``1.3 GB``, up to ``EB``."""
    if value < 1000:
        return f"{value} B"
    amount, unit = value / 1000, "kB"
    for larger in ("MB", "GB", "TB", "PB", "EB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:,.0f} {unit}"
