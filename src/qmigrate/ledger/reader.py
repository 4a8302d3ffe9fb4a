"""Reading the ledger. It never writes, and a database without tables is an empty ledger, not an error."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Select, and_, case, func, or_, select, tuple_

from qmigrate.errors import LedgerError
from qmigrate.ledger import codec, schema, tables
from qmigrate.ledger.bases import ANY_RANGE
from qmigrate.ledger.codec import Carry, DeletionRow, HistoryRow, LeaseRow, Leaving, Quarantined, Range, RunRow, View
from qmigrate.ledger.database import Database
from qmigrate.ledger.fence import Owner, system_user
from qmigrate.ledger.quarantine import of_generations, quarantined_of
from qmigrate.ledger.writer import OPEN_STATES, UNCHANGED
from qmigrate.model.facts.phases import Sweep
from qmigrate.model.facts.stored import loaded
from qmigrate.model.plan import APPLYING, ASIDE, SQUASHED, Build, Job
from qmigrate.model.state import DELETING, Applied, Generation, Moment, OpenRun
from qmigrate.model.transform import PointId

#: How far the clocks of Qdrant, of this host and of the database may be apart: a copy that was made so shortly after
#: an erasure counts as older, so that an erased point never comes back.
CLOCKS = timedelta(minutes=5)


class ErasureReads(ABC):
    """The part of a ledger with the erasures."""

    @abstractmethod
    def rows(self, query: Select[Any]) -> list[Any]:
        """The rows of a query over the ledger's tables; none while there are no tables."""

    def erased(
        self, collection: str, ids: Collection[PointId], *, made: datetime | None = None, space: int | None = None
    ) -> set[PointId]:
        """Those of `ids` that an old copy must not bring back; a page of them at a time.

        Args:
            made: when the copy was made. What the application wrote after an erasure may be in later copies; None
                where that isn't known, so that every erased id counts.
            space: which ids the copy has, as :mod:`qmigrate.engine.points.id_spaces` numbers them; None for any.
        """
        table, texts = tables.erasures, [codec.id_text(one) for one in ids]
        columns = (table.c.point_id, table.c.id_spaces, table.c.erased_at)
        found = self.rows(select(*columns).where(table.c.collection == collection, table.c.point_id.in_(texts)))
        return {codec.known_id(row["point_id"]) for row in found if _counts(row, made, space)}

    def erasures(self, collection: str) -> int:
        """How many points no old copy may bring back."""
        table = tables.erasures
        rows = self.rows(select(func.count().label("points")).where(table.c.collection == collection))
        return int(rows[0]["points"]) if rows else 0

    def builds(self, collection: str) -> dict[str, Build]:
        """Generation -> how it was made, for all whose run is in the ledger; the newest run counts."""
        runs = tables.runs
        query = select(runs.c.job).where(runs.c.collection == collection).order_by(runs.c.id)
        jobs = (row["job"] for row in self.rows(query))
        building = (one for one in jobs if any(step["kind"] == Build.kind for step in one["steps"]))
        steps = (step for one in building for step in Job.from_json(one).steps)
        return {step.target: step for step in steps if isinstance(step, Build)}

    def built_by(self, collection: str) -> dict[str, dict[str, str]]:
        """Generation -> the checksums that the revisions of its run had, by revision; the newest run counts."""
        runs = tables.runs
        query = select(runs.c.job, runs.c.checksums).where(runs.c.collection == collection).order_by(runs.c.id)
        return {
            str(step["target"]): dict(row["checksums"] or {})
            for row in self.rows(query)
            for step in row["job"]["steps"]
            if step["kind"] == Build.kind
        }


def _counts(row: Any, made: datetime | None, space: int | None) -> bool:
    """Whether an erasure is about a copy; any doubt counts."""
    if made is not None and row["erased_at"] is not None and made > row["erased_at"] + CLOCKS:
        return False
    return space is None or row["id_spaces"] is None or space in row["id_spaces"]


#: Rows of the history by which a revision is applied, or undone.
_DECIDES = tables.history.c.direction.not_in(ASIDE)
#: Rows that are asked for by their numbers at once: databases take no more values than some thousands.
AT_ONCE = 1000
#: Pages of a base that are read at once; a page is some hundred KiB at most.
PAGES_AT_ONCE = 8
_Rows = dict[tuple[str, str], Any]


