"""What figures of a few questions say about all: intervals by bootstrap, and whether one search is worse. Pure.

Questions are drawn again with replacement, old and new results of each together. Everything that is random is drawn
from a fixed seed: the same questions give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from qmigrate.model.facts.comparison import Figure

Floats = NDArray[np.float64]
#: How often the questions are drawn.
DRAWS = 2000
#: Numbers of draws that are held in memory at a time.
_AT_ONCE = 2_000_000
GO: Final = "go"
NO_GO: Final = "no-go"
UNDECIDED: Final = "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided about a new search.

    Attributes:
        state: ``go``: it is at least as good as was asked for, with the confidence that was asked for. ``no-go``: it
            is not. ``undecided``: too few questions to tell.
        ratio: new over old, with its interval; None where the old one finds nothing.
        needed: about how many questions would decide; None where that can't be said, or it is decided.
    """

    state: Literal["go", "no-go", "undecided"]
    ratio: Figure | None
    needed: int | None = None


def figures(columns: Floats, confidence: float) -> list[Figure]:
    """The mean of each column, with the interval that holds it in `confidence` of cases.

    Args:
        columns: a row per question.
        confidence: of an interval with two ends, such as 0.95.
    """
    means = _means(columns)
    tails = (1 - confidence) / 2
    low, high = np.quantile(means, [tails, 1 - tails], axis=0)
    return [
        Figure(*(round(float(value), 6) for value in values))
        for values in zip(columns.mean(axis=0), low, high, strict=True)
    ]


def judged(before: Floats, after: Floats, at_least: float, confidence: float) -> Verdict:
    """Whether a new search reaches a share of an old one.

    It must be shown: its average minus the share of the old average is above 0 in `confidence` of the draws, and
    for a ``no-go`` below 0. Each side has one imagined question more, which the new search loses (or wins) completely:
    what was not seen in n questions may still happen in 3 of n, and no number of identical draws would show that.

    Args:
        before: a measure of each question, from 0 to 1.
        after: the same of the new search.
        at_least: share of the old average that is enough.
        confidence: of one decision, such as 0.95.
    """
    if not len(before):
        return Verdict(UNDECIDED, None)
    apart = after - at_least * before
    distinct, often = np.unique(np.column_stack([before, after]), axis=0, return_counts=True)
    # The last one is the imagined question, of which there are two kinds.
    counts = np.concatenate(list(_drawn(np.append(often, 1))))
    of_each, imagined = distinct[:, 1] - at_least * distinct[:, 0], counts[:, -1]
    sums = counts[:, :-1] @ of_each
    low = float(np.quantile(sums - at_least * imagined, 1 - confidence)) / (len(before) + 1)
    high = float(np.quantile(sums + imagined, confidence)) / (len(before) + 1)
    ratio = _ratio(counts[:, :-1] @ distinct, before, after, confidence)
    if low >= 0:
        return Verdict(GO, ratio)
    if high < 0:
        return Verdict(NO_GO, ratio)
    return Verdict(UNDECIDED, ratio, _needed(apart, low, high))


def _needed(apart: Floats, low: float, high: float) -> int | None:
    """About how many questions like these would decide: an interval narrows with the root of their number."""
    middle = float(apart.mean())
    wide = middle - low if middle > 0 else high - middle
    if abs(middle) < 1e-6:
        return None
    # Where all are alike, only the imagined one is in the way, whose weight falls with their number itself.
    power = 2 if apart.std() > 0 else 1
    found = int(np.ceil(len(apart) * max(1.0, wide / abs(middle)) ** power)) + 1
    # A figure of two digits is enough: it is an estimate.
    return int(np.ceil(found / 10) * 10) if found < 1_000_000 else None


def _ratio(sums: Floats, before: Floats, after: Floats, confidence: float) -> Figure | None:
    if not before.any():
        return None
    sums = sums[sums[:, 0] > 0]
    tails = (1 - confidence) / 2
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [tails, 1 - tails])
    return Figure(round(float(after.mean() / before.mean()), 6), round(float(low), 6), round(float(high), 6))


def _means(columns: Floats) -> Floats:
    """Averages of the columns over questions that are drawn again, a row per draw."""
    distinct, often = np.unique(columns, axis=0, return_counts=True)
    return np.concatenate([counts @ distinct / len(columns) for counts in _drawn(often)])


def _drawn(often: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """How often each of distinct questions is drawn, a row per draw, in parts.

    Args:
        often: how often each was asked; equal ones are drawn together, by one multinomial number.
    """
    random, questions = np.random.default_rng(0), int(often.sum())
    part = max(1, min(DRAWS, _AT_ONCE // len(often)))
    for start in range(0, DRAWS, part):
        yield random.multinomial(questions, often / questions, min(part, DRAWS - start))
