"""Python expressions as small trees, laid out as a formatter would. Independent of operations and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Longest line that is written.
WIDTH = 100
_STEP = 4


@dataclass(frozen=True, slots=True)
class Literal:
    """An expression that is never broken: a literal, a name."""

    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """A call, list or dict: what opens it, its items with what precedes each, and what closes it."""

    opening: str
    items: tuple[tuple[str, Code], ...]
    closing: str


Code = Literal | Group


def call(name: str, *arguments: Code, **named: Code) -> Group:
    """``name(first, key=second)``."""
    items = [*(("", found) for found in arguments), *((f"{key}=", found) for key, found in named.items())]
    return Group(f"{name}(", tuple(items), ")")


def listed(items: Sequence[Code]) -> Group:
    """``[first, second]``."""
    return Group("[", tuple(("", item) for item in items), "]")


def mapping(items: Mapping[str, Code]) -> Group:
    """``{"key": value}``."""
    return Group("{", tuple((f"{quoted(key)}: ", item) for key, item in items.items()), "}")


def literal(value: Any) -> Code:
    """A plain JSON value."""
    if isinstance(value, Mapping):
        return mapping({key: literal(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return listed([literal(item) for item in value])
    if isinstance(value, str):
        return Literal(quoted(value))
    return Literal(repr(value).replace("e+", "e") if isinstance(value, float) else repr(value))


def quoted(text: str) -> str:
    """A string literal, in double quotes unless that needs more escapes."""
    # The quote in front makes the body one of single quotes, whatever else the text holds.
    single = repr('"' + text)[2:-1]
    if text.count('"') > text.count("'"):
        return f"'{single}'"
    double = single.replace("\\'", "'").replace('"', '\\"')
    return f'"{double}"'


def flat(code: Code) -> str:
    """On one line, however long."""
    if isinstance(code, Literal):
        return code.text
    return code.opening + ", ".join(before + flat(item) for before, item in code.items) + code.closing


def laid_out(code: Code, *, indent: int = 0, before: str = "", after: str = "") -> str:
    """On one line where it fits, else one item per line.

    Args:
        indent: spaces in front of the first line.
        before: what precedes it on that line.
        after: what follows it on the last line.
    """
    line = f"{' ' * indent}{before}{flat(code)}{after}"
    if isinstance(code, Literal) or not code.items or len(line) <= WIDTH:
        return line
    inner = [laid_out(item, indent=indent + _STEP, before=name, after=",") for name, item in code.items]
    return "\n".join([f"{' ' * indent}{before}{code.opening}", *inner, f"{' ' * indent}{code.closing}{after}"])
