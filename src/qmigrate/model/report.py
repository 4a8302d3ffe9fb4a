"""What a proof, a pass or a sweep found, as plain JSON for the ledger. It decides nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qmigrate.model.facts.stored import UNLEARNED, Unlearned, by_field
from qmigrate.model.schema import JsonObject

#: How the reason begins for one that can't be carried at all.
NOT_BROUGHT = "written to the generation left"
#: Of a late write that inserted what neither side had: a delete of it in between met nothing.
MAY_UNDO = "inserted although neither side had it at the proof: may undo a delete"
#: Of another late write that was carried, unless nothing but our own writes reached the new side.
MAY_OVERWRITE = "carried over while the new generation took other writes"
#: Of one that was carried over what only our own writes had reached, by the versions of points.
MAY_MISS = "carried over what no other write had reached: a request by a filter may not have met it"
#: Of one that was not carried.
KEPT = "both generations took a write; the new one's was kept"
#: How many ids a report names; the counts are always complete.
NAMED_IDS = 20


@dataclass(slots=True)
class Findings:
    """Ids with the reason each was named, at most :data:`NAMED_IDS`, and the complete count."""

    count: int = 0
    named: list[tuple[int | str, str]] = field(default_factory=list)

    def add(self, point_id: int | str, reason: str, *, first: bool = False) -> None:
        """Count one id, and name it while there is room; one that comes `first` takes the place of others."""
        self.count += 1
        if first:
            self.named.insert(0, (point_id, reason))
            del self.named[NAMED_IDS:]
        elif len(self.named) < NAMED_IDS:
            self.named.append((point_id, reason))


@dataclass(slots=True)
class VerificationReport:
    """The stored proof that a generation may go live.

    Attributes:
        source: physical name of the old generation.
        target: physical name of the new one.
        points: points of the source that were read in the last pass.
        proven: points whose counterpart was proven equal to f(point).
        embedded: points whose filled vectors were checked: present, finite, right size.
        without_vector: points left without a filled vector on purpose: they could not be embedded, and are in the
            quarantine.
        dropped: points that are not in the new generation on purpose, for the same reason; they count as proven.
        repaired: points that the last pass itself had to redo.
        passes: passes over the source before the last one.
        sampled: points that were embedded a second time.
        lowest_cosine: the worst of that sample; None without a sample.
        failures: points that are not proven.
        not_compared: of `verify`: vectors that only one of the two has.
    """

    source: str = ""
    target: str = ""
    points: int = 0
    proven: int = 0
    embedded: int = 0
    without_vector: int = 0
    dropped: int = 0
    repaired: int = 0
    passes: int = 0
    sampled: int = 0
    lowest_cosine: float | None = None
    failures: Findings = field(default_factory=Findings)
    not_compared: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the proof holds: every point of the source is proven."""
        return self.failures.count == 0 and self.proven == self.points

    def to_json(self) -> JsonObject:
        """Plain JSON with ``holds``."""
        return {**by_field(self), "holds": self.holds}


@dataclass(slots=True)
class SweepReport:
    """What was carried over after a swap.

    Attributes:
        rounds: how often the old side was read after the swap; 0 when a barrier showed that nothing came late.
        carried: late writes that are now in the new generation.
        listed: ids where the new generation had taken another write since: see ``docs/safety.md``.
        may_undo: how many of them were on neither side at the proof and were inserted: a delete through the name in
            between would have met nothing, and is undone by that. All of them: ``qmigrate history --carried``.
        by_filter: late writes that were carried over what no other write had reached, while the new generation took
            writes elsewhere: a request by a filter, in the moments between, may have gone past them. They are not
            among those that are listed.
        lost: another client deleted the old collection, so that late writes are unknown.
    """

    rounds: int = 0
    carried: int = 0
    listed: Findings = field(default_factory=Findings)
    lost: bool = False
    may_undo: int = 0
    by_filter: int | Unlearned = UNLEARNED


#: Of the normal distribution: 95 % lie within this many deviations.
_Z = 1.959964


def between(hits: int, sampled: int, whole: int) -> tuple[int, int]:
    """At least and at most how many of `whole` are hits, when `hits` of `sampled` at random are (Wilson, 95 %).

    What was seen counts as seen: never less than `hits`, and never more than all but the others that were seen. A
    sample of everything is exact.
    """
    if sampled <= 0 or sampled >= whole:
        return (hits, max(hits, whole)) if sampled <= 0 else (hits, hits)
    share, weight = hits / sampled, _Z**2 / sampled
    # Without putting back: what was seen already can't vary any more.
    left = (whole - sampled) / (whole - 1)
    middle = (share + weight / 2) / (1 + weight)
    spread = _Z * math.sqrt((share * (1 - share) + weight / 4) / sampled * left) / (1 + weight)
    low, high = math.floor((middle - spread) * whole), math.ceil((middle + spread) * whole)
    return max(hits, low), min(max(hits, high), whole - (sampled - hits))
