"""Point ids by the page, as arrays: checked, ordered, compared without an object per id. It reads nothing itself.

A page is an ascending one-dimensional array of one of two types: ``uint64`` (numbers) or ``S36`` (UUIDs, the canonical
lower-case text; the order of these texts is that of their bytes). A stream of pages is ascending as a whole: numbers
before UUIDs, which is the order in which Qdrant returns points.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.model.transform import PointId

Page = NDArray[Any]

#: The type of a page of UUIDs.
UUIDS = np.dtype("S36")
NUMBERS = np.dtype(np.uint64)
_MOST = 2**64
_CANONICAL = re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})*")


@dataclass(frozen=True, slots=True)
class Differing:
    """What one side has and the other has not, within a stretch of both streams.

    Attributes:
        left: ids of the left stream only.
        right: ids of the right stream only.
        lefts: how many ids of the left stream the stretch has.
        rights: the same of the right one.
    """

    left: Page
    right: Page
    lefts: int
    rights: int


class DescentError(ValueError):
    """An id that does not come after the one before it: `before` and `after` say which."""

    def __init__(self, before: PointId, after: PointId) -> None:
        super().__init__(f"{after} came after {before}")
        self.before = before
        self.after = after


def pages_of(ids: Iterable[PointId]) -> list[Page]:
    """Ids as pages in the order that they have, right or wrong: one page per run of a type."""
    runs = groupby(ids, key=type)
    return [np.array(list(run), NUMBERS if kind is int else UUIDS) for kind, run in runs]


def are_plain(values: Sequence[Any]) -> bool:
    """Whether all values are ids of one kind already: unsigned integers, or canonical texts of UUIDs."""
    kinds = set(map(type, values))
    if kinds == {int}:
        return bool(min(values) >= 0 and max(values) < _MOST)
    if kinds == {str} and set(map(len, values)) == {UUIDS.itemsize}:
        joined = "".join(values)
        return joined.isascii() and _CANONICAL.fullmatch(joined) is not None
    return False


def plain_page(values: Sequence[Any]) -> Page | None:
    """The page of such values, not yet known to be ascending; None where they must be checked one by one."""
    if values and type(values[0]) is int and set(map(type, values)) == {int}:
        page = np.array(values)
        # Nearly always: the smallest is found faster in an array.
        if page.dtype == np.int64:
            return page.astype(NUMBERS) if page.min() >= 0 else None
    return np.array(values, NUMBERS if type(values[0]) is int else UUIDS) if are_plain(values) else None


def points_of(page: Page) -> list[PointId]:
    """The ids of a page, as they are used everywhere else."""
    return page.tolist() if page.dtype == NUMBERS else [one.decode() for one in page.tolist()]


def ascending(pages: Iterable[Page]) -> Iterator[Page]:
    """The same pages, none of them empty, with their order checked.

    Raises:
        DescentError: an id is repeated or goes back.
    """
    last: Page | None = None
    for page in pages:
        if not len(page):
            continue
        steps = page[1:] > page[:-1]
        if not steps.all():
            at = int(np.argmin(steps))
            raise DescentError(*points_of(page[at : at + 2]))
        if last is not None and not _follows(last, page):
            raise DescentError(points_of(last[-1:])[0], points_of(page[:1])[0])
        last = page
        yield page


def differing(left: Iterable[Page], right: Iterable[Page]) -> Iterator[Differing]:
    """Walk two streams once, in memory for a page of each.

    The smaller of both pages' last ids ends a stretch; what both sides have up to there is compared as arrays, so equal
    stretches cost one comparison.

    Raises:
        DescentError: a stream is not ascending.
    """
    lefts, rights = ascending(left), ascending(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None and other is not None:
        upto, border = cuts(one, other)
        yield _compared(one[:upto], other[:border])
        one = one[upto:] if upto < len(one) else next(lefts, None)
        other = other[border:] if border < len(other) else next(rights, None)
    while one is not None:
        yield Differing(one, one[:0], len(one), 0)
        one = next(lefts, None)
    while other is not None:
        yield Differing(other[:0], other, 0, len(other))
        other = next(rights, None)


def cuts(one: Page, other: Page) -> tuple[int, int]:
    """How far both pages can be compared. Every number comes before every UUID."""
    if one.dtype != other.dtype:
        return (len(one), 0) if one.dtype == NUMBERS else (0, len(other))
    border = min(one[-1], other[-1])
    return int(np.searchsorted(one, border, "right")), int(np.searchsorted(other, border, "right"))


def _compared(one: Page, other: Page) -> Differing:
    if len(one) == len(other) and (one.dtype == other.dtype and np.array_equal(one, other)):
        return Differing(one[:0], other[:0], len(one), len(other))
    return Differing(without(one, other), without(other, one), len(one), len(other))


def without(one: Page, other: Page) -> Page:
    """Those of an ascending page that another one, of the same type, lacks."""
    if not len(one) or not len(other):
        return one
    places = np.minimum(np.searchsorted(other, one), len(other) - 1)
    lacking: Page = one[other[places] != one]
    return lacking


def _follows(last: Page, page: Page) -> bool:
    if last.dtype == page.dtype:
        return bool(last[-1] < page[0])
    return last.dtype == NUMBERS


#: Where the digits of a UUID stand in its text.
_DIGITS = np.array([place for place in range(UUIDS.itemsize) if place not in (8, 13, 18, 23)])
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_VALUES = np.zeros(256, np.uint8)
_VALUES[_HEX] = np.arange(16, dtype=np.uint8)


def packed(page: Page) -> Page:
    """UUIDs as their bytes, in the same order."""
    digits = _VALUES[np.ascontiguousarray(page).view(np.uint8).reshape(-1, UUIDS.itemsize)[:, _DIGITS]]
    return np.ascontiguousarray(digits[:, ::2] << 4 | digits[:, 1::2]).view("S16").ravel()


def as_page(ids: Page) -> Page:
    """Ids of entries, UUIDs as their bytes, as they are used everywhere else."""
    if ids.dtype == NUMBERS:
        return np.ascontiguousarray(ids)
    octets = np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 16)
    texts = np.full((len(octets), UUIDS.itemsize), ord("-"), np.uint8)
    texts[:, _DIGITS] = _HEX[np.stack((octets >> 4, octets & 0x0F), axis=2).reshape(-1, 32)]
    return texts.view(UUIDS).ravel()
