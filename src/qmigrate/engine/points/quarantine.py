"""The quarantine of a generation that is built: who is in it, on what reading, how many may be. It embeds none."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qmigrate.engine.points.base import digest_of
from qmigrate.engine.work import Work
from qmigrate.errors import EmbedError, QuarantineError, without_secrets
from qmigrate.ledger import Quarantined
from qmigrate.model.facts.phases import Preflight
from qmigrate.model.transform import PointId
from qmigrate.ports import Stored
from qmigrate.store.records import Digest, point_id
from qmigrate.text import counted, quote

KEPT, DROPPED = "kept", "dropped"
#: What is allowed where the settings say nothing: a share of the points, and a count for few points.
USUAL_SHARE, USUAL_COUNT = 0.001, 10
#: Characters of an input that are kept.
SHOWN = 500
#: Reasons that a message names, the most frequent first.
_NAMED = 3


class Quarantine:
    """Points without their vector, on purpose. Threads may share it.

    A point counts as settled while its source is the one that failed: see rule 1 of the design.

    Args:
        work: whose ledger and settings.
        physical: the generation.
        filled: vectors that may be lacking; without any there is nothing to be read.
    """

    def __init__(self, work: Work, physical: str, filled: Sequence[str]) -> None:
        self._work = work
        self._physical = physical
        self._lock = threading.Lock()
        #: Of its points, as the base of the generation has them.
        self.digest = digest_of(work.lease.ledger, physical)
        self._rows: dict[PointId, dict[str, Quarantined]] = {}
        for row in work.lease.ledger.quarantine([physical]) if filled else ():
            self._put(row)

    def __contains__(self, identifier: PointId) -> bool:
        return identifier in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[Quarantined]:
        """Every row, by point."""
        with self._lock:
            found = [row for rows in self._rows.values() for row in rows.values()]
        return iter(found)

    def ids(self, outcome: str) -> list[PointId]:
        """Points of which this became."""
        return list(dict.fromkeys(row.point_id for row in self.rows() if row.outcome == outcome))

    def lacks(self, identifier: PointId, vector: str, source: Stored) -> bool:
        """Whether this reading of a point is known to have no such vector."""
        row = self._rows.get(identifier, {}).get(vector)
        return row is not None and row.outcome == KEPT and row.digest == self.digest(source)

    def dropped(self, identifier: PointId, source: Stored) -> bool:
        """Whether this reading of a point is not in the generation on purpose."""
        if identifier not in self._rows:
            return False
        whole = self.digest(source)
        return any(row.outcome == DROPPED and row.digest == whole for row in self._rows[identifier].values())

    def learn(self, page: Iterable[PointId], failed: Sequence[Quarantined]) -> list[PointId]:
        """Points were made: those that failed are in it now, the others not any more.

        Returns:
            Ids that were in it before, and are to be forgotten in the ledger.
        """
        with self._lock:
            cured = [identifier for identifier in page if self._rows.pop(identifier, None) is not None]
            for row in failed:
                self._put(row)
        return cured

    def record(self, page: Iterable[PointId], failed: Sequence[Quarantined]) -> None:
        """The same, written into the ledger at once."""
        cured = self.learn(page, failed)
        if cured or failed:
            again = {row.point_id for row in failed}
            forgotten = [identifier for identifier in cured if identifier not in again]
            self._work.lease.quarantine(self._physical, self._work.run, failed, forgotten)

    def check(self) -> None:
        """Stop when too many failed.

        Raises:
            QuarantineError: the run is stopped, and can be resumed.
        """
        allowed, points = self._allowed()
        if len(self._rows) <= allowed:
            return
        name = self._work.collection
        reasons = Counter(row.reason for row in self.rows())
        named = "; ".join(f"{count:,}: {reason}" for reason, count in reasons.most_common(_NAMED))
        raise QuarantineError(
            f"{len(self._rows):,} of {counted(points, 'point')} of {name} could not be embedded so far, and "
            f"{allowed:,} may: {named}. The live collection was not touched",
            hint=f"qmigrate fix quarantine {quote(name)} lists them. Repair them and run qmigrate upgrade again: "
            "it continues "
            f"from here; limits.max_quarantine allows more; qmigrate abort {quote(name)} ends the run",
            facts={"quarantined": len(self._rows), "allowed": allowed, "points": points},
        )

    def is_over(self) -> bool:
        """Whether more are in it than may be."""
        return len(self._rows) > self._allowed()[0]

    def _allowed(self) -> tuple[int, int]:
        return allowed(self._work, points_of(self._work))

    def _put(self, row: Quarantined) -> None:
        self._rows.setdefault(row.point_id, {})[row.vector] = row


def allowed(work: Work, points: int) -> tuple[int, int]:
    """How many points may fail, and of how many."""
    wanted = work.settings.limits.max_quarantine
    if wanted is None:
        usual = max(USUAL_COUNT, int(points * USUAL_SHARE))
        # Where all of them fail, it is not the points that are wrong.
        return (min(usual, points - 1) if points else usual), points
    return (wanted if isinstance(wanted, int) else int(points * wanted)), points


def points_of(work: Work) -> int:
    """Points of the source, as the preflight of this run has counted them."""
    return max((work.facts(Preflight, step).points for step in range(len(work.job.steps))), default=0)


def shortened(item: Any) -> str | None:
    """An input, as it is recorded."""
    if not isinstance(item, str):
        return None
    shown = without_secrets(item)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}…"


class Failures:
    """What becomes of the points of one page that can't be filled.

    Args:
        name: of the collection, for messages.
        page: the points, as they will be known.
        read: the same, as they were read.
        how: vector -> ``stop``, ``keep_without_vector`` or ``drop``.
        digest: of the points as they were read; None where nothing is kept.
    """

    def __init__(
        self,
        name: str,
        page: Sequence[Stored],
        read: Sequence[Stored],
        how: Mapping[str, str],
        digest: Digest | None,
    ) -> None:
        self._name = name
        self._page = page
        self._read = read
        self._how = how
        self._digest = digest
        self.rows: list[Quarantined] = []
        self.dropped: set[int] = set()

    def add(self, place: int, vector: str, stage: str, reason: str, item: Any) -> None:
        """A point of the page has no value for a vector.

        Raises:
            EmbedError: its operation has ``stop``.
        """
        identifier, how = point_id(self._page[place]), self._how[vector]
        if how == "stop":
            raise EmbedError(
                f"point {identifier} of {self._name} can't be given vector {vector!r}: {reason}",
                hint='repair the point, or decide about such points: on_failure="keep_without_vector", or "drop"',
            )
        outcome = DROPPED if how == "drop" else KEPT
        if outcome == DROPPED:
            self.dropped.add(place)
        whole = self._digest(self._read[place]) if self._digest is not None else None
        source, why = shortened(item), without_secrets(reason)
        self.rows.append(Quarantined(identifier, vector, outcome, stage, why, source, whole))
