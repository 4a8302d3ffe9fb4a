"""Points without a row, and rows without a point: one ordered walk over the ids of both, and a second look.

SQL and Qdrant are not read at one instant: a row that is being inserted, or a point whose row is not committed yet,
looks like an orphan. So a stray goes only when it is seen again after a while, once every transaction of before has
ended, and when its id has no row right before it is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.model.fix import Found
from qmigrate.model.ids import differing, points_of
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.rows import Moment, Rows
from qmigrate.steps.fixes.protocol import Place
from qmigrate.steps.fixes.removal import Removal, parts
from qmigrate.store import records
from qmigrate.whole import writing

#: Missing ids that are looked for again at a time.
_AT_ONCE = 1000
#: How much longer than the grace a transaction may stay open, in seconds.
_PATIENCE = 600.0


class Orphans(Removal):
    """Deletes strays; see :class:`qmigrate.operations.deletion.DeleteOrphans`, whose edit it takes."""

    def __init__(self, place: Place, edit: JsonObject) -> None:
        super().__init__(place, edit)
        assert self._rows is not None  # noqa: S101  the operation has checked it
        self._sql: Rows = self._rows

    def audit(self, facts: JsonObject) -> Fixed:
        """Under the word that the seeds' tables have for it."""
        return Fixed("ORPHAN", f"no row on {self._sql.name}", int(facts["changed"]), self._edit.get("reason"), facts)

    def _candidates(self, found: Found) -> Iterator[list[PointId]]:
        """Strays, ascending; where it is more than a preview, those that are strays the second time too."""
        found.counts.update({"rows": 0, "strays": 0, "missing": 0})
        first = self._sql.now()
        strays: list[PointId] = []
        with ExitStack() as stack:
            target = self._edit.get("missing_to")
            missing = _Missing(self._place, found, stack.enter_context(writing(Path(target))) if target else None)
            for identifier, is_point in self._walk(found):
                if is_point:
                    strays.append(identifier)
                else:
                    missing.add(identifier)
            missing.flush()
        found.add("strays", len(strays))
        if strays and not found.counts["rows"]:
            raise RefusedError(
                f"the query on {self._sql.name} returns no row at all, so every point of {self._place.collection} "
                "would be an orphan: nothing is done",
                hint="is it the right database, and are the rows there?",
            )
        self._wait(first, len(strays))
        yield from parts(iter(strays))

    def _walk(self, found: Found) -> Iterator[tuple[PointId, bool]]:
        """Ids that only one side has, and whether that is Qdrant."""
        place = self._place
        points = place.store.scan_ids(place.address, where=self._filter)
        for part in differing(points, self._sql.pages()):
            found.add("rows", part.rights)
            for identifier in points_of(part.left):
                yield identifier, True
            for identifier in points_of(part.right):
                yield identifier, False

    def _wait(self, first: Moment, strays: int) -> None:
        """The time between the two sightings, and until every transaction of the first one has ended."""
        tick, grace = self._place.tick, float(self._edit.get("grace", 0))
        if tick is None or not strays or not grace:
            return
        started = time.monotonic()
        while (waited := time.monotonic() - started) < grace or self._sql.open_since(first):
            if waited > grace + _PATIENCE:
                raise RefusedError(
                    f"a transaction on {self._sql.name} is open since before the orphans of {self._place.collection} "
                    "were looked for, and may be about to insert their rows: nothing was deleted",
                    hint="end it (pg_stat_activity shows it), then run it again",
                )
            tick(0, f"second look in {max(0, grace - waited):.0f} s")
            time.sleep(min(1.0, max(0.05, grace - waited)))

    def _matching(self, ids: Sequence[PointId]) -> set[PointId]:
        """Those that have no row now, asked by id."""
        return set(ids) - self._sql.of(ids).keys()


class _Missing:
    """Rows without a point: looked for again by id, counted, and written down where that is wanted."""

    def __init__(self, place: Place, found: Found, out: IO[bytes] | None) -> None:
        self._place = place
        self._found = found
        self._out = out
        self._ids: list[PointId] = []

    def add(self, identifier: PointId) -> None:
        """One more."""
        self._ids.append(identifier)
        if len(self._ids) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Those that really are not there."""
        points = self._place.store.fetch(self._place.address, self._ids, payload=False, vectors=False)
        there = {records.point_id(stored) for stored in points}
        gone = [identifier for identifier in self._ids if identifier not in there]
        self._found.add("missing", len(gone))
        if self._out is not None:
            self._out.write("".join(f"{identifier}\n" for identifier in gone).encode())
        self._ids = []
