"""What reading and searching a little of live collections shows of how long a copy takes. It writes nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qmigrate.commands.session import Session
from qmigrate.errors import QmigrateError
from qmigrate.model.state import LiveCollection
from qmigrate.model.weight import CANDIDATES, Weight, graph_of
from qmigrate.planner.estimate import Trial, has_graph
from qmigrate.ports import Stored
from qmigrate.store import records

#: Seconds for all collections of a plan, and seconds of reading one.
_LONGEST, _READING = 3.0, 0.3
#: Points and bytes of a page; points that are searched by.
_AT_ONCE, _BYTES, _SEARCHES = 500, 4_000_000, 64


class Trials:
    """What reading and searching a little of live collections has shown; each is tried once, within one limit of time.

    It only reads: pages of points as a copy reads them, and searches by the vectors of some.
    """

    def __init__(self, opened: Session) -> None:
        self._opened, self._found = opened, dict[str, Trial | None]()
        self._end = time.monotonic() + _LONGEST

    def of(self, name: str, live: LiveCollection, weight: Weight, *, local: bool) -> Trial | None:
        """Of one collection; where there is no time left, of the one that was tried last."""
        if name not in self._found:
            if time.monotonic() > self._end:
                return next((one for one in reversed(self._found.values()) if one is not None), None)
            try:
                self._found[name] = self._tried(name, live, weight.per_point(live.schema), local=local)
            except QmigrateError:
                # The upgrade reports what is wrong with it.
                self._found[name] = None
        return self._found[name]

    def _tried(self, name: str, live: LiveCollection, weight: int, *, local: bool) -> Trial | None:
        read, some = self._read(name, weight)
        if not read:
            return None
        found = Trial(read, weight)
        dense = {one: params for one, params in live.schema.vectors.items() if not params.get("multivector_config")}
        if local or not dense or not has_graph(live.schema, live.points):
            return found
        at = self._opened.store.readiness(name)
        # Without a graph, or while one is made, a search reads every vector.
        if not at.settled or (at.indexed or 0) < live.points / 2:
            return found
        vector, params = max(dense.items(), key=lambda one: int(one[1].get("size", 0)))
        candidates = int(graph_of(live.schema, params).get("ef_construct") or CANDIDATES)
        messages = (records.vector_messages(one).get(vector) for one in some)
        queries = [records.array_of(one) for one in messages if one is not None][:_SEARCHES]
        seconds = self._searched(name, vector, queries, candidates)
        if seconds is None:
            return found
        return replace(found, search=seconds / max(1, at.segments or 1), values=int(params.get("size", 0)))

    def _read(self, name: str, weight: int) -> tuple[float, Sequence[Stored]]:
        """Seconds per point, of pages that are read until that is enough; and some of the points."""
        some: list[Stored] = []
        count, only, began = 0, 0.0, time.monotonic()
        first = began
        for page in self._opened.store.scan(name, page=max(1, min(_AT_ONCE, _BYTES // max(weight, 1)))):
            now = time.monotonic()
            if some:
                count += len(page)
            else:
                # It waits for what the others find ready, so it counts only where there is no other one.
                some, first, only = list(page[:_SEARCHES]), now, (now - began) / max(1, len(page))
            if now - began > _READING:
                break
        return ((time.monotonic() - first) / count if count else only), some

    def _searched(self, name: str, vector: str, queries: Sequence[Any], candidates: int) -> float | None:
        """Seconds of a search, of as many at the same time as the server likes; None where there is nothing to ask."""
        best: float | None = None
        # What was asked for once is asked for again: the first time much is read from disk.
        for part in (queries[:4], queries, queries):
            if not part or time.monotonic() > self._end:
                break
            began = time.monotonic()
            self._opened.store.nearest(name, vector, part, limit=10, exact=False, ef=candidates)
            best = min(best or math.inf, (time.monotonic() - began) / len(part))
        return best
