"""Writing the base of a rebuild: pages per generation, in versions of which one counts; and forgetting it.

It also notes the points that a pass is about to make again: see :meth:`BaseWrites.mark_dirty`. It reads no page.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, and_, bindparam, delete, select, update

from qmigrate.ledger import codec
from qmigrate.ledger.fence import Fenced, next_number, upsert
from qmigrate.ledger.tables import bases, carries, dirty, fingerprints
from qmigrate.model.transform import PointId

#: Ids of one statement.
_IDS_AT_ONCE = 500
#: How a base that is begun now digests its points: SHA-256 with the ledger's key, 128 bits of it.
KEYED = "sha256-128"
#: Where the range of a point is not known.
ANY_RANGE = -1


class BaseWrites(Fenced):
    """The part of a lease that writes bases."""

    def stage_base(self, physical: str, range_number: int, pages: Sequence[bytes]) -> None:
        """Append pages of a new pass; they are not visible before :meth:`commit_base`."""
        with self._write() as connection:
            committed, staged = _head(connection, physical)
            if staged is None:
                staged = (committed or 0) + 1
                _put(connection, physical, staged=staged)
            append_pages(connection, physical, staged, range_number, pages)

    def begin_base(self, physical: str, like: str) -> None:
        """Begin again under a name, with digests of the same kind as another base, whose entries it takes."""
        with self._write() as connection:
            other = connection.execute(select(bases.c.digest).where(bases.c.generation == like)).first()
            values = {"committed": None, "staged": None, "digest": KEYED if other is None else other.digest}
            upsert(connection, bases, {"generation": physical}, values)
        self._sweep(physical)

    def commit_base(self, physical: str, *, seen: bool = True) -> None:
        """The staged pages, or none when nothing was staged, replace the committed base at once.

        Args:
            seen: they are what a pass over all points has read, so those that it has recomputed count again.
        """
        with self._write() as connection:
            committed, staged = _head(connection, physical)
            _put(connection, physical, committed=staged if staged is not None else (committed or 0) + 1, staged=None)
            if seen:
                connection.execute(delete(dirty).where(dirty.c.generation == physical))
        self._sweep(physical)

    def replace_pages(
        self, physical: str, pages: Mapping[tuple[int, int], bytes], added: Mapping[int, bytes]
    ) -> None:
        """Replace single pages of the committed base, at once: all of them count, or none.

        Args:
            pages: (number of the range, number of the page) -> its new body.
            added: number of a range -> one further page.
        """
        with self._write() as connection:
            committed, _ = _head(connection, physical)
            table = fingerprints.c
            mine = and_(table.generation == physical, table.version == (committed or 0))
            where = and_(mine, table.range_number == bindparam("number"), table.page == bindparam("place"))
            rows = [{"number": number, "place": page, "content": body} for (number, page), body in pages.items()]
            if rows:
                connection.execute(update(fingerprints).where(where).values(body=bindparam("content")), rows)
            for number, body in added.items():
                append_committed(connection, physical, number, [body])

    def settle_dirty(self, physical: str) -> None:
        """What was recomputed was read again, and the base has it: every entry of it counts."""
        with self._write() as connection:
            connection.execute(delete(dirty).where(dirty.c.generation == physical))

    def mark_dirty(self, physical: str, range_number: int, keys: Sequence[bytes]) -> None:
        """These points are about to be recomputed: until the next commit the base is not valid for them.

        Else a process that dies before it leaves a target that was made of a source that no base has seen, and a
        source that is written back in between would look as if nothing had happened.

        Args:
            range_number: of the base; :data:`ANY_RANGE` where it isn't known.
            keys: order keys, all of one length.
        """
        if not keys:
            return
        with self._write() as connection:
            where = and_(dirty.c.generation == physical, dirty.c.range_number == range_number)
            values = {"range_number": range_number, "page": next_number(connection, dirty.c.page, where)}
            connection.execute(dirty.insert().values(generation=physical, **values, body=b"".join(keys)))

    def forget_dirty(self, physical: str, keys: Collection[bytes]) -> None:
        """Take order keys out of what :meth:`mark_dirty` has kept; their entries must be out of the base already."""
        size = len(next(iter(keys), b"?"))
        mine = dirty.c.generation == physical
        with self._write() as connection:
            for row in connection.execute(select(dirty).where(mine)).all():
                kept = (row.body[at : at + size] for at in range(0, len(row.body), size))
                body = b"".join(key for key in kept if key not in keys)
                where = and_(mine, dirty.c.range_number == row.range_number, dirty.c.page == row.page)
                if body != row.body:
                    connection.execute(update(dirty).where(where).values(body=body))

    def discard_stage(self, physical: str) -> None:
        """Forget staged pages, also those that a dead process left behind."""
        with self._write() as connection:
            if _head(connection, physical)[1] is not None:
                _put(connection, physical, staged=None)
        self._sweep(physical)

    def drop_base(self, physical: str) -> None:
        """Forget the base altogether; no error when there is none."""
        with self._write() as connection:
            connection.execute(delete(bases).where(bases.c.generation == physical))
            connection.execute(delete(dirty).where(dirty.c.generation == physical))
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
        _put(connection, physical, committed=committed)
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


def _put(connection: Connection, physical: str, **values: int | None) -> None:
    upsert(connection, bases, {"generation": physical}, values, digest=KEYED)


def _head(connection: Connection, physical: str) -> tuple[int | None, int | None]:
    row = connection.execute(select(bases.c.committed, bases.c.staged).where(bases.c.generation == physical)).first()
    return (None, None) if row is None else (row.committed, row.staged)
