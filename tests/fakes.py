"""Stores without a server: one that makes its points up as they are read, and one that numbers its operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from qdrant_client import grpc

from qmigrate.model.ids import pages_of, points_of
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Capabilities, LiveCollection
from qmigrate.ports import Placement, VersionPage
from qmigrate.store import pages, records


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

    def scan_canonical(self, name: str, **kwargs) -> Iterator:
        """The same as bytes, as a store makes them of messages."""
        return map(pages.of_messages, self.scan(name, **kwargs))

    def scan_ready(self, name: str, *, after=None, **kwargs) -> Iterator:
        """The same as they are written."""
        for page in self.scan(name, **kwargs):
            yield from pages.in_batches(pages.unchanged(page), after)

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


class NumberedStore:
    """One collection in memory whose points have the numbers of the operations that last wrote them, shard by shard.

    Points are ``id -> (value, whether it has the vector, number)``. A listing lacks what is in `lacking`, as one next
    to large updates does.
    """

    capabilities = Capabilities(
        local=False,
        version=(1, 19, 0),
        label="numbered",
        snapshots=False,
        payload_indexes=True,
        vector_names=True,
        barrier=True,
        versions=True,
    )

    def __init__(self, shards: int = 2) -> None:
        self.schema = CollectionSchema(vectors={"a": {"size": 2, "distance": "Dot"}})
        self.points: dict = {}
        self.ids = dict.fromkeys(range(shards), 0)
        self.peer = 1
        self.lacking: set = set()
        self.fetched: list = []

    def put(self, identifier, value: int, *, vector: bool = True) -> None:
        """Write a point."""
        self.points[identifier] = (value, vector, self._number(identifier))

    def remove(self, identifier) -> None:
        """Delete a point, which may not be there."""
        self._number(identifier)
        self.points.pop(identifier, None)

    def _number(self, identifier) -> int:
        shard = sum(map(ord, str(identifier))) % len(self.ids)
        self.ids[shard] += 1
        return self.ids[shard]

    def describe(self, name: str) -> LiveCollection:
        """Always there."""
        return LiveCollection(physical=name, schema=self.schema, points=len(self.points))

    def placement(self, name: str) -> Placement:
        """One replica each."""
        return Placement(tuple((shard, self.peer, "Active") for shard in self.ids))

    def operation_ids(self, name: str) -> dict[str, int]:
        """As they are."""
        return {f"node/{shard}": number for shard, number in self.ids.items()}

    def barrier(self, name: str) -> dict[str, int]:
        """One operation of every shard."""
        self.ids = {shard: number + 1 for shard, number in self.ids.items()}
        return self.operation_ids(name)

    def versions(self, name: str, vector: str, *, ids=None) -> Iterator[VersionPage]:
        """Numbers of those with the vector; by id none is lacking."""
        asked = self.points if ids is None else ids
        some = [one for one in asked if one in self.points and self.points[one][1]]
        shown = [one for one in some if ids is not None or one not in self.lacking]
        for page in pages_of(sorted(shown, key=records.order_key)):
            yield VersionPage(page, np.array([self.points[one][2] for one in points_of(page)], np.uint64))

    def count(self, name: str, **_kwargs) -> int:
        """Exactly."""
        return len(self.points)

    def scan_ids(self, name: str, *, where=None, **_kwargs) -> Iterator:
        """All, or those without the vector, in order."""
        found = [one for one, (_, vector, _) in self.points.items() if where is None or not vector]
        yield from pages_of(sorted(found, key=records.order_key))

    def fetch(self, name: str, ids, **_kwargs) -> list:
        """Points by id."""
        self.fetched += ids
        return [self.stored(one) for one in ids if one in self.points]

    def all(self) -> list:
        """Every point with its key, in order."""
        return [(records.order_key(one), self.stored(one)) for one in sorted(self.points, key=records.order_key)]

    def stored(self, identifier):
        """A point as the server answers with it."""
        value, vector, _ = self.points[identifier]
        kind = {"num": identifier} if isinstance(identifier, int) else {"uuid": identifier}
        made = grpc.RetrievedPoint(id=grpc.PointId(**kind))
        made.payload["n"].integer_value = value
        if vector:
            made.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire([1.0, 2.0]))
        return made
