"""Texts as people read them, in findings and on the terminal: numbers, sizes, commands, control characters.

It prints nothing.
"""

from __future__ import annotations

import re
import shlex

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
