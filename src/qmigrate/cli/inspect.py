"""status, history, verify, doctor and wait: what only reads."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.layout import Text, columns, note_lines, short
from qmigrate.cli.report import html_option
from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.text import counted, moment, number, took, zone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from qmigrate.commands.history import Deletion, Deletions
    from qmigrate.commands.results import (
        Check,
        CollectionStatus,
        Doctor,
        History,
        HistoryEntry,
        LateWrites,
        Since,
        Status,
    )

_HEADER = ("fix", "when", "collection", "type", "target", "points", "reason", "who")
#: Longest target and reason that are shown.
_LONGEST = 40


def show_deletions(console: Console, found: Deletions) -> None:
    """Newest first."""
    for line in note_lines(found.notes):
        console.print(line)
    if not found.rows:
        console.print("Nothing was deleted or changed on purpose.")
        return
    zones = {zone(one.created_at) for one in found.rows}
    header = [f"when ({next(iter(zones))})" if name == "when" and len(zones) == 1 else name for name in _HEADER]
    rows = [_row(one, alike=len(zones) == 1) for one in found.rows]
    for line in columns(rows, header=header, right={0, 5}, indent=0):
        console.print(line)


def _row(one: Deletion, *, alike: bool) -> tuple[str, ...]:
    points = one.count if one.changed is None else one.changed
    undone = f" (undone by {one.undone_by})" if one.undone_by is not None else ""
    return (
        str(one.id),
        moment(one.created_at) if alike else f"{moment(one.created_at)} {zone(one.created_at)}",
        one.collection or "–",
        one.kind + undone,
        short(one.target, _LONGEST),
        number(points),
        short(one.reason or "–", _LONGEST),
        one.actor or "–",
    )


#: Level -> the word for it, and a colour in addition to the word.
WORDS = {
    "fail": ("FAILED", "bold red"),
    "warn": ("warning", "yellow"),
    "ok": ("ok", "green"),
    "info": ("note", "cyan"),
}
#: Levels in the order of their sections, with the headings.
SECTIONS = (("fail", "Failed"), ("warn", "May block an upgrade"), ("info", "Notes"), ("ok", "OK"))
_INDENT = 9


def show_doctor(console: Console, result: Doctor) -> None:
    """Sections by how much they matter; each finding has what to do."""
    for level, heading in SECTIONS:
        checks = [check for check in result.checks if check.level == level]
        if not checks:
            continue
        console.print(Text(heading, style="bold"))
        for check in checks:
            _show(console, check)
        console.print()
    console.print(_doctor_summary(result))


def _show(console: Console, check: Check) -> None:
    word, style = WORDS[check.level]
    lines = _wrapped(f"{check.name}: {check.detail}", console.width)
    console.print(Text.assemble((word.ljust(_INDENT), style), lines[0]))
    for line in lines[1:]:
        console.print(" " * _INDENT + line)
    for place, line in enumerate(_wrapped(check.hint or "", console.width - 2)):
        console.print(f"{' ' * _INDENT}{'  ' if place else '→ '}{line}")


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that fit; names and commands are never cut, so that they can be copied."""
    return textwrap.wrap(text, max(30, width - _INDENT), break_long_words=False, break_on_hyphens=False)


def _doctor_summary(result: Doctor) -> str:
    warned = f"{counted(result.warned, 'warning')}" if result.warned else ""
    if not result.failed:
        return f"Everything is in order{f', {warned}' if warned else ''}{_time(result)}."
    failed = f"{counted(result.failed, 'check')} failed"
    return f"{failed}{f', {warned}' if warned else ''}{_time(result)}."


def _time(result: Doctor) -> str:
    return f" ({took(result.seconds)})" if result.seconds else ""


#: Characters of a value in a line.
_VALUE = 60


