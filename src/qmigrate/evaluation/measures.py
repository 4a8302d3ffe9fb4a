"""How good the results of one question are. Pure.

The definitions are those of trec_eval: the gain of a result is its grade, discounted by the logarithm of its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qmigrate.model.transform import PointId


class Measures(NamedTuple):
    """Of one question, each from 0 to 1.

    Attributes:
        recall_1: share of the relevant points that is the first result.
        recall: share of them among the first `k`.
        mrr: 1 divided by the place of the first relevant one among the first `k`; 0 where none is.
        ndcg: gains of the first `k`, discounted by their places, of the best that could be.
    """

    recall_1: float
    recall: float
    mrr: float
    ndcg: float


def measured(results: Sequence[PointId], relevant: Mapping[PointId, float], k: int) -> Measures:
    """How good results are.

    Args:
        results: ids, the best first.
        relevant: id -> grade; what is not above 0 is not relevant.
        k: how many of the results count.
    """
    grades = {identifier: grade for identifier, grade in relevant.items() if grade > 0}
    if not grades:
        return Measures(0.0, 0.0, 0.0, 0.0)
    best = list(results[:k])
    places = [place for place, identifier in enumerate(best) if identifier in grades]
    ideal = sorted(grades.values(), reverse=True)[:k]
    return Measures(
        recall_1=float(bool(best) and best[0] in grades) / len(grades),
        recall=len(places) / len(grades),
        mrr=1 / (places[0] + 1) if places else 0.0,
        ndcg=sum(grades[best[place]] / math.log2(place + 2) for place in places)
        / sum(grade / math.log2(place + 2) for place, grade in enumerate(ideal)),
    )


def overlap(one: Sequence[PointId], other: Sequence[PointId], k: int) -> float:
    """Share of the first `k` of `one` that are among the first `k` of `other`; 1 where there are none."""
    best = list(one[:k])
    return len(set(best) & set(other[:k])) / len(best) if best else 1.0
