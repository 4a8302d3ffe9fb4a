"""gc: old generations past their holdover."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from qmigrate.cli.layout import Text, columns, labelled, note_lines
from qmigrate.cli.shell import Shell, ask, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.text import counted, moment, quote, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qmigrate.commands.audit import AuditArchive
    from qmigrate.commands.gc import Collected, GcResult, Spared
    from qmigrate.commands.purge import Purge
    from qmigrate.model.state import KeptSnapshot
    from qmigrate.planner.gc import Verdict


def show_preview(console: Console, result: GcResult, command: str) -> None:
    """What would go and what stays, and that nothing was done.

    Args:
        command: what to type to have it done.
    """
    for line in [*note_lines(result.notes), *preview(result)]:
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
    if result.audit is not None:
        lines += [Text(f"audit: {_audit(result.audit)} would be archived to a file"), Text()]
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
    if result.audit is not None:
        console.print(_archived(result.audit), soft_wrap=True)
    if result.jobs:
        console.print(f"jobs    {counted(result.jobs, 'job')} that ended long ago removed")
    if result.collected:
        points = sum(entry.points or 0 for entry in result.collected)
        console.print(f"Gone: {counted(len(result.collected), 'generation')}, {counted(points, 'point')}.")
    elif not (result.spared or result.purged or result.audit or result.jobs):
        console.print("Nothing to collect.")


def _audit(one: AuditArchive) -> str:
    """How many rows of which time."""
    needed = f" ({counted(one.needed, 'row')} as old still needed)" if one.needed else ""
    return f"{counted(one.rows, 'row')} older than {moment(one.before)}{needed}"


def _archived(one: AuditArchive) -> Text:
    """What has become of old rows of the audit."""
    if one.problem is not None:
        return Text.assemble(("stays   ", "yellow"), f"audit: {_audit(one)}: {one.problem}")
    return Text(f"audit   {_audit(one)} archived to {one.file}")


def _left(one: Purge) -> list[Text]:
    """Points that stay although they carry the mark or once did, and why."""
    from qmigrate.engine.fixes.purge import NOT_OURS, REMOVED, WRITTEN_AGAIN

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
    return f"{made.name}  {size(made.size)}" + ("" if made.own else "  (not made by a run of this ledger)")


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


@click.command()
@click.argument("pattern", default="*")
@click.option("--dry-run", is_flag=True, help="Show what would go and what stays, and delete nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--now", is_flag=True, help="Also what is still held: there is no way back to it afterwards.")
@click.option(
    "--generation", "generations", multiple=True, metavar="NAME", help="Only this one; every other way back stays."
)
@click.option("--discard-writes", is_flag=True, help="Also one that was written to after it was replaced.")
@click.option(
    "--keep-snapshots/--drop-snapshots",
    default=None,
    help="Export its snapshots first.  [default: rebuild.keep_snapshots]",
)
@lock_timeout
@with_shell
def gc(  # noqa: PLR0913  the options of the verb
    shell: Shell,
    pattern: str,
    dry_run: bool,
    yes: bool,
    now: bool,
    generations: tuple[str, ...],
    discard_writes: bool,
    keep_snapshots: bool | None,
    lock_timeout: float | None,
) -> int:
    """Delete what is past its holdover of every collection that matches PATTERN, with its snapshots.

    A generation goes when its holdover has ended and no alias points to it. What was written to it after it was left
    is never deleted without asking. Points that are marked as deleted (fix delete --soft) go after fixes.soft_delete.
    """
    import qmigrate.commands.gc as command

    settings = shell.settings()
    found = command.review(settings, pattern, now=now, generations=generations)
    given = {"--now": now, "--discard-writes": discard_writes, "--keep-snapshots": keep_snapshots}
    flags = [name for name, is_set in given.items() if is_set]
    chosen = [word for one in generations for word in ("--generation", quote(one))]
    again = " ".join(["qmigrate", "gc", *([quote(pattern)] if pattern != "*" else []), *flags, *chosen])
    if dry_run or not found.anything:
        shell.show(found, functools.partial(show_preview, command=again))
        # Nothing goes, and something was to: the dry run has reported it.
        return 0 if dry_run else found.exit_code
    kept = keep_snapshots
    if kept is None:
        kept = all(settings.for_collection(one.collection).rebuild.keep_snapshots for one in found.going)
    _consent(shell, found, yes, held=now, command=again, kept=kept)
    with shell.progress() as progress:
        result = command.gc(
            settings,
            pattern,
            now=now,
            generations=generations,
            discard_writes=discard_writes,
            keep_snapshots=keep_snapshots,
            shown=[verdict.generation for verdict in found.going],
            purges=found.purges,
            lock_timeout=lock_timeout,
            progress=progress,
        )
    shell.show(result, show_gc)
    return result.exit_code


def _consent(shell: Shell, found: GcResult, yes: bool, *, held: bool, command: str, kept: bool) -> None:
    """Show what goes, then ask; without a terminal it is refused instead.

    Args:
        held: whether what is still held goes as well.
        command: as it was typed: about less it would delete what no user has named.
        kept: whether snapshots are exported first.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.errors import RefusedError

    if yes:
        return
    from qmigrate.text import counted

    parts = [generations_of(found.going, kept=kept)] if found.going else []
    if any(one.points for one in found.purges):
        parts.append(f"{counted(sum(one.points for one in found.purges), 'point')} marked as deleted")
    if found.audit is not None:
        parts.append(f"{counted(found.audit.rows, 'row')} of the audit from the ledger, once a file has them")
    what = " and ".join(parts)
    lost = " There is no way back to what is still held." if held else ""
    ask(
        shell,
        f"Delete {what}?{lost}",
        refusal=RefusedError(
            f"deleting {what} needs consent",
            hint=f"{command} --dry-run shows them; {command} --yes deletes them",
        ),
        otherwise="nothing was deleted",
        lines=lambda: preview(found),
    )


def generations_of(going: Sequence[Verdict], *, kept: bool) -> str:
    """How many, and that Qdrant deletes all of their snapshots with them."""
    snapshots = sum(len(one.snapshots) for one in going)
    if not snapshots:
        return counted(len(going), "generation")
    exported = " (exported first)" if kept else ""
    return f"{counted(len(going), 'generation')} with {counted(snapshots, 'snapshot')}{exported}"
