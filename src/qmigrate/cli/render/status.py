"""status and history for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns, short
from qmigrate.cli.render.words import counted, moment, number, took
from qmigrate.commands.results import CollectionStatus, History, HistoryEntry, Status

#: Colours in addition to the words, never instead of them.
STYLES = {
    "ready": "green",
    "pending": "yellow",
    "drift": "bold red",
    "running": "cyan",
    "held": "bold cyan",
    "interrupted": "bold yellow",
    "failed": "bold red",
    "unmanaged": "magenta",
    "foreign": "dim",
    "plain": "magenta",
}
HEADER = ("collection", "revision", "generation", "points", "state")
#: Longest docstring line shown after a revision's id.
DOC = 22


def show_status(console: Console, status: Status) -> None:
    """Where everything is, and the next command."""
    console.print(f"{status.qdrant} · ledger {status.ledger}")
    console.print(_summary(status))
    following = _next(status)
    if status.collections:
        console.print()
        for line in _table(status, following, console.width):
            console.print(line)
    for note in status.notes:
        console.print(f"\nnote: {note}")
    if following:
        console.print()
        console.print(Text.assemble("Next: ", (following, "bold")))


def _summary(status: Status) -> str:
    counts = {"pending": status.pending}
    for state in ("drift", "running", "held", "interrupted", "failed"):
        counts[state] = sum(row.state == state for row in status.collections)
    parts = [counted(len(status.collections), "collection")]
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    return ", ".join(parts) + (f" · head {status.head}" if status.head else "")


def _next(status: Status) -> str | None:
    """The command that most collections wait for; a plain ``qmigrate upgrade`` wins."""
    commands = [row.next_command for row in status.collections if row.next_command]
    if "qmigrate upgrade" in commands:
        return "qmigrate upgrade"
    return commands[0] if commands else None


def _table(status: Status, following: str | None, width: int) -> list[Text]:
    details = [_detail(row, following) for row in status.collections]
    for doc, inline in ((True, True), (False, True), (True, False), (False, False)):
        shown = details if inline else [""] * len(details)
        rows = [_cells(row, doc, detail) for row, detail in zip(status.collections, shown, strict=True)]
        lines = columns(rows, header=HEADER, right={3})
        if max(line.cell_len for line in lines) <= width:
            break
    if inline:
        return lines
    found = lines[:1]
    for line, detail in zip(lines[1:], details, strict=True):
        found += [line, Text(f"      {detail}")] if detail else [line]
    return found


def _cells(row: CollectionStatus, doc: bool, detail: str) -> tuple[str | Text, ...]:
    about = f" {short(row.revision_doc, DOC)}" if doc and row.revision_doc else ""
    state = Text(row.state, style=STYLES.get(row.state, ""))
    if detail:
        mark = "  " if detail.startswith("→") else ", " if row.state == "ready" else ": "
        state.append(f"{mark}{detail}", style="not bold default")
    points = "–" if row.points is None else number(row.points)
    return (row.name, f"{row.revision}{about}" if row.revision else "–", row.generation or "–", points, state)


def _detail(row: CollectionStatus, following: str | None) -> str:
    parts: list[str] = []
    if row.phase:
        parts.append(f"{row.phase} {row.percent:.0f} %" if row.percent is not None else row.phase)
    if row.eta_seconds is not None:
        parts.append(f"{took(row.eta_seconds)} left")
    detail = row.detail
    if row.pending and row.state == "pending":
        parts.append(", ".join(row.pending))
        detail = detail.removeprefix(f"{len(row.pending)} pending").lstrip(", ")
    if detail:
        parts.append(detail)
    if row.host and row.host not in row.detail:
        parts.append(f"host {row.host}")
    command = f"→ {row.next_command}" if row.next_command and row.next_command != following else ""
    return "  ".join(part for part in (" · ".join(parts), command) if part)


def show_history(console: Console, history: History) -> None:
    """What was applied and rolled back, newest first."""
    if not history.rows:
        console.print("Nothing is recorded.")
        return
    rows = [
        (
            moment(row.created_at),
            row.collection,
            row.revision,
            row.direction,
            row.strategy or "–",
            _serves(row),
            row.actor or "–",
        )
        for row in history.rows
    ]
    header = ("when", "collection", "revision", "direction", "how", "serves", "who")
    for line in columns(rows, header=header, indent=0):
        console.print(line)


def _serves(row: HistoryEntry) -> str:
    """``g0002``, ``plain``, or the name of a collection that was adopted under an alias."""
    if row.physical is None:
        return "–"
    return "plain" if row.physical == row.collection else row.physical.removeprefix(f"{row.collection}__")
