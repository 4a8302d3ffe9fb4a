"""What a reset would do and did, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import labelled
from qmigrate.cli.render.words import counted, moment, number, took
from qmigrate.commands.reset import ResetResult, ResetReview
from qmigrate.model.words import quote


def show_reset_review(console: Console, review: ResetReview) -> None:
    """How many points would be left behind, where, and the way back."""
    head = f"  {counted(review.points, 'point')} would be left behind"
    console.print(Text.assemble((review.collection, "bold"), head))
    for item in review.plan.collections:
        lines = (*labelled("steps", item.lines), *labelled("why", item.reasons), *labelled("back", (item.way_back,)))
        for line in lines:
            console.print(line)
    console.print("Nothing was changed.")


def show_reset(console: Console, result: ResetResult) -> None:
    """What was left behind, and how it is undone."""
    for found in result.resumed:
        console.print(f"Resumed {found.collection}: {found.phase}, of {moment(found.started_at)} on host {found.host}")
    head = f"  empty in {took(result.seconds)}; {result.generation} serves"
    console.print(Text.assemble((result.collection, "bold"), head))
    until = f", until {moment(result.held_until)}" if result.held_until else ""
    lines = labelled("left", [f"{counted(result.left, 'point')} in {result.left_in}{until}"])
    if result.late:
        lines += labelled("late", [f"{number(result.late)} of them were written after they had been counted"])
    for line in lines:
        console.print(line)
    if result.log is not None:
        console.print(Text.assemble("Undo it: ", (f"qmigrate fix undo {quote(result.log)}", "bold")))
