"""Reading what was erased: ids that no old copy may bring back. It never writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select

from qmigrate.ledger import codec, tables
from qmigrate.model.plan import Build, Job
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
            space: which ids the copy has, as :mod:`qmigrate.steps.erasing.spaces` numbers them; None for any.
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
        found = {}
        for row in self.rows(query):
            if not any(step["kind"] == Build.kind for step in row["job"]["steps"]):
                continue
            for step in Job.from_json(row["job"]).steps:
                if isinstance(step, Build):
                    found[step.target] = step
        return found

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
