"""fix reset: an empty generation takes the name, as one of the verbs of fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.layout import Text, labelled
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.text import counted, moment, number, quote, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.reset import ResetResult, ResetReview
    from qmigrate.settings.load import Settings


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


@click.command("reset", short_help="Start over with an empty collection; the old points are kept.")
@click.argument("collection")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit; required.")
@click.option("--dry-run", is_flag=True, help="Show what would be left behind, and change nothing.")
@click.option("--yes", is_flag=True, help="Don't ask; with --expect and --confirm.")
@click.option("--expect", type=click.IntRange(min=0), help="Stop unless there are exactly this many points.")
@click.option("--confirm", metavar="PHRASE", help="In place of typing it: DELETE ALL VECTORS.")
@lock_timeout
@with_shell
def reset(
    shell: Shell,
    collection: str,
    reason: str,
    dry_run: bool,
    yes: bool,
    expect: int | None,
    confirm: str | None,
    lock_timeout: float | None,
) -> None:
    """Start over with an empty COLLECTION of the same schema; the points stay in the generation that served until gc.

    The phrase DELETE ALL VECTORS is typed for it; without a terminal --yes --expect N --confirm PHRASE is required.
    """
    import qmigrate.commands.reset as command
    from qmigrate.errors import RefusedError

    settings = shell.settings()
    if dry_run:
        shell.show(command.review(settings, collection, reason=reason), show_reset_review)
        return
    if not yes:
        expect, confirm = _ask(shell, settings, collection, reason, expect)
    elif expect is None or confirm is None:
        raise RefusedError(
            "nothing was changed: a reset needs how many points there are, and the phrase",
            hint=f'--dry-run counts them; --yes --expect N --confirm "{command.PHRASE}"',
        )
    with shell.progress() as progress:
        result = command.reset(
            settings,
            collection,
            reason=reason,
            expect=expect,
            confirm=confirm,
            lock_timeout=lock_timeout,
            progress=progress,
        )
    shell.show(result, show_reset)


def _ask(
    shell: Shell, settings: Settings, collection: str, reason: str, expect: int | None
) -> tuple[int, str]:
    """Show what would be left behind, then have the phrase typed; without a terminal it is refused instead.

    Raises:
        RefusedError: no consent.
    """
    import qmigrate.commands.reset as command
    from qmigrate.errors import RefusedError

    found = command.review(settings, collection, reason=reason)
    if not shell.may_ask:
        raise RefusedError(
            f"{counted(found.points, 'point')} would be left behind, and that needs consent",
            hint=f'--yes --expect {found.points} --confirm "{command.PHRASE}" does it',
            facts={"points": found.points},
        )
    show_reset_review(shell.console(stderr=True), found)
    typed = click.prompt(f"Type {command.PHRASE} to continue", default="", show_default=False, err=True)
    if typed.strip() != command.PHRASE:
        raise RefusedError("nothing was changed")
    return found.points if expect is None else expect, command.PHRASE
