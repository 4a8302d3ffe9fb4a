"""check --offline for people, and as annotations for GitHub. It judges nothing."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.github import annotation
from qmigrate.cli.render.words import counted

if TYPE_CHECKING:
    from qmigrate.commands.lint import Linted
    from qmigrate.lint import LintFinding

STYLES = {"error": "bold red", "warning": "yellow"}


def show_lint(console: Console, result: Linted, *, verbose: bool = False) -> None:
    """One block per file; each finding with its line, its reason and what to do.

    Args:
        console: where to.
        result: what was found.
        verbose: show what is ignored, too.
    """
    for path, findings in groupby(result.findings, key=lambda one: one.path):
        console.print(Text(near(path), style="bold"))
        for one in findings:
            word = (one.severity, STYLES[one.severity])
            console.print(Text.assemble(f"  {one.line}: ", word, f" {one.code}  {one.message}"))
            console.print(Text(f"      {one.why}", style="dim"))
            console.print(f"      → {one.fix}")
        console.print()
    if verbose:
        for ignored in result.suppressed:
            one = ignored.finding
            console.print(f"ignored: {near(one.path)}:{one.line} {one.code} {one.message} ({ignored.reason})")
    console.print(_summary(result))


def _summary(result: Linted) -> str:
    parts = [counted(result.errors, "error")] if result.errors else []
    parts += [counted(result.warnings, "warning")] if result.warnings else []
    ignored = f"; {result.suppressed and len(result.suppressed)} ignored with a reason" if result.suppressed else ""
    looked = counted(result.files, "revision")
    looked += f" and {result.sql_files} of Alembic" if result.sql_files else ""
    if not parts:
        return f"{looked}: no findings{ignored}."
    said = f"{looked}: {', '.join(parts)}{ignored}."
    return f"{said} ({result.exit_code})" if result.exit_code else said


def github_lines(result: Linted) -> list[str]:
    """One annotation per finding, shown next to its lines in a pull request."""
    return [
        annotation(
            one.severity,
            _message(one),
            title=one.code,
            file=near(one.path),
            line=one.line,
            end_line=one.end_line,
        )
        for one in result.findings
    ]


def _message(one: LintFinding) -> str:
    return f"{one.message}\n{one.why}\n{one.fix}"


def near(path: Path) -> str:
    """Relative to the current folder where it lies below it, with slashes."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()
