"""What is held and what was cut over, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.upgrade import held_lines, show_outcome
from qmigrate.cli.render.words import counted, moment, took
from qmigrate.commands.cutover import CutoverResult
from qmigrate.commands.results import Held, in_all


def show_cutover(console: Console, result: CutoverResult) -> None:
    """One block per collection, then one line on all of it."""
    for outcome in result.outcomes:
        for line in show_outcome(outcome, "upgrade"):
            console.print(line)
    for note in result.notes:
        console.print(f"note: {note}")
    if result.dry_run:
        for held in result.held:
            console.print(_waiting(held))
        begun = [name for name in result.chosen if name not in {held.collection for held in result.held}]
        for name in begun:
            console.print(Text.assemble((name, "bold"), "  its cut-over was interrupted and is finished"))
    if not result.chosen:
        console.print("Nothing to cut over.")
        return
    if result.dry_run:
        console.print("Nothing was written. Each is converged and verified again before it goes live.")
        return
    done = [outcome for outcome in result.outcomes if outcome.held is None]
    if done:
        total = took(in_all(result.outcomes))
        console.print(f"Done: {counted(len(done), 'collection')} cut over in {total}.")
    for line in held_lines(result.held):
        console.print(line)


def _waiting(held: Held) -> Text:
    since = f", proven {moment(held.since)}" if held.since else ""
    revisions = ", ".join(held.revisions)
    return Text.assemble((held.collection, "bold"), f"  {revisions}  goes live as {held.physical}{since}")
