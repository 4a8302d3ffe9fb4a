"""Points without a row, and rows without a point: one ordered walk over the ids of both, and a second look.

SQL and Qdrant are not read at one instant: a row that is being inserted, or a point whose row is not committed yet,
looks like an orphan. So a stray goes only when it is seen again after a while, once every earlier transaction has
ended, and when its id has no row right before it is deleted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path

from qmigrate.atomic_file import writing
from qmigrate.engine.export import described
from qmigrate.engine.fixes import first_look
from qmigrate.engine.fixes.by_field import ByField
from qmigrate.engine.fixes.delete import Removal
from qmigrate.engine.fixes.first_look import Keeping, Sighting, entries, query_of, spilling
from qmigrate.engine.fixes.journal import write_ids
from qmigrate.engine.fixes.protocol import FixSource, check_cap, consented
from qmigrate.errors import RefusedError
from qmigrate.ledger import Fixed, Lease
from qmigrate.ledger.reader import clock
from qmigrate.model import statement
from qmigrate.model.facts.audit import Audited
from qmigrate.model.facts.edits import Edit, OrphansEdit
from qmigrate.model.facts.stored import loaded
from qmigrate.model.fix import Found, PointEdit
from qmigrate.model.ids import differing, points_of
from qmigrate.model.report import between
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.rows import Moment, Query, Queue, Rows
from qmigrate.store import records

#: Ids that are looked for again at a time.
_AT_ONCE = 1000
#: A file of this kind has a JSON value per line, so that 17 and "17" stay apart.
JSON_LINES = ".jsonl"
#: How many are really missing, of a portion.
Confirm = Callable[[Sequence[PointId]], list[PointId]]


class Missing:
    """Collects what seems to be missing.

    Args:
        found: where those that are get counted.
        confirm: looks for them again.
        sinks: get the ids of those that are.
    """

    def __init__(
        self, found: Found, confirm: Confirm, sinks: Sequence[Callable[[Sequence[PointId]], object]] = ()
    ) -> None:
        self._found = found
        self._confirm = confirm
        self._sinks = sinks
        self._ids: list[PointId] = []

    def add(self, identifier: PointId) -> None:
        """One more."""
        self._ids.append(identifier)
        if len(self._ids) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Look for those that came so far."""
        if not self._ids:
            return
        gone = self._confirm(self._ids)
        self._found.add("missing", len(gone))
        for sink in self._sinks:
            sink(gone)
        self._ids = []


@contextmanager
def collecting(place: FixSource, edit: OrphansEdit, found: Found, confirm: Confirm) -> Iterator[Missing]:
    """A collector with the sinks that an edit names: ``missing_to`` (a file), ``missing_table`` (of its database).

    Raises:
        RowsError: the table doesn't fit; nothing was looked for yet.
        UnavailableError: the file can't be written.
    """
    with ExitStack() as stack:
        sinks: list[Callable[[Sequence[PointId]], object]] = []
        if edit.missing_table and edit.sql is not None:
            database = edit.sql.database
            url = place.settings.database(database)
            queue = stack.enter_context(closing(Queue(url, edit.missing_table, place.collection, name=database)))
            queue.check()
            sinks.append(queue.add)
        if edit.missing_to:
            path = Path(edit.missing_to)
            out, spelt = stack.enter_context(writing(path)), json.dumps if path.suffix == JSON_LINES else str
            sinks.append(lambda ids: out.write("".join(f"{spelt(one)}\n" for one in ids).encode()))
        missing = Missing(found, confirm, sinks)
        yield missing
        missing.flush()


#: How much longer than the grace a transaction may stay open, in seconds.
PATIENCE = 600.0


