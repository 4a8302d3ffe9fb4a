"""init, revision, verify, doctor, wait and repair for people."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.words import counted, number, took
from qmigrate.commands.results import Check, Doctor, InitResult, Repaired, RevisionResult, Waited
from qmigrate.model.report import VerificationReport


def show_init(console: Console, result: InitResult) -> None:
    """What was made, and the next command."""
    for path in result.created:
        console.print(f"made {_near(path)}{'/' if path.is_dir() else ''}")
    console.print('Next: qmigrate revision -m "what changes"')


def show_revision(console: Console, result: RevisionResult) -> None:
    """The new file."""
    after = f"after {', '.join(result.down)}" if result.down else "the first one"
    console.print(f"made {_near(result.path)}  (revision {result.revision}, {after})")
    console.print("Next: fill in upgrade(), then qmigrate plan")


def show_verification(console: Console, report: VerificationReport) -> None:
    """How many points are proven, and which are not."""
    proven = f"{number(report.proven)} of {number(report.points)} points proven"
    console.print(f"{report.source} and {report.target}: {proven}")
    for identifier, reason in report.failures.named:
        console.print(f"  {identifier}  {reason}")
    if report.failures.count > len(report.failures.named):
        console.print(f"  … {number(report.failures.count)} in all")
    console.print("They hold the same." if report.holds else "They differ.")


def show_doctor(console: Console, result: Doctor) -> None:
    """One line per check; what failed says what to do."""
    for check in result.checks:
        console.print(_check(check))
        if check.hint:
            console.print(f"         → {check.hint}")
    console.print()
    failed = f"{counted(result.failed, 'check')} failed."
    console.print(failed if result.failed else "Everything is in order.")


def _check(check: Check) -> Text:
    word, style = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("note", "yellow")}[check.ok]
    return Text.assemble((word.ljust(8), style), f"{check.name}: {check.detail}")


def show_waited(console: Console, result: Waited) -> None:
    """What answers now."""
    console.print(f"Qdrant and the ledger answer, after {took(result.seconds)}.")


def show_repaired(console: Console, result: Repaired) -> None:
    """What was decided."""
    console.print(f"{result.action} {result.subject}: {result.detail}")


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
