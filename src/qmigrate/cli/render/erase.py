"""What an erasure has done, place by place, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, labelled
from qmigrate.cli.render.words import counted, number, took
from qmigrate.commands.erased import Erasure
from qmigrate.commands.fixed import Done, FixResult

#: Of each kind of thing that is named.
_NAMED = 20


def show_erased(console: Console, result: FixResult) -> None:
    """Per collection: where points were, that none is left, and what may still hold them."""
    for one in result.done:
        for line in _lines(one):
            console.print(line)
    if not any(one.erasure for one in result.done):
        console.print("Nothing to do.")


def _lines(one: Done) -> list[Text]:
    found = one.erasure
    if found is None:
        return []
    lines = [Text.assemble((one.collection, "bold"), f"  {counted(found.ids, 'id')} erased in {took(one.seconds)}")]
    rows = [(place.name, number(place.found), number(place.left)) for place in found.places]
    lines += columns(rows, header=("place", "found", "left"), right={1, 2})
    if found.written_again:
        lines += labelled("again", [f"{counted(found.written_again, 'point')} written again since, and kept"])
    return [*lines, *_beyond(found)]


def _beyond(found: Erasure) -> list[Text]:
    """What may still hold them, each with the command that deletes it."""
    lines: list[Text] = []
    if found.made is not None:
        lines += labelled("made", [f"snapshot {found.made}, without them"])
    left = [one for one in found.snapshots if not one.deleted]
    told = [f"{one.name} of {one.collection}: {one.command}" for one in left[:_NAMED]]
    more = [f"and {number(len(left) - _NAMED)} more: qmigrate snapshot list"] if len(left) > _NAMED else []
    if left:
        lines.append(Text(f"{counted(len(left), 'snapshot')} made earlier may still hold them:"))
        lines += labelled("snapshot", [*told, *more])
    lines += labelled("review", list(found.beyond[:_NAMED]))
    lines.append(Text("Not reached: backups outside of qmigrate, and what the database and Qdrant keep until they"))
    lines.append(Text("clean up; see docs/fixes.md. It can't be undone."))
    return lines
