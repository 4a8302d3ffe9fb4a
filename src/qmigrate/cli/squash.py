"""squash: several revision files become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.findings import near
from qmigrate.cli.layout import Text
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.text import counted, quote

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.squash import SquashResult


@click.command()
@click.argument("span", metavar="FROM:TO")
@click.option("-m", "--message", help="First line of its docstring; by default what it replaces.")
@click.option("--elide-data", is_flag=True, help="Leave out what the revisions do with points.")
@click.option("--keep-data", is_flag=True, help="Leave revisions that do something with points as they are.")
@click.option("--rev-id", metavar="ID", help="Its id, instead of FROM_TO, or of the moment in a folder of moments.")
@click.option("--dry-run", is_flag=True, help="Show the file, and write none.")
@with_shell
def squash(
    shell: Shell, span: str, message: str | None, elide_data: bool, keep_data: bool, rev_id: str | None, dry_run: bool
) -> None:
    """Write one revision that replaces those from FROM to TO, both included.

    Collections that have all of them are recorded as past it, with no work; new ones get it in their place; those in
    between go through the rest first. The files stay until every deployment has passed them: qmigrate show says it.
    Without FROM the range begins with the first revision, without TO it ends with the head.
    """
    if elide_data and keep_data:
        raise click.UsageError("--elide-data and --keep-data can't go together", click.get_current_context())
    import qmigrate.commands.squash as command

    points = "elide" if elide_data else "keep" if keep_data else None
    made = command.squash(
        shell.settings(stores=False), span, message, points=points, revision_id=rev_id, dry_run=dry_run
    )
    shell.show(made, show_squashed)


def show_squashed(console: Console, result: SquashResult) -> None:
    """The files, what they replace, what was left out, and what comes next."""
    for one in result.files:
        console.print(f"{'would make' if result.dry_run else 'made'} {near(one.path)}  (revision {one.revision})")
        console.print(Text(f"  replaces {', '.join(one.replaces)}"))
        for line in one.changes:
            console.print(Text(f"  {line}"))
        for line in one.left_out:
            console.print(Text(f"  left out: {line}"))
        if result.dry_run:
            console.print(Text(one.text))
    for name, operations in result.kept.items():
        console.print(Text(f"note: {name} stays as it is: {'; '.join(operations)}"))
    compared = counted(len(result.compared), "collection")
    console.print(Text(f"Both ways make the same of {compared}: {', '.join(result.compared)}"))
    for one in result.files:
        for line in one.undecided:
            console.print(Text(f"decide in {quote(one.path.name)}: {line}"))
    if not result.dry_run:
        shown = " and ".join(f"qmigrate show {quote(one.revision)}" for one in result.files)
        console.print("Next: review it, then qmigrate upgrade in every deployment, which records it")
        console.print(Text(f"The files that it replaces may go once {shown} says so in each of them"))
