"""One form for the vectors that embedders return, and what can be wrong with one. It makes none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qmigrate.model.inference import ServerText

#: A float32 row, float32 rows of a multivector, or a sparse ``{"indices", "values"}``; a text where a server makes it.
Vector = NDArray[np.float32] | dict[str, list[Any]] | ServerText

#: Numbers of one multivector, all rows together, that a server takes.
MOST_NUMBERS = 1024 * 1024 - 1


def as_vector(value: Any) -> Vector:
    """`value` in its one form: lists, arrays and tensors become float32, sparse objects a dict of lists.

    Raises:
        ValueError: it is not a vector; the message completes "it …".
    """
    if isinstance(value, ServerText):
        return value
    if isinstance(value, Mapping):
        if set(value) != {"indices", "values"}:
            raise ValueError('is an object without exactly "indices" and "values"')
        return _sparse(value["indices"], value["values"])
    if hasattr(value, "indices") and hasattr(value, "values") and not callable(value.values):
        return _sparse(value.indices, value.values)
    try:
        # A number beyond float32 becomes infinite here, which the check below then names.
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError("is not a list of numbers, nor rows of one length") from error
    if array.ndim not in (1, 2) or np.ndim(value) == 0:
        raise ValueError(f"has {np.ndim(value)} dimensions instead of 1, or 2 for a multivector")
    return array


def _sparse(indices: Any, values: Any) -> dict[str, list[Any]]:
    try:
        given, numbers = list(indices), [float(number) for number in values]
        whole = [int(index) for index in given]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("has indices or values that are not numbers") from error
    odd = next((one for one, index in zip(given, whole, strict=True) if isinstance(one, bool) or index != one), None)
    if odd is not None:
        raise ValueError(f"has the index {odd!r:.40}, which is not a whole number")
    return {"indices": whole, "values": numbers}


def wrong(vector: Vector, size: int | None) -> str | None:
    """What is wrong with a vector, completing "it …", or None when it can be stored.

    Args:
        vector: from :func:`as_vector`.
        size: wanted length of a row; None accepts any. A sparse vector has none.
    """
    if isinstance(vector, ServerText):
        return None
    if isinstance(vector, dict):
        return _sparse_wrong(vector)
    if vector.size == 0:
        return "is empty"
    if vector.ndim == 2 and vector.size > MOST_NUMBERS:
        return f"has {len(vector):,} rows of {vector.shape[1]:,} values, and a server takes {MOST_NUMBERS:,} numbers"
    if size is not None and vector.shape[-1] != size:
        return f"has {vector.shape[-1]:,} values instead of {size:,}"
    if not np.isfinite(vector).all():
        return "has a value that is not finite"
    if not vector.any():
        return "is all zeros, so it has no direction"
    return None


def _sparse_wrong(vector: Mapping[str, list[Any]]) -> str | None:
    indices, values = vector["indices"], vector["values"]
    if len(indices) != len(values):
        return f"has {len(indices):,} indices but {len(values):,} values"
    if len(set(indices)) != len(indices):
        return "has an index twice"
    if any(not 0 <= index < 2**32 for index in indices):
        return "has an index outside 0 to 2^32 - 1"
    # A server keeps float32, in which a larger number is infinite.
    with np.errstate(over="ignore"):
        if not np.isfinite(np.asarray(values, dtype=np.float32)).all():
            return "has a value that is not finite"
    return None
