"""What an erasure takes out of places outside of Qdrant, counted over all its attempts. It takes nothing out itself.

A count is written in the transaction that takes points out, or stands in the file that they are taken out of: so a
process that is killed in between loses none, and none is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qmigrate.ledger.erasing import Noted
from qmigrate.steps.work import Facts, Work

#: Places, in the order in which they are reported.
PLACES = ("journals", "samples", "exports", "archives", "quarantine")


@dataclass(slots=True)
class Tally:
    """Counts of a run so far.

    Attributes:
        work: whose running phase has them.
        taken: place -> points that rows were about.
        parts: place -> file, or other part that is removed as one -> points that were in it.
        fixes: by earlier fix (``run-step``), how many points it can't restore any more.
        emptied: earlier fixes whose export held nothing else, and is gone.
    """

    work: Work
    taken: dict[str, int] = field(default_factory=dict)
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    fixes: dict[str, int] = field(default_factory=dict)
    emptied: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, work: Work) -> Tally:
        """As far as earlier attempts came."""
        told: Any = work.facts(work.phase).get("tally") or {}
        parts = {place: dict(known) for place, known in told.get("parts", {}).items()}
        return cls(work, dict(told.get("taken", {})), parts, dict(told.get("fixes", {})), list(told.get("emptied", [])))

    @property
    def counts(self) -> dict[str, int]:
        """Points by place."""
        return {name: self.taken.get(name, 0) + sum(self.parts.get(name, {}).values()) for name in PLACES}

    def add(self, place: str, count: int, fix: str | None = None) -> None:
        """This many points more.

        Args:
            fix: an earlier one, which can't give them back any more.
        """
        self.taken[place] = self.taken.get(place, 0) + count
        if fix is not None and count:
            self.fixes[fix] = self.fixes.get(fix, 0) + count

    def noted(self, count: Callable[[int], object]) -> Noted:
        """For a transaction that takes rows out.

        Args:
            count: called there with how many rows these were, to :meth:`add` what it stands for.
        """

        def facts(rows: int) -> Facts:
            count(rows)
            return self.to_json()

        return Noted((self.work.run, self.work.step, self.work.phase), facts)

    def adding(self, place: str) -> Noted:
        """The same where each row is a point."""
        return self.noted(lambda rows: self.add(place, rows))

    def part(self, place: str, name: str, count: int) -> None:
        """What one part has lost to this run in all; may be reported again, as long as the part is there."""
        if count:
            self.parts.setdefault(place, {})[name] = count

    def note(self) -> None:
        """Write it down now."""
        self.work.note(self.to_json())

    def to_json(self) -> Facts:
        """Facts."""
        told = {"taken": self.taken, "parts": self.parts, "fixes": self.fixes, "emptied": self.emptied}
        return {"tally": told}
