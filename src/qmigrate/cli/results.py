"""init, revision, verify, wait and repair for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qmigrate.cli.findings import near
from qmigrate.cli.layout import Text
from qmigrate.text import number, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.drift import DriftRevision
    from qmigrate.commands.results import InitResult, Repaired, RevisionResult, Waited
    from qmigrate.model.plan import Plan
    from qmigrate.model.report import VerificationReport


def show_init(console: Console, result: InitResult) -> None:
    """What was made, and the next command."""
    for path in result.created:
        console.print(f"made {_near(path)}{'/' if path.is_dir() else ''}")
    for path in result.further:
        if path.name == ".gitignore":
            console.print(f"{_near(path)} leaves out .qmigrate/")
        else:
            console.print(f"made {_near(path)}, which shows an editor what qmigrate.yaml may hold")
    for path in result.kept:
        console.print(f"kept {_near(path)}{'/' if path.is_dir() else ''}")
    if not (result.created or result.further):
        console.print("Nothing to do: the project is complete.")
    console.print('Next: qmigrate revision -m "what changes"')


def show_agents(console: Console, result: InitResult) -> None:
    """Whether the file has changed, and who should read it."""
    for path in result.created:
        console.print(f"wrote {_near(path)}: read it, then commit it")
    if not result.created:
        console.print("AGENTS.md has these rules already.")


def show_revision(console: Console, result: RevisionResult, *, filled: bool = False) -> None:
    """The new file; `filled`: it says what it does already."""
    after = f"after {', '.join(result.down)}" if result.down else "the first one"
    console.print(f"made {_near(result.path)}  (revision {result.revision}, {after})")
    if len(result.down) > 1:
        console.print("Next: qmigrate plan; upgrade() of a merge may stay empty")
    elif filled:
        console.print("Next: qmigrate plan")
    else:
        console.print("Next: fill in upgrade(), then qmigrate plan")


def show_verification(console: Console, report: VerificationReport) -> None:
    """How many points are proven, and which are not."""
    proven = f"{number(report.proven)} of {number(report.points)} points proven"
    console.print(f"{report.source} and {report.target}: {proven}")
    for identifier, reason in report.failures.named:
        console.print(f"  {identifier}  {reason}")
    if report.failures.count > len(report.failures.named):
        console.print(f"  … {number(report.failures.count)} in all")
    same = "They hold the same" if report.holds else "They differ"
    alone = ", ".join(name or "(unnamed)" for name in report.not_compared)
    console.print(f"{same}; not compared, since only one of the two has it: vector {alone}." if alone else f"{same}.")


def show_waited(console: Console, result: Waited) -> None:
    """What answers now."""
    console.print(f"Qdrant and the ledger answer, after {took(result.seconds)}.")


def show_repaired(console: Console, result: Repaired) -> None:
    """What was decided."""
    console.print(f"{f'{result.action} {result.subject}'.rstrip()}: {result.detail}")


def _near(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def show_drift_revision(console: Console, result: DriftRevision) -> None:
    """The new file, and what is left to do by hand."""
    after = f"after {', '.join(result.down)}" if result.down else "the first one"
    console.print(f"made {near(result.path)}  (revision {result.revision}, {after})")
    console.print(f"It accepts what was changed by hand in {', '.join(result.collections)}.")
    for line in result.missing:
        console.print(f"note: a revision can't express it: {line}")
    console.print("Next: review it, then qmigrate upgrade, which finds it done already and records it")


def lines_of(plan: Plan) -> list[Text]:
    """What will be done on a live collection, one line each."""
    lines = []
    for item in plan.collections:
        lines.append(Text(item.job.collection, style="bold"))
        lines += [Text(f"  {line}") for line in item.lines]
    return lines + [Text(f"note: {note}") for note in plan.notes]
