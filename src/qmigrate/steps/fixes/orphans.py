"""Points without a row, and rows without a point: one ordered walk over the ids of both, and a second look.

SQL and Qdrant are not read at one instant: a row that is being inserted, or a point whose row is not committed yet,
looks like an orphan. So a stray goes only when it is seen again after a while, once every earlier transaction has
ended, and when its id has no row right before it is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed
from qmigrate.ledger.clock import clock
from qmigrate.model import statement
from qmigrate.model.fix import Entry, Found
from qmigrate.model.ids import differing, points_of
from qmigrate.model.schema import JsonObject
from qmigrate.model.share import between
from qmigrate.model.transform import PointId
from qmigrate.rows import Moment, Query, Rows
from qmigrate.steps.export import described
from qmigrate.steps.fixes import sighting
from qmigrate.steps.fixes.by_field import ByField
from qmigrate.steps.fixes.missing import collecting
from qmigrate.steps.fixes.protocol import Place, check_cap
from qmigrate.steps.fixes.removal import Removal
from qmigrate.steps.fixes.sighting import Sighting
from qmigrate.steps.fixes.spill import spilling
from qmigrate.store import records

#: How much longer than the grace a transaction may stay open, in seconds.
PATIENCE = 600.0


class Orphans(Removal):
    """Deletes strays; see :class:`qmigrate.operations.deletion.DeleteOrphans`, whose edit it takes.

    Args:
        place: where it looks.
        edit: besides what the operation has: ``missing_to`` and ``missing_table`` (where to report rows without a
            point), ``sample`` (only this many points and rows at random; only read).
    """

    def __init__(self, place: Place, edit: JsonObject) -> None:
        super().__init__(place, edit)
        sql = edit["sql"]
        self._field: str | None = edit.get("id_field")
        cut = statement.cut(sql["sql"])
        if cut:
            raise RefusedError(
                f"the query has {cut}: a row that it leaves out would look deleted, and its point an orphan",
                hint="let it return every row that a point may have",
            )
        said = (sql["sql"], sql["key"], (), sql.get("parameters") or {})
        query = Query(*said, of_values=self._field is not None, whole=True)
        self._sql = Rows(place.settings.database(sql["database"]), query, name=sql["database"])
        self._fields = ByField(place, self._sql, self._field) if self._field is not None else None
        # Digests of a first look that was kept; None where every point is read here.
        self._seen: dict[PointId, str] | None = None

    def close(self) -> None:
        """Close the database."""
        super().close()
        self._sql.close()

    def audit(self, facts: JsonObject) -> Fixed:
        """Under the word that the seeds' tables have for it."""
        return Fixed("ORPHAN", f"no row on {self._sql.name}", int(facts["changed"]), self._edit.get("reason"), facts)

    def moment(self) -> Moment:
        """When SQL is read, for :meth:`may_hide`.

        Raises:
            RowsError: it is a replica.
        """
        return self._sql.now()

    def may_hide(self, moment: Moment) -> bool:
        """Whether a transaction of that moment is still open, and may be about to insert rows."""
        return self._sql.open_since(moment)

    def find(self, found: Found) -> Iterator[Entry]:
        """See the base class; a point that is another one than at a first look that was kept is skipped."""
        for entry in super().find(found):
            if self._seen is not None and self._seen.get(entry.id) != entry.before["digest"]:
                found.add("changed_since")
                continue
            yield entry
        if self._fields is not None and self._fields.otherwise:
            found.counts["written_otherwise"] = len(self._fields.otherwise)

    def explain(self, found: Found, met: bool) -> None:
        """See the base class; where it is only a preview, the figures say it.

        Raises:
            RefusedError: as :meth:`check_met`.
        """
        # Of what a first look has kept it was asked then.
        if met and self._place.tick is not None and self._seen is None:
            self.check_met(found)

    def check_met(self, found: Found) -> None:
        """See that a row has a point: else the query is about something else, and all points would be orphans.

        Raises:
            RefusedError: none has, and nobody has seen how many points that means.
        """
        agreed = [name for name in ("expect", "most", "filter", "sample") if self._edit.get(name) is not None]
        rows, strays = found.counts.get("rows", 0), found.counts.get("strays", 0)
        alike = self._fields is not None and self._fields.otherwise
        if agreed or alike or not strays or not rows or found.counts.get("missing", 0) < rows:
            return
        raise RefusedError(
            f"none of the {rows:,} rows that the query on {self._sql.name} returns has a point, so that all {strays:,} "
            f"points of {self._place.collection} would be orphans: nothing was deleted",
            hint="is the key what the points have (--key, --id-field), and is it the right database? --check shows "
            f"both sides; --expect {strays} says that it is so",
            facts={"rows": rows, "points": strays},
        )

    def _candidates(self, found: Found) -> Iterator[list[PointId]]:
        """Strays, ascending; where it is more than a preview, those that are strays the second time too."""
        found.counts.update({"rows": 0, "strays": 0, "missing": 0})
        if self._edit.get("sample") is not None:
            yield from self._parts(iter(self._sampled(found)))
            return
        kept = self._kept()
        if kept is not None:
            found.counts.update(kept.counts)
            found.points = found.points if self._filter is None else kept.points
            self._wait(kept.moment, kept.seen_at, kept.strays)
            for entries in sighting.entries(self._place.ledger, self._place.collection):
                self._seen = {entry.id: entry.before["digest"] for entry in entries}
                yield from self._parts(iter(self._seen))
            return
        self._sql.now()
        if self._filter is not None:
            # A share of those that may go: of one tenant's points, say, which may be few of all.
            found.points = 0
        with spilling() as strays:
            with collecting(self._place, self._edit, found, self._really_missing) as missing:
                for identifier, is_point in self._walk(found):
                    (strays if is_point else missing).add(identifier)
            found.add("strays", strays.count)
            self._check_rows(found, strays.count)
            if self._place.tick is not None:
                # Before they are read with all their vectors, and before it is waited for.
                check_cap(self._place.collection, Found(found.points, strays.count), self.share())
                # From the end of the first look on: what it saw last may be of a transaction that began during it.
                self._wait(self._sql.now(), clock(self._place.ledger), strays.count)
            yield from self._parts(iter(strays))

    def _kept(self) -> Sighting | None:
        """A first look that was kept for this, where it is more than a preview."""
        place = self._place
        if place.tick is None or not self._edit.get("grace") or self._edit.get("look"):
            return None
        kept = sighting.known(place.ledger, place.collection)
        physical = described(place.store, place.address).physical
        return kept if kept is not None and kept.serves(self._edit, physical, clock(place.ledger)) else None

    def _check_rows(self, found: Found, strays: int) -> None:
        if strays and not found.counts["rows"]:
            raise RefusedError(
                f"the query on {self._sql.name} returns no row at all, so every point of {self._place.collection} "
                "would be an orphan: nothing is done",
                hint="is it the right database, and are the rows there?",
            )

    def _walk(self, found: Found) -> Iterator[tuple[PointId, bool]]:
        """Ids that only one side has, and whether that is Qdrant."""
        if self._fields is not None:
            yield from self._fields.unmatched(found, self._filter)
            return
        place = self._place
        points = place.store.scan_ids(place.address, where=self._filter)
        for part in differing(points, self._sql.pages()):
            found.add("rows", part.rights)
            found.points += part.lefts if self._filter is not None else 0
            for identifier in points_of(part.left):
                yield identifier, True
            for identifier in points_of(part.right):
                yield identifier, False

    def _sampled(self, found: Found) -> list[PointId]:
        """Strays among points at random; rows at random that have no point are counted.

        What was seen is checked a second time, by id: what came or went in between is not an orphan.
        """
        place, most = self._place, int(self._edit["sample"])
        # A replica is refused here too.
        self._sql.now()
        ids = place.store.sample_ids(place.address, most)
        strays = self._matching(sorted(self._matching(ids), key=records.order_key))
        strays &= place.store.fetch_ids(place.address, list(strays))
        rows = [identifier for identifier, _ in self._sql.sample(most)]
        found.counts["rows"] = self._sql.count()
        found.counts.update(sampled=len(ids), sampled_rows=len(rows), strays=len(strays))
        self._check_rows(found, len(strays))
        with collecting(place, self._edit, found, self._really_missing) as missing:
            for identifier in rows:
                missing.add(identifier)
        for name, seen, whole in (("strays", len(ids), found.points), ("missing", len(rows), found.counts["rows"])):
            low, high = between(found.counts[name], seen, whole)
            found.counts.update({f"{name}_at_least": low, f"{name}_at_most": high})
        return sorted(strays, key=records.order_key)

    def _wait(self, first: Moment, began: datetime, strays: int) -> None:
        """The time between the two sightings, and until every transaction of the first one has ended."""
        tick, grace = self._place.tick, float(self._edit.get("grace", 0))
        if tick is None or not strays or not grace or self._edit.get("look"):
            return
        while (waited := (clock(self._place.ledger) - began).total_seconds()) < grace or self._sql.open_since(first):
            if waited > grace + PATIENCE:
                raise self.still_open()
            tick(0, f"second look in {max(0, grace - waited):.0f} s")
            time.sleep(min(1.0, max(0.05, grace - waited)))

    def still_open(self) -> RefusedError:
        """The refusal of a transaction that doesn't end."""
        return RefusedError(
            f"a transaction on {self._sql.name} is open since before the orphans of {self._place.collection} "
            "were looked for, and may be about to insert their rows: nothing was deleted",
            hint="end it (pg_stat_activity shows it), then run it again",
        )

    def _matching(self, ids: Sequence[PointId]) -> set[PointId]:
        """Those that have no row now, asked by id, of those that may go."""
        if self._fields is not None:
            return self._passing(self._fields.strays(ids))
        return self._passing(set(ids) - self._sql.of(ids).keys())

    def _really_missing(self, ids: Sequence[PointId]) -> list[PointId]:
        """Those that have a row and no point, each asked again."""
        place = self._place
        if self._fields is None:
            there = place.store.fetch_ids(place.address, ids)
        elif self._edit.get("sample") is not None or self._fields.finds(
            described(place.store, place.address).schema.indexes.get(str(self._field))
        ):
            there = self._fields.there(ids)
        else:
            # Every look would read the whole collection; the walk has read SQL first, so none of them came late.
            there = set()
        gone = [identifier for identifier in ids if identifier not in there]
        rows = self._sql.of(gone).keys() if gone else set()
        return [identifier for identifier in gone if identifier in rows]
