"""What is odd about the vectors of one field, from their numbers alone. Pure: it reads no points."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from qmigrate.model.transform import PointId

Floats = NDArray[np.float32]
#: Ids that a finding names.
NAMED = 5
#: How far the length of a normalised vector may be from 1, and which share of them makes normalised the rule.
_UNIT, _RULE = 1e-3, 0.5
#: Fewest vectors by which a dimension counts as constant.
_CONSTANT_OF = 50
#: Vectors that are kept to look for two models, fewest of them, and smallest share of the second one.
KEPT, _MIXED_OF, _SHARE = 2000, 100, 0.02
#: Nearest neighbours of one kind, similarity of the centres, and of where they are large, from which on two models are
#: suspected: one model's topics meet somewhere, and have the same large dimensions.
_PURE, _CENTRES, _PROFILES = 0.995, 0.3, 0.3
_NEIGHBOURS = 10


@dataclass(slots=True)
class Odd:
    """Points with one fault.

    Attributes:
        points: how many.
        ids: the first of them.
    """

    points: int = 0
    ids: list[PointId] = field(default_factory=list)

    def add(self, ids: Sequence[PointId]) -> None:
        """More of them."""
        self.points += len(ids)
        self.ids += ids[: NAMED - len(self.ids)]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two kinds of vectors in one field, each of which is like itself and unlike the other.

    Attributes:
        share: of the smaller kind.
        ids: of some of it.
        purity: share of the nearest neighbours that are of the same kind.
        centres: cosine of the centres of the two.
        profiles: correlation of how large each dimension is in the two.
    """

    share: float
    ids: tuple[PointId, ...]
    purity: float
    centres: float
    profiles: float


