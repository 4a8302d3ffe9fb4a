"""Progress on stderr: a live bar on a terminal, plain lines elsewhere. It never touches stdout."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qmigrate.cli.layout import Text
from qmigrate.json_log import line as json_line
from qmigrate.json_log import now as json_now
from qmigrate.json_log import stamp
from qmigrate.text import counted, number, rate, took

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from rich.status import Status

    from qmigrate import ports

#: Seconds between two plain lines of one phase.
EVERY = 30.0
#: Width of the phase's name in a line.
NAME = 12


#: Phases that write nothing, and come before all others of a verb.
ONLY_READS = frozenset({"count what was written since"})


class Shown(Protocol):
    """A display: :class:`qmigrate.ports.Progress` that can be closed, and knows whether work was shown."""

    used: bool

    def wait(self, line: str) -> None:
        """Work has begun, and no phase yet."""

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """A phase starts."""

    def advance(self, count: int, note: str = "") -> None:
        """`count` more points are done."""

    def end(self, summary: str = "") -> None:
        """The phase is over."""

    def say(self, line: str) -> None:
        """One line that a user should read."""

    def close(self) -> None:
        """Take the display away."""

    def beside(self) -> ports.Progress:
        """A display for one of several collections that are worked on at a time."""


def shown_for(console: Console, *, quiet: bool = False, form: str = "text") -> Shown:
    """The display that fits: none, a live bar, lines, or lines of JSON.

    Args:
        form: ``text``, or ``json`` for a program that collects logs.
    """
    console.quiet = quiet
    if form == "json":
        return JsonLines(console)
    live = console.file.isatty() and not console.is_dumb_terminal and not quiet
    return Bars(console) if live else Lines(console)


@dataclass
class _Phase:
    """A phase under way."""

    collection: str
    name: str
    total: int | None
    done: int
    before: int
    started: float
    shown: float
    note: str = ""

    def speed(self, now: float) -> float | None:
        """Points per second since this process began the phase."""
        passed = now - self.started
        return (self.done - self.before) / passed if passed > 0.5 and self.done > self.before else None


class Lines:
    """A line when a phase starts and ends, and one every 30 seconds between.

    Every line begins with its time: such lines are what the log of a container has.

    Args:
        console: on stderr.
        clock: seconds that only grow.
        now: the time of day.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = json_now,
    ) -> None:
        self.used = False
        self._console = console
        self._clock = clock
        self._now = now
        self._lock = threading.RLock()
        self._phase: _Phase | None = None

    def begin(self, collection: str, phase: str, total: int | None, done: int = 0) -> None:
        """A phase starts."""
        with self._lock:
            # Where nothing but counting was done, an error may still say that nothing was changed.
            self.used = self.used or phase not in ONLY_READS
            now = self._clock()
            self._phase = _Phase(collection, phase, total, done, done, now, now)
            self._started(self._phase)

    def advance(self, count: int, note: str = "") -> None:
        """`count` more points are done."""
        with self._lock:
            if self._phase is None:
                return
            self._phase.done += count
            self._phase.note = note or self._phase.note
            self._moved(self._phase)

    def end(self, summary: str = "") -> None:
        """The phase is over."""
        with self._lock:
            if self._phase is not None:
                phase, self._phase = self._phase, None
                self._ended(phase, summary)

    def say(self, line: str) -> None:
        """One line that a user should read."""
        with self._lock:
            self.used = True
            self._said(line)

    def wait(self, line: str) -> None:
        """Nothing: a log has lines for what happens."""

    def close(self) -> None:
        """Forget a phase that an error has ended."""
        with self._lock:
            self._phase = None

    def beside(self) -> ports.Progress:
        """Whole lines, each with its collection, so that those of several collections may alternate."""
        return self._sharing(OfOne)

    def _sharing(self, kind: type[Lines]) -> Lines:
        """A display of another kind on the same console, in turns with this one."""
        self.used = True
        made = kind(self._console, self._clock, self._now)
        made._lock = self._lock
        return made

    def _started(self, phase: _Phase) -> None:
        points = f", {counted(phase.total, 'point')}" if phase.total is not None else ""
        resumed = f", {number(phase.done)} of them done before" if phase.done else ""
        self._print(f"{phase.collection}: {phase.name}{points}{resumed}")

    def _moved(self, phase: _Phase) -> None:
        now = self._clock()
        if now - phase.shown >= EVERY:
            phase.shown = now
            self._print(f"{phase.collection}: {phase.name} {', '.join(_figures(phase, now))}")

    def _ended(self, phase: _Phase, summary: str) -> None:
        said = f", {summary}" if summary else ""
        passed = took(self._clock() - phase.started)
        self._print(f"{phase.collection}: {phase.name} done in {passed}{said}")

    def _said(self, line: str) -> None:
        self._print(line)

    def _print(self, line: str) -> None:
        self._console.print(f"{stamp(self._now())} {line}")


