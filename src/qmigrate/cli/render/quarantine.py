"""Points that could not be embedded, and what became of trying them again, for people."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, short
from qmigrate.cli.render.words import counted, number
from qmigrate.commands.quarantine import Quarantine, Retried

#: Rows that are shown of a collection, and characters of a reason.
_ROWS, _WIDTH = 20, 60


def show_quarantine(console: Console, found: Quarantine) -> None:
    """By collection: how many, and the first of them."""
    if not found.rows:
        console.print("OK: every point has its vectors.")
        return
    for name, count in Counter(row.collection for row in found.rows).items():
        mine = [row for row in found.rows if row.collection == name]
        outcomes = Counter(row.outcome for row in mine)
        parts = ", ".join(f"{number(many)} {outcome}" for outcome, many in sorted(outcomes.items()))
        console.print(Text.assemble((name, "bold"), f"  {counted(count, 'point')} without a vector: {parts}"))
        rows = [
            (str(row.point_id), row.vector or "(unnamed)", row.outcome, number(row.attempts), short(row.reason, _WIDTH))
            for row in mine[:_ROWS]
        ]
        for line in columns(rows, header=("id", "vector", "became", "tries", "why"), right=(3,)):
            console.print(line)
        if count > _ROWS:
            console.print(f"  … {number(count - _ROWS)} more: --json has them all")
    console.print(Text.assemble("Try them again: ", ("qmigrate fix quarantine --retry", "bold")))


def show_retried(console: Console, result: Retried) -> None:
    """What has its vector now, and what hasn't."""
    if not result.collections:
        console.print("OK: every point has its vectors.")
        return
    console.print(f"{counted(result.filled, 'point')} filled, {number(result.failed)} failed again.")
    if result.settled:
        console.print(f"{number(result.settled)} no longer needed it.")
    if result.stranded:
        console.print(
            f"{number(result.stranded)} were dropped from a generation that was rebuilt since: only their file has "
            "them (qmigrate history --deletions names it); or got other ids that are not known any more; or their "
            "vector is not there now, or is one that no embedder has filled."
        )
    if result.waiting:
        console.print(
            Text.assemble(
                f"{number(result.waiting)} are of a generation that is being built; it tries them again: ",
                ("qmigrate upgrade", "bold"),
            )
        )
    if result.failed:
        console.print(Text.assemble("They stay listed: ", ("qmigrate fix quarantine", "bold")))
