"""Points that could not be embedded: recorded, listed, settled. It embeds nothing and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, select, update

from qmigrate.ledger import codec
from qmigrate.ledger.codec import Quarantined
from qmigrate.ledger.fence import Fenced
from qmigrate.ledger.tables import quarantine
from qmigrate.model.transform import PointId

#: Ids in one statement: below what the databases take as parameters.
_IDS = 500


class QuarantineWrites(Fenced):
    """The part of a lease that writes the quarantine."""

    def quarantine(
        self, physical: str, run: int | None, failed: Sequence[Quarantined], cured: Sequence[PointId] = ()
    ) -> None:
        """Record points that failed, and take out those that have gone well since; one transaction.

        A point that fails again is another attempt, not another row.
        """
        with self._write() as connection:
            _forget(connection, physical, cured)
            save_quarantined(connection, self.collection, physical, run, failed, self.ledger.database.now())

    def resolve_quarantine(self, resolutions: Mapping[tuple[str, PointId, str], str]) -> None:
        """Mark rows, by (generation, id, vector), as settled, with how; one that is settled stays as it is."""
        now = self.ledger.database.now()
        with self._write() as connection:
            for (physical, point_id, vector), how in resolutions.items():
                mine = and_(_row(physical, point_id, vector), quarantine.c.resolved_at.is_(None))
                values = {"resolved_at": now, "resolution": codec.readable(how)}
                connection.execute(update(quarantine).where(mine).values(**values))


def save_quarantined(
    connection: Connection,
    collection: str,
    physical: str,
    run: int | None,
    failed: Sequence[Quarantined],
    now: Any,
) -> None:
    """Insert or update rows of one generation inside a transaction."""
    for one in failed:
        values = {
            "outcome": one.outcome,
            "stage": one.stage,
            "message": codec.readable(one.reason),
            "source": codec.readable(one.source) if one.source is not None else None,
            "digest": one.digest,
            "run": run,
            "updated_at": now,
            "resolved_at": None,
            "resolution": None,
        }
        where = _row(physical, one.point_id, one.vector)
        again = update(quarantine).where(where).values(**values, attempts=quarantine.c.attempts + 1)
        if connection.execute(again).rowcount == 0:
            key = {"generation": physical, "point_id": codec.id_text(one.point_id), "vector": one.vector}
            first = {"collection": collection, "attempts": 1, "created_at": now}
            connection.execute(quarantine.insert().values(**key, **values, **first))


def _forget(connection: Connection, physical: str, ids: Sequence[PointId]) -> None:
    texts = [codec.id_text(identifier) for identifier in ids]
    for first in range(0, len(texts), _IDS):
        some = quarantine.c.point_id.in_(texts[first : first + _IDS])
        connection.execute(delete(quarantine).where(quarantine.c.generation == physical, some))


def _row(physical: str, point_id: PointId, vector: str) -> ColumnElement[bool]:
    return and_(
        quarantine.c.generation == physical,
        quarantine.c.point_id == codec.id_text(point_id),
        quarantine.c.vector == vector,
    )


def of_generations(physical: Sequence[str], *, settled: bool) -> Select[Any]:
    """The rows of these generations, by generation, age and id."""
    table = quarantine
    query = select(table).where(table.c.generation.in_(list(physical)))
    if not settled:
        query = query.where(table.c.resolved_at.is_(None))
    return query.order_by(table.c.generation, table.c.created_at, table.c.point_id, table.c.vector)


def quarantined_of(row: RowMapping) -> Quarantined:
    """A row as a value."""
    return Quarantined(
        point_id=codec.known_id(row["point_id"]),
        vector=row["vector"],
        outcome=row["outcome"],
        stage=row["stage"],
        reason=row["message"],
        source=row["source"],
        digest=bytes(row["digest"]) if row["digest"] is not None else None,
        generation=row["generation"],
        run=row["run"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        resolved_at=row["resolved_at"],
        resolution=row["resolution"],
    )
