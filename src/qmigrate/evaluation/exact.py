"""Exact search among the vectors of a sample: dense, sparse, or a row for each token. It asks no store."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of a value as float32, and of one of a sparse vector with its index.
FLOAT, WITH_INDEX = 4, 8


@dataclass(frozen=True, slots=True)
class Searched:
    """The vectors of a sample, to be searched.

    Attributes:
        score: of a question, how near each vector is: an array in their order.
        size: of a vector; of a sparse one its values on average.
        bytes: of a point, on average.
    """

    score: Callable[[Any], NDArray[np.float64]]
    size: int
    bytes: int


def searched(vectors: Sequence[Any], *, idf: bool = False) -> Searched:
    """What searches these vectors, which are all of one kind.

    Args:
        vectors: at least one; dense and rows are compared by cosine, sparse ones by their dot product.
        idf: sparse values are weighed by how rare they are, as a server does with ``modifier=IDF``.

    Raises:
        ValueError: they are of several kinds or sizes; the message completes "it …".
    """
    kinds = {_kind(one) for one in vectors}
    if len(kinds) != 1:
        raise ValueError(f"makes vectors of several kinds: {', '.join(sorted(map(str, kinds)))}")
    first = vectors[0]
    if isinstance(first, Mapping):
        return _sparse(vectors, idf=idf)
    size = int(np.shape(first)[-1])
    if np.ndim(first) == 1:
        rows = unit(np.stack(vectors))
        return Searched(lambda asked: np.asarray(rows @ unit(np.asarray(asked)[None, :])[0]), size, size * FLOAT)
    return _late(vectors, size)


def _kind(vector: Any) -> str:
    if isinstance(vector, Mapping):
        return "sparse"
    return f"{'dense' if np.ndim(vector) == 1 else 'rows'} of {np.shape(vector)[-1]}"


def _sparse(vectors: Sequence[Mapping[str, Any]], *, idf: bool) -> Searched:
    """By an inverted index: most indices of a question are in few vectors."""
    lists: dict[int, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))
    for place, vector in enumerate(vectors):
        for index, value in zip(vector["indices"], vector["values"], strict=True):
            lists[index][0].append(place)
            lists[index][1].append(value)
    known = {index: (np.asarray(places), np.asarray(values)) for index, (places, values) in lists.items()}

    def weight(count: int) -> float:
        return math.log1p((len(vectors) - count + 0.5) / (count + 0.5)) if idf else 1.0

    def score(asked: Mapping[str, Any]) -> NDArray[np.float64]:
        found = np.zeros(len(vectors))
        for index, value in zip(asked["indices"], asked["values"], strict=True):
            if index in known:
                places, values = known[index]
                found[places] += value * weight(len(places)) * values
        return found

    size = math.ceil(sum(len(one["indices"]) for one in vectors) / len(vectors))
    return Searched(score, size, size * WITH_INDEX)


def _late(vectors: Sequence[Any], size: int) -> Searched:
    """MaxSim: each row of a question takes its nearest one of a vector, and these are added up."""
    rows = unit(np.vstack(vectors))
    counts = [len(one) for one in vectors]
    starts = np.concatenate([[0], np.cumsum(counts[:-1])]).astype(np.intp)

    def score(asked: Any) -> NDArray[np.float64]:
        near = unit(np.atleast_2d(np.asarray(asked))) @ rows.T
        return np.asarray(np.maximum.reduceat(near, starts, axis=1).sum(axis=0))

    return Searched(score, size, math.ceil(sum(counts) / len(vectors)) * size * FLOAT)


def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of length one; a row of zeros stays."""
    made = rows.astype(np.float64)
    found: NDArray[np.float64] = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    return found
