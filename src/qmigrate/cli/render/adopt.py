"""adopt and stamp for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns
from qmigrate.cli.render.words import counted, number

if TYPE_CHECKING:
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
        console.print(f"\n{'would write' if result.dry_run else 'made'} {result.file}")
    for line in result.missing:
        console.print(f"  a revision can't express: {line}")
    for note in result.notes:
        console.print(f"note: {note}")
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
