"""How a point of the old generation becomes one of the new: declarative, so that a store can move bytes. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

PointId = int | str
Payload = dict[str, Any]
#: A vector as plain values: dense, sparse ``{"indices", "values"}``, or rows of a multivector.
VectorValue = list[float] | dict[str, list[Any]] | list[list[float]]
#: How far a payload double may be from what was written, in units of its last place: a server parses the JSON that it
#: has stored by a multiplication or two, each of which rounds.
LAST_DIGITS = 4


def nearly(one: float, other: float) -> bool:
    """Whether two payload doubles differ in their last digits at most, which a server may change at every reading."""
    if one == other:
        return True
    apart = abs(one - other)
    return math.isfinite(apart) and apart <= LAST_DIGITS * math.ulp(max(abs(one), abs(other)))


@dataclass(frozen=True, slots=True)
class Point:
    """What user functions get: a copy of one point.

    Attributes:
        id: unsigned integer or UUID string.
        payload: plain values; for `Compute` it is the payload that the new generation will have.
        vectors: by name; the unnamed one is ``""``.
    """

    id: PointId
    payload: Payload
    vectors: Mapping[str, VectorValue]


class Filling(Protocol):
    """What fills a vector that is not carried: see ``operations.values``."""

    @property
    def fills(self) -> bool:
        """Whether it yields a value at all (``Empty`` does not)."""

    def describe(self) -> str:
        """A few words for people."""


PayloadFunction = Callable[[Point], Payload]
NewId = Callable[[Point], PointId]


@dataclass(frozen=True, slots=True)
class PointTransform:
    """The function f of the rebuild: the new point as a function of the old one.

    Attributes:
        vectors: target vector <- source vector, for those carried bit by bit.
        converted: carried target vectors whose stored form differs (datatype, distance): compared by value.
        values: target vector <- what fills it, for those that are recomputed.
        payload: functions applied to the payload one after the other; empty means it is carried as it is.
        inverse: the same for going back; None where a step has none.
        lossless: whether the old point can be had back from the new one.
        drops: whether a vector of the old point is neither carried nor renamed.
        new_id: makes the id of the new point from id and payload of the old one; None keeps it. It has no inverse.
    """

    vectors: Mapping[str, str]
    converted: frozenset[str] = frozenset()
    values: Mapping[str, Filling] = field(default_factory=dict)
    payload: tuple[PayloadFunction, ...] = ()
    inverse: tuple[PayloadFunction, ...] | None = ()
    lossless: bool = True
    drops: bool = False
    new_id: NewId | None = None

    @classmethod
    def identity(cls, names: frozenset[str]) -> PointTransform:
        """Carries the vectors `names` and the payload as they are."""
        return cls(vectors={name: name for name in sorted(names)})

    def rewriting(self, there: PayloadFunction, back: PayloadFunction | None) -> PointTransform:
        """The same, and every point gets the payload of a function.

        Args:
            there: makes the new payload.
            back: restores every old payload exactly: a rollback carries by it what was written since. None where no
                function can; then only the kept generation leads back.
        """
        return replace(self, payload=(there,), inverse=None if back is None else (back,))

    def then(self, later: PointTransform) -> PointTransform:
        """This transform followed by `later`, as one."""
        values: dict[str, Filling] = dict(later.values)
        carried: dict[str, str] = {}
        converted = set(later.converted)
        for target, middle in later.vectors.items():
            if middle in self.vectors:
                carried[target] = self.vectors[middle]
                if middle in self.converted:
                    converted.add(target)
            elif middle in self.values:
                values[target] = self.values[middle]
        inverse = None
        if self.inverse is not None and later.inverse is not None:
            inverse = later.inverse + self.inverse
        return PointTransform(
            vectors=carried,
            converted=frozenset(converted & set(carried)),
            values=values,
            payload=self.payload + later.payload,
            inverse=inverse,
            lossless=self.lossless and later.lossless,
            drops=self.drops or later.drops,
            new_id=later.new_id or self.new_id,
        )

    def back(self) -> PointTransform | None:
        """The inverse, or None where the old point can't be had back (a dropped or replaced vector, another id)."""
        if not self.lossless or self.inverse is None or self.converted or self.rekeys:
            return None
        carried: dict[str, str] = {}
        for target, source in self.vectors.items():
            # A vector that is carried and copied comes back from itself: its copy may have been written to since.
            if source not in carried or target == source:
                carried[source] = target
        added = bool(self.values) or len(carried) < len(self.vectors)
        return PointTransform(
            vectors=carried,
            payload=self.inverse,
            inverse=self.payload,
            lossless=not added,
            drops=added,
        )

    @property
    def keeps_payload(self) -> bool:
        """Whether the payload is carried as it is."""
        return not self.payload

    @property
    def keeps_vectors(self) -> bool:
        """Whether every old vector is carried under its own name, whatever is added."""
        return not self.drops and all(target == source for target, source in self.vectors.items())

    @property
    def filled(self) -> tuple[str, ...]:
        """Target vectors that are recomputed and get a value."""
        return tuple(name for name, filling in sorted(self.values.items()) if filling.fills)

    @property
    def rekeys(self) -> bool:
        """Whether points get other ids."""
        return self.new_id is not None

    def is_identity(self) -> bool:
        """Whether every point stays exactly as it is."""
        return not self.rekeys and self.keeps_values()

    def keeps_values(self) -> bool:
        """Whether payload and vectors of every point stay exactly as they are, whatever its id."""
        return (
            self.keeps_payload
            and self.keeps_vectors
            and not self.values
            and not self.converted
        )