class JsonLines(Lines):
    """The same as JSON: one object per line, see :mod:`qmigrate.json_log`."""

    def beside(self) -> ports.Progress:
        """The same for one of several collections: every line names its own."""
        return self._sharing(JsonLines)

    def _started(self, phase: _Phase) -> None:
        self._emit("phase_started", phase, total=phase.total, done=phase.done or None)

    def _moved(self, phase: _Phase) -> None:
        now = self._clock()
        if now - phase.shown < EVERY:
            return
        phase.shown = now
        speed = phase.speed(now)
        rounded = round(speed, 1) if speed else None
        self._emit("progress", phase, total=phase.total, done=phase.done, per_second=rounded, note=phase.note)

    def _ended(self, phase: _Phase, summary: str) -> None:
        seconds = round(self._clock() - phase.started, 3)
        self._emit("phase_done", phase, seconds=seconds, done=phase.done or None, summary=summary)

    def _said(self, line: str) -> None:
        self._print(json_line("message", at=self._now(), message=line))

    def _emit(self, event: str, phase: _Phase, **fields: Any) -> None:
        self._print(json_line(event, at=self._now(), collection=phase.collection, phase=phase.name, **fields))

    def _print(self, line: str) -> None:
        self._console.print(line)


class OfOne(Lines):
    """One of several collections at a time: a line when a phase ends, and one every 30 seconds of a long one."""

    def _started(self, phase: _Phase) -> None:
        """What begins is not printed: it would be lines away from its end."""


class Bars(Lines):
    """A live bar for the phase under way; what is over stays as one line below its collection."""

    _bar: Bar | None = None
    _task: TaskID | None = None
    _collection: str | None = None
    _waiting: Status | None = None

    def wait(self, line: str) -> None:
        """Show that something is done before the first phase: connecting, planning, loading what is heavy."""
        with self._lock:
            self._waiting = self._console.status(Text(line), spinner_style="none")
            self._waiting.start()

    def say(self, line: str) -> None:
        """One line that a person should read, above the bar."""
        with self._lock:
            self.used = True
            live = self._bar or self._waiting
            (live.console if live else self._console).print(line)

    def close(self) -> None:
        """Take the bar away."""
        with self._lock:
            self._stop()
            super().close()

    def _started(self, phase: _Phase) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._stop()
        if phase.collection != self._collection:
            self._collection = phase.collection
            self._console.print(Text(phase.collection, style="bold"))
        self._bar = Progress(
            # Before the first points are done nothing else would move.
            SpinnerColumn(style="none"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=self._bar_width()),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=8,
        )
        name = phase.name.ljust(NAME)
        figures = self._fitting(_figures(phase, phase.started)) if phase.total else ""
        self._task = self._bar.add_task(name, total=phase.total, completed=phase.done, figures=figures)
        self._bar.start()

    def _moved(self, phase: _Phase) -> None:
        if self._bar is not None and self._task is not None:
            figures = self._fitting(_figures(phase, self._clock()))
            self._bar.update(self._task, completed=phase.done, figures=figures)

    def _ended(self, phase: _Phase, summary: str) -> None:
        self._stop()
        now = self._clock()
        speed = phase.speed(now) if phase.total else None
        parts = [took(now - phase.started), summary, rate(speed) if speed else "", phase.note]
        self._console.print(f"  {phase.name.ljust(NAME)} " + "   ".join(part for part in parts if part))

    def beside(self) -> ports.Progress:
        """Whole lines, above one that shows that work goes on."""
        with self._lock:
            if self._waiting is not None:
                self._waiting.update("working on several collections")
        return super().beside()

    def _bar_width(self) -> int:
        """The bar survives in every width."""
        return 30 if self._console.width >= 100 else 14 if self._console.width >= 72 else 8

    def _fitting(self, figures: list[str]) -> str:
        """The figures that have room, the most needed first: share, count, speed, time left, how busy stages are."""
        # The spinner, the name of the phase, the bar, and the spaces between them.
        room = self._console.width - 1 - NAME - self._bar_width() - 4
        shown = figures[:1]
        for figure in figures[1:]:
            # Of what the stages do, the last word is what limits the run.
            fits = [one for one in (figure, figure.rpartition(", ")[2]) if len(", ".join([*shown, one])) <= room]
            if not fits:
                break
            shown.append(fits[0])
        return ", ".join(shown)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


def _figures(phase: _Phase, now: float) -> list[str]:
    """``61 %``, ``7,338 of 12,030``, ``1,910/s``, ``3 s left``: what is known of it."""
    figures: list[str] = []
    if phase.total:
        figures += [f"{100 * phase.done // phase.total} %", f"{number(phase.done)} of {number(phase.total)}"]
    elif phase.done:
        figures.append(number(phase.done))
    speed = phase.speed(now)
    if speed:
        figures.append(rate(speed))
        if phase.total and phase.total > phase.done:
            figures.append(f"{took((phase.total - phase.done) / speed)} left")
    return [*figures, phase.note] if phase.note else figures or [took(now - phase.started)]


if TYPE_CHECKING:

    def _fits(shown: Shown) -> ports.Progress:
        return shown
