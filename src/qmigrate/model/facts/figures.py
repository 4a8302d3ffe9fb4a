"""Figures of a run while it is worked on: samples, thinned out as they become many. It measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: The row of the journal that has them: of no step, so that no step can have its name.
STEP, PHASE = -1, "figures"
#: Most samples that are kept of a run: what a picture of it can show.
MOST = 120


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment of a run.

    Attributes:
        number: counts up over all processes that work on the run, also where samples between have gone.
        at: seconds since 1970.
        phase: of the journal.
        doing: as the progress display calls the work.
        done: points, of this work.
        total: points, of this work; None where unknown.
        rate: points per second since the sample before; None where the work is another one.
        busy: stage of a fill -> share of the time since the sample before, 0 to 1.
        queue: updates that the server has accepted and not done; None where that isn't known.
        memory: bytes of the process that works on it; None where the system doesn't report it.
    """

    number: int
    at: float
    phase: str
    doing: str = ""
    done: int = 0
    total: int | None = None
    rate: float | None = None
    busy: Mapping[str, float] = field(default_factory=dict)
    queue: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Samples of a run, oldest first.

    Attributes:
        pause: seconds between two.
    """

    samples: tuple[Sample, ...] = ()
    pause: float = 0.0

    @property
    def last(self) -> int:
        """Number of the newest sample; 0 where there is none."""
        return self.samples[-1].number if self.samples else 0

    def with_one(self, sample: Sample, most: int = MOST) -> Figures:
        """The same with one more. Of too many, every second one goes: they still tell of the whole run."""
        found = (*self.samples, sample)
        if len(found) <= most:
            return Figures(found, self.pause)
        # Counted from the end: the newest one stays, and so does its number.
        return Figures(found[::-1][::2][::-1], self.pause * 2)
