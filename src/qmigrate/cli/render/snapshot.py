"""Snapshots, archives and restores for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, labelled
from qmigrate.cli.render.words import counted, moment, number, size, took
from qmigrate.commands.results import Outcome, SnapshotEntry, Snapshots, UpgradeResult
from qmigrate.model.plan import Plan

if TYPE_CHECKING:
    from qmigrate.commands.snapshot import DeletedSnapshots

HEADER = ("age", "collection", "at", "points", "size", "checksum", "kept until", "snapshot")
#: Characters of a checksum that are shown.
CHECKSUM = 8


def show_snapshots(console: Console, snapshots: Snapshots) -> None:
    """Snapshots and archives, one per line; the name, last, is what a restore asks for."""
    if not snapshots.rows:
        console.print("No snapshots.")
        return
    for line in columns([_cells(row) for row in snapshots.rows], header=HEADER, right={3, 4}, indent=0):
        console.print(line)


def _cells(row: SnapshotEntry) -> tuple[str, ...]:
    return (
        took(max(0.0, (datetime.now(UTC) - row.created_at).total_seconds())) if row.created_at else "–",
        row.collection,
        " ".join(part for part in (row.revision, row.generation) if part) or "–",
        number(row.points) if row.points is not None else "–",
        size(row.size),
        row.checksum[:CHECKSUM] if row.checksum else "–",
        moment(row.kept_until) if row.kept_until else "–",
        row.name,
    )


def show_deleted(console: Console, result: DeletedSnapshots) -> None:
    """What was deleted, or would be, and what was spared."""
    if result.rows:
        show_snapshots(console, Snapshots(result.rows))
        console.print()
    for name, why in result.spared.items():
        console.print(f"spared: {name}: {why}")
    if not result.rows:
        console.print("Nothing to delete.")
    elif result.preview:
        console.print(f"{counted(len(result.rows), 'snapshot')} would be deleted. Nothing was deleted.")
    else:
        freed = size(sum(row.size for row in result.rows))
        console.print(f"Deleted: {counted(len(result.rows), 'snapshot')}, {freed}.")


def show_restore_plan(console: Console, plan: Plan) -> None:
    """What a restore would do, and that nothing was written."""
    for item in plan.collections:
        console.print(Text(item.job.collection, style="bold"))
        for line in item.lines:
            console.print(f"  {line}")
        for text in (*labelled("why", item.reasons), *labelled("back", (item.way_back,))):
            console.print(text)
    for note in plan.notes:
        console.print(f"note: {note}")
    console.print("Nothing was written.")


def show_restore(console: Console, result: UpgradeResult) -> None:
    """What came back, where it is, and the way back."""
    for found in result.resumed:
        console.print(f"Resumed {found.collection}: {found.phase}, of {moment(found.started_at)} on host {found.host}")
    for outcome in result.outcomes:
        for line in _outcome(outcome):
            console.print(line)
    for note in result.plan.notes:
        console.print(f"note: {note}")
    for item in result.plan.collections:
        console.print(Text.assemble("Done. To undo it: ", (item.way_back, "bold")))


def _outcome(outcome: Outcome) -> list[Text]:
    serves = outcome.physical or "nothing: the name is gone"
    lines = [Text.assemble((outcome.collection, "bold"), f"  {took(outcome.seconds)}")]
    for facts in outcome.report.values():
        proof: Any = facts.get("report") if isinstance(facts, dict) else None
        if isinstance(proof, dict) and "proven" in proof:
            text = f"{number(proof['proven'])} of {number(proof['points'])} points, from {proof['source']}"
            lines += labelled("proven", [text])
        if isinstance(facts, dict) and facts.get("milliseconds") is not None:
            serves += f", name moved in {took(facts['milliseconds'] / 1000)}"
    return [*lines, *labelled("live", [serves]), *labelled("note", outcome.notes)]
