"""adopt and stamp: collections that are there already."""

from __future__ import annotations

import functools
import shlex
from typing import TYPE_CHECKING

import click

from qmigrate.cli.findings import near
from qmigrate.cli.layout import Text, columns, note_lines
from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.cli.upgrade import parallel
from qmigrate.text import counted, number

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.adopt import Adopted, AdoptResult


#: What was found, in a word or two.
WORDS = {
    "baseline": "new baseline",
    "history": "fits",
    "seal": "taken over",
    "known": "was recorded already",
}


def show_adopted(console: Console, result: AdoptResult, *, command: str) -> None:
    """One line per collection, the new revision, what it can't express, and the next command."""
    if result.dry_run and result.text:
        console.print(Text(result.text.rstrip()))
        console.print()
    rows = [_cells(row) for row in result.rows]
    for text in columns(rows, header=("collection", "revision", "serves", "points", "how"), right={3}, indent=0):
        console.print(text)
    for row in result.rows:
        for line in row.drift:
            console.print(f"  {row.name} differs from {row.revision}: {line}")
    if result.file is not None:
        console.print(f"\n{'would write' if result.dry_run else 'made'} {near(result.file)}")
    for line in result.missing:
        console.print(f"  a revision can't express: {line}")
    for note in note_lines(result.notes):
        console.print(note)
    for one in result.left:
        console.print(f"skipped: {one.name}: {one.reason}")
        if one.hint:
            console.print(f"  → {one.hint}")
    console.print()
    console.print(_closing(result, command))


def _cells(row: Adopted) -> tuple[str | Text, ...]:
    how = WORDS.get(row.how, row.how)
    if row.taken_over:
        how += f" from ledger {str(row.taken_over.get('ledger'))[:8]}"
    serves = "plain" if row.physical == row.name else row.physical
    return (row.name, row.revision or "–", serves, number(row.points), how)


def _closing(result: AdoptResult, command: str) -> Text:
    new = [row for row in result.rows if row.how != "known"]
    if result.dry_run:
        return Text.assemble("Nothing was written. Run it: ", (command, "bold"))
    if not new:
        return Text("Nothing to do: everything that matches is under management.")
    return Text.assemble(f"Recorded: {counted(len(new), 'collection')}. Next: ", ("qmigrate status", "bold"))


take_over = click.option(
    "--take-over", is_flag=True, help="Override the seal of another ledger, which is lost for good."
)
dry_run = click.option("--dry-run", is_flag=True, help="Show what would be recorded and write nothing.")
lock_timeout = click.option(
    "--lock-timeout",
    type=Duration(),
    help="How long to wait for another process.  [default: limits.lock_timeout]",
)


@click.command()
@click.argument("pattern")
@click.option("--alias", metavar="NAME", help="Alias of the collection that the application uses from now on.")
@take_over
@click.option("-m", "--message", help="Message of the baseline revision.")
@click.option("--rev-id", metavar="ID", help="Id of the baseline revision, instead of the next one.")
@dry_run
@lock_timeout
@parallel
@with_shell
def adopt(  # noqa: PLR0913  the options of the verb
    shell: Shell,
    pattern: str,
    alias: str | None,
    take_over: bool,
    message: str | None,
    rev_id: str | None,
    dry_run: bool,
    lock_timeout: float | None,
    parallel: int | None,
) -> int:
    """Take the collections that match PATTERN under management, as they are.

    Each is compared with the revisions there are, and is recorded at the newest one that fits. Those that no revision
    creates get one, written from what is there. No point, setting or name is changed.
    """
    import qmigrate.commands.adopt as command
    from qmigrate.revisions.new import is_moment

    with shell.progress() as progress:
        result = command.adopt(
            shell.settings(),
            pattern,
            alias=alias,
            take_over=take_over,
            message=message,
            revision_id=rev_id,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            parallel=parallel,
            progress=progress,
        )
    words = ["qmigrate", "adopt", pattern, *(["--alias", alias] if alias else [])]
    words += ["--take-over"] if take_over else []
    words += ["-m", message] if message else []
    # Without it the real run would have another moment as its id than the one that is shown here.
    new = next((row.revision for row in result.rows if row.how == "baseline"), None) if result.file else None
    chosen = rev_id or (new if dry_run and new and is_moment(new) else None)
    again = shlex.join([*words, *(["--rev-id", chosen] if chosen else [])])
    shell.show(result, functools.partial(show_adopted, command=again))
    return result.exit_code


@click.command()
@click.argument("revision")
@click.option("--only", multiple=True, metavar="NAME", help="Just this collection; may be repeated.")
@take_over
@dry_run
@lock_timeout
@with_shell
def stamp(
    shell: Shell,
    revision: str,
    only: tuple[str, ...],
    take_over: bool,
    dry_run: bool,
    lock_timeout: float | None,
) -> None:
    """Record that collections are at REVISION, because they are; nothing is run.

    Each is compared with the schema that the revisions up to it have recorded, and refused when it differs.
    """
    import qmigrate.commands.adopt as command

    with shell.progress() as progress:
        result = command.stamp(
            shell.settings(),
            revision,
            only=only or None,
            take_over=take_over,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            progress=progress,
        )
    again = shlex.join(["qmigrate", "stamp", revision, *(word for name in only for word in ("--only", name))])
    shell.show(result, functools.partial(show_adopted, command=again))
