"""heads, branches, show and edit: the revision files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.findings import near
from qmigrate.cli.layout import Text, columns
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.text import counted, quote

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.show import ShownRevision, ShownRevisions


def show_revisions(console: Console, found: ShownRevisions) -> None:
    """One line each."""
    if not found.rows:
        console.print("There is none.")
        return
    rows = [
        (row.revision, row.doc, f"→ {', '.join(row.next)}" if len(row.next) > 1 else near(row.path))
        for row in found.rows
    ]
    for line in columns(rows, indent=0):
        console.print(line)


def show_one(console: Console, found: ShownRevision) -> None:
    """What it does, where it is, and where it was applied."""
    console.print(Text.assemble((found.revision, "bold"), f"  {found.doc}"))
    here = [name for name in found.applied or () if name not in found.recorded]
    applied = "unknown: the ledger can't be read" if found.applied is None else ", ".join(here)
    facts = [
        ("file", near(found.path)),
        ("after", ", ".join(found.down) or "nothing: it is the first one"),
        ("before", ", ".join(found.next) or "nothing: it is the head"),
        *([("applied", applied or "to no collection")] if applied or not found.passed else []),
        ("way back", found.way_back),
    ]
    facts += _squashed(found)
    facts += [("SQL", f"after Alembic's {found.requires_sql}")] if found.requires_sql else []
    facts += [("does" if not place else "", line) for place, line in enumerate(found.operations or ("nothing",))]
    for line in columns(facts):
        console.print(line, soft_wrap=True)


def _squashed(found: ShownRevision) -> list[tuple[str, str]]:
    """What it replaces, and whether the files of that may go."""
    if found.replaced_by is not None:
        return [("replaced", f"by {found.replaced_by}, where none of what that replaces is applied")]
    if not found.replaces:
        return []
    facts = [("replaces", ", ".join(found.replaces))]
    if found.passed is None:
        return facts
    waiting = [name for name in found.passed if name not in found.recorded]
    facts += [("recorded", f"{', '.join(found.recorded)}: what it replaces was applied")] if found.recorded else []
    facts += [("to record", f"{', '.join(waiting)}: the next upgrade does it, and changes nothing")] if waiting else []
    facts += [("in between", f"{name}: without {', '.join(missing)}") for name, missing in found.between.items()]
    files = counted(len(found.replaced_files), "file")
    if found.bring_back is not None:
        return [*facts, ("their files", "removed, and needed here. Bring them back:"), ("", found.bring_back)]
    if not found.replaced_files:
        state = "removed"
    elif found.remove is None:
        state = f"{files}, needed here: qmigrate upgrade"
    else:
        facts.append(("their files", f"{files}; not needed here. Once that is so in every deployment:"))
        return [*facts, ("", found.remove)]
    return [*facts, ("their files", state)]


@click.command()
@with_shell
def heads(shell: Shell) -> None:
    """Show the revisions that none follows: one, unless two branches wait for revision --merge."""
    import qmigrate.commands.show as command

    shell.show(command.heads(shell.settings(stores=False)), show_revisions)


@click.command()
@with_shell
def branches(shell: Shell) -> None:
    """Show the revisions that more than one follows."""
    import qmigrate.commands.show as command

    shell.show(command.branches(shell.settings(stores=False)), show_revisions)


@click.command()
@click.argument("revision", default="head")
@with_shell
def show(shell: Shell, revision: str) -> None:
    """Show REVISION, an id or the beginning of one; by default the head."""
    import qmigrate.commands.show as command

    shell.show(command.show(shell.settings(stores=False), revision), show_one)


@click.command()
@click.argument("revision", default="head")
@with_shell
def edit(shell: Shell, revision: str) -> None:
    """Open the file of REVISION in $VISUAL or $EDITOR; without a terminal only its name is printed."""
    import qmigrate.commands.show as command

    found = command.show(shell.settings(stores=False), revision)
    if not shell.may_ask:
        shell.show(found, lambda _, one: shell.document(str(one.path)))
        return
    click.edit(filename=str(found.path))
    if found.applied:
        console = shell.console(stderr=True)
        how = "recorded" if len(found.recorded) == len(found.applied) else "applied"
        console.print(f"note: {found.revision} is {how}. A file that does something else now stops every upgrade;")
        console.print(f"  words alone are accepted: qmigrate repair --accept {quote(found.revision)} --reason WHY")