def show_late_writes(console: Console, found: LateWrites) -> None:
    """How many of each kind, then every id, the most doubtful first, with both values."""
    from qmigrate.commands.history import KINDS

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
    for line in note_lines(found.notes):
        console.print(line)


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
#: Longest docstring line shown after a revision's id, and longest id that is a number.
DOC, _NUMBER = 22, 9


def show_status(console: Console, status: Status) -> None:
    """Where everything is, and the next command."""
    console.print(f"{status.qdrant} · ledger {status.ledger}")
    console.print(_status_summary(status))
    following = _next(status)
    if status.collections:
        console.print()
        for line in _table(status, following, console.width):
            console.print(line)
    for line in note_lines(status.notes):
        if line.plain.startswith("note: "):
            console.print()
        console.print(line)
    if following:
        console.print()
        console.print(Text.assemble("Next: ", (following, "bold")))


def _status_summary(status: Status) -> str:
    counts = {"pending": status.pending}
    for state in ("drift", "running", "held", "interrupted", "failed"):
        counts[state] = sum(row.state == state for row in status.collections)
    parts = [counted(len(status.collections), "collection")]
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    return ", ".join(parts) + (f" · head {status.head}" if status.head else "")


#: States that wait for a command, the one first whose readers may be without answers.
_URGENT = ("failed", "interrupted", "drift", "held", "pending", "unmanaged", "plain")


def _next(status: Status) -> str | None:
    """The command for what is most urgent: an outage before what is only pending."""
    waiting = [row for row in status.collections if row.next_command]
    order = {state: place for place, state in enumerate(_URGENT)}
    first = min(waiting, key=lambda row: order.get(row.state, len(order)), default=None)
    return first.next_command if first else None


def _table(status: Status, following: str | None, width: int) -> list[Text]:
    details = [_detail(row, following) for row in status.collections]
    ways = [(True, True), (False, True), (True, False), (False, False)]
    if any(len(row.revision or "") > _NUMBER for row in status.collections):
        # A moment alone says nothing to a person: its title comes before details in the same line.
        ways[1:3] = ways[2:0:-1]
    for doc, inline in ways:
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
    if row.untouched:
        span = row.untouched[0] if len(row.untouched) == 1 else f"{row.untouched[0]}–{row.untouched[-1]}"
        parts.append(f"nothing for it in {span}")
    if row.written_since is not None or row.not_counted is not None:
        parts.append(f"written since: {_since(row.written_since)}")
    if row.host and row.host not in row.detail:
        parts.append(f"host {row.host}")
    command = f"→ {row.next_command}" if row.next_command and row.next_command != following else ""
    return "  ".join(part for part in (" · ".join(parts), command) if part)


def _since(found: Since | None) -> str:
    if found is None:
        return "not counted"
    parts = [(found.added, "added"), (found.changed, "changed"), (found.deleted, "deleted")]
    return ", ".join(f"{count:,} {how}" for count, how in parts if count) or "nothing"


def show_history(console: Console, history: History) -> None:
    """What was applied and rolled back, newest first."""
    for line in note_lines(history.notes):
        console.print(line)
    if not history.rows:
        console.print("Nothing is recorded.")
        return
    for line in _history_lines(history, console.width):
        console.print(line)


#: What a line of the history has, the most needed first; the others have a line of their own where there is no room.
_HISTORY = ("serves", "points", "took", "who", "title", "reason")


def _history_lines(history: History, width: int) -> list[Text]:
    """One line for each, as far as that fits."""
    zones = {zone(row.created_at) for row in history.rows}
    header = ("no", f"when ({zones.pop()})" if len(zones) == 1 else "when", "collection", "revision", "what")
    firsts = [_happened(row, alike=header[1] != "when") for row in history.rows]
    others = [_further(row) for row in history.rows]
    names = [name for name in _HISTORY if any(other[name] for other in others)]
    for inside in range(len(names), -1, -1):
        chosen = names[:inside]
        rows = [(*first, *(other[name] or "–" for name in chosen)) for first, other in zip(firsts, others, strict=True)]
        right = {0, *(5 + place for place, name in enumerate(chosen) if name in ("points", "took"))}
        lines = columns(rows, header=(*header, *chosen), right=right, indent=0)
        if not inside or max(line.cell_len for line in lines) <= width:
            break
    found = lines[:1]
    for line, other in zip(lines[1:], others, strict=True):
        left = [name for name in ("title", *_HISTORY) if name in names[inside:] and other[name]]
        rest = [_RESTED.get(name, "{}").format(other[name]) for name in dict.fromkeys(left)]
        found += [line, Text(f"    {' · '.join(rest)}")] if rest else [line]
    return found


