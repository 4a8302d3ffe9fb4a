"""Whether an end is right: what the name shows is explained by an order of the operations, or its keys are listed.

Every operation that is done is acknowledged, and none that is refused is done; one that was acknowledged before
another began comes before it.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

from tests.model.state import (
    NO_BASE,
    OLD_PROOF,
    SERVES_NOTHING,
    SOURCE,
    TARGET,
    UNPROVEN,
    Case,
    State,
    Values,
    applied,
    made,
    pure,
)

LOST, UNDONE, OVERWRITTEN = "an acknowledged write is lost", "an acknowledged deletion is undone", "a newer write is overwritten"
STUCK, NO_END = "stuck", "no end can be reached"
#: Flaws that a state shows itself.
FLAWS = {
    UNPROVEN: "a swap of what is not as it was proven",
    OLD_PROOF: "a swap on the proof of an earlier holder",
    NO_BASE: "a swap without a base",
    SERVES_NOTHING: "what serves was deleted",
}


class Judge:
    """Judges ends of one case; answers are kept, since most ends differ in other things."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._explained = lru_cache(maxsize=None)(self._search)

    def flaw(self, end: State) -> str | None:
        """What is wrong with a state from which nothing more happens; None where it is right."""
        if end.pc not in ("end", "stopped", "back"):
            return STUCK
        for bit, name in FLAWS.items():
            if end.flaws & bit:
                return name
        if end.pc != "end":
            return None
        shown = end.target if end.alias == TARGET else end.source
        if self._explained(shown, end.acked, self._order(end), end.sides, end.listed, end.missed):
            return self._vector_lost(end, shown)
        return self._class_of(end, shown)

    def _order(self, end: State) -> int:
        """Bits of pairs that must be in this order."""
        count, order = len(self._case.ops), end.order
        if self._case.rules.any_order:
            for first, second in itertools.product(range(count), repeat=2):
                if end.sides[first] == TARGET and end.sides[second] == SOURCE:
                    order &= ~(1 << (first * count + second))
        return order

    def _class_of(self, end: State, shown: Values) -> str:
        """Which promise is broken: the one operation without which the end is explained says it."""
        for number, op in enumerate(self._case.ops):
            without = end.acked & ~(1 << number)
            order = self._order(end)
            if without == end.acked or not self._explained(shown, without, order, end.sides, end.listed, end.missed):
                continue
            if str(op[0]).startswith("del"):
                return UNDONE
            if end.sides[number] == TARGET:
                return OVERWRITTEN
        return LOST

    def _vector_lost(self, end: State, shown: Values) -> str | None:
        """A vector that a client wrote to the new generation, last of all, is what is there."""
        if self._case.rules.computes:
            return None
        count = len(self._case.ops)
        for number, op in enumerate(self._case.ops):
            if op[0] != "vector" or end.sides[number] != TARGET or not end.acked >> number & 1:
                continue
            key, value = int(op[1]), shown[int(op[1])]
            others = (other for other in range(count) if other != number and end.acked >> other & 1)
            last = all(end.order >> (other * count + number) & 1 for other in others)
            if value is not None and last and not end.listed >> key & 1 and value[1] != op[2]:
                return OVERWRITTEN
        return None

    def _search(
        self, shown: Values, acked: int, order: int, sides: tuple[str, ...], listed: int, missed: int = 0
    ) -> bool:
        """Whether an order explains it; of `missed` keys a request by a filter may have met some, or none."""
        count = len(self._case.ops)
        must = [number for number in range(count) if acked >> number & 1]
        return any(
            self._fits(shown, self._after(sequence, sides, past), listed)
            for past in _subsets(missed)
            for sequence in itertools.permutations(must)
            if not any(
                order >> (late * count + early) & 1
                for place, early in enumerate(sequence)
                for late in sequence[place + 1 :]
            )
        )

    def _after(self, sequence: tuple[int, ...], sides: tuple[str, ...], past: int) -> Values:
        """What an order of operations leaves, where those by a filter go past some keys."""
        rules = self._case.rules
        values = tuple(made(value, rules) for value in self._case.initial)
        for number in sequence:
            op = self._case.ops[number]
            # A vector of the old schema is nothing that the new one has.
            if not (op[0] == "vector" and sides[number] == SOURCE and not rules.computes):
                after = applied(op, values)
                if op[0] == "del where" and past:
                    after = tuple(values[key] if past >> key & 1 else value for key, value in enumerate(after))
                values = after
        return values

    def _fits(self, shown: Values, values: Values, listed: int) -> bool:
        exact = self._case.rules.computes
        return all(
            listed >> key & 1 or (here == value if exact else pure(here) == pure(value))
            for key, (here, value) in enumerate(zip(shown, values, strict=True))
        )


def _subsets(bits: int) -> list[int]:
    """Every part of a set of bits, none of them first."""
    return [part for part in range(bits + 1) if part & bits == part]
