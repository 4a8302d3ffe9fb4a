"""How findings are put: some of many names, clocks that differ. It checks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qmigrate.commands.results import Check

#: Names that one line shows; all of them are in the facts.
NAMED = 5


def some(names: Sequence[str], most: int = NAMED) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


@dataclass(frozen=True, slots=True)
class Skew:
    """How far two clocks may be apart, in seconds.

    Attributes:
        warns: from here on times in logs and history don't fit together.
        fails: from here on what is kept until a date can't be relied on, nor can tokens that expire.
    """

    warns: float = 5.0
    fails: float = 300.0

    def judge(self, name: str, whose: str, ahead: float) -> Check:
        """A finding about a clock that is `ahead` seconds ahead of this machine's (negative: behind)."""
        apart = abs(ahead)
        facts = {"seconds_ahead": round(ahead, 1)}
        if apart <= self.warns:
            shown = "within a second" if apart < 1 else f"to {apart:.0f} s"
            return Check(name, True, f"{whose} and this machine agree {shown}", facts=facts)
        detail = (
            f"{whose} is {apart:,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine; leases are not affected "
            "(they use the database's clock alone), but times of history and holdover are off"
        )
        hint = "synchronise both machines by NTP"
        if apart > self.fails:
            return Check(name, False, detail, hint, 9, facts=facts)
        return Check(name, None, detail, hint, warns=True, facts=facts)


SKEW = Skew()
