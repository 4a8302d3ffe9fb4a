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
#: Links of a point in a graph where nothing is declared, and bytes of what a link takes there: `m` links on each upper
#: level and twice as many on the lowest one, which are compressed but for small `m`.
LINKS, _LINK = 16, 8
#: Candidates for a link while a graph is built, where nothing is declared.
CANDIDATES = 100
#: Bytes of a value after quantization, by its kind.
_QUANTIZED: Mapping[str, float] = {"scalar": 1, "product": 0.25, "binary": 0.125}
_COMPRESSIONS: Mapping[str, float] = {"x4": 1, "x8": 0.5, "x16": 0.25, "x32": 0.125, "x64": 0.0625}
_ENCODINGS: Mapping[str, float] = {"two_bits": 0.25, "one_and_half_bits": 0.1875}
#: No machine has more memory or disk: what a server reports beyond it is not a limit at all (2^63 and the like).
MOST_ROOM = 2**53


def graph_of(schema: CollectionSchema, params: Mapping[str, Any]) -> dict[str, Any]:
    """What is declared of the graph of a dense vector: its own settings, else those of the collection."""
    return {**(schema.config.get("hnsw_config") or {}), **(params.get("hnsw_config") or {})}


@dataclass(frozen=True, slots=True)
class Weight:
    """What was measured; nothing of an empty collection, whose declaration has to do.

    Attributes:
        points: how many were read.
        payload: bytes of a payload, on average.
        values: numbers in a vector by name, on average over all points: those that lack it count as none.
        rows: the same of its rows, of which a dense vector has one; of sparse ones nothing.
        multi: those of them that are multivectors.
    """

    points: int = 0
    payload: float = PAYLOAD
    values: Mapping[str, float] = field(default_factory=dict)
    rows: Mapping[str, float] = field(default_factory=dict)
    multi: frozenset[str] = frozenset()

    def per_point(self, schema: CollectionSchema, sources: Mapping[str, str] | None = None) -> int:
        """Bytes of a point under a schema.

        Args:
            sources: target vector <- measured vector, where their names differ. What was not measured is new, and
                counts as declared. Of what was, the size is that of the schema, which a revision may change.
        """
        named = sources or {}
        total = ID + self.payload
        for name, params in schema.vectors.items():
            total += self._numbers(named.get(name, name), params) * BYTES.get(params.get("datatype", ""), 4)
        for name, params in schema.sparse.items():
            values = self.values.get(named.get(name, name), SPARSE_VALUES)
            # Each has an index of 4 bytes.
            total += values * (4 + BYTES.get((params.get("index") or {}).get("datatype", ""), 4))
        return round(total)

    def in_memory(self, schema: CollectionSchema, sources: Mapping[str, str] | None = None) -> int:
        """Bytes of a point that a server wants in memory: vectors, what they are quantized to, and their graphs.

        What is declared to lie on disk counts as none of it, nor do payloads and their indexes.

        Args:
            sources: as in :meth:`per_point`.
        """
        named, total = sources or {}, float(ID)
        for name, params in schema.vectors.items():
            numbers = self._numbers(named.get(name, name), params)
            quantization = params.get("quantization_config") or schema.config.get("quantization_config")
            each, always = _quantized(quantization)
            cold = _cold(params)
            total += 0 if cold else numbers * BYTES.get(params.get("datatype", ""), 4)
            total += numbers * each if always or not cold else 0
            graph = graph_of(schema, params)
            links = graph.get("m")
            total += 0 if _cold(graph) else _LINK * (LINKS if links is None else int(links))
        for name, params in schema.sparse.items():
            index = params.get("index") or {}
            values = self.values.get(named.get(name, name), SPARSE_VALUES)
            total += 0 if _cold(index) else values * (4 + BYTES.get(index.get("datatype", ""), 4))
        return round(total)

    def _numbers(self, measured: str, params: Mapping[str, Any]) -> float:
        """Numbers that a point has in a dense vector of a schema: what is there has as many rows, of another size."""
        several = bool(params.get("multivector_config"))
        rows = self.rows.get(measured)
        if rows is None or several != (measured in self.multi):
            # New, or of another kind: how many rows it will have can't be seen.
            return self.values[measured] if measured in self.values and rows is None else _declared(params)
        return rows * int(params.get("size", 0))


def _quantized(config: Any) -> tuple[float, bool]:
    """Bytes of a value, and whether it is kept in memory wherever the vector is."""
    if not isinstance(config, Mapping):
        return 0.0, False
    kind = next(iter(config), "")
    told = config.get(kind) or {}
    each = _QUANTIZED.get(kind, 1.0)
    each = _COMPRESSIONS.get(str(told.get("compression")), _ENCODINGS.get(str(told.get("encoding")), each))
    return each, bool(told.get("always_ram")) or told.get("memory") == "pinned"


def _cold(params: Mapping[str, Any]) -> bool:
    """Whether it lies on disk, and is read from there."""
    placed = params.get("memory")
    return placed == "cold" if placed is not None else bool(params.get("on_disk"))


def _declared(params: Mapping[str, Any]) -> int:
    return int(params.get("size", 0)) * (ROWS if params.get("multivector_config") else 1)