@dataclass(slots=True)
class Soundness:
    """What was seen of one vector field, page by page.

    Attributes:
        vectors: how many were seen.
        zero, not_a_number, infinite: points whose vector is so.
        lengths: smallest and largest length of the others.
        units: how many have length 1; `off_unit`: those that don't.
        copies: points whose vector another point with another payload has exactly.
    """

    vectors: int = 0
    zero: Odd = field(default_factory=Odd)
    not_a_number: Odd = field(default_factory=Odd)
    infinite: Odd = field(default_factory=Odd)
    copies: Odd = field(default_factory=Odd)
    off_unit: Odd = field(default_factory=Odd)
    units: int = 0
    lengths: tuple[float, float] | None = None
    _low: Any = None
    _high: Any = None
    _seen: dict[int, tuple[PointId, int, bool]] = field(default_factory=dict)
    _kept: list[tuple[PointId, Floats]] = field(default_factory=list)
    _good: int = 0
    #: With a fixed seed: the same points give the same answer.
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311  no secret

    def add_others(self, ids: Sequence[PointId], values: Sequence[NDArray[np.float32]]) -> None:
        """Sparse vectors, by their values, and multivectors, by their rows: only what no vector may be is looked for.

        Args:
            values: of each id, in one dimension or in two; a row of zeros alone is as odd as a vector of them.
        """
        self.vectors += len(ids)
        for one, found in zip(ids, values, strict=True):
            if np.isnan(found).any():
                self.not_a_number.add([one])
            elif np.isinf(found).any():
                self.infinite.add([one])
            elif not found.size or not found.any(axis=-1).all():
                self.zero.add([one])

    def add(self, ids: Sequence[PointId], rows: Floats, payloads: Sequence[bytes]) -> None:
        """Examine some vectors.

        Args:
            rows: one per id.
            payloads: digests of the payloads, one per id.
        """
        if not len(rows):
            return
        self.vectors += len(rows)
        nan, infinite = np.isnan(rows).any(axis=1), np.isinf(rows).any(axis=1)
        zero = ~rows.any(axis=1)
        for found, where in ((self.not_a_number, nan), (self.infinite, infinite), (self.zero, zero)):
            found.add([ids[place] for place in np.flatnonzero(where).tolist()])
        good = np.flatnonzero(~(nan | infinite | zero))
        self._lengths(ids, rows, good)
        if len(good):
            low, high = rows[good].min(axis=0), rows[good].max(axis=0)
            self._low = low if self._low is None else np.minimum(self._low, low)
            self._high = high if self._high is None else np.maximum(self._high, high)
        for place in good.tolist():
            self._same(ids[place], rows[place], payloads[place])
        for place in good.tolist():
            self._keep(ids[place], rows[place])

    def _keep(self, identifier: PointId, row: Floats) -> None:
        """One of all that were seen so far has the same chance to be kept, in whichever order they come."""
        self._good += 1
        if len(self._kept) < KEPT:
            self._kept.append((identifier, row))
        elif (place := self._random.randrange(self._good)) < KEPT:
            self._kept[place] = identifier, row

    def _lengths(self, ids: Sequence[PointId], rows: Floats, good: NDArray[np.int64]) -> None:
        lengths = np.linalg.norm(rows[good].astype(np.float64), axis=1)
        if len(lengths):
            ends = float(lengths.min()), float(lengths.max())
            before = self.lengths or ends
            self.lengths = min(before[0], ends[0]), max(before[1], ends[1])
        unit = np.abs(lengths - 1) <= _UNIT
        self.units += int(unit.sum())
        self.off_unit.add([ids[place] for place in good[~unit].tolist()])

    def _same(self, identifier: PointId, row: Floats, payload: bytes) -> None:
        key, of_payload = xxhash.xxh3_64_intdigest(row.tobytes()), xxhash.xxh3_64_intdigest(payload)
        first = self._seen.get(key)
        if first is None:
            self._seen[key] = (identifier, of_payload, False)
        elif first[1] != of_payload:
            self.copies.add([identifier] if first[2] else [first[0], identifier])
            self._seen[key] = (first[0], first[1], True)

    def first(self, count: int) -> list[PointId]:
        """Some of the points that were seen, but for those whose vector has no direction."""
        return [one for one, _ in self._kept[:count]]

    @property
    def constant(self) -> tuple[int, ...]:
        """Dimensions that have the same value in all vectors; none where too few were seen."""
        if self._low is None or self.vectors < _CONSTANT_OF:
            return ()
        return tuple(int(place) for place in np.flatnonzero(self._low == self._high))

    @property
    def off_the_rule(self) -> Odd:
        """Vectors that are not of length 1 where most of them are."""
        judged = self.units + self.off_unit.points
        return self.off_unit if judged and self.units / judged > _RULE else Odd()

    def mixture(self) -> Mixture | None:
        """Whether there are two kinds that have nothing to do with each other; see :class:`Mixture`."""
        if len(self._kept) < _MIXED_OF:
            return None
        rows = np.stack([row for _, row in self._kept]).astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        second = _two_kinds(rows)
        share = float(second.mean())
        if share > 0.5:
            second, share = ~second, 1 - share
        if share < _SHARE:
            return None
        found = Mixture(
            share=round(share, 4),
            ids=tuple(self._kept[place][0] for place in np.flatnonzero(second)[:NAMED].tolist()),
            purity=round(_purity(rows, second), 4),
            centres=round(_cosine(rows[second].mean(axis=0), rows[~second].mean(axis=0)), 4),
            profiles=round(_profiles(rows, second), 4),
        )
        suspect = found.purity >= _PURE and found.centres <= _CENTRES and found.profiles <= _PROFILES
        return found if suspect else None


def _two_kinds(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The best division in two by distance from two centres, of a few beginnings."""
    best, kinds = -np.inf, np.zeros(len(rows), dtype=bool)
    random = np.random.default_rng(0)
    for _ in range(6):
        first = rows[random.integers(len(rows))]
        centres = np.stack([first, rows[np.argmin(rows @ first)]])
        for _ in range(20):
            second = rows @ centres[1] > rows @ centres[0]
            if not 0 < second.sum() < len(rows):
                break
            fresh = np.stack([rows[~second].mean(axis=0), rows[second].mean(axis=0)])
            fresh /= np.maximum(np.linalg.norm(fresh, axis=1, keepdims=True), 1e-12)
            if np.allclose(fresh, centres):
                break
            centres = fresh
        second = rows @ centres[1] > rows @ centres[0]
        score = float(np.maximum(rows @ centres[0], rows @ centres[1]).sum())
        if score > best:
            best, kinds = score, second
    return kinds


def _purity(rows: NDArray[np.float64], second: NDArray[np.bool_]) -> float:
    alike = rows @ rows.T
    np.fill_diagonal(alike, -np.inf)
    count = min(_NEIGHBOURS, int(second.sum()) - 1, int((~second).sum()) - 1)
    if count < 1:
        return 0.0
    nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    return float((second[nearest] == second[:, None]).mean())


def _profiles(rows: NDArray[np.float64], second: NDArray[np.bool_]) -> float:
    one, other = (np.abs(part).mean(axis=0) for part in (rows[second], rows[~second]))
    if one.std() == 0 or other.std() == 0:
        return 1.0
    return float(np.corrcoef(one, other)[0, 1])


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))