#: How a figure reads outside of its column.
_RESTED = {"points": "points: {}", "reason": "“{}”", "who": "by {}", "serves": "{} serves"}


def _happened(row: HistoryEntry, *, alike: bool) -> tuple[str, ...]:
    """Which, when, where and what; an attempt says what became of it."""
    what = ", ".join(dict.fromkeys(part for part in (row.direction, row.strategy) if part))
    revision = row.revision
    if row.direction == "fix" and row.state == "done":
        # No revision: what the audit has under a number.
        revision = "–"
        what = f"undo of fix {row.undoes}" if row.undoes is not None else _fix_words(row.fixes)
    if row.state != "done":
        what = f"{row.direction} {row.state}"
    when = moment(row.created_at) if alike else f"{moment(row.created_at)} {zone(row.created_at)}"
    return ("–" if row.id is None else str(row.id), when, row.collection, revision, what)


def _fix_words(fixes: Sequence[int]) -> str:
    return f"fix {', '.join(map(str, fixes))}" if fixes else "fix"


def _further(row: HistoryEntry) -> dict[str, str]:
    """The cells of the other columns; empty where there is nothing to show."""
    return {
        "serves": "" if row.physical is None else _serves(row),
        "points": "" if row.points is None else number(row.points),
        "took": "" if row.seconds is None else f"{took(row.seconds)}{', held' if row.held else ''}",
        "who": row.actor or "",
        "title": short(row.title or "", _LONGEST),
        "reason": short(row.reason or "", _LONGEST),
    }


def _serves(row: HistoryEntry) -> str:
    """``g0002``, ``plain``, or the name of a collection that was adopted under an alias."""
    physical = row.physical or "–"
    return "plain" if physical == row.collection else physical.removeprefix(f"{row.collection}__")


PENDING = 3
DIFFERENT = 5


@click.command()
@click.option("--exit-code", is_flag=True, help="Exit with 3 when a revision is pending.")
@click.option("--count-writes", is_flag=True, help="Count what was written since, also where that takes its time.")
@with_shell
def status(shell: Shell, exit_code: bool, count_writes: bool) -> int:
    """Show every collection: revision, generation, points, what is pending or running.

    Where there is a way back, also what was written since: a rollback would have to carry it along, or lose it.
    """
    import qmigrate.commands.status as command

    found = command.status(shell.settings(), count_writes=count_writes)
    shell.show(found, show_status)
    return PENDING if exit_code and found.pending else 0


