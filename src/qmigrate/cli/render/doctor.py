"""doctor for people: what failed first, then what warns, then the rest in one line each. It depends on no check."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.words import counted, took
from qmigrate.commands.results import Check, Doctor

#: Level -> the word for it, and a colour in addition to the word.
WORDS = {
    "fail": ("FAILED", "bold red"),
    "warn": ("warning", "yellow"),
    "ok": ("ok", "green"),
    "info": ("note", "cyan"),
}
#: Levels in the order of their sections, with the headings.
SECTIONS = (("fail", "Failed"), ("warn", "May block an upgrade"), ("info", "Notes"), ("ok", "OK"))
_INDENT = 9


def show_doctor(console: Console, result: Doctor) -> None:
    """Sections by how much they matter; each finding has what to do."""
    for level, heading in SECTIONS:
        checks = [check for check in result.checks if check.level == level]
        if not checks:
            continue
        console.print(Text(heading, style="bold"))
        for check in checks:
            _show(console, check)
        console.print()
    console.print(_summary(result))


def _show(console: Console, check: Check) -> None:
    word, style = WORDS[check.level]
    lines = _wrapped(f"{check.name}: {check.detail}", console.width)
    console.print(Text.assemble((word.ljust(_INDENT), style), lines[0]))
    for line in lines[1:]:
        console.print(" " * _INDENT + line)
    for place, line in enumerate(_wrapped(check.hint or "", console.width - 2)):
        console.print(f"{' ' * _INDENT}{'  ' if place else '→ '}{line}")


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that fit; names and commands are never cut, so that they can be copied."""
    return textwrap.wrap(text, max(30, width - _INDENT), break_long_words=False, break_on_hyphens=False)


def _summary(result: Doctor) -> str:
    warned = f"{counted(result.warned, 'warning')}" if result.warned else ""
    if not result.failed:
        return f"Everything is in order{f', {warned}' if warned else ''}{_time(result)}."
    failed = f"{counted(result.failed, 'check')} failed"
    return f"{failed}{f', {warned}' if warned else ''}{_time(result)}."


def _time(result: Doctor) -> str:
    return f" ({took(result.seconds)})" if result.seconds else ""
