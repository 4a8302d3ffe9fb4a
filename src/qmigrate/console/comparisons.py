"""Comparisons of two searches for reports: intervals as lines of drawings without a script. It measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.model.facts.comparison import Compared, Figure, SearchFigures, Segment
from qmigrate.model.transform import PointId
from qmigrate.text import number

#: Height of one row of a drawing; its width is 0 to 100.
ROW = 24
#: Segments of a drawing; of more, those of the lowest share.
MOST_SEGMENTS = 40


@dataclass(frozen=True, slots=True)
class Searches:
    """Two searches that were compared, as a report shows them.

    Attributes:
        title: what was compared, in words.
        points: id of a point among the misses -> fields of its payload that may be shown.
        hidden: whether nothing of payloads may be shown.
    """

    title: str
    found: Compared
    points: Mapping[PointId, Mapping[str, Any]]
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure with its interval, as paths of an SVG; empty where it isn't known.

    Attributes:
        interval: a line.
        value: a dot.
        shown: in words.
    """

    interval: str
    value: str
    shown: str


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of a drawing.

    Attributes:
        marks: the old search and the new one; or the share alone.
        state: of the segment, in a word; empty for all questions.
    """

    name: str
    questions: int
    marks: tuple[Mark, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """One measure of every segment, on one axis.

    Attributes:
        name: of the measure.
        low: of the axis, in words; `high`: its other end.
        limit: a line across it, as an SVG path; empty without one.
        decides: whether the gate decides by it.
    """

    name: str
    low: str
    high: str
    rows: tuple[Row, ...]
    limit: str = ""
    decides: bool = False

    @property
    def paired(self) -> bool:
        """Whether its rows have an old and a new figure."""
        return len(self.rows[0].marks) > 1


@dataclass(frozen=True, slots=True)
class Times:
    """How long one search took for a share of the questions.

    Attributes:
        name: ``p50``, ``p95`` or ``p99``.
        before: milliseconds of the old search; `after`: of the new one.
        bars: the same as SVG paths.
    """

    name: str
    before: float
    after: float
    bars: tuple[str, str]


def segments_of(found: Compared) -> tuple[Segment, ...]:
    """All questions, then the segments; of too many those that lose most."""
    chosen = found.segments
    if len(chosen) > MOST_SEGMENTS:
        lost = sorted(chosen, key=lambda one: one.ratio.value if one.ratio is not None else 1.0)[:MOST_SEGMENTS]
        chosen = tuple(one for one in found.segments if one in lost)
    return (found.total, *chosen)


def drawings(found: Compared) -> tuple[Drawing, ...]:
    """What there is to draw: the share that decides, then each measure; nothing of what wasn't measured."""
    segments = segments_of(found)
    made = [_share(found, segments)]
    measures: tuple[tuple[str, str, Callable[[SearchFigures], Figure | None]], ...] = (
        ("ndcg", f"nDCG@{found.k}", lambda one: one.ndcg),
        ("mrr", "MRR", lambda one: one.mrr),
        ("recall_1", "recall@1", lambda one: one.recall_1),
        ("recall", f"recall@{found.k}", lambda one: one.recall),
    )
    for measure, name, of in measures:
        pairs = [(one, (of(one.before), of(one.after))) for one in segments]
        if any(figure is not None for _, both in pairs for figure in both):
            rows = tuple(_row(one, both, (0.0, 1.0)) for one, both in pairs)
            made.append(Drawing(name, "0", "1", rows, decides=measure == found.measure))
    overlap = tuple(_row(one, (one.overlap,), (0.0, 1.0)) for one in segments)
    made.append(Drawing("overlap with the old results", "0", "1", overlap, decides=found.measure == "overlap"))
    return tuple(one for one in made if one is not None)


def times(found: Compared) -> tuple[Times, ...]:
    """The time of a search, of all questions."""
    before, after = found.total.before, found.total.after
    most = max(before.p99, after.p99) or 1.0
    pairs = (("p50", before.p50, after.p50), ("p95", before.p95, after.p95), ("p99", before.p99, after.p99))
    return tuple(Times(name, old, new, (_bar(old, most, 0), _bar(new, most, 1))) for name, old, new in pairs)


def _share(found: Compared, segments: Sequence[Segment]) -> Drawing | None:
    """New over old, with the share that is asked for as a line."""
    ratios = [one.ratio for one in segments if one.ratio is not None]
    if not ratios:
        return None
    low = max(0.0, min(*(one.low for one in ratios), found.at_least) - 0.02)
    high = max(*(one.high for one in ratios), found.at_least, 1.0) + 0.02
    rows = tuple(_row(one, (one.ratio,), (low, high)) for one in segments)
    limit = f"M{_place(found.at_least, low, high):.2f} 0V{ROW}"
    return Drawing("new search, as a share of the old one", f"{low:.2f}", f"{high:.2f}", rows, limit, decides=True)


def _row(one: Segment, marks: Sequence[Figure | None], ends: tuple[float, float]) -> Row:
    heights = (ROW / 2,) if len(marks) == 1 else (ROW / 3, 2 * ROW / 3)
    drawn = tuple(_mark(figure, height, ends) for figure, height in zip(marks, heights, strict=True))
    return Row(one.name or "all", one.questions, drawn, one.state if one.name else "")


def _mark(figure: Figure | None, height: float, ends: tuple[float, float]) -> Mark:
    if figure is None:
        return Mark("", "", "–")
    low, value, high = (_place(one, *ends) for one in (figure.low, figure.value, figure.high))
    shown = f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
    return Mark(f"M{low:.2f} {height:.1f}H{high:.2f}", f"M{value:.2f} {height:.1f}h0", shown)


def _place(value: float, low: float, high: float) -> float:
    return 100 * min(1.0, max(0.0, (value - low) / max(high - low, 1e-9)))


def _bar(value: float, most: float, which: int) -> str:
    height = ROW / 3 * (which + 1)
    return f"M0 {height:.1f}H{100 * min(1.0, value / most):.2f}"


def milliseconds(value: float) -> str:
    """``3.2 ms``."""
    return f"{value:.2f} ms" if value < 10 else f"{number(round(value))} ms"