@click.command()
@click.argument("collection", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows at most.")
@click.option("--all", "attempts", is_flag=True, help="Also attempts that came to nothing: failed, aborted, refused.")
@click.option("--deletions", is_flag=True, help="Show the audit of deletions and fixes instead.")
@click.option("--since", type=Duration(), help="With --deletions: within the last 24h, 7d, ….")
@click.option("--type", "kind", metavar="WORD", help="With --deletions: only DIRECTORY, ORPHAN, PAYLOAD_SYNC, ….")
@click.option("--target", metavar="TEXT", help="With --deletions: part of the target, or a glob.")
@click.option("--actor", metavar="TEXT", help="With --deletions: part of the actor's name, or a glob.")
@click.option("--csv", "as_csv", is_flag=True, help="With --deletions: comma-separated values.")
@click.option("--carried", metavar="REV", help="Show late writes to the generation that REV replaced.")
@partial(with_shell, without=("actor",))
def history(
    shell: Shell,
    collection: str | None,
    limit: int,
    attempts: bool,
    deletions: bool,
    carried: str | None,
    **given: Any,
) -> None:
    """Show what was applied and rolled back, newest first, of COLLECTION or of all."""
    import qmigrate.commands.status as command

    if attempts and (deletions or carried is not None):
        raise click.UsageError("--all can't be used with --deletions or --carried", click.get_current_context())
    if carried is not None:
        _show_carried(shell, carried, collection, only=not deletions and not any(given.values()))
        return

    if deletions:
        _show_audit(shell, collection, limit, given)
        return
    if any(value for value in given.values()):
        raise click.UsageError("these options need --deletions", click.get_current_context())
    shell.show(command.history(shell.settings(), collection, limit, attempts=attempts), show_history)


def _show_carried(shell: Shell, revision: str, collection: str | None, *, only: bool) -> None:
    from qmigrate.commands.history import carried

    if not only:
        raise click.UsageError("--carried can't be used with --deletions", click.get_current_context())
    shell.show(carried(shell.settings(), revision, collection), show_late_writes)


def _show_audit(shell: Shell, collection: str | None, limit: int, given: dict[str, Any]) -> None:
    from qmigrate.commands.history import as_csv, deletions

    ago = given["since"]
    found = deletions(
        shell.settings(),
        collection,
        since=None if ago is None else datetime.now(UTC) - timedelta(seconds=ago),
        kind=given["kind"],
        target=given["target"],
        actor=given["actor"],
        limit=limit,
    )
    if given["as_csv"] and not shell.options.json:
        shell.document(as_csv(found), end="")
        return
    shell.show(found, show_deletions)


@click.command()
@click.argument("a")
@click.argument("b")
@html_option
@with_shell
def verify(shell: Shell, a: str, b: str) -> int:
    """Compare every point of the collections A and B: ids, payload, and the vectors that both have."""
    import qmigrate.commands.verify as command
    from qmigrate.cli.results import show_verification

    with shell.progress() as progress:
        report = command.verify(shell.settings(), a, b, progress=progress)
    shell.show(report, show_verification)
    return 0 if report.holds else DIFFERENT


@click.command()
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="Start no check after this.")
@click.option("--vectors", is_flag=True, help="Instead: are the vectors sound, and does search find them?")
@click.option("--only", multiple=True, metavar="NAME", help="With --vectors: of this collection; may be repeated.")
@click.option("--all", "every", is_flag=True, help="With --vectors: of every point, not of a sample.")
@click.option(
    "--embed",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --vectors: embed N points of each collection again; with --all every point, where nothing is sent.",
)
@with_shell
def doctor(
    shell: Shell, timeout: float, vectors: bool, only: tuple[str, ...], every: bool, embed: int | None
) -> int:
    """Check everything that a migration needs: versions, rights, room, clocks, names, leftovers, models.

    It changes nothing. Exits with the code of what failed, 9 where several things did.
    """
    import qmigrate.commands.doctor as command
    from qmigrate.errors import UsageError

    if not vectors and (only or every or embed is not None):
        raise UsageError("--only, --all and --embed choose vectors", hint="qmigrate doctor --vectors --only NAME")
    wanted = None
    if vectors:
        from qmigrate.commands.doctor.vectors import VectorsWanted

        wanted = VectorsWanted(only, every, embed)
    found = command.doctor(shell.settings(), budget=timeout, vectors=wanted)
    shell.show(found, show_doctor)
    return found.exit_code


@click.command()
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="Longest time to wait.")
@with_shell
def wait(shell: Shell, timeout: float) -> None:
    """Wait until Qdrant and the ledger's database answer; for entrypoints."""
    import qmigrate.commands.doctor as command
    from qmigrate.cli.results import show_waited

    with shell.progress() as progress:
        found = command.wait(shell.settings(), timeout, progress)
    shell.show(found, show_waited)
