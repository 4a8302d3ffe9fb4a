"""After a crash: which points behind a cursor were written anyway, so none is embedded twice. It writes none."""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointTransform
from qmigrate.operations.values import Embed
from qmigrate.ports import Stored
from qmigrate.steps.judge import Judge
from qmigrate.steps.points import Maker
from qmigrate.steps.work import Work
from qmigrate.store import records


def fits(transform: PointTransform) -> bool:
    """Whether equal payloads have equal vectors, and a point is found under its own id.

    A function may read the old vectors, which the new point doesn't have.
    """
    filled = [transform.values[name] for name in transform.filled]
    return bool(filled) and not transform.rekeys and all(isinstance(one, Embed) for one in filled)


class Written:
    """What an earlier process has written of one range. Writes are in order, so it ends where nothing is there.

    Args:
        physical: the generation that is filled.
    """

    def __init__(self, work: Work, physical: str, maker: Maker) -> None:
        self._work = work
        self._physical = physical
        self._judge = Judge(maker, None)
        self._over = False

    def without(self, page: Sequence[Stored]) -> Sequence[Stored]:
        """The points of a page that are still to be made: all whose counterpart isn't there, or isn't f of them."""
        if self._over:
            return page
        ids = [records.point_id(stored) for stored in page]
        found = self._work.store.fetch(self._physical, ids)
        there = {records.point_id(stored): stored for stored in found}
        self._over = not there
        return [stored for stored in page if not self._is_there(stored, there.get(records.point_id(stored)))]

    def _is_there(self, stored: Stored, counterpart: Stored | None) -> bool:
        return counterpart is not None and self._judge.why_not(stored, counterpart, VerificationReport("", "")) is None
