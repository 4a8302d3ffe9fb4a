"""cutover: go live with what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.layout import Text, note_lines
from qmigrate.cli.plans import held_lines, show_outcome
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.cli.upgrade import dry_run, keep_going, lock_timeout, parallel, show_rest
from qmigrate.text import counted, moment, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.cutover import CutoverResult
    from qmigrate.commands.results import Held


def show_cutover(console: Console, result: CutoverResult) -> None:
    """One block per collection, then one line on all of it."""
    from qmigrate.commands.results import in_all

    for outcome in result.outcomes:
        for line in show_outcome(outcome, "upgrade"):
            console.print(line)
    for note in note_lines(result.notes):
        console.print(note)
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


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...|--all")
@click.option("--all", "every", is_flag=True, help="Everything that is held.")
@dry_run
@lock_timeout
@keep_going
@parallel
@with_shell
def cutover(
    shell: Shell,
    names: tuple[str, ...],
    every: bool,
    dry_run: bool,
    lock_timeout: float | None,
    keep_going: bool,
    parallel: int | None,
) -> int:
    """Converge and verify again what is held under NAME (or a glob), then go live with it.

    A refusal leaves it held; an interrupted cut-over is finished.
    """
    import qmigrate.commands.cutover as command

    with show_rest(shell, show_cutover), shell.progress() as progress:
        result = command.cutover(
            shell.settings(),
            names,
            every=every,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            keep_going=keep_going,
            parallel=parallel,
            progress=progress,
        )
    shell.show(result, show_cutover)
    return result.exit_code
