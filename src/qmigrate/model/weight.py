"""How many bytes a point takes, measured on a sample of points. An estimate for people; it reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qmigrate.model.schema import CollectionSchema

#: Bytes of a value by datatype; what is not here takes 4.
BYTES: Mapping[str, float] = {"float16": 2, "uint8": 1, "turbo16": 2, "turbo8": 1, "turbo4": 0.5}
#: Bytes of an id with what a server keeps with it, and of a payload that was not read.
ID, PAYLOAD = 50, 150
#: Rows of a multivector, and values of a sparse vector, that were not read.
ROWS, SPARSE_VALUES = 128, 100
#: No machine has more memory or disk: what a server reports beyond it is not a limit at all (2^63 and the like).
MOST_ROOM = 2**53


@dataclass(frozen=True, slots=True)
class Weight:
    """What was measured; nothing of an empty collection, whose declaration has to do.

    Attributes:
        points: how many were read.
        payload: bytes of a payload, on average.
        values: numbers in a vector by name, on average over all points: those that lack it count as none.
    """

    points: int = 0
    payload: float = PAYLOAD
    values: Mapping[str, float] = field(default_factory=dict)

    def per_point(self, schema: CollectionSchema, sources: Mapping[str, str] | None = None) -> int:
        """Bytes of a point under a schema.

        Args:
            sources: target vector <- measured vector, where their names differ. What was not measured is new, and
                counts as declared.
        """
        named = sources or {}
        total = ID + self.payload
        for name, params in schema.vectors.items():
            values = self.values.get(named.get(name, name))
            total += (_declared(params) if values is None else values) * BYTES.get(params.get("datatype", ""), 4)
        for name, params in schema.sparse.items():
            values = self.values.get(named.get(name, name), SPARSE_VALUES)
            # Each has an index of 4 bytes.
            total += values * (4 + BYTES.get((params.get("index") or {}).get("datatype", ""), 4))
        return round(total)


def _declared(params: Mapping[str, Any]) -> int:
    return int(params.get("size", 0)) * (ROWS if params.get("multivector_config") else 1)
