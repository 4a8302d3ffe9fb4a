"""Writing down what is erased, before and after, and taking points out of what the ledger keeps. It reads no point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, delete, func, select, update

from qmigrate.ledger import codec, tables
from qmigrate.ledger.fence import Fenced
from qmigrate.ledger.reader import ErasureReads
from qmigrate.ledger.writer import PhaseKey, journal_in
from qmigrate.model.schema import JsonObject
from qmigrate.model.transform import PointId
from qmigrate.sequences import parts

#: Ids of one statement.
_AT_ONCE = 500
#: Pages that are read in one transaction.
_PAGES = 8


@dataclass(frozen=True, slots=True)
class Noted:
    """What a phase learns by taking something out: written in the transaction that does it, so that no count is lost.

    Attributes:
        key: of the phase, which is running.
        facts: all facts, given the number of rows that are gone; not called when there were none.
    """

    key: PhaseKey
    facts: Callable[[int], JsonObject]


class Erasing(NamedTuple):
    """What tells whether anything was erased between two readings.

    Attributes:
        points: that no old copy may bring back.
        newest: when the last of them was written down.
        unfinished: those of erasures that are not over.
    """

    points: int
    newest: Any
    unfinished: int


def erasing(ledger: ErasureReads, collection: str) -> Erasing:
    """How far erasures from a collection are."""
    table = tables.erasures
    points, over = func.count(table.c.point_id).label("points"), func.count(table.c.erased_at).label("over")
    newest: Any = func.max(table.c.created_at).label("newest")
    query: Select[Any] = select(*(points, over, newest))
    rows = ledger.rows(query.where(table.c.collection == collection))
    if not rows:
        return Erasing(0, None, 0)
    return Erasing(rows[0]["points"], rows[0]["newest"], rows[0]["points"] - rows[0]["over"])


class ErasureWrites(Fenced):
    """The part of a lease that writes erasures."""

    def intend_erasures(self, run: int, ids: Mapping[PointId, Collection[int]], reason: str) -> None:
        """Before the first point goes: from here on no old copy brings these back, however the run ends.

        Args:
            run: that erases them.
            ids: each with the id spaces in which it means an erased point.
        """
        for part in parts(sorted(ids.items(), key=lambda item: str(item[0])), _AT_ONCE):
            with self._write() as connection:
                self._intend(connection, run, dict(part), reason)

    def _intend(self, connection: Connection, run: int, ids: Mapping[PointId, Collection[int]], reason: str) -> None:
        table = tables.erasures
        texts = {str(codec.id_text(one)): sorted(spaces) for one, spaces in ids.items()}
        mine = and_(table.c.collection == self.collection, table.c.point_id.in_(texts))
        actor = connection.scalar(select(tables.runs.c.actor).where(tables.runs.c.id == run))
        for row in connection.execute(select(table.c.point_id, table.c.id_spaces).where(mine)).all():
            texts[row.point_id] = sorted({*texts[row.point_id], *(row.id_spaces or ())})
        connection.execute(delete(table).where(mine))
        fixed = {"collection": self.collection, "run": run, "actor": str(actor), "reason": codec.readable(reason)}
        now = self.ledger.database.now()
        rows = [{**fixed, "point_id": text, "id_spaces": spaces} for text, spaces in texts.items()]
        connection.execute(table.insert().values(created_at=now), rows)

    def settle_erasures(self, run: int) -> None:
        """They are gone everywhere: what is written from now on may be in copies that are made later."""
        table = tables.erasures
        mine = and_(table.c.collection == self.collection, table.c.run == run, table.c.erased_at.is_(None))
        with self._write() as connection:
            connection.execute(update(table).where(mine).values(erased_at=self.ledger.database.now()))

    def forget_quarantined(self, physical: str, ids: Collection[PointId], noted: Noted | None = None) -> int:
        """Take points out of the quarantine of a generation; how many were in it."""
        table = tables.quarantine
        return self._forget(table.c.point_id, ids, table, table.c.generation == physical, noted)

    def forget_carries(self, run: int, step: int, ids: Collection[PointId]) -> int:
        """Take points out of the late writes of a step; how many were there."""
        table = tables.carries
        return self._forget(table.c.point_id, ids, table, and_(table.c.run == run, table.c.step == step))

    def forget_doubtful(self, ids: Collection[PointId]) -> int:
        """Take points out of the doubtful late writes of every run, which outlast their generations; how many."""
        table = tables.carries
        runs = select(tables.runs.c.id).where(tables.runs.c.collection == self.collection)
        return self._forget(table.c.point_id, ids, table, and_(table.c.run.in_(runs), table.c.reason.is_not(None)))

    def _forget(
        self, column: Any, ids: Collection[PointId], table: Any, where: Any, noted: Noted | None = None
    ) -> int:
        gone = 0
        for part in parts(ids, _AT_ONCE):
            texts = [codec.id_text(one) for one in part]
            with self._write() as connection:
                count = connection.execute(delete(table).where(where, column.in_(texts))).rowcount
                self._note(connection, noted, count)
                gone += count
        return gone

    def _note(self, connection: Connection, noted: Noted | None, count: int) -> None:
        if noted is not None and count:
            journal_in(connection, self, noted.key, "running", noted.facts(count))

    def forget_samples(self, ids: Collection[PointId], noted: Noted | None = None) -> int:
        """Take points out of the samples that earlier fixes have shown, in journal and history; how many there were."""
        phases, history, runs = tables.phases, tables.history, tables.runs
        wanted, gone = set(ids), 0
        mine = select(runs.c.id).where(runs.c.collection == self.collection)
        with self._write() as connection:
            key = (phases.c.run, phases.c.step, phases.c.phase)
            query = select(*key, phases.c.facts).where(phases.c.phase == "select", phases.c.run.in_(mine))
            for row in connection.execute(query).all():
                facts, count = _without(row.facts, wanted)
                if count:
                    where = and_(phases.c.run == row.run, phases.c.step == row.step, phases.c.phase == row.phase)
                    connection.execute(update(phases).where(where).values(facts=facts))
                    gone += count
            found = select(history.c.id, history.c.report).where(history.c.collection == self.collection)
            for entry in connection.execute(found).mappings().all():
                report = entry["report"] or {}
                selected, count = _without(report.get("select") or {}, wanted)
                if count:
                    changed = {**report, "select": selected}
                    connection.execute(update(history).where(history.c.id == entry["id"]).values(report=changed))
                    gone += count
            self._note(connection, noted, gone)
        return gone

    def forget_in_jobs(self, ids: Collection[PointId]) -> int:
        """Take points out of what jobs of the background were asked for and have answered; out of how many jobs."""
        jobs, texts, gone = tables.jobs, {str(one) for one in ids}, 0
        with self._write() as connection:
            for row in connection.execute(select(jobs.c.id, jobs.c.arguments, jobs.c.result)).all():
                arguments, result = _unnamed(row.arguments, texts), _unnamed(row.result, texts)
                if (arguments, result) != (row.arguments, row.result):
                    changed = update(jobs).where(jobs.c.id == row.id)
                    connection.execute(changed.values(arguments=arguments, result=result))
                    gone += 1
        return gone

    def rewrite_pages(self, name: str, change: Callable[[bytes], bytes], noted: Noted | None = None) -> int:
        """Put every page of a base or a journal through `change`, where it stands; how many became others."""
        table = tables.fingerprints
        key = (table.c.version, table.c.range_number, table.c.page)
        changed = 0
        with self._write() as connection:
            places = connection.execute(select(*key).where(table.c.generation == name).order_by(*key)).all()
        for first in range(0, len(places), _PAGES):
            with self._write() as connection:
                count = sum(_rewrite(connection, name, place, change) for place in places[first : first + _PAGES])
                self._note(connection, noted, count)
                changed += count
        return changed


def _rewrite(connection: Connection, name: str, place: Any, change: Callable[[bytes], bytes]) -> int:
    table = tables.fingerprints
    where = and_(
        table.c.generation == name,
        table.c.version == place.version,
        table.c.range_number == place.range_number,
        table.c.page == place.page,
    )
    before = bytes(connection.execute(select(table.c.body).where(where)).scalar_one())
    after = change(before)
    if after == before:
        return 0
    connection.execute(update(table).where(where).values(body=after))
    return 1


def _unnamed(found: Any, ids: set[str]) -> Any:
    """Plain JSON of a job without these ids: in a list they are left out, as a value of their own they become None."""
    if isinstance(found, dict):
        named = ("value", "ids", "asset")
        return {
            name: _unnamed(one, ids) if name in named or isinstance(one, dict) else one for name, one in found.items()
        }
    if isinstance(found, list):
        return [one for one in found if str(one) not in ids]
    return None if isinstance(found, int | str) and not isinstance(found, bool) and str(found) in ids else found


def _without(facts: Any, ids: set[PointId]) -> tuple[dict[str, Any], int]:
    """Facts of a selection without some points of its sample, and how many were left out."""
    sample = facts.get("sample") or []
    kept = [one for one in sample if one.get("id") not in ids]
    return {**facts, "sample": kept}, len(sample) - len(kept)
