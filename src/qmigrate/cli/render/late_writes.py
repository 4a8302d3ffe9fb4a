"""Late writes for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, short
from qmigrate.cli.render.words import counted, number
from qmigrate.commands.late_writes import KINDS
from qmigrate.commands.results import LateWrites

#: Characters of a value in a line.
_VALUE = 60


def show_late_writes(console: Console, found: LateWrites) -> None:
    """How many of each kind, then every id, the most doubtful first, with both values."""
    if not found.rows:
        console.print(f"There were no late writes to the generation that {found.revision} replaced.")
        return
    console.print(f"{counted(len(found.rows), 'late write')} around {found.revision}:")
    for kind, count in found.counts.items():
        console.print(Text(f"  {number(count):>6}  {kind.replace('_', ' ')}: {KINDS[kind]}"))
    console.print()
    rows = [
        (row.kind.replace("_", " "), row.collection, str(row.id), _old(row.old), _new(row.new)) for row in found.rows
    ]
    header = ("what", "collection", "id", "written to the old generation", "in the new one")
    for line in columns(rows, header=header, indent=0):
        console.print(line, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}")


def _old(side: Mapping[str, Any]) -> str:
    if side["written"] is None:
        return "deleted"
    return _value(side["written"], side["now"])


def _new(side: Mapping[str, Any]) -> str:
    met = "nothing" if side["met"] is None else side["met"][:8]
    return f"met {met}, now {_value(side['after'], side['now'])}"


def _value(digest: str | None, now: str | None) -> str:
    """What it is today; a digest where that can't be read."""
    if now is not None:
        return short(now, _VALUE)
    return "nothing" if digest is None else digest[:8]
