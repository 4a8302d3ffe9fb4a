"""Cosine vectors of local mode in one form, whichever way they were stored. It reads and writes no store.

Local mode normalises a cosine vector when it is written, but keeps the values it was given on disk and shows those
after the next start. So both what is written and what is read goes through :func:`unit`: normalised, and rounded
to a grid so much coarser than a float32 that one more normalisation rounds back to the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import models

#: Values are multiples of 2^-20 (about six decimal digits): sixteen times the last digit of a float32 near one.
GRID = 2.0**20
#: Rounding moves the norm a little, so the rounding is repeated until it changes nothing; two rounds are usual.
ROUNDS = 8


def unit(value: list[Any]) -> list[Any]:
    """A dense vector, or every row of a multivector, normalised and on the grid."""
    if value and isinstance(value[0], list):
        return [unit(row) for row in value]
    vector = np.asarray(value, dtype=np.float64)
    for _ in range(ROUNDS):
        norm = np.linalg.norm(vector)
        again = np.round(vector / norm * GRID) / GRID if 0 < norm < np.inf else vector
        if np.array_equal(again, vector):
            break
        vector = again
    return [float(number) for number in vector]


def in_unit_form(vectors: Any, cosine: frozenset[str]) -> Any:
    """The vectors of a point or record with those of `cosine` in unit form.

    Args:
        vectors: as ``PointStruct`` and ``Record`` hold them: a list for the unnamed vector, or by name.
        cosine: names of the vectors with cosine distance; ``""`` is the unnamed one.
    """
    if isinstance(vectors, dict):
        return {
            name: unit(value) if name in cosine and isinstance(value, list) else value
            for name, value in vectors.items()
        }
    return unit(vectors) if isinstance(vectors, list) and "" in cosine else vectors


def cosine_vectors(vectors: Any) -> frozenset[str]:
    """Names of the vectors with cosine distance in a collection's config; ``""`` is the unnamed one."""
    named = vectors if isinstance(vectors, dict) else {"": vectors} if vectors is not None else {}
    return frozenset(name for name, params in named.items() if params.distance == models.Distance.COSINE)
