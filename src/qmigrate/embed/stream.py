"""Items in, checked vectors out, in batches. An item that fails becomes a value. It touches no points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qmigrate.embed.staged import out_of_memory, settled
from qmigrate.embed.vectors import Vector, as_vector, wrong
from qmigrate.errors import EmbedError
from qmigrate.ports import Embedder
from qmigrate.text import counted

#: What makes vectors of a batch.
Encode = Callable[[Sequence[Any]], Any]

TOO_LARGE = "one item alone is too large for the device's memory"


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that has no vector.

    Attributes:
        index: its position in the items of the call.
        stage: ``read`` when it can't be opened, ``embed`` when the embedder refused it, ``check`` when its vector
            can't be stored.
        message: why, for people.
    """

    index: int
    stage: str
    message: str


def embed_all(embedder: Embedder, items: Sequence[Any], *, size: int | None) -> list[Vector | Failure]:
    """A vector or a :class:`Failure` for every item, in order.

    Equal texts and bytes are embedded once. When the embedder refuses a batch, the batch is halved until the
    item is found; the others get their vectors.

    Args:
        embedder: called with at most its ``max_batch`` items at a time.
        items: what it takes.
        size: wanted length of dense vectors and multivector rows; None accepts any. Sparse ones have none.

    Raises:
        EmbedError: the embedder broke its contract: a different number of vectors than of items.
    """
    first: dict[Any, int] = {}
    places = [first.setdefault(same_vector(item) or position, position) for position, item in enumerate(items)]
    unique = list(first.values())
    results: dict[int, Vector | Failure] = {}
    width = max(1, embedder.max_batch)
    start = 0
    while start < len(unique):
        part = unique[start : start + width]
        made = vectors_of(embedder.embed, [items[place] for place in part], size)
        # What did not fit into memory once is not tried again.
        width = min(width, made.fits or width)
        results.update(zip(part, made.results, strict=True))
        start += len(part)
    return [_at(results[place], position) for position, place in enumerate(places)]


def same_vector(item: Any) -> Any:
    """Equal for items that have the same vector; None for what can't be compared cheaply."""
    return (type(item), item) if isinstance(item, str | bytes) else None


def _at(result: Vector | Failure, position: int) -> Vector | Failure:
    return Failure(position, result.stage, result.message) if isinstance(result, Failure) else result


@dataclass(slots=True)
class Vectors:
    """What a batch became.

    Attributes:
        results: a vector or a failure per item, in order.
        fits: the largest part that went through, where the batch was too large for memory; None where it wasn't.
    """

    results: list[Vector | Failure]
    fits: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a batch: what the model made of it, or why there is nothing.

    Attributes:
        short: whether memory was too short.
    """

    made: Any = None
    failure: Failure | None = None
    short: bool = False


def attempt(encode: Encode, items: Sequence[Any]) -> Attempt:
    """Run a batch once; what it refuses is a value, what is broken is raised."""
    try:
        return Attempt(encode(items))
    except EmbedError as error:
        return Attempt(failure=Failure(0, "embed", error.message))
    except Exception as error:
        if not out_of_memory(error):
            raise
        return Attempt(failure=Failure(0, "embed", TOO_LARGE), short=True)


def vectors_of(encode: Encode, items: Sequence[Any], size: int | None, tried: Attempt | None = None) -> Vectors:
    """Run a batch; halve it where an item is refused or memory is short, down to the item that is at fault.

    Args:
        encode: gets the items, or some of them.
        size: wanted length of a vector; None accepts any.
        tried: what :func:`attempt` has made of these items already.

    Raises:
        EmbedError: a different number of vectors than of items came back.
    """
    tried = tried if tried is not None else attempt(lambda part: settled(encode(part)), items)
    failure, short = tried.failure, tried.short
    if failure is not None:
        if len(items) == 1:
            return Vectors([failure], 1 if short else None)
        middle = len(items) // 2
        halves = [vectors_of(encode, part, size) for part in (items[:middle], items[middle:])]
        fits = [half.fits or (middle if short else None) for half in halves]
        known = [one for one in fits if one is not None]
        results = [_at(one, place) for place, one in enumerate(halves[0].results + halves[1].results)]
        return Vectors(results, min(known) if known else None)
    return checked(settled(tried.made), len(items), size)


def checked(made: Any, count: int, size: int | None) -> Vectors:
    """What a model made of `count` items, with a failure in the place of what can't be stored.

    Raises:
        EmbedError: it is another number of vectors.
    """
    if len(made) != count:
        raise EmbedError(
            f"the embedder returned {counted(len(made), 'vector')} for {counted(count, 'item')}",
            hint="it must return one vector per item, in their order",
        )
    if isinstance(made, np.ndarray) and made.dtype == np.float32 and made.ndim == 2:
        return Vectors(_rows(made, size))
    return Vectors([_checked(value, position, size) for position, value in enumerate(made)])


def _rows(made: np.ndarray[Any, np.dtype[np.float32]], size: int | None) -> list[Vector | Failure]:
    """The usual case at once: only rows that look wrong are checked one by one."""
    good = np.isfinite(made).all(axis=1) & made.any(axis=1)
    if size is not None and made.shape[1] != size:
        good[:] = False
    pairs = enumerate(zip(made, good, strict=True))
    return [row if fine else _checked(row, position, size) for position, (row, fine) in pairs]


def _checked(value: Any, position: int, size: int | None) -> Vector | Failure:
    if isinstance(value, EmbedError):
        return Failure(position, "embed", value.message)
    try:
        vector = as_vector(value)
    except ValueError as error:
        return Failure(position, "check", f"its vector {error}")
    reason = wrong(vector, size)
    return vector if reason is None else Failure(position, "check", f"its vector {reason}")
