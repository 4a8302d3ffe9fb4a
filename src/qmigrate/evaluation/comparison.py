"""From the results of two searches to figures and a decision. It searches nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qmigrate.evaluation.measures import measured, overlap
from qmigrate.evaluation.questions import Question
from qmigrate.evaluation.statistics import GO, NO_GO, UNDECIDED, Floats, Verdict, figures, judged
from qmigrate.model.facts.comparison import Compared, Miss, SearchFigures, Segment
from qmigrate.model.transform import PointId
from qmigrate.text import counted

#: What a gate can decide by; the first four are the columns of :class:`Measures`.
MEASURES = ("recall_1", "recall", "mrr", "ndcg")
OVERLAP = "overlap"
#: Misses that are listed, and results of each.
_MISSES, _SHOWN = 20, 5
#: Digits of a text in a list of misses.
_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with what both searches found.

    Attributes:
        before: ids, the best first, of the old one; without the point that asked.
        after: of the new one.
        took: seconds of each.
    """

    question: Question
    before: Sequence[PointId]
    after: Sequence[PointId]
    took: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked for; see :class:`qmigrate.operations.quality.Compare`."""

    k: int
    measure: str
    at_least: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared, in words.

    Attributes:
        vector: of the new search.
        old_vector: of the old one.
        questions: where they come from.
    """

    vector: str
    old_vector: str
    questions: str


def compared(answered: Sequence[Answered], rule: Rule, sides: Sides, *, unanswered: int = 0) -> Compared:
    """Figures of all questions and of each segment, and whether the new search may serve.

    All questions together must be shown to reach the share that is asked for. A segment stands in the way only if it is
    shown not to, each with so much more confidence that one of many doesn't by chance.
    """
    rows = np.array([_row(one, rule) for one in answered], dtype=np.float64).reshape(len(answered), _COLUMNS)
    total = _segment("", rows, answered, rule, rule.confidence)
    names = sorted({one.question.segment for one in answered} - {""})
    each = 1 - (1 - rule.confidence) / max(1, len(names))
    segments = []
    for name in names:
        chosen = [place for place, one in enumerate(answered) if one.question.segment == name]
        segments.append(_segment(name, rows[chosen], [answered[place] for place in chosen], rule, each))
    go, reason = _decided(total, segments, rule)
    return Compared(
        vector=sides.vector,
        old_vector=sides.old_vector,
        questions=sides.questions,
        k=rule.k,
        measure=rule.measure,
        at_least=rule.at_least,
        confidence=rule.confidence,
        go=go,
        reason=reason,
        total=total,
        segments=tuple(segments),
        misses=_misses(answered, rows, rule),
        unanswered=unanswered,
    )


#: The measures of the old search, those of the new one, whether the old one has found anything, and the overlap.
_COLUMNS = 2 * len(MEASURES) + 2


def _row(one: Answered, rule: Rule) -> list[float]:
    before, after = (measured(found, one.question.relevant, rule.k) for found in (one.before, one.after))
    return [*before, *after, float(bool(one.before[: rule.k])), overlap(one.before, one.after, rule.k)]


def _columns(rows: Floats, measure: str) -> tuple[Floats, Floats]:
    """The measure of the gate: of the old search, and of the new one."""
    if measure == OVERLAP:
        # A question to which the old search finds nothing shows nothing of the new one.
        return rows[:, -2], rows[:, -1] * rows[:, -2]
    place = MEASURES.index(measure)
    return rows[:, place], rows[:, place + len(MEASURES)]


def _segment(name: str, rows: Floats, answered: Sequence[Answered], rule: Rule, confidence: float) -> Segment:
    if not len(rows):
        raise ValueError("no question was answered")
    found = figures(rows, rule.confidence)
    judgement = judged(*_columns(rows, rule.measure), rule.at_least, confidence)
    labelled = any(one.question.relevant for one in answered)
    sides = []
    for side in range(2):
        own = found[side * len(MEASURES) : (side + 1) * len(MEASURES)]
        took = np.quantile([one.took[side] * 1000 for one in answered], [0.5, 0.95, 0.99])
        recall_1, recall, mrr, ndcg = own if labelled else (None, None, None, None)
        p50, p95, p99 = (round(float(value), 3) for value in took)
        sides.append(SearchFigures(recall_1, recall, mrr, ndcg, p50, p95, p99))
    state, needed = _known(judgement, rows, rule)
    return Segment(name, len(rows), sides[0], sides[1], found[-1], judgement.ratio, state, needed)


def _known(judgement: Verdict, rows: Floats, rule: Rule) -> tuple[str, int | None]:
    """Questions that neither search answers decide nothing, however many they are."""
    before, after = _columns(rows, rule.measure)
    if not before.any() and not after.any():
        return UNDECIDED, None
    return judgement.state, judgement.needed


def _decided(total: Segment, segments: Sequence[Segment], rule: Rule) -> tuple[bool, str]:
    worse = [one for one in segments if one.state == NO_GO]
    asked = f"{rule.at_least:.4g} of the old {rule.measure}@{rule.k}"
    if rule.measure == OVERLAP:
        asked = f"{rule.at_least:.4g} of the old results"
    share = "" if total.ratio is None else f"{total.ratio.value:.3f} of {_compared_with(total, rule)}"
    if total.state == NO_GO:
        return False, f"the new search has to reach {asked}{share and f', and reaches {share}'}"
    if worse:
        named = ", ".join(f"{one.name} {one.ratio.value:.3f}" for one in worse if one.ratio is not None)
        return False, f"the new search has to reach {asked} in every segment, and it doesn't in: {named}"
    if total.state == GO:
        return True, f"the new search reaches {asked}{share and f': {share}'}"
    if total.ratio is None:
        found = "nothing" if rule.measure == OVERLAP else "nothing that is relevant"
        return False, f"the old search finds {found}, so there is nothing to compare with"
    more = f"; about {total.needed:,} would decide" if total.needed else ""
    questions = counted(total.questions, "question")
    share = share and f"; in these it reaches {share}"
    return False, f"{questions} don't show whether the new search reaches {asked}{share}{more}"


def _compared_with(total: Segment, rule: Rule) -> str:
    """What a share is of, with both figures, so that it isn't taken for one of them: ``it (0.412 → 0.702)``."""
    if rule.measure == OVERLAP:
        return "them"
    before, after = (getattr(side, rule.measure) for side in (total.before, total.after))
    return "it" if before is None or after is None else f"it ({before.value:.3f} → {after.value:.3f})"


def _misses(answered: Sequence[Answered], rows: Floats, rule: Rule) -> tuple[Miss, ...]:
    before, after = _columns(rows, rule.measure)
    lost = before - after
    order = [place for place in np.argsort(-lost, kind="stable") if lost[place] > 0][:_MISSES]
    return tuple(
        Miss(
            question=answered[place].question.shown()[:_LETTERS],
            segment=answered[place].question.segment,
            relevant=tuple(answered[place].question.relevant)[:_SHOWN],
            before=tuple(answered[place].before[:_SHOWN]),
            after=tuple(answered[place].after[:_SHOWN]),
        )
        for place in order
    )
