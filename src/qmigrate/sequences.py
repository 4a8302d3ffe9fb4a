"""The join of two id-ordered streams, walked once in O(1) memory. It neither reads nor writes anything itself.

The same walk serves convergence, deletes made during a copy, the proof, the late-write sweep, rollback that carries
writes, and later the comparison with SQL rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from qmigrate.model.pages import KeyedPage

Left = TypeVar("Left")
Right = TypeVar("Right")


class DisorderError(ValueError):
    """A stream was not in ascending order of its keys, so the join would have lied."""


def _disorder(side: str, key: bytes, last: bytes) -> DisorderError:
    return DisorderError(f"the {side} stream is not in ascending order: {key.hex()} after {last.hex()}")


def join(
    left: Iterable[tuple[bytes, Left]], right: Iterable[tuple[bytes, Right]]
) -> Iterator[tuple[bytes, Left | None, Right | None]]:
    """Walk two streams of (key, item) in ascending key order.

    Yields:
        ``(key, left item or None, right item or None)`` for every key of either stream, ascending.

    Raises:
        DisorderError: keys repeat or go back within one stream.
    """
    lefts, rights = _ascending(left, "left"), _ascending(right, "right")
    one, other = next(lefts, None), next(rights, None)
    while one is not None and other is not None:
        if one[0] == other[0]:
            yield one[0], one[1], other[1]
            one, other = next(lefts, None), next(rights, None)
        elif one[0] < other[0]:
            yield one[0], one[1], None
            one = next(lefts, None)
        else:
            yield other[0], None, other[1]
            other = next(rights, None)
    while one is not None:
        yield one[0], one[1], None
        one = next(lefts, None)
    while other is not None:
        yield other[0], None, other[1]
        other = next(rights, None)


def _ascending(stream: Iterable[tuple[bytes, Left]], side: str) -> Iterator[tuple[bytes, Left]]:
    last = b""
    for key, item in stream:
        if key <= last:
            raise _disorder(side, key, last)
        last = key
        yield key, item


@dataclass(frozen=True, slots=True)
class Stretch:
    """Keys that follow each other and are in both streams, or in one of them.

    Attributes:
        keys: all of them, one after the other.
        left: the left items; None where the left stream has none of these keys.
        right: the same of the right one.
    """

    keys: bytes
    left: Sequence[bytes] | None
    right: Sequence[bytes] | None


def join_pages(left: Iterable[KeyedPage], right: Iterable[KeyedPage], size: int) -> Iterator[Stretch]:
    """The join of two streams of pages, where they agree by the page: together, the stretches are what it gives.

    Args:
        left: pages that have items, ascending as a whole.
        right: the same.
        size: bytes of a key.

    Raises:
        DisorderError: keys repeat or go back within one stream.
    """
    one, other = _Pages(left, "left", size), _Pages(right, "right", size)
    while True:
        here, there = one.more(), other.more()
        if not (here and there):
            if not (here or there):
                return
            yield _of_one(one if here else other, None, is_left=here)
        elif one.is_equal_to(other):
            keys, items = one.take(None)
            other.pass_by(keys)
            yield Stretch(keys, items, items)
        elif common := _common(one.keys, other.keys, size):
            keys, items = one.take(common)
            yield Stretch(keys, items, other.take(common)[1])
        else:
            is_left = one.keys[:size] < other.keys[:size]
            alone, border = (one, other.keys[:size]) if is_left else (other, one.keys[:size])
            yield _of_one(alone, alone.below(border), is_left=is_left)


def _of_one(alone: _Pages, count: int | None, *, is_left: bool) -> Stretch:
    keys, items = alone.take(count)
    return Stretch(keys, items, None) if is_left else Stretch(keys, None, items)


def _common(one: bytes, other: bytes, size: int) -> int:
    """How many keys both begin with."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length // size
    return first(length // size, lambda place: one[: (place + 1) * size] != other[: (place + 1) * size])


def first(count: int, holds: Callable[[int], bool]) -> int:
    """The first place where something holds that holds from there on, else `count`."""
    return bisect_left(range(count), True, key=holds)


class _Pages:
    """One stream of :func:`join_pages`: its newest page, and how much of that was taken."""

    def __init__(self, pages: Iterable[KeyedPage], side: str, size: int) -> None:
        self._pages = iter(pages)
        self._side = side
        self._size = size
        self._page: KeyedPage | None = None
        self._at = 0
        self._last = b""

    def more(self) -> bool:
        """Whether there are further items; the next page is read where all of this one were taken."""
        while self._page is None or not self._page.body:
            self._page, self._at = next(self._pages, None), 0
            if self._page is None:
                return False
        return True

    @property
    def keys(self) -> bytes:
        """Those of the page that were not taken; at least one, in order.

        Raises:
            DisorderError: they repeat or go back.
        """
        assert self._page is not None  # noqa: S101  there are further items
        if not self._at:
            self._check(self._page.keys)
        return self._page.keys[self._at * self._size :]

    def is_equal_to(self, other: _Pages) -> bool:
        """Whether both are at the beginning of pages that are equal."""
        assert self._page is not None  # noqa: S101
        assert other._page is not None  # noqa: S101
        return not self._at and not other._at and self._page.body == other._page.body

    def below(self, border: bytes) -> int:
        """How many of its keys come before one."""
        keys, size = self.keys, self._size
        return first(len(keys) // size, lambda place: keys[place * size : (place + 1) * size] >= border)

    def take(self, count: int | None) -> tuple[bytes, Sequence[bytes]]:
        """The next keys and items, `count` of them; None for what is left of the page."""
        assert self._page is not None  # noqa: S101
        keys, items = self.keys, self._page.records
        start, whole = self._at, len(keys) // self._size
        if count is None or count == whole:
            self._page = None
            self._last = keys[-self._size :]
            return keys, items[start:] if start else items
        self._at += count
        return keys[: count * self._size], items[start : start + count]

    def pass_by(self, keys: bytes) -> None:
        """The page was taken with an equal one, whose keys these are."""
        self._check(keys[: self._size])
        self._page, self._last = None, keys[-self._size :]

    def _check(self, keys: bytes) -> None:
        last, size = self._last, self._size
        for start in range(0, len(keys), size):
            key = keys[start : start + size]
            if key <= last:
                raise _disorder(self._side, key, last)
            last = key


Item = TypeVar("Item")
Sliced = TypeVar("Sliced", Sequence[Any], memoryview)


def in_parts(items: Sliced, size: int) -> Iterator[Sliced]:
    """Slices of at most `size` items, in order; of bytes in memory without copying them."""
    yield from (items[start : start + size] for start in range(0, len(items), size))


def parts(items: Iterable[Item], size: int = 500) -> Iterator[list[Item]]:
    """Lists of at most `size` items, of what is read only once."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part
