"""What a terminal shows: something moves at once, lines are wrapped at words, and a command stays in one piece."""

from __future__ import annotations

import io
import signal
import threading

import pytest
from rich.console import Console

from qmigrate.cli import starting
from qmigrate.cli.console import _Console
from qmigrate.cli.layout import Text, note_lines
from qmigrate.cli.progress import Bars
from qmigrate.engine.executor import Stop
from qmigrate.text import size


class Terminal(io.StringIO):
    """A file that claims to be a terminal, and says when something was written."""

    encoding = "utf-8"

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


def test_something_moves_before_anything_is_loaded(monkeypatch):
    """From the start until the first line, which then has the line for itself."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    starting.begin(stream, after=0)
    assert stream.written.wait(30)
    starting.over()
    assert "starting" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")
    starting.over()


@pytest.mark.parametrize(("stream", "term"), [(io.StringIO(), "xterm"), (Terminal(), "dumb")])
def test_nothing_moves_in_a_file_or_where_no_cursor_can(stream, term, monkeypatch):
    """A log is not a terminal."""
    monkeypatch.setenv("TERM", term)
    starting.begin(stream, after=0)
    starting.over()
    assert stream.getvalue() == ""


FIGURES = ["61 %", "7,338 of 12,030", "1,910/s", "3 s left", "read 16 %, model 92 %, write 18 %, limited by: model"]


@pytest.mark.parametrize(
    ("width", "shown", "more"),
    [(40, 1, []), (60, 3, []), (80, 4, []), (120, 4, ["limited by: model"]), (150, 5, [])],
    ids=lambda value: str(value),
)
def test_the_bar_survives_and_the_busy_figures_go_first(width, shown, more):
    """At every width there is a bar, and the line fits."""
    bars = Bars(Console(file=Terminal(), width=width, force_terminal=True))
    assert bars._fitting(FIGURES) == ", ".join([*FIGURES[:shown], *more])
    assert bars._bar_width() >= 8
    assert 2 + 12 + 1 + bars._bar_width() + 1 + len(bars._fitting(FIGURES)) <= width


def test_a_line_of_progress_fits_its_terminal():
    """As it is drawn: the bar, and no second line."""
    file = Terminal()
    bars = Bars(Console(file=file, width=72, force_terminal=True, color_system=None, legacy_windows=False))
    bars.begin("c", "fill", 12030)
    bars.advance(7338, FIGURES[-1])
    bars._bar.refresh()
    drawn = file.getvalue().split("\r")[-1].replace("\x1b[2K", "").splitlines()[-1]
    bars.close()
    assert "━" in drawn
    assert "60 %, 7,338 of 12,030" in drawn
    assert "read 16 %" not in drawn
    assert len(drawn.rstrip()) <= 72


def test_waiting_shows_and_goes_with_the_first_phase():
    """Connecting and planning take seconds, too."""
    file = Terminal()
    bars = Bars(Console(file=file, width=80, force_terminal=True, color_system=None, legacy_windows=False))
    bars.wait("connecting and planning")
    bars._waiting._live.refresh()
    assert "connecting and planning" in file.getvalue()
    bars.say("a line above it")
    bars.begin("c", "fill", 10)
    assert bars._waiting is None
    bars.close()


def test_a_signal_is_acknowledged_at_once():
    """Before any checkpoint, by a line that says what a second one does; that one stops at once."""
    said, heard = [], threading.Event()

    def say(line: str) -> None:
        said.append(line)
        heard.set()

    stop = Stop(say)
    stop(signal.SIGINT, None)
    assert heard.wait(30)
    assert said == ["Stopping at the next checkpoint, nothing is lost (Ctrl-C again stops at once)."]
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
    assert len(said) == 1


def printed(line, width: int, *, terminal: bool = True) -> list[str]:
    """The lines of one that is printed."""
    file = io.StringIO()
    console = _Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True)
    console.print(line)
    return file.getvalue().splitlines()


WRAPPED = {
    "note": (
        "note: local mode: payload indexes and server settings are declared, not enforced; no snapshots",
        ["note: local mode: payload indexes and", "      server settings are declared, not", "      enforced; no snapshots"],
    ),
    "label": (
        "  back     to 0001 in milliseconds, while docs__g0001 is kept",
        ["  back     to 0001 in milliseconds,", "           while docs__g0001 is kept"],
    ),
    "command": (
        "Done: 2 collections at 0003. To roll back: qmigrate rollback 0002 --only whisperengine_memory_ada",
        ["Done: 2 collections at 0003. To roll", "back:", "qmigrate rollback 0002 --only whisperengine_memory_ada"],
    ),
    "hint": (
        "  → qmigrate rollback 0002 --only whisperengine_memory_ada --discard-writes",
        ["  → qmigrate rollback 0002 --only whisperengine_memory_ada --discard-writes"],
    ),
    "long name": ("a " + "x" * 50, ["a", "x" * 50]),
    "short": ("note: it fits", ["note: it fits"]),
}


@pytest.mark.parametrize(("line", "lines"), WRAPPED.values(), ids=WRAPPED)
def test_lines_wrap_at_words(line, lines):
    """Below where the text begins; a command is never cut, a name neither, and a file has the line as it is."""
    assert [one.rstrip() for one in printed(line, 40)] == lines
    assert [one.rstrip() for one in printed(Text(line), 40)] == lines
    assert printed(line, 40, terminal=False) == [line]


def test_what_to_do_about_a_note_has_its_own_line():
    """So that it can be copied."""
    assert [line.plain for line in note_lines(["it was changed → qmigrate repair", "two heads"])] == [
        "note: it was changed", "  → qmigrate repair", "note: two heads"
    ]  # fmt: skip


def test_sizes_have_no_millions_of_terabytes():
    """The largest number of 64 bits is a few exabytes."""
    assert size(2**63 - 1) == "9.2 EB"
