"""Which names a pattern means: the only place that knows what a glob is. It opens nothing.

A text that is a name means that name, whatever signs it holds: Qdrant allows ``docs[eu]``. Only where nothing has that
name it is read as a glob (``*``, ``?``, ``[…]``, as in a shell); ``glob:docs[eu]`` always is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

#: What a text begins with that is a glob whatever is there. No name holds a colon.
FORCED = "glob:"
#: The signs of a glob.
SIGNS = frozenset("*?[")
#: Those that no name on a server holds.
_SURE = frozenset("*?")


class ExactName(str):
    """A logical name that something has: never a glob."""

    __slots__ = ()


def is_forced(pattern: str) -> bool:
    """Whether it is marked as a glob."""
    return pattern.startswith(FORCED) and not isinstance(pattern, ExactName)


def text_of(pattern: str) -> str:
    """The name or the glob, without ``glob:``."""
    return pattern[len(FORCED) :] if is_forced(pattern) else pattern


def has_signs(pattern: str) -> bool:
    """Whether it may be a glob, which only the names that there are decide."""
    return is_forced(pattern) or (not isinstance(pattern, ExactName) and not SIGNS.isdisjoint(pattern))


def has_wildcard(pattern: str) -> bool:
    """Whether it is a glob whatever exists: it is marked as one, or has a character that no name has."""
    return is_forced(pattern) or (not isinstance(pattern, ExactName) and not _SURE.isdisjoint(pattern))


def is_glob(pattern: str, known: Collection[str]) -> bool:
    """Whether it is a glob where these are all the names that there are."""
    return is_forced(pattern) or (has_signs(pattern) and pattern not in known)


def bound(pattern: str, known: Collection[str]) -> str:
    """The pattern, marked as a name where it is one."""
    return ExactName(pattern) if not is_forced(pattern) and pattern in known else pattern


def fits(name: str, pattern: str) -> bool:
    """Whether one name is meant, where no other name decides: a name means itself, a glob what it matches."""
    if isinstance(pattern, ExactName):
        return name == pattern
    return (name == pattern and not is_forced(pattern)) or (
        has_signs(pattern) and fnmatchcase(name, text_of(pattern))
    )


def met(pattern: str, names: Iterable[str], known: Collection[str] | None = None) -> list[str]:
    """The names that a pattern means, in their order.

    Args:
        pattern: a name, a glob, or ``glob:`` and a glob.
        names: to choose from.
        known: every name that there is, where `names` are only some of them: ``docs[eu]`` means no other name where
            it exists, though it may not be chosen.
    """
    chosen = list(names)
    exact = bound(pattern, known if known is not None else frozenset(chosen))
    return [name for name in chosen if fits(name, exact)]


def overlap(one: str, other: str) -> bool:
    """Whether two patterns may mean the same name, be there one or not: where in doubt, they may."""
    return any(_meet(first, second) for first in _readings(one) for second in _readings(other))


def _readings(pattern: str) -> list[list[str]]:
    """How a pattern may be read, as a name and as a glob: character by character, ``[…]`` as one that may be any."""
    name = [] if is_forced(pattern) else [[f"={sign}" for sign in pattern]]
    signs = re.findall(r"\[!?\]?[^\]]*\]|.", text_of(pattern), re.DOTALL)
    return [*name, ["?" if len(sign) > 1 else sign for sign in signs]] if has_signs(pattern) else name


def _meet(one: list[str], other: list[str]) -> bool:
    """Whether a name fits both: from their ends on, whether what is left of `one` meets each rest of `other`."""
    end = len(other)
    rests = [all(sign == "*" for sign in other[place:]) for place in range(end + 1)]
    for sign in reversed(one):
        now = [False] * (end + 1)
        for place in reversed(range(end + 1)):
            if sign == "*":
                now[place] = rests[place] or (place < end and now[place + 1])
            elif place < end and other[place] == "*":
                now[place] = rests[place] or now[place + 1]
            elif place < end:
                same = "?" in (sign, other[place]) or sign.lstrip("=") == other[place].lstrip("=")
                now[place] = same and rests[place + 1]
        rests = now
    return rests[0]


def met_by_any(patterns: Iterable[str], names: Iterable[str], known: Collection[str] | None = None) -> list[str]:
    """The names that any of the patterns means, each once, in their own order."""
    chosen = list(names)
    wanted = {name for pattern in patterns for name in met(pattern, chosen, known)}
    return [name for name in chosen if name in wanted]


#: Names that a line lists.
_LISTED = 8


def words(pattern: str, names: Collection[str]) -> str:
    """What a glob has met, in one line: ``'docs*' means 2 collections: docs_a, docs_b``."""
    listed = sorted(names)
    more = f" and {len(listed) - _LISTED:,} more" if len(listed) > _LISTED else ""
    count = "1 collection" if len(listed) == 1 else f"{len(listed):,} collections"
    return f"{pattern!r} means {count}: {', '.join(listed[:_LISTED])}{more}"
