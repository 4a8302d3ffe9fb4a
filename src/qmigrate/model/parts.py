"""Many items in parts of a size. It knows nothing of what they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

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
