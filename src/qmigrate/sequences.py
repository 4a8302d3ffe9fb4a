"""The join of two id-ordered streams, walked once in O(1) memory. It neither reads nor writes anything itself.

The same walk serves convergence, deletes made during a copy, the proof, the late-write sweep, rollback that carries
writes, and later the comparison with SQL rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

Left = TypeVar("Left")
Right = TypeVar("Right")


class DisorderError(ValueError):
    """A stream was not in ascending order of its keys, so the join would have lied."""


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
            raise DisorderError(f"the {side} stream is not in ascending order: {key.hex()} after {last.hex()}")
        last = key
        yield key, item


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
