"""Figures of a run, and points by day, as lines of a drawing that needs no script. It draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from qmigrate.commands.runs import RunFigures
from qmigrate.engine.points.streams import STAGES
from qmigrate.ledger.summary import Day
from qmigrate.model.facts.figures import Sample
from qmigrate.text import moment, number, size

#: Width and height of a drawing, in its own units: it is stretched to the room that there is.
WIDTH, HEIGHT = 600, 100
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot.

    Attributes:
        path: as an SVG path has it; a value that isn't known leaves a gap.
        newest: the last value, in words.
        values: one a moment.
    """

    name: str
    path: str
    newest: str
    values: Values


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over the same time.

    Attributes:
        name: what is shown.
        top: the value at the upper edge, in words; the lower one is 0.
        start: when it begins, in words.
        end: when it ends.
        most: the value at the upper edge.
    """

    name: str
    top: str
    start: str
    end: str
    lines: tuple[Line, ...]
    most: float

    @property
    def summary(self) -> str:
        """The same for who doesn't see it."""
        return f"{self.name}: " + ", ".join(f"{one.name} {one.newest}".strip() for one in self.lines)


def _share(value: float) -> str:
    return f"{value * 100:.0f} %"


def _bytes(value: float) -> str:
    return size(int(value))


def _per_second(value: float) -> str:
    return f"{number(value)}/s"


#: Name, what a sample has of it by line, how a value is said, and the upper edge where it is fixed.
_PLOTS: tuple[tuple[str, Callable[[Sample], dict[str, float | None]], Callable[[float], str], float | None], ...] = (
    ("Points per second", lambda one: {"": one.rate}, _per_second, None),
    ("Busy share per stage", lambda one: dict(one.busy), _share, 1.0),
    ("Updates that wait in the server", lambda one: {"": one.queue}, number, None),
    ("Memory of the process", lambda one: {"": one.memory}, _bytes, None),
)


#: Name of a plot -> what stands behind its values where a script says them; none behind plain numbers.
UNITS: Mapping[str, str] = {"Points per second": "/s", "Busy share per stage": " %", "Memory of the process": "B"}


def plots(figures: RunFigures) -> tuple[Plot, ...]:
    """What there is to draw; nothing of what was never known, or only once."""
    samples = figures.samples
    if len(samples) < 2 or samples[-1].at <= samples[0].at:
        return ()
    found = (_plot(samples, *one) for one in _PLOTS)
    return tuple(one for one in found if one is not None)


def columns(made: Iterable[Plot], figures: RunFigures) -> dict[str, Any]:
    """The same as lists of as many values each, for a script that draws them."""
    return {
        "at": [one.at for one in figures.samples],
        "plots": [
            {
                "name": one.name,
                "unit": UNITS.get(one.name, ""),
                "lines": [{"name": line.name, "values": line.values} for line in one.lines],
            }
            for one in made
        ],
    }


def points_by_day(days: Sequence[Day]) -> tuple[Plot, ...]:
    """How many points there were, a line through the days on which that is known; nothing for a single one."""
    known = [(datetime.fromisoformat(day.day).timestamp(), day) for day in days if day.points is not None]
    if len(known) < 2:
        return ()
    values = [float(day.points or 0) for _, day in known]
    most = max(values) or 1.0
    line = Line("", path([at for at, _ in known], values, most), number(values[-1]), values)
    return (Plot("Points", number(most), known[0][1].day, known[-1][1].day, (line,), most),)


def _plot(
    samples: Sequence[Sample],
    name: str,
    of: Callable[[Sample], dict[str, float | None]],
    said: Callable[[float], str],
    top: float | None,
) -> Plot | None:
    names = {key for one in samples for key, value in of(one).items() if value is not None}
    # In the order of the work, as everywhere.
    order = [*(one for one in STAGES if one in names), *sorted(names - set(STAGES))]
    lines = {key: [of(one).get(key) for one in samples] for key in order}
    known = [value for values in lines.values() for value in values if value is not None]
    if len(known) < 2:
        return None
    most = top if top is not None else max(known) or 1.0
    moments = [one.at for one in samples]
    start, end = moments[0], moments[-1]
    return Plot(
        name=name,
        top=said(most),
        start=_time(start),
        end=_time(end),
        lines=tuple(
            Line(key, path(moments, values, most), said(next(v for v in reversed(values) if v is not None)), values)
            for key, values in lines.items()
        ),
        most=most,
    )


def path(moments: Sequence[float], values: Values, most: float) -> str:
    """A line as an SVG path has it."""
    start, length = moments[0], moments[-1] - moments[0]
    words: list[str] = []
    begun = False
    for at, value in zip(moments, values, strict=True):
        if value is None:
            begun = False
            continue
        across = WIDTH * (at - start) / length
        up = HEIGHT * (1 - min(1.0, max(0.0, value / most)))
        words.append(f"{'L' if begun else 'M'}{across:.1f} {up:.1f}")
        begun = True
    return " ".join(words)


def _time(at: float) -> str:
    return moment(datetime.fromtimestamp(at, UTC)).partition(" ")[2]
