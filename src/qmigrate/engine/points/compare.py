"""Whether one point of the new generation is f(its source): the predicate of the proof. It reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qmigrate.engine.points.base import BaseEntry
from qmigrate.engine.points.transformation import Maker
from qmigrate.model.report import VerificationReport
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.store import records
from qmigrate.store.records import Digest


class Judge:
    """Compares points of two generations under one transform.

    Args:
        maker: f, or None where only "unchanged since the base" can be decided.
        digest: what makes the digests of the base; None where nothing is compared with a base.
        based: whether there is a base. Without one (a clone: no point went through this process) being equal is all
            that can be decided, and enough, as long as f recomputes nothing that could be stale.
        lacking: tells whether a point, by its new id, may lack a filled vector; by default by its quarantine.
    """

    def __init__(
        self,
        maker: Maker | None,
        digest: Digest | None,
        *,
        based: bool = True,
        lacking: Callable[[PointId, str], bool] | None = None,
    ) -> None:
        self._maker = maker
        self._digest = digest
        self._lacking = lacking
        #: Whether a base decides, too.
        self.based = based
        self._equal_is_enough = not based and maker is not None and not maker.transform.filled
        self._loose = maker.tolerances() if maker is not None else {}

    def digest(self, stored: Stored) -> bytes:
        """The digest of a point, as the base has it."""
        assert self._digest is not None  # noqa: S101  who compares with a base says how it digests
        return self._digest(stored)

    def proven(
        self, stored: Stored | None, counterpart: Stored | None, entry: BaseEntry | None, report: VerificationReport
    ) -> BaseEntry | None:
        """The point's new base entry when it is proven; None when it has to be redone.

        A point whose source changed since the base is redone even when its pure part is equal: a vector that is
        embedded may be stale (mutant M10 of the model).
        """
        if stored is None or counterpart is None or self._is_dropped(stored):
            return self._left_out(stored, counterpart, entry, report)
        whole = self.digest(stored)
        if entry is None:
            if not self._equal_is_enough or self.why_not(stored, counterpart, report) is not None:
                return None
            report.proven += 1
            return BaseEntry(whole, self.digest(counterpart))
        if entry.source != whole:
            return None
        seen = self.digest(counterpart)
        if entry.target != seen:
            if self._maker is None or self.why_not(stored, counterpart, report) is not None:
                return None
        elif self._maker is not None:
            self._count_filled(counterpart, report)
        report.proven += 1
        return BaseEntry(whole, seen)

    def _left_out(
        self, stored: Stored | None, counterpart: Stored | None, entry: BaseEntry | None, report: VerificationReport
    ) -> BaseEntry | None:
        """The entry of a point that is on one side only, when it is so on purpose: it could not be embedded."""
        if stored is not None:
            if counterpart is not None or not self._is_dropped(stored):
                return None
            report.proven += 1
            report.dropped += 1
            return BaseEntry(self.digest(stored), records.ABSENT)
        # Going back: what the way forward has dropped is where it was.
        seen = self.digest(counterpart)
        if entry is None or entry.source != records.ABSENT or entry.target != seen:
            return None
        return BaseEntry(records.ABSENT, seen)

    def _is_dropped(self, stored: Stored) -> bool:
        quarantine = self._maker.quarantine if self._maker is not None else None
        if not quarantine:
            # The usual case: no point is asked for its id.
            return False
        identifier = records.point_id(stored)
        return identifier in quarantine and quarantine.dropped(identifier, stored)

    def why_not(self, stored: Stored, counterpart: Stored | None, report: VerificationReport) -> str | None:
        """Why the counterpart is not f(stored), or None when it is."""
        if self._is_dropped(stored):
            if counterpart is not None:
                return "could not be embedded and was to be dropped, but is in the new generation"
            report.dropped += 1
            return None
        if counterpart is None:
            return "is missing in the new generation"
        if self._maker is None:
            return "changed, and the change can't be carried back"
        transform = self._maker.transform
        if transform.is_identity():
            return None if records.same(stored, counterpart) else self._explain(stored, counterpart)
        reason = self._explain(stored, counterpart)
        if reason is None:
            reason = self._filled_wrong(stored, counterpart)
        if reason is None:
            self._count_filled(counterpart, report)
        return reason

    def _explain(self, stored: Stored, counterpart: Stored) -> str | None:
        assert self._maker is not None  # noqa: S101  the caller looked
        transform = self._maker.transform
        return records.difference(self._maker.expected(stored), records.found(counterpart, transform), self._loose)

    def _filled_wrong(self, stored: Stored, counterpart: Stored) -> str | None:
        assert self._maker is not None  # noqa: S101  the caller looked
        messages = records.vector_messages(counterpart)
        for name in self._maker.transform.filled:
            message = messages.get(name)
            if message is None:
                if self._may_lack(name, stored, counterpart):
                    continue
                return f"vector {name!r} is missing"
            reason = _vector_wrong(message, self._maker.schema.vectors.get(name))
            if reason:
                return f"vector {name!r} {reason}"
        return None

    def _may_lack(self, name: str, stored: Stored, counterpart: Stored) -> bool:
        """Whether this very reading of the point is known to have no such vector."""
        if self._lacking is not None:
            return self._lacking(records.point_id(counterpart), name)
        quarantine = self._maker.quarantine if self._maker is not None else None
        return quarantine is not None and quarantine.lacks(records.point_id(counterpart), name, stored)

    def _count_filled(self, counterpart: Stored, report: VerificationReport) -> None:
        assert self._maker is not None  # noqa: S101  the caller looked
        filled = self._maker.transform.filled
        if not filled:
            return
        messages = records.vector_messages(counterpart)
        if all(name in messages for name in filled):
            report.embedded += 1
        else:
            report.without_vector += 1


def _vector_wrong(message: Any, params: Any) -> str | None:
    """What is wrong with a filled vector: not finite, not of the declared size, or lost where it is stored."""
    values = records.array_of(message)
    if not np.isfinite(values).all():
        return "is not finite"
    if params is not None and not values.any():
        # None is written: see embed/vectors.py. Too small for its datatype, or too large to be normalised.
        return "is all zeros as it is stored"
    if params is not None and values.shape[-1] != params["size"]:
        return f"has {values.shape[-1]} values instead of {params['size']}"
    return None
