"""How an old and a new search compare on the same questions, as it is kept and shown. It measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """An average over questions.

    Attributes:
        low: lower end of its interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SearchFigures:
    """One of the two searches.

    Attributes:
        recall_1: share of the relevant points that is found first; None where no question names any, as for the others.
        recall: share among the first `k`.
        mrr: 1 divided by the place of the first relevant one.
        ndcg: gains discounted by their places, of the best that could be.
        p50: milliseconds of a search, of half of the questions; `p95`, `p99`: of nearly all.
    """

    recall_1: Figure | None
    recall: Figure | None
    mrr: Figure | None
    ndcg: Figure | None
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Segment:
    """Questions with one value of the field that they are grouped by.

    Attributes:
        name: the value; empty for all questions.
        questions: how many.
        overlap: share of the old results that are among the new ones.
        ratio: the measure of the gate, new over old; None where the old search finds nothing.
        state: ``go``, ``no-go`` or ``undecided``.
        needed: about how many questions would decide; None where they do, or that can't be said.
    """

    name: str
    questions: int
    before: SearchFigures
    after: SearchFigures
    overlap: Figure
    ratio: Figure | None
    state: str
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class Miss:
    """A question that the new search answers worse.

    Attributes:
        question: its text, or the id of the point that asks.
        segment: its value; empty where they are not grouped.
        relevant: what should be found.
        before: the first five results of the old search.
        after: those of the new one.
    """

    question: str
    segment: str
    relevant: tuple[Any, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """An old and a new search on the same questions.

    Attributes:
        vector: that the new one searches by; `old_vector`: the old one.
        questions: where they come from, in words.
        k: results of a search.
        measure: that the gate decides by: ``ndcg``, ``recall``, ``mrr`` or ``overlap``.
        at_least: share of the old average that is asked for.
        confidence: of the decision, and of each interval.
        go: whether the new one may serve.
        reason: why, in a sentence.
        total: all questions.
        segments: by name.
        misses: the worst first.
        unanswered: questions that could not be asked, such as a text that can't be embedded.
    """

    vector: str
    old_vector: str
    questions: str
    k: int
    measure: str
    at_least: float
    confidence: float
    go: bool
    reason: str
    total: Segment
    segments: tuple[Segment, ...] = ()
    misses: tuple[Miss, ...] = ()
    unanswered: int = 0
