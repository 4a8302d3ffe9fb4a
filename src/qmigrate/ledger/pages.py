"""Writing the base of a rebuild: pages per generation, in versions of which one counts; and forgetting it.

It reads no page.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, delete, select, update

from qmigrate.ledger import codec
from qmigrate.ledger.fence import Fenced, next_number, upsert
from qmigrate.ledger.tables import bases, carries, fingerprints
from qmigrate.model.transform import PointId

#: Ids of one statement.
_IDS_AT_ONCE = 500


class BaseWrites(Fenced):
    """The part of a lease that writes bases."""

    def stage_base(self, physical: str, range_number: int, pages: Sequence[bytes]) -> None:
        """Append pages of a new pass; nobody sees them before :meth:`commit_base`."""
        with self._write() as connection:
            committed, staged = _head(connection, physical)
            if staged is None:
                staged = (committed or 0) + 1
                upsert(connection, bases, {"generation": physical}, {"staged": staged})
            append_pages(connection, physical, staged, range_number, pages)

    def commit_base(self, physical: str) -> None:
        """The staged pages, or none when nothing was staged, replace the committed base at once."""
        with self._write() as connection:
            committed, staged = _head(connection, physical)
            now = staged if staged is not None else (committed or 0) + 1
            upsert(connection, bases, {"generation": physical}, {"committed": now, "staged": None})
        self._sweep(physical)

    def discard_stage(self, physical: str) -> None:
        """Forget staged pages, also those that a dead process left behind."""
        with self._write() as connection:
            if _head(connection, physical)[1] is not None:
                upsert(connection, bases, {"generation": physical}, {"staged": None})
        self._sweep(physical)

    def drop_base(self, physical: str) -> None:
        """Forget the base altogether; no error when there is none."""
        with self._write() as connection:
            connection.execute(delete(bases).where(bases.c.generation == physical))
        self._sweep(physical)

    def carried_for_sure(self, run: int, step: int, ids: Sequence[PointId]) -> None:
        """It is proven that these late writes met nothing: there is nothing doubtful about them."""
        mine = and_(carries.c.run == run, carries.c.step == step)
        for first in range(0, len(ids), _IDS_AT_ONCE):
            texts = [codec.id_text(one) for one in ids[first : first + _IDS_AT_ONCE]]
            with self._write() as connection:
                connection.execute(update(carries).where(mine, carries.c.point_id.in_(texts)).values(reason=None))

    def drop_carries(self, run: int, step: int) -> None:
        """Forget the late writes of a step: the generation that they were carried from is gone.

        The doubtful ones stay: the history names them.
        """
        mine = and_(carries.c.run == run, carries.c.step == step, carries.c.reason.is_(None))
        with self._write() as connection:
            connection.execute(delete(carries).where(mine))

    def _sweep(self, physical: str) -> None:
        """Delete pages of versions that don't count, range by range: one delete could outlast the lease."""
        while True:
            with self._write() as connection:
                committed, staged = _head(connection, physical)
                # Neither is ever 0.
                counting = fingerprints.c.version.in_([committed or 0, staged or 0])
                stale = connection.execute(
                    select(fingerprints.c.version, fingerprints.c.range_number)
                    .where(fingerprints.c.generation == physical, ~counting)
                    .limit(1)
                ).first()
                if stale is None:
                    return
                connection.execute(
                    delete(fingerprints).where(
                        fingerprints.c.generation == physical,
                        fingerprints.c.version == stale.version,
                        fingerprints.c.range_number == stale.range_number,
                    )
                )


def append_committed(connection: Connection, physical: str, range_number: int, pages: Sequence[bytes]) -> None:
    """Append pages to the base that counts; it is made when there is none."""
    committed, _ = _head(connection, physical)
    if committed is None:
        committed = 1
        upsert(connection, bases, {"generation": physical}, {"committed": committed})
    append_pages(connection, physical, committed, range_number, pages)


def append_pages(
    connection: Connection, physical: str, version: int, range_number: int, pages: Sequence[bytes]
) -> None:
    """Append pages to one range of one version."""
    if not pages:
        return
    where = and_(
        fingerprints.c.generation == physical,
        fingerprints.c.version == version,
        fingerprints.c.range_number == range_number,
    )
    first = next_number(connection, fingerprints.c.page, where)
    rows = [
        {
            "generation": physical,
            "version": version,
            "range_number": range_number,
            "page": page,
            "body": bytes(body),
        }
        for page, body in enumerate(pages, first)
    ]
    connection.execute(fingerprints.insert(), rows)


def _head(connection: Connection, physical: str) -> tuple[int | None, int | None]:
    row = connection.execute(select(bases.c.committed, bases.c.staged).where(bases.c.generation == physical)).first()
    return (None, None) if row is None else (row.committed, row.staged)