class LedgerReader(ErasureReads):
    """All SQL state of qmigrate. It only reads; :meth:`hold` gives the lease that writes.

    Attributes:
        database: the connection.
        url_label: where it is, for people, without secrets.
        named: who writes, as it was given; None for the user of the system.
        metadata: further facts of the caller, recorded with every run.
    """

    def __init__(self, database: Database, named: str | None = None, metadata: Mapping[str, Any] | None = None) -> None:
        self.database = database
        self.url_label = database.label
        self.named = named
        self.metadata = dict(metadata or {})
        self._is_ready = False
        self._key: bytes | None = None
        self._fold: tuple[list[Any], _Rows, _Rows] = ([], {}, {})
        self._passing_key = secrets.token_bytes(schema.KEY_SIZE)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        schema: str | None = None,
        file_systems: Collection[str] = (),
        actor: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """A ledger at a SQLAlchemy URL. Nothing is connected or made yet.

        Args:
            url: of SQLite or PostgreSQL.
            schema: PostgreSQL schema of the tables; None for the connection's default.
            file_systems: where a SQLite file may lie besides file systems that are known to be local.
            actor: who writes, for every record; None for the user of the system.
            metadata: further facts of the caller, plain JSON; they go into the audit.

        Raises:
            ConfigError: the URL can't be used.
            LedgerError: a SQLite file on a file system that is not known to be local.
        """
        return cls(Database(url, schema, file_systems=file_systems), actor, metadata)

    @property
    def actor(self) -> str:
        """Who writes, for the record."""
        return self.named or system_user()

    def __repr__(self) -> str:
        return f"Ledger({self.url_label!r})"

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def prepare(self) -> str:
        """Create or evolve the tables, once; safe when several processes do it at once.

        Returns:
            The ledger's id, as it is written into seals.

        Raises:
            LedgerError: unreachable, not writable, of a newer qmigrate, or a table of the user is in the way.
        """
        return schema.prepare(self.database)

    @contextmanager
    def _read(self) -> Iterator[Connection | None]:
        """A reading transaction, or None while there are no tables."""
        if not self.database.exists:
            yield None
            return
        with self.database.reading() as connection:
            if not self._is_ready:
                found = schema.version(connection, self.database.schema)
                if found is not None:
                    schema.check_version(found, self.url_label)
                self._is_ready = found is not None
            yield connection if self._is_ready else None

    def rows(self, query: Select[Any]) -> list[Any]:
        """The rows of a query over the ledger's tables; none while there are no tables."""
        return self._rows(query)

    def _rows(self, query: Select[Any]) -> list[Any]:
        with self._read() as connection:
            return [] if connection is None else list(connection.execute(query).mappings())

    def identity(self) -> str | None:
        """The ledger's id, or None while it has none."""
        return next((row["id"] for row in self._rows(select(tables.ledger.c.id))), None)

    def ready(self) -> bool:
        """Whether the tables exist at this version."""
        with self._read() as connection:
            return connection is not None

    def collections(self) -> dict[str, View]:
        """The current view, by logical name; rows that an application wrote by itself are left out."""
        views = tables.views
        query = select(views).where(views.c.updated_at.is_not(None)).order_by(views.c.collection_name)
        return {row["collection_name"]: codec.view_of(row) for row in self._rows(query)}

    def away(self) -> frozenset[str]:
        """Logical names that nothing has any more: dropped by a revision, or lost, and that is recorded."""
        return frozenset(name for name, view in self.collections().items() if view.physical is None)

    def applied(self, collection: str) -> tuple[Applied, ...]:
        """What is applied to a collection, oldest first; what was undone is left out."""
        return tuple(codec.applied_of(*row) for row in self._folded(collection)[0].values())

    def all_applied(self) -> dict[str, tuple[Applied, ...]]:
        """The same for every collection, with one statement."""
        found: dict[str, list[Applied]] = {}
        for (collection, _), row in self._folded()[0].items():
            found.setdefault(collection, []).append(codec.applied_of(*row))
        return {name: tuple(entries) for name, entries in found.items()}

    def passed(self, collection: str | None = None) -> dict[str, frozenset[str]]:
        """Logical name -> squashed revisions that are recorded as passed."""
        found = self._folded(collection)[1]
        return {name: frozenset(one for other, one in found if other == name) for name in {name for name, _ in found}}

    def _folded(self, collection: str | None = None) -> tuple[_Rows, _Rows]:
        """(collection, revision) -> the row that counts and what served before it, as applied; and that as passed."""
        history = tables.history.c
        # Rows are added and never changed: as long as none was, the last answer, which threads share, is that of now.
        newest = [*self._tuples(select(func.count(), func.max(history.id))), collection]
        kept = self._fold
        if kept[0] == newest:
            return kept[1:]
        # SQL finds what decides, and only rows that count are read: there are many, with long schemas and reports.
        squashed = func.max(case((history.direction == SQUASHED, history.id)))
        query = select(func.max(case((_DECIDES, history.id))), squashed)
        if collection is not None:
            query = query.where(history.collection == collection)
        decided = self._tuples(query.group_by(history.collection, history.revision))
        applied = self._counting([one for one, _ in decided if one is not None], APPLYING)
        passed = self._counting([past for one, past in decided if past is not None and past > (one or 0)], {SQUASHED})
        self._fold = kept = (newest, applied, {key: row for key, (row, _) in passed.items()})
        return kept[1:]

    def _counting(self, numbers: Sequence[int], directions: Collection[str]) -> _Rows:
        """Of rows of the history those of some directions, oldest first, each with what served before it."""
        history, earlier = tables.history, tables.history.alias()
        before = and_(earlier.c.collection == history.c.collection, earlier.c.id < history.c.id)
        # What is squashed names the generation that serves once what is recorded with it has ended: not before.
        some = and_(before, earlier.c.direction != SQUASHED, earlier.c.physical.is_not(None))
        left = select(earlier.c.physical).where(some).order_by(earlier.c.id.desc()).limit(1).scalar_subquery()
        query, found = select(history, left.label("left")).where(history.c.direction.in_(directions)), list[Any]()
        for first in range(0, len(numbers), AT_ONCE):
            found += self._rows(query.where(history.c.id.in_(numbers[first : first + AT_ONCE])))
        found.sort(key=lambda row: int(row["id"]))
        return {(row["collection"], row["revision"]): (row, row["left"]) for row in found}

    def _tuples(self, query: Any) -> list[Any]:
        with self._read() as connection:
            return [] if connection is None else list(connection.execute(query))

    def moments(self, collection: str) -> tuple[Moment, ...]:
        """What was applied after each entry of the history, oldest first: what a snapshot of an earlier time holds."""
        history = tables.history
        query = select(history).where(history.c.collection == collection).order_by(history.c.id)
        return codec.moments_of(self._rows(query))

    def generations(self, collection: str) -> tuple[Generation, ...]:
        """Every generation of a collection, oldest first."""
        table = tables.generations
        query = select(table).where(table.c.collection == collection).order_by(table.c.number)
        return tuple(codec.generation_of(row) for row in self._rows(query))

    def view(self, collection: str) -> View | None:
        """The current view of one logical name, or None."""
        views = tables.views
        query = select(views).where(views.c.collection_name == collection, views.c.updated_at.is_not(None))
        return next((codec.view_of(row) for row in self._rows(query)), None)

    def physicals(self) -> dict[str, str]:
        """Physical name -> logical name, for every generation that is not gone."""
        table = tables.generations
        query = select(table.c.physical, table.c.collection).where(table.c.state != "gone").order_by(table.c.number)
        return {row["physical"]: row["collection"] for row in self._rows(query)}

    def all_generations(self) -> dict[str, tuple[Generation, ...]]:
        """The same for every collection that has one, with one statement."""
        table = tables.generations
        found: dict[str, list[Generation]] = {}
        for row in self._rows(select(table).order_by(table.c.collection, table.c.number)):
            found.setdefault(row["collection"], []).append(codec.generation_of(row))
        return {name: tuple(entries) for name, entries in found.items()}

    def due(self, now: datetime) -> tuple[str, ...]:
        """Logical names with a generation that is past its holdover, or was never finished."""
        table = tables.generations
        past = and_(table.c.state == "retired", table.c.held_until <= now)
        query = select(table.c.collection).where(or_(past, table.c.state.in_(("building", DELETING)))).distinct()
        return tuple(sorted(row["collection"] for row in self._rows(query)))

    def leaving(self, collection: str, physical: str) -> Leaving | None:
        """The newest finished go-live away from a generation, or None when the ledger has none."""
        runs, phases = tables.runs, tables.phases
        query = select(runs.c.id, runs.c.job).where(runs.c.collection == collection).order_by(runs.c.id.desc())
        for row in self._rows(query):
            for position, step in reversed(list(enumerate(row["job"]["steps"]))):
                if step["kind"] != "golive" or step["source"] != physical:
                    continue
                journal = select(phases).where(phases.c.run == row["id"], phases.c.step == position)
                found = {record["phase"]: record for record in self._rows(journal)}
                if "close" in found and found["close"]["state"] == "done":
                    told = {name: step[name] for name in ("source", "target", "back", "writes")}
                    left = loaded(Sweep, found["sweep"]["facts"]).left if "sweep" in found else None
                    apart = bool(step.get("apart"))
                    return Leaving(run=row["id"], step=position, **told, left=left, apart=apart)
        return None

    def newest_job(self, collection: str) -> Job | None:
        """The job of a collection's newest run that was not refused or aborted, where that run is done."""
        runs = tables.runs
        where = and_(runs.c.collection == collection, runs.c.state.not_in(("refused", UNCHANGED, "aborted")))
        rows = self._rows(select(runs.c.job, runs.c.state).where(where).order_by(runs.c.id.desc()).limit(1))
        return Job.from_json(rows[0]["job"]) if rows and rows[0]["state"] == "done" else None

    def jobs(self, collection: str) -> list[Job]:
        """The jobs of every run of a collection, newest first."""
        query = select(tables.runs.c.job).where(tables.runs.c.collection == collection)
        return [Job.from_json(row["job"]) for row in self._rows(query.order_by(tables.runs.c.id.desc()))]

    def open_run(self, collection: str) -> OpenRun | None:
        """The newest unfinished run of a collection, or None; an abort is newer than what it aborts."""
        return next(reversed(self._open_runs(tables.runs.c.collection == collection)), None)

    def open_runs(self) -> tuple[OpenRun, ...]:
        """Every unfinished run, oldest first."""
        return self._open_runs()

    def _open_runs(self, *where: Any) -> tuple[OpenRun, ...]:
        runs, leases, phases = tables.runs, tables.leases, tables.phases
        where_it_runs = (leases.c.host.label("lease_host"), leases.c.boot_id, leases.c.pid_namespace)
        holder = (leases.c.expires_at, leases.c.released, *where_it_runs, leases.c.pid, leases.c.process_start)
        query = (
            select(runs, *holder, self.database.now().label("now"))
            .outerjoin_from(runs, leases, leases.c.name == runs.c.collection)
            .where(runs.c.state.in_(OPEN_STATES), *where)
            .order_by(runs.c.id)
        )
        with self._read() as connection:
            if connection is None:
                return ()
            found = []
            for row in list(connection.execute(query).mappings()):
                # Those of no step are figures, for people.
                mine = and_(phases.c.run == row["id"], phases.c.step >= 0)
                journal = select(phases).where(mine).order_by(phases.c.step, phases.c.position)
                records = tuple(codec.record_of(record) for record in connection.execute(journal).mappings())
                alive = row["expires_at"] is not None and row["expires_at"] > row["now"]
                # One that has released its lease has ended in good order.
                dead = row["released"] is False and Owner.current().proves_dead({**row, "host": row["lease_host"]})
                found.append(codec.open_run_of(row, records, leased=alive and not dead, is_dead=dead))
        return tuple(found)

    def history(self, collection: str | None = None, limit: int | None = None) -> list[HistoryRow]:
        """Revisions applied and undone, newest first."""
        table = tables.history
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if collection is not None:
            query = query.where(table.c.collection == collection)
        return [codec.history_of(row) for row in self._rows(query)]

    def dropped_in_place(self, collection: str, physical: str) -> frozenset[str]:
        """Vectors that a generation has lost while it served, also where one of that name was added again since."""
        table = tables.history
        mine = and_(table.c.collection == collection, table.c.physical == physical, table.c.strategy == "in_place")
        changes = (change for row in self._rows(select(table.c.changes).where(mine)) for change in row["changes"])
        return frozenset(one["name"] for one in changes if one["kind"] in ("vector.drop", "sparse.drop"))

    def runs(
        self, collection: str | None = None, limit: int | None = None, *, ids: Iterable[int] | None = None
    ) -> list[RunRow]:
        """Every attempt, newest first.

        Args:
            ids: only these.
        """
        table = tables.runs
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if ids is not None:
            query = query.where(table.c.id.in_(tuple(ids)))
        if collection is not None:
            query = query.where(table.c.collection == collection)
        return [codec.run_of(row) for row in self._rows(query)]

    def deletions(self, limit: int | None = None) -> list[DeletionRow]:
        """The audit of deletions, newest first; with what the application wrote into that table itself."""
        table = tables.deletions
        return [codec.deletion_of(row) for row in self._rows(select(table).order_by(table.c.id.desc()).limit(limit))]

    def deletion(self, number: int) -> DeletionRow | None:
        """One row of that audit."""
        if not 0 < number < 1 << 63:
            return None  # no database would take it for a number of one
        query = select(tables.deletions).where(tables.deletions.c.id == number)
        return next(map(codec.deletion_of, self._rows(query)), None)

    def leases(self) -> list[LeaseRow]:
        """Who holds, or last held, which collection."""
        table = tables.leases
        query = select(table, self.database.now().label("now")).order_by(table.c.name)
        return [
            LeaseRow(
                **{name: row[name] for name in ("name", "owner", "host", "epoch", "expires_at")},
                expired=row["expires_at"] <= row["now"],
            )
            for row in self._rows(query)
        ]

    def _accepted(self) -> list[Any]:
        return self._rows(select(tables.accepted).order_by(tables.accepted.c.id))

    def applied_checksums(self) -> dict[str, str]:
        """Revision -> checksum for what is applied or passed anywhere; the newest row or acceptance counts."""
        applied, passed = self._folded()
        rows = [*((key, row) for key, (row, _) in applied.items()), *passed.items()]
        newest = {revision: row for (_, revision), row in sorted(rows, key=lambda one: int(one[1]["id"]))}
        checksums = {revision: row["checksum"] for revision, row in newest.items()}
        for row in self._accepted():
            if row["revision"] in newest and row["created_at"] >= newest[row["revision"]]["created_at"]:
                checksums[row["revision"]] = row["checksum"]
        return checksums

    def ranges(self, run: int, step: int) -> tuple[Range, ...]:
        """The shares of a copy, in the order of ids; empty before they are fixed."""
        table = tables.ranges
        query = select(table).where(table.c.run == run, table.c.step == step).order_by(table.c.number)
        return tuple(codec.range_of(row) for row in self._rows(query))

    def has_base(self, physical: str) -> bool:
        """Whether there is a committed base under this name; it may be empty."""
        return self._committed(physical) is not None

    def _committed(self, physical: str) -> int | None:
        query = select(tables.bases.c.committed).where(tables.bases.c.generation == physical)
        return next((row["committed"] for row in self._rows(query)), None)

    def digest_key(self, physical: str) -> bytes | None:
        """The key under which the points of a base are digested; None where it was begun before there was one.

        Raises:
            LedgerError: the ledger has no key.
        """
        found = self._rows(select(tables.bases.c.digest).where(tables.bases.c.generation == physical))
        return None if found and found[0]["digest"] is None else self.own_key()

    def own_key(self) -> bytes:
        """The ledger's own key, under which digests are made from now on.

        While there are no tables, so that no digest can be kept, it is one that goes with this object.

        Raises:
            LedgerError: it has none.
        """
        if self._key is None:
            rows = self._rows(select(tables.ledger.c.digest_key))
            if not rows:
                return self._passing_key
            if rows[0]["digest_key"] is None:
                raise LedgerError(
                    f"the ledger ({self.url_label}) has no key for digests: its row of qdrant_ledger was changed",
                    hint="restore that row from a backup of the ledger",
                )
            self._key = bytes(rows[0]["digest_key"])
        return self._key

    def dirty(self, physical: str, range_number: int | None = None) -> Iterator[bytes]:
        """Pages of order keys of points for which the base is not valid: see :meth:`BaseWrites.mark_dirty`."""
        table = tables.dirty
        query = select(table.c.body).where(table.c.generation == physical)
        if range_number is not None:
            query = query.where(table.c.range_number.in_([range_number, ANY_RANGE]))
        return (bytes(row["body"]) for row in self._rows(query))

    def base_pages(self, physical: str, range_number: int | None = None) -> Iterator[bytes]:
        """The committed base, in the order of ranges and pages; read in portions, no transaction stays open.

        Args:
            physical: the name under which it was written.
            range_number: restrict to one range.

        Raises:
            LedgerError: it was replaced while being read.
        """
        version = self._committed(physical)
        if version is None:
            return
        table = tables.fingerprints
        where = and_(table.c.generation == physical, table.c.version == version)
        if range_number is not None:
            where = and_(where, table.c.range_number == range_number)
        place = (-1, -1)
        while True:
            query = (
                select(table.c.range_number, table.c.page, table.c.body)
                .where(where, tuple_(table.c.range_number, table.c.page) > place)
                .order_by(table.c.range_number, table.c.page)
                .limit(PAGES_AT_ONCE)
            )
            rows = self._rows(query)
            # Checked after the pages: they are only deleted once another version counts.
            if self._committed(physical) != version:
                raise LedgerError(
                    f"the base of {physical} was replaced while it was read", hint="run the command again"
                )
            for row in rows:
                yield bytes(row["body"])
            if len(rows) < PAGES_AT_ONCE:
                return
            place = (rows[-1]["range_number"], rows[-1]["page"])

    def base_heads(self, physical: str, size: int) -> list[tuple[int, int, bytes]]:
        """Of each page of the committed base: its range, its number there, and its first bytes; in order.

        Args:
            size: how many bytes.
        """
        table, version = tables.fingerprints.c, self._committed(physical)
        query = (
            select(table.range_number, table.page, func.substr(table.body, 1, size).label("head"))
            .where(table.generation == physical, table.version == (version or 0))
            .order_by(table.range_number, table.page)
        )
        return [(row["range_number"], row["page"], bytes(row["head"] or b"")) for row in self._rows(query)]

    def some_base_pages(self, physical: str, range_number: int, pages: Collection[int]) -> dict[int, bytes]:
        """Single pages of the committed base, by their numbers, as far as there are such."""
        table, version = tables.fingerprints.c, self._committed(physical)
        mine = and_(table.generation == physical, table.version == (version or 0))
        where = (mine, table.range_number == range_number, table.page.in_(pages))
        return {row["page"]: bytes(row["body"]) for row in self._rows(select(table.page, table.body).where(*where))}

    def carries(self, run: int, step: int) -> list[Carry]:
        """Late writes that this step carried over or listed."""
        table = tables.carries
        query = select(table).where(table.c.run == run, table.c.step == step).order_by(table.c.point_id)
        return [codec.carry_of(row) for row in self._rows(query)]

    def late_writes(
        self, collection: str | None = None, *, run: int | None = None
    ) -> Iterator[tuple[int, Job, list[tuple[int, Carry]]]]:
        """Runs that have carried or listed late writes, newest first: id, job, and (step, late write) of each."""
        runs, table = tables.runs, tables.carries
        query = select(runs.c.id, runs.c.job).where(runs.c.id.in_(select(table.c.run).distinct()))
        if collection is not None:
            query = query.where(runs.c.collection == collection)
        if run is not None:
            query = query.where(runs.c.id == run)
        for found in self._rows(query.order_by(runs.c.id.desc())):
            mine = select(table).where(table.c.run == found["id"])
            rows = self._rows(mine.order_by(table.c.step, table.c.point_id))
            yield found["id"], Job.from_json(found["job"]), [(int(row["step"]), codec.carry_of(row)) for row in rows]

    def quarantined(self, physical: str) -> int:
        """How many points of a generation could not be embedded, and are not settled."""
        table = tables.quarantine
        open_rows = and_(table.c.generation == physical, table.c.resolved_at.is_(None))
        rows = self._rows(select(func.count(table.c.point_id.distinct()).label("points")).where(open_rows))
        return int(rows[0]["points"]) if rows else 0

    def quarantine(self, physical: Sequence[str], *, settled: bool = False) -> list[Quarantined]:
        """Points of these generations that could not be embedded, oldest first; with `settled` all that ever were."""
        return [quarantined_of(row) for row in self._rows(of_generations(physical, settled=settled))]


def present(ledger: LedgerReader) -> datetime:
    """The same, to compare with what the ledger has recorded; where there are no tables yet there is nothing of that.

    A host whose own clock is wrong must not take what others keep for expired.
    """
    rows = ledger.rows(select(ledger.database.now().label("now")))
    return rows[0]["now"] if rows else datetime.now(UTC)


def clock(ledger: LedgerReader) -> datetime:
    """The time of the ledger's database.

    Raises:
        LedgerError: there are no tables yet.
    """
    rows = ledger.rows(select(ledger.database.now().label("now")))
    if not rows:
        raise LedgerError("the ledger has no tables yet", hint="the first command that writes creates them")
    moment: datetime = rows[0]["now"]
    return moment
