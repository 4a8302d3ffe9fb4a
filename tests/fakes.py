"""A store that makes its points up as they are read: for measuring the engine, not Qdrant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from qdrant_client import grpc

from qmigrate.model.state import Capabilities, LiveCollection
from qmigrate.store import records


class Done:
    """A write that is over."""

    def wait(self) -> None:
        """Nothing to wait for."""


class EndlessStore:
    """`count` points in the source, and the same in the target once they were written; nothing is kept."""

    request_timeout = 0.0
    capabilities = Capabilities(
        local=False,
        version=(1, 18, 3),
        label="fake",
        snapshots=False,
        payload_indexes=True,
        vector_names=True,
        barrier=True,
    )

    def __init__(self, schema, count: int, size: int = 64) -> None:
        self.schema = schema
        self.count_points = count
        self.row = np.linspace(0.1, 1.0, size, dtype="<f4").tobytes()
        self.written = 0
        self.names: dict[str, str] = {}

    def aliases(self) -> dict[str, str]:
        """Own aliases only."""
        return dict(self.names)

    def create_alias(self, alias: str, target: str) -> None:
        """Remember it."""
        self.names[alias] = target

    def describe(self, name: str) -> LiveCollection:
        """Always there."""
        return LiveCollection(physical=name, schema=self.schema, points=self.count_points)

    def count(self, name: str, **_kwargs) -> int:
        """As constructed."""
        return self.count_points

    def sample_ids(self, name: str, count: int, *, having: str | None = None) -> list[int]:
        """Evenly spread."""
        return list(range(0, self.count_points, max(1, self.count_points // count)))[:count]

    def barrier(self, name: str) -> dict[str, int]:
        """No other client writes."""
        return {"node/0": 1}

    operation_ids = barrier

    def scan(self, name: str, *, start=None, stop=None, page: int = 1000, **_kwargs) -> Iterator[Sequence]:
        """Pages made on the spot."""
        number, end = start or 0, self.count_points if stop is None else stop
        while number < end:
            upto = min(end, number + page)
            yield [self._point(one) for one in range(number, upto)]
            number = upto

    def fetch(self, name: str, ids, **_kwargs) -> list:
        """Points by id."""
        return [self._point(one) for one in ids]

    def upsert(self, name: str, points, *, new_only: bool = False) -> Done:
        """Count only."""
        self.written += len(points)
        return Done()

    def _point(self, number: int):
        stored = grpc.RetrievedPoint(id=grpc.PointId(num=number))
        stored.payload["n"].integer_value = number
        stored.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire(np.frombuffer(self.row, "<f4")))
        return stored
