"""Texts as people read them, in findings and on the terminal: numbers, sizes, commands, control characters.

And results as plain JSON. It prints nothing.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

#: What a terminal obeys instead of showing it: control characters but tab and line feed, what turns the direction of
#: writing, and further ends of lines. Titles, payloads and reasons hold what others wrote.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def visible(text: str) -> str:
    r"""A text in which no character can steer a terminal: ``\x1b``, ``\u202e`` stand for what would."""
    return _OBEYED.sub(lambda match: _escape(match.group()), text)


def visible_json(text: str) -> str:
    """The same of a JSON text, with the escapes of JSON: it is the same value."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def one_line(text: str) -> str:
    """The same of a value that may not begin a line of its own, such as a cell of a table."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def quote(text: object) -> str:
    """A value as a POSIX shell takes it for one word: every command that is shown can be pasted as it stands."""
    return shlex.quote(str(text))


def closest(word: object, known: Iterable[str], *, alike: float = 0.6) -> str | None:
    """The known word that was probably meant, also where only the case differs; None where none is close.

    Args:
        alike: how close, from 0 to 1.
    """
    options = sorted(known)
    close = difflib.get_close_matches(str(word), options, n=1, cutoff=alike)
    return next(iter(close), None) or next((one for one in options if one.lower() == str(word).lower()), None)


def did_you_mean(word: object, known: Iterable[str], *, alike: float = 0.6, before: str = "") -> str:
    """``; did you mean "x"?`` where one of the known words is close, else nothing.

    Args:
        alike: how close, from 0 to 1.
        before: what each of the words begins with, besides.
    """
    close = closest(word, known, alike=alike)
    return f'; did you mean "{before}{close}"?' if close is not None else ""


def number(value: int | float) -> str:
    """``12,030``."""
    return f"{value:,.0f}"


def counted(value: int, singular: str, plural: str | None = None) -> str:
    """``1 collection``, ``2 collections``."""
    return f"{number(value)} {singular if value == 1 else plural or singular + 's'}"


def tallied(singular: str, *figures: tuple[int, str]) -> str:
    """``1 point added, 2 deleted``: a figure that is zero is left out; where all are, ``0 points added``."""
    (first, word), *more = [one for one in figures if one[0]] or figures[:1]
    return ", ".join([f"{counted(first, singular)} {word}", *(f"{number(value)} {other}" for value, other in more)])


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
    return f"{_local(value):%Y-%m-%d %H:%M}"


def zone(value: datetime) -> str:
    """The time zone in which :func:`moment` shows it: ``UTC``, ``CET``, ``+05:30``."""
    return _local(value).tzname() or f"{_local(value):%z}"


def _local(value: datetime) -> datetime:
    return aware(value).astimezone()


def aware(value: datetime) -> datetime:
    """The same moment with a zone: a time without one is UTC."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def to_plain(value: Any) -> Any:
    """Dicts, lists, texts and numbers: dataclasses by field, times as ISO 8601, sets sorted, NaN as null."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return to_plain(value.value)
    if hasattr(value, "to_json"):
        return to_plain(value.to_json())
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: to_plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_plain(item) for item in value), key=str)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value)


def documented(page: str, heading: str) -> str:
    """Where more is said. The pages come with the source, not with the package: the heading is what is searched for."""
    return f'"{heading}" in docs/{page}.md of the documentation'
