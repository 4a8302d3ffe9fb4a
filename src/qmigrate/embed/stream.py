"""Items in, checked vectors out, in batches. An item that fails becomes a value. It touches no points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qmigrate.embed.vectors import Vector, as_vector, wrong
from qmigrate.errors import EmbedError
from qmigrate.ports import Embedder


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that has no vector.

    Attributes:
        index: its position in the items of the call.
        stage: ``embed`` when the embedder refused it, ``check`` when its vector can't be stored.
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
    places = [first.setdefault(_key(item, position), position) for position, item in enumerate(items)]
    unique = list(first.values())
    results: dict[int, Vector | Failure] = {}
    width = max(1, embedder.max_batch)
    for start in range(0, len(unique), width):
        _batch(embedder, items, unique[start : start + width], size, results)
    return [_for(results[place], position) for position, place in enumerate(places)]


def _key(item: Any, position: int) -> Any:
    """Equal for items that have the same vector; a number of its own for what can't be compared cheaply."""
    return (type(item), item) if isinstance(item, str | bytes) else position


def _for(result: Vector | Failure, position: int) -> Vector | Failure:
    return Failure(position, result.stage, result.message) if isinstance(result, Failure) else result


def _batch(
    embedder: Embedder,
    items: Sequence[Any],
    positions: Sequence[int],
    size: int | None,
    results: dict[int, Vector | Failure],
) -> None:
    try:
        made = embedder.embed([items[position] for position in positions])
    except EmbedError as error:
        if len(positions) == 1:
            results[positions[0]] = Failure(positions[0], "embed", error.message)
            return
        middle = len(positions) // 2
        _batch(embedder, items, positions[:middle], size, results)
        _batch(embedder, items, positions[middle:], size, results)
        return
    if len(made) != len(positions):
        raise EmbedError(
            f"the embedder returned {len(made):,} vectors for {len(positions):,} items",
            hint="it must return one vector per item, in their order",
        )
    if isinstance(made, np.ndarray) and made.dtype == np.float32 and made.ndim == 2:
        _check_rows(made, positions, size, results)
        return
    for position, value in zip(positions, made, strict=True):
        results[position] = _checked(value, position, size)


def _check_rows(
    made: np.ndarray[Any, np.dtype[np.float32]],
    positions: Sequence[int],
    size: int | None,
    results: dict[int, Vector | Failure],
) -> None:
    """The usual case at once: only rows that look wrong are looked at one by one."""
    good = np.isfinite(made).all(axis=1) & made.any(axis=1)
    if size is not None and made.shape[1] != size:
        good[:] = False
    for position, row, fine in zip(positions, made, good, strict=True):
        results[position] = row if fine else _checked(row, position, size)


def _checked(value: Any, position: int, size: int | None) -> Vector | Failure:
    if isinstance(value, EmbedError):
        return Failure(position, "embed", value.message)
    try:
        vector = as_vector(value)
    except ValueError as error:
        return Failure(position, "check", f"its vector {error}")
    reason = wrong(vector, size)
    return vector if reason is None else Failure(position, "check", f"its vector {reason}")