class Orphans(Removal):
    """Deletes strays; see :class:`qmigrate.operations.deletion.DeleteOrphans`, whose edit it takes.

    Args:
        place: where it looks.
        edit: besides what the operation has: ``missing_to`` and ``missing_table`` (where to report rows without a
            point), ``sample`` (only this many points and rows at random; only read).
    """

    def __init__(self, place: FixSource, edit: JsonObject) -> None:
        super().__init__(place, edit)
        self._asked, self._said_as = loaded(OrphansEdit, edit), edit
        sql = self._asked.sql
        assert sql is not None  # noqa: S101  whatever looks for orphans has a query
        self._field = self._asked.id_field
        cut = statement.cut(sql.sql)
        if cut:
            raise RefusedError(
                f"the query has {cut}: a row that it leaves out would look deleted, and its point an orphan",
                hint="let it return every row that a point may have",
            )
        said = (sql.sql, sql.key, (), sql.parameters or {})
        query = Query(*said, of_values=self._field is not None, whole=True)
        self._sql = Rows(place.settings.database(sql.database), query, name=sql.database)
        self._fields = ByField(place, self._sql, self._field) if self._field is not None else None
        # Digests of a first look that was kept; None where every point is read here.
        self._seen: dict[PointId, str] | None = None

    def close(self) -> None:
        """Close the database."""
        super().close()
        self._sql.close()

    def audit(self, told: Audited) -> Fixed:
        """Under the word that the seeds' tables have for it."""
        return Fixed("ORPHAN", f"no row on {self._sql.name}", told.changed or 0, self._edit.reason, told)

    def moment(self) -> Moment:
        """When SQL is read, for :meth:`may_hide`.

        Raises:
            RowsError: it is a replica.
        """
        return self._sql.now()

    def may_hide(self, moment: Moment) -> bool:
        """Whether a transaction of that moment is still open, and may be about to insert rows."""
        return self._sql.open_since(moment)

    def find(self, found: Found) -> Iterator[PointEdit]:
        """See the base class; a point that is another one than at a first look that was kept is skipped."""
        for entry in super().find(found):
            if self._seen is not None and self._seen.get(entry.id) != entry.digest:
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
            RefusedError: none has, and no user has seen how many points that means.
        """
        asked = self._asked
        agreed = any(one is not None for one in (asked.expect, asked.most, asked.filter, asked.sample))
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
        if self._asked.sample is not None:
            yield from self._parts(iter(self._sampled(found)))
            return
        kept = self._kept()
        if kept is not None:
            found.counts.update(kept.counts)
            found.points = found.points if self._filter is None else kept.points
            self._wait(kept.moment, kept.seen_at, kept.strays)
            for entries in first_look.entries(self._place.ledger, self._place.collection):
                self._seen = {entry.id: entry.digest or "" for entry in entries}
                yield from self._parts(iter(self._seen))
            return
        self._sql.now()
        if self._filter is not None:
            # A share of those that may go: of one tenant's points, say, which may be few of all.
            found.points = 0
        with spilling() as strays:
            with collecting(self._place, self._asked, found, self._really_missing) as missing:
                for identifier, is_point in self._walk(found):
                    (strays if is_point else missing).add(identifier)
            found.add("strays", strays.count)
            self._check_rows(found, strays.count)
            if self._place.tick is not None:
                # Before they are read with all their vectors, and before it is waited for.
                seen, ops = Found(found.points, strays.count), self._place.operations
                check_cap(self._place.collection, seen, self.share(), would="be deleted", operations=ops)
                # From the end of the first look on: what it saw last may be of a transaction that began during it.
                self._wait(self._sql.now(), clock(self._place.ledger), strays.count)
            yield from self._parts(iter(strays))

    def _kept(self) -> Sighting | None:
        """A first look that was kept for this, where it is more than a preview."""
        place = self._place
        if place.tick is None or not self._asked.grace or self._asked.look:
            return None
        kept = first_look.known(place.ledger, place.collection)
        physical = described(place.store, place.address).physical
        return kept if kept is not None and kept.serves(self._said_as, physical, clock(place.ledger)) else None

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
        place, most = self._place, self._asked.sample or 0
        # A replica is refused here too.
        self._sql.now()
        ids = place.store.sample_ids(place.address, most)
        strays = self._matching(sorted(self._matching(ids), key=records.order_key))
        strays &= place.store.fetch_ids(place.address, list(strays))
        rows = [identifier for identifier, _ in self._sql.sample(most)]
        found.counts["rows"] = self._sql.count()
        found.counts.update(sampled=len(ids), sampled_rows=len(rows), strays=len(strays))
        self._check_rows(found, len(strays))
        with collecting(place, self._asked, found, self._really_missing) as missing:
            for identifier in rows:
                missing.add(identifier)
        for name, seen, whole in (("strays", len(ids), found.points), ("missing", len(rows), found.counts["rows"])):
            low, high = between(found.counts[name], seen, whole)
            found.counts.update({f"{name}_at_least": low, f"{name}_at_most": high})
        return sorted(strays, key=records.order_key)

    def _wait(self, first: Moment, began: datetime, strays: int) -> None:
        """The time between the two sightings, and until every transaction of the first one has ended."""
        tick, grace = self._place.tick, self._asked.grace
        if tick is None or not strays or not grace or self._asked.look:
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
        elif self._asked.sample is not None or self._fields.finds(
            described(place.store, place.address).schema.indexes.get(str(self._field))
        ):
            there = self._fields.there(ids)
        else:
            # Every look would read the whole collection; the walk has read SQL first, so none of them came late.
            there = set()
        gone = [identifier for identifier in ids if identifier not in there]
        rows = self._sql.of(gone).keys() if gone else set()
        return [identifier for identifier in gone if identifier in rows]


#: What a second look may find in addition is its own.
_KEPT = ("rows", "strays", "missing", "without_id")


def find_orphans(lease: Lease, place: FixSource, edit: JsonObject) -> Sighting:
    """Look once, and keep it; the one before it counts no more.

    Raises:
        RefusedError: more are strays than the cap allows, or the query returns nothing.
    """
    fix = Orphans(place, {**edit, "look": True})
    found = Found()
    try:
        fix.moment()
        physical = described(place.store, place.address).physical
        keeping = Keeping(lease, _counted(fix.find(found), found))
        try:
            check_cap(
                place.collection, found, fix.share(), most=consented(edit, place.collection), would="be deleted"
            )
            # Of its end: what it saw last may be of a transaction that began while it looked.
            ended, moment = clock(place.ledger), fix.moment()
        except BaseException:
            keeping.drop()
            raise
    finally:
        fix.close()
    counts = {name: found.counts[name] for name in _KEPT if name in found.counts}
    seen = Sighting(query_of(edit), physical, ended, moment, found.points, keeping.strays, counts)
    keeping.keep(seen)
    ids_to = Edit.of(edit).ids_to
    if ids_to:
        write_ids(Path(ids_to), entries(place.ledger, place.collection))
    return seen


def _counted(entries: Iterator[PointEdit], found: Found) -> Iterator[PointEdit]:
    for entry in entries:
        found.changes += 1
        yield entry
