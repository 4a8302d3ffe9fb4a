"""How near vectors are, pair by pair: the measure of a sample that was embedded again. It judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.embed.vectors import Vector, as_vector

#: The cosine of two vectors that can't be compared: another kind, size or number of rows.
INCOMPARABLE = -1.0


def cosines(left: Sequence[Any], right: Sequence[Any]) -> NDArray[np.float64]:
    """The cosine of each pair, in order.

    Args:
        left: dense, multi- or sparse vectors, in any form that an embedder or a store returns.
        right: as many.

    Returns:
        One value per pair, as :func:`lowest_cosine` has it.

    Raises:
        ValueError: a different number of vectors, or something that is not a vector.
    """
    pairs = zip(left, right, strict=True)
    return np.array([lowest_cosine(one, other) for one, other in pairs], dtype=np.float64)


def lowest_cosine(one: Any, other: Any) -> float:
    """The cosine of two vectors from -1 to 1; of two multivectors that of their farthest rows.

    Two zero vectors count as equal; vectors that differ in kind, size or number of rows have -1.

    Raises:
        ValueError: one of them is not a vector.
    """
    return _pair(as_vector(one), as_vector(other))


def _pair(one: Vector, other: Vector) -> float:
    if isinstance(one, dict) and isinstance(other, dict):
        return _sparse(one, other)
    if isinstance(one, dict) or isinstance(other, dict) or one.shape != other.shape:
        return INCOMPARABLE
    rows, others = np.atleast_2d(one).astype(np.float64), np.atleast_2d(other).astype(np.float64)
    if not len(rows):
        return 1.0
    return min(_cosine(row, counterpart) for row, counterpart in zip(rows, others, strict=True))


def _sparse(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> float:
    places = {index: place for place, index in enumerate(dict.fromkeys(one["indices"] + other["indices"]))}
    spread = np.zeros((2, len(places)), dtype=np.float64)
    for row, vector in zip(spread, (one, other), strict=True):
        for index, value in zip(vector["indices"], vector["values"], strict=True):
            row[places[index]] += value
    return _cosine(spread[0], spread[1])


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0.0:
        return 1.0 if not one.any() and not other.any() else 0.0
    return float(np.clip(np.dot(one, other) / norms, -1.0, 1.0))
