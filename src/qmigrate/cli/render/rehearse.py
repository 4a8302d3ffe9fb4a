"""How a rehearsal went, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import labelled
from qmigrate.cli.render.plan import nothing_to_do
from qmigrate.cli.render.words import counted, number, rate, took
from qmigrate.commands.rehearse import Rehearsal, RehearsalResult


def show_rehearsal(console: Console, result: RehearsalResult) -> None:
    """One block per collection, and that nothing is left of it."""
    for rehearsal in result.rehearsals:
        for line in _block(rehearsal):
            console.print(line)
    if not result.rehearsals:
        console.print(nothing_to_do(result.plan) if not result.plan.collections else "Nothing to rehearse.")
        return
    total = sum(entry.projected_seconds or 0.0 for entry in result.rehearsals)
    if total:
        console.print(f"All of it: ~ {took(total)}.")
    console.print("Nothing is left of the rehearsal, and nothing was recorded as applied.")


def _block(rehearsal: Rehearsal) -> list[Text]:
    title = f"  {', '.join(rehearsal.revisions)}  rehearsed in {took(rehearsal.seconds)}"
    lines = [Text.assemble((rehearsal.collection, "bold"), title)]
    lines += labelled("sample", [f"{number(rehearsal.sampled)} of {counted(rehearsal.points, 'point')}"])
    if rehearsal.proven is not None:
        embedded = f", {number(rehearsal.embedded)} with new vectors" if rehearsal.embedded else ""
        lines += labelled("proven", [f"{number(rehearsal.proven)} of {number(rehearsal.sampled)}{embedded}"])
    if rehearsal.per_second is not None and rehearsal.projected_seconds is not None:
        speed = f"{rate(rehearsal.per_second)}, so all of it takes ~ {took(rehearsal.projected_seconds)}"
        lines += labelled("speed", [speed])
    return lines
