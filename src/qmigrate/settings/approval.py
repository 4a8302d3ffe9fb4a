"""Settings of approvals: above which number of points a deletion needs another person. It opens nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, get_type_hints

from qmigrate.errors import ConfigError
from qmigrate.settings import values as read

#: Who may approve: any other person, or only one whom the console has logged in.
OTHER, CONSOLE = "other person", "console"
_HINT = "above: 1000 points or 1 %"
_POINTS = re.compile(r"(\d+(?:[_,]\d{3})*)\s*points?")
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class Bound(NamedTuple):
    """Above how much an approval is needed; whichever is reached first.

    Attributes:
        points: a number of points; None for none.
        share: a share of the collection, 0 to 1; None for none.
    """

    points: int | None = None
    share: float | None = None

    def is_exceeded(self, changes: int, points: int) -> bool:
        """Whether `changes` of this many points are more."""
        if self.points is not None and changes > self.points:
            return True
        # In this form a bound of 10 % of 30 points is 3 of them, and not a little less.
        return self.share is not None and changes > round(self.share * points, 9)

    def __str__(self) -> str:
        parts = [] if self.points is None else [f"{self.points:,} points"]
        parts += [] if self.share is None else [f"{self.share * 100:.6g} %"]
        return " or ".join(parts)


def bound(value: Any, at: str) -> Bound:
    """``1000 points``, ``1 %``, or ``1000 points or 1 %``."""
    said, found = read.text(value, at), Bound()
    for part in re.split(r"\s+or\s+", said.lower()):
        points, share = _POINTS.fullmatch(part.strip()), _SHARE.fullmatch(part.strip())
        if points and found.points is None:
            found = found._replace(points=int(re.sub("[_,]", "", points.group(1))))
        elif share and found.share is None and float(share.group(1)) <= 100:
            found = found._replace(share=float(share.group(1)) / 100)
        else:
            raise ConfigError(f'{at} must be "1000 points", "1 %" or "1000 points or 1 %", not {said!r}', hint=_HINT)
    return found


def percent(value: Any, at: str) -> float:
    """A share, as ``5 %``, or a number from 0 to 1."""
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    return read.share(float(match.group(1)) / 100 if match else value, at)


@dataclass(frozen=True, slots=True)
class Called:
    """How a verb came to be called.

    Attributes:
        proven: who has logged the actor in: ``console``, or ``application``; None where the name is only what they say.
        again: kind and arguments of the job that asks for the same again; None where there is none.
    """

    proven: str | None = None
    again: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """What needs the approval of another person before it is deleted.

    Attributes:
        above: above which number of points, or share of the collection: ``1000 points``, ``1 %``, ``1000 points or
            1 %``.
        by: ``other person``: another one, as far as qmigrate can tell people apart; ``console``: only a user whom the
            HTTP API has logged in, with the role approver.
        approvers: who may approve, by the name that is recorded; empty for all users.
        expires: how long a request can be approved and run, from when it was asked for.
        tolerance: by which share the number of points may differ when it runs from the number that was approved.
        within: add what was deleted of the collection without approval within this time, so that a large deletion
            can't be split into small ones; 0 counts each by itself.
        fields: payload fields that examples show to who approves; no other one is shown.
        time: the payload field with the time of a point, for its newest and oldest examples; none where it is empty:
            then those with the highest and lowest ids are shown.
        picture: the payload field with the path of an image that is shown as well; none where it is empty.
        image_roots: folders that these paths are confined to, links resolved.
    """

    above: Annotated[Bound, bound]
    by: Annotated[str, read.choice(OTHER, CONSOLE)] = OTHER
    approvers: Annotated[tuple[str, ...], read.listed(read.text)] = ()
    expires: Annotated[float, read.positive_duration] = 7 * 86400.0
    tolerance: Annotated[float, percent] = 0.05
    within: Annotated[float, read.duration] = 0.0
    fields: Annotated[tuple[str, ...], read.listed(read.text)] = ()
    time: Annotated[str, read.text] = ""
    picture: Annotated[str, read.text] = ""
    image_roots: Annotated[tuple[str, ...], read.listed(read.text)] = field(default=())


def approval(value: Any, at: str) -> ApprovalSettings:
    """``{above: 1000 points or 1 %, by: other person, expires: 7d, tolerance: 5 %}``."""
    entry = {name: one for name, one in read.mapping(value, at).items() if one is not None}
    hints = get_type_hints(ApprovalSettings, include_extras=True)
    read.check_keys(entry, hints, at)
    if "above" not in entry:
        raise ConfigError(f"{at}.above is missing: above how many points an approval is needed", hint=_HINT)
    given = {name: hints[name].__metadata__[0](one, f"{at}.{name}") for name, one in entry.items()}
    for name in ("approvers", "fields", "image_roots"):
        if name in given and (not given[name] or "" in given[name]):
            # An empty list may come of a variable that is missing, and would mean all users.
            raise read.empty_key(f"{at}.{name}")
    return ApprovalSettings(**given)
