"""How a point of the old generation becomes one of the new: declarative, so that a store can move bytes. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from qmigrate.errors import PlanError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PointId = int | str
Payload = dict[str, Any]
#: A vector as plain values: dense, sparse ``{"indices", "values"}``, or rows of a multivector.
VectorValue = list[float] | dict[str, Any] | list[list[float]]
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


@dataclass(frozen=True, slots=True)
class Scale:
    """The rule by which numbers become the whole numbers 0 to 255 that a uint8 vector keeps.

    `low` becomes 0 and `high` 255, linearly, and what is between two whole numbers is rounded. Values outside are
    refused, never cut off. An application scales its queries by the same rule: ``Scale(-0.2, 0.2).apply(query)``.

    Args:
        low: becomes 0.
        high: becomes 255. The narrower the range, the less is lost by rounding.
        tolerance: the largest share of a vector's own length that rounding may change it by; above 0, at most 0.5.
            A vector that would lose more stops the run.

    Raises:
        PlanError: the range is empty or not finite, or the tolerance makes no sense.
    """

    low: float
    high: float
    _: KW_ONLY
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for name in ("low", "high", "tolerance"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise PlanError(f"Scale: {name} must be a number, not {value!r}")
        if self.low >= self.high:
            raise PlanError(f"Scale: low must be below high, and {self.low:g} is not below {self.high:g}")
        if not 0 < self.tolerance <= 0.5:
            raise PlanError(f"Scale: tolerance must be above 0 and at most 0.5, not {self.tolerance:g}")

    def apply(self, vector: Any) -> NDArray[np.float32]:
        """What a uint8 vector keeps of a vector or of its rows; outside the range numbers below 0 or above 255."""
        import numpy as np

        values = np.asarray(vector, dtype=np.float32).astype(np.float64)
        # Adding 0 makes 0 of -0, which is the same number in other bits.
        return (np.rint((values - self.low) * (255 / (self.high - self.low))) + 0.0).astype(np.float32)

    def undo(self, kept: Any) -> NDArray[np.float64]:
        """The numbers that kept ones stand for."""
        import numpy as np

        return np.asarray(kept, dtype=np.float64) * ((self.high - self.low) / 255) + self.low

    def loss(self, vector: Any) -> float:
        """Share of its own length by which a vector changes, of the row that changes most; 0 where nothing does."""
        import numpy as np

        values = np.atleast_2d(np.asarray(vector, dtype=np.float32).astype(np.float64))
        apart = np.linalg.norm(self.undo(self.apply(values)) - values, axis=-1)
        lengths = np.linalg.norm(values, axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(apart == 0, 0.0, apart / lengths)
        return float(shares.max()) if shares.size else 0.0

    def describe(self) -> str:
        """``scaled from -0.2 … 0.2 to 0 … 255, each vector to within 5 % of its own length``."""
        within = f"each vector to within {self.tolerance:.3g} of its own length"
        return f"scaled from {self.low:g} … {self.high:g} to 0 … 255, {within}"


PayloadFunction = Callable[[Point], Payload]
NewId = Callable[[Point], PointId]


@dataclass(frozen=True, slots=True)
class PointTransform:
    """The function f of the rebuild: the new point as a function of the old one.

    Attributes:
        vectors: target vector <- source vector, for those carried bit by bit.
        converted: carried target vectors whose stored form differs (datatype, distance): compared by value.
        scaled: those of them whose values are scaled on their way, each with its rule.
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
    scaled: Mapping[str, Scale] = field(default_factory=dict)

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
        converted, scaled = set(later.converted), dict(later.scaled)
        for target, middle in later.vectors.items():
            if middle in self.vectors:
                carried[target] = self.vectors[middle]
                if middle in self.converted:
                    converted.add(target)
                if middle in self.scaled:
                    # Never both: what is stored in another form is not stored in a third one by the same copy.
                    scaled.setdefault(target, self.scaled[middle])
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
            scaled={target: scale for target, scale in scaled.items() if target in carried},
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
        return not self.drops and not self.scaled and all(target == source for target, source in self.vectors.items())

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
