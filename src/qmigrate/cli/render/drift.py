"""revision --from-drift, and the plan of repair --schema, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.lint import near

if TYPE_CHECKING:
    from qmigrate.commands.drift import DriftRevision
    from qmigrate.model.plan import Plan


def show_drift_revision(console: Console, result: DriftRevision) -> None:
    """The new file, and what is left to do by hand."""
    after = f"after {', '.join(result.down)}" if result.down else "the first one"
    console.print(f"made {near(result.path)}  (revision {result.revision}, {after})")
    console.print(f"It accepts what was changed by hand in {', '.join(result.collections)}.")
    for line in result.missing:
        console.print(f"note: a revision can't express it: {line}")
    console.print("Next: review it, then qmigrate upgrade, which finds it done already and records it")


def lines_of(plan: Plan) -> list[Text]:
    """What will be done on a live collection, one line each."""
    lines = []
    for item in plan.collections:
        lines.append(Text(item.job.collection, style="bold"))
        lines += [Text(f"  {line}") for line in item.lines]
    return lines + [Text(f"note: {note}") for note in plan.notes]
