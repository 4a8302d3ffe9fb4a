"""What gc would do and did, for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, labelled
from qmigrate.cli.render.words import counted, moment, size
from qmigrate.commands.gc import Collected, GcResult, Spared
from qmigrate.commands.purge import Purge
from qmigrate.model.holding import KeptSnapshot
from qmigrate.model.words import quote
from qmigrate.planner.gc import Verdict
from qmigrate.steps.fixes.purge import NOT_OURS, REMOVED, WRITTEN_AGAIN


def show_preview(console: Console, result: GcResult, command: str) -> None:
    """What would go and what stays, and that nothing was done.

    Args:
        command: what to type to have it done.
    """
    for line in preview(result):
        console.print(line)
    if not result.anything:
        console.print("Nothing was deleted." if result.spared else "Nothing to collect.")
        return
    console.print(Text.assemble("Nothing was deleted. Do it: ", (command, "bold")))


def preview(result: GcResult) -> list[Text]:
    """The lines of both lists."""
    lines: list[Text] = []
    if result.going:
        lines += [Text(f"would go: {_sum(result.going)}"), *_table(result.going), Text()]
    if result.purges:
        going = [_purge(one) for one in result.purges if one.points]
        lines += [Text("marked as deleted, would go:"), *going] if going else []
        lines += [line for one in result.spared for line in _spared(one)]
        lines += [line for one in result.purges for line in _left(one)] + [Text()]
    if result.staying:
        lines += [Text("stays:"), *_table(result.staying), Text()]
    return lines


def show_gc(console: Console, result: GcResult) -> None:
    """What is gone, what was spared and why."""
    for entry in result.collected:
        for line in _collected(entry):
            console.print(line)
    for spared in result.spared:
        for line in _spared(spared):
            console.print(line)
    for done in result.purged:
        undo = f"; qmigrate fix undo {quote(done.log)}" if done.log is not None else ""
        said = f"  {counted(done.changed, 'point')} marked as deleted{undo}"
        console.print(Text.assemble("gone    ", (done.collection, "bold"), said))
    for one in result.purges:
        for line in _left(one):
            console.print(line)
    if result.collected:
        points = sum(entry.points or 0 for entry in result.collected)
        console.print(f"Gone: {counted(len(result.collected), 'generation')}, {counted(points, 'point')}.")
    elif not result.spared and not result.purged:
        console.print("Nothing to collect.")


def _left(one: Purge) -> list[Text]:
    """Points that stay although they carry the mark or once did, and why."""
    because = {
        NOT_OURS: f"{one.flag}.at is old, and no soft deletion of this ledger holds for them",
        WRITTEN_AGAIN: "the mark was written again since",
        REMOVED: "the mark was removed since",
    }
    lines = [
        Text.assemble(("stays   ", "yellow"), (one.collection, "bold"), f"  {counted(one.left[why], 'point')}: {said}")
        for why, said in because.items()
        if one.left.get(why)
    ]
    if one.forgotten:
        fixes = ", ".join(map(str, one.forgotten))
        said = f"        → the record of fix {fixes} is gone; qmigrate fix delete with a filter deletes them"
        lines.append(Text(said))
    return lines


def _purge(one: Purge) -> Text:
    said = f"  {counted(one.points, 'point')} with {one.flag}.at before {moment(one.before)}"
    return Text.assemble("  ", (one.collection, "bold"), said)


def _sum(verdicts: Sequence[Verdict]) -> str:
    points = sum(verdict.points or 0 for verdict in verdicts)
    room = sum(verdict.size or 0 for verdict in verdicts)
    return f"{counted(len(verdicts), 'generation')}, {counted(points, 'point')}, ~ {size(room)}"


def _table(verdicts: Sequence[Verdict]) -> list[Text]:
    lines: list[Text] = []
    heads = columns([_head(verdict) for verdict in verdicts], right={1, 2})
    for verdict, head in zip(verdicts, heads, strict=True):
        lines.append(head)
        lines += labelled("why", [verdict.reason], indent=4)
        lines += labelled("since", [_times(verdict)], indent=4) if verdict.since and verdict.state == "retired" else []
        lines += labelled("snapshot", [_snapshot(made) for made in verdict.snapshots], indent=4)
    return lines


def _head(verdict: Verdict) -> tuple[str | Text, ...]:
    return (
        Text(verdict.generation, style="bold"),
        "not in Qdrant" if verdict.points is None else counted(verdict.points, "point"),
        "" if verdict.size is None else f"~ {size(verdict.size)}",
        verdict.state,
    )


def _snapshot(made: KeptSnapshot) -> str:
    return f"{made.name}  {size(made.size)}" + ("" if made.own else "  (not made by qmigrate)")


def _times(verdict: Verdict) -> str:
    since = moment(verdict.since) if verdict.since else "–"
    return f"{since}, held until {moment(verdict.held_until)}" if verdict.held_until else since


def _collected(entry: Collected) -> list[Text]:
    points = "" if entry.points is None else f"  {counted(entry.points, 'point')}"
    lines = [Text.assemble("gone    ", (entry.generation, "bold"), points)]
    for made in entry.snapshots:
        what = f"exported to {made['file']}, SHA-256 {made['sha256'][:12]}…" if made.get("kept") else "deleted"
        lines += labelled("snapshot", [f"{made['name']}  {size(made['size'])}  {what}"], indent=8)
    return lines


def _spared(entry: Spared) -> list[Text]:
    lines = [Text.assemble(("stays   ", "yellow"), (entry.generation or entry.collection, "bold"), f"  {entry.reason}")]
    return [*lines, Text(f"        → {entry.hint}")] if entry.hint else lines
