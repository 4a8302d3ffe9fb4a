"""Progress on stderr: few lines without a terminal, a bar with one, and exact counts from many threads."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime

import pytest
from rich.console import Console

from qmigrate.cli.progress import EVERY, Bars, JsonLines, Lines, shown_for
from qmigrate.ports import Silent, beside

MOMENT = datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC)
STAMP = "2026-11-30T01:02:03Z"


class Terminal(io.StringIO):
    """A file that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(file: io.StringIO) -> list[str]:
    """What was printed; lines that are not a bar begin with their time, which is cut off here."""
    return [line.removeprefix(f"{STAMP} ") for line in file.getvalue().splitlines()]


def made(kind=Lines, file: io.StringIO | None = None, **more):
    """A display, its file and its clock."""
    file = file or io.StringIO()
    clock = Clock()
    console = Console(file=file, width=100, highlight=False, markup=False, emoji=False, soft_wrap=True, **more)
    return kind(console, clock, lambda: MOMENT), file, clock


def test_lines_at_the_start_at_the_end_and_every_half_minute():
    """A phase prints its start, its end, and one line per 30 seconds however often it reports."""
    shown, file, clock = made()
    shown.begin("c", "fill", 1000)
    for _ in range(128):
        clock.now += EVERY / 64
        shown.advance(5, "limited by: model")
    shown.end("1,000 points")
    assert lines_of(file) == [
        "c: fill, 1,000 points",
        "c: fill 32 %, 320 of 1,000, 11/s, 1 min 4 s left, limited by: model",
        "c: fill 64 %, 640 of 1,000, 11/s, 34 s left, limited by: model",
        "c: fill done in 1 min, 1,000 points",
    ]


def test_every_line_of_a_log_begins_with_its_time():
    """The log of a container shows when each phase began and ended."""
    shown, file, _ = made()
    shown.begin("c", "swap", None)
    shown.say("c: a message")
    shown.end("c__g0002 serves")
    printed = file.getvalue().splitlines()
    assert len(printed) == 3
    assert all(line.startswith(f"{STAMP} c: ") for line in printed)


def test_json_lines_carry_the_same_facts_as_an_object_each():
    """Start, progress, message and end, each parsed on its own; what isn't known is left out."""
    shown, file, clock = made(JsonLines)
    shown.begin("c", "fill", 100, 10)
    clock.now += EVERY
    shown.advance(30, "limited by: model")
    shown.say('a "quoted"\nmessage')
    shown.end("done")
    place = {"collection": "c", "phase": "fill"}
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {"time": STAMP, "event": "phase_started", **place, "total": 100, "done": 10},
        {
            "time": STAMP,
            "event": "progress",
            **place,
            "total": 100,
            "done": 40,
            "per_second": 1.0,
            "note": "limited by: model",
        },
        {"time": STAMP, "event": "message", "message": 'a "quoted"\nmessage'},
        {"time": STAMP, "event": "phase_done", **place, "seconds": 30.0, "done": 40, "summary": "done"},
    ]
    assert isinstance(shown_for(Console(file=Terminal()), form="json"), JsonLines)


def test_a_resumed_phase_says_what_was_done_before():
    """Points of an earlier process count for the share, not for the speed."""
    shown, file, clock = made()
    shown.begin("c", "fill", 1000, 500)
    clock.now += EVERY
    shown.advance(300)
    assert lines_of(file) == [
        "c: fill, 1,000 points, 500 of them done before",
        "c: fill 80 %, 800 of 1,000, 10/s, 20 s left",
    ]


def test_a_phase_without_a_total():
    """What can't be counted shows its time, or its note."""
    shown, file, clock = made()
    shown.begin("c", "index", None)
    clock.now += EVERY
    shown.advance(0)
    clock.now += EVERY
    shown.advance(0, "yellow")
    shown.end()
    assert lines_of(file) == ["c: index", "c: index 30 s", "c: index yellow", "c: index done in 1 min"]


def test_what_is_said_is_printed_as_it_is():
    """Brackets and colons in a line are not markup."""
    shown, file, _ = made()
    shown.say("found [bold]x[/bold] :smile:")
    assert lines_of(file) == ["found [bold]x[/bold] :smile:"]
    assert shown.used


def test_an_error_leaves_no_phase_behind():
    """After close, late reports of other threads are ignored."""
    shown, file, _ = made()
    shown.begin("c", "fill", 10)
    shown.close()
    shown.advance(5)
    shown.end("x")
    assert lines_of(file) == ["c: fill, 10 points"]


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_many_threads_count_exactly(kind):
    """Reports of several ranges at once are all counted."""
    shown, file, clock = made(kind, Terminal(), force_terminal=kind is Bars)
    shown.begin("c", "fill", 8000)
    threads = [threading.Thread(target=lambda: [shown.advance(1) for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown._phase.done == 8000
    clock.now += 4
    shown.end("8,000 points")
    shown.close()
    assert "8,000 points" in file.getvalue()


def test_a_terminal_keeps_one_line_per_phase():
    """The bar goes away; its phase stays as a line under the collection's name, which stands once."""
    shown, file, clock = made(Bars, Terminal(), force_terminal=True, color_system=None, legacy_windows=False)
    for phase in ("snapshot", "fill"):
        shown.begin("c", phase, 100 if phase == "fill" else None)
        clock.now += 2
        shown.advance(100 if phase == "fill" else 0, "limited by: model" if phase == "fill" else "")
        shown.end()
    shown.say("one more thing")
    shown.close()
    text = file.getvalue()
    assert text.count("c\n") == 1
    assert "  snapshot     2.0 s\n" in text
    assert "  fill         2.0 s   50/s   limited by: model\n" in text
    assert "one more thing\n" in text
    assert text.endswith("one more thing\n")
    assert "\x1b[?25l" in text.split("one more thing")[0]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_the_display_fits_the_place(monkeypatch):
    """A live bar only on a terminal that can redraw; nothing when quiet."""
    monkeypatch.setenv("TERM", "xterm")
    assert type(shown_for(Console(file=Terminal()))) is Bars
    assert type(shown_for(Console(file=io.StringIO()))) is Lines
    monkeypatch.setenv("TERM", "dumb")
    assert type(shown_for(Console(file=Terminal()))) is Lines
    file = Terminal()
    quiet = shown_for(Console(file=file), quiet=True)
    quiet.begin("c", "fill", 3)
    quiet.say("x")
    quiet.close()
    assert (file.getvalue(), quiet.used) == ("", True)


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_several_collections_at_a_time_are_whole_lines(kind):
    """Each line names its collection, whichever comes in between; starts are not reported."""
    shown, file, clock = made(kind, force_terminal=False)
    one, two = (beside(shown) for _ in range(2))
    one.begin("docs", "fill", 100)
    two.begin("faces", "fill", 10)
    clock.now += EVERY
    one.advance(50)
    two.advance(10)
    two.end("10 points")
    one.end("100 points")
    assert shown.used
    assert [line.split(",")[0] for line in lines_of(file)] == [
        "docs: fill 50 %", "faces: fill 100 %", "faces: fill done in 30 s", "docs: fill done in 30 s",
    ]


def test_a_display_of_the_users_own_serves_all():
    """A progress made for one collection gets what all of them report."""
    silent = Silent()
    assert beside(silent) is silent
