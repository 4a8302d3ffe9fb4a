"""snapshot create, list, restore and delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from qmigrate.cli.layout import Text, columns, labelled, note_lines
from qmigrate.cli.shell import Age, Shell, with_shell
from qmigrate.cli.upgrade import dry_run, lock_timeout
from qmigrate.model.facts.phases import Proof, Swap
from qmigrate.text import counted, moment, number, size, took

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from qmigrate.commands.results import Outcome, SnapshotEntry, Snapshots, UpgradeResult
    from qmigrate.commands.snapshot import DeletedSnapshots
    from qmigrate.model.plan import Plan


HEADER = ("age", "collection", "at", "points", "size", "checksum", "kept until", "snapshot")
#: Characters of a checksum that are shown.
CHECKSUM = 8


def show_snapshots(console: Console, snapshots: Snapshots) -> None:
    """Snapshots and archives, one per line; the name, last, is what a restore asks for."""
    for note in note_lines(snapshots.notes):
        console.print(note)
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
    from qmigrate.commands.results import Snapshots

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
    for note in note_lines(plan.notes):
        console.print(note)
    console.print("Nothing was written.")


def show_restore(console: Console, result: UpgradeResult) -> None:
    """What came back, where it is, and the way back."""
    for found in result.resumed:
        console.print(f"Resumed {found.collection}: {found.phase}, of {moment(found.started_at)} on host {found.host}")
    for outcome in result.outcomes:
        for line in _outcome(outcome):
            console.print(line)
    for note in note_lines(result.plan.notes):
        console.print(note)
    for item in result.plan.collections:
        console.print(Text.assemble("Done. To undo it: ", (item.way_back, "bold")))


def _outcome(outcome: Outcome) -> list[Text]:
    serves = outcome.physical or "nothing: the name is gone"
    lines = [Text.assemble((outcome.collection, "bold"), f"  {took(outcome.seconds)}")]
    for one in outcome.learned(Proof):
        if one.report is not None:
            text = f"{number(one.report.proven)} of {number(one.report.points)} points, from {one.report.source}"
            lines += labelled("proven", [text])
    for swap in outcome.learned(Swap):
        if swap.milliseconds is not None:
            serves += f", name moved in {took(swap.milliseconds / 1000)}"
    return [*lines, *labelled("live", [serves]), *labelled("note", outcome.notes)]


folder = click.option(
    "--in",
    "folder",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder of the archives.  [default: .qmigrate/snapshots]",
)
yes = click.option("--yes", is_flag=True, help="Don't ask.")


@click.group()
def snapshot() -> None:
    """Snapshots of a server, and archives: files of qmigrate, for local mode and for moving between servers."""


@snapshot.command("create", short_help="Make snapshots.")
@click.argument("pattern", required=False)
@click.option("--all", "everything", is_flag=True, help="Of every collection.")
@click.option("--archive", "archived", is_flag=True, help="Write an archive instead of a snapshot on the server.")
@click.option(
    "--to",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write the archive there.  [default: .qmigrate/snapshots]",
)
@with_shell
def create(shell: Shell, pattern: str | None, everything: bool, archived: bool, to: str | None) -> None:
    """Make a snapshot of every collection that matches PATTERN; local mode makes archives."""
    import qmigrate.commands.snapshot as command

    if everything == (pattern is not None):
        raise click.UsageError("name the collections: a PATTERN, or --all", click.get_current_context())
    with shell.progress() as progress:
        made = command.create(
            shell.settings(), pattern or "*", archived=archived or to is not None, to=_path(to), progress=progress
        )
    shell.show(made, show_snapshots)


@snapshot.command("list", short_help="List snapshots and archives.")
@click.argument("pattern", default="*")
@folder
@with_shell
def list_(shell: Shell, pattern: str, folder: str | None) -> None:
    """List the snapshots and archives of every collection that matches PATTERN, kept generations included."""
    import qmigrate.commands.snapshot as command

    shell.show(command.list_(shell.settings(), pattern, folder=_path(folder)), show_snapshots)


@snapshot.command("restore", short_help="Restore the points of a snapshot or an archive.")
@click.argument("collection")
@click.argument("snapshot", required=False)
@click.option("--latest", is_flag=True, help="The newest one of the collection.")
@click.option("--archive", "archived", type=click.Path(), metavar="FILE", help="An archive; the same as SNAPSHOT.")
@click.option("--into", metavar="NAME", help="As another collection, which must not exist.")
@click.option("--undo", is_flag=True, help="Go back to the generation that served before the restore.")
@click.option("--discard-writes", is_flag=True, help="With --undo: leave behind what was written since.")
@folder
@dry_run
@lock_timeout
@yes
@with_shell
def restore(
    shell: Shell,
    collection: str,
    snapshot: str | None,
    latest: bool,
    archived: str | None,
    undo: bool,
    discard_writes: bool,
    **options: object,
) -> None:
    """Make the next generation of COLLECTION from SNAPSHOT (a name, or the file of an archive) and go live with it.

    COLLECTION may be a glob, for the --latest of each that this ledger has; archives of another ledger are restored by
    an exact name only. A refusal comes before the first is restored.
    What serves now is not touched and kept; what was written since the snapshot stays there.
    """
    given = [one for one in (snapshot, archived, latest or None, undo or None) if one is not None]
    if len(given) != 1:
        message = "choose one: a SNAPSHOT, --latest, --archive or --undo"
        raise click.UsageError(message, click.get_current_context())
    if discard_writes and not undo:
        raise click.UsageError("--discard-writes goes with --undo", click.get_current_context())
    if undo:
        if options["into"] or options["folder"]:
            raise click.UsageError("--undo takes neither --into nor --in", click.get_current_context())
        _undo(shell, collection, "discard" if discard_writes else "refuse", options)
    else:
        _restore(shell, collection, snapshot or archived, options)


def _restore(shell: Shell, collection: str, name: str | None, options: dict[str, object]) -> None:
    import qmigrate.commands.restore as command
    from qmigrate.errors import RefusedError

    settings = shell.settings()
    wanted = {"into": options["into"], "folder": _path(options["folder"])}
    if options["dry_run"]:
        shell.show(command.plan(settings, collection, name, **wanted), show_restore_plan)  # type: ignore[arg-type]
        return
    consent, shown = bool(options["yes"]), None
    if not consent and shell.may_ask:
        shown = command.plan(settings, collection, name, **wanted)  # type: ignore[arg-type]
        show_restore_plan(shell.console(stderr=True), shown)
        consent = shell.confirm(f"Restore {options['into'] or collection}?")
        if not consent:
            raise RefusedError(f"{options['into'] or collection} is unchanged")
    with shell.progress() as progress:
        result = command.restore(
            settings,
            collection,
            name,
            **wanted,  # type: ignore[arg-type]
            consent=consent,
            shown=shown,
            lock_timeout=options["lock_timeout"],  # type: ignore[arg-type]
            progress=progress,
        )
    shell.show(result, show_restore)


def _undo(shell: Shell, collection: str, writes: str, options: dict[str, object]) -> None:
    import qmigrate.commands.restore as command

    dry = bool(options["dry_run"])
    with shell.progress() as progress:
        result = command.undo(
            shell.settings(),
            collection,
            writes=writes,
            dry_run=dry,
            lock_timeout=options["lock_timeout"],  # type: ignore[arg-type]
            progress=progress,
        )
    if dry:
        shell.show(result.plan, show_restore_plan)
    else:
        shell.show(result, show_restore)


@snapshot.command("delete", short_help="Delete snapshots and archives.")
@click.argument("names", nargs=-1)
@click.option("--of", "collection", default="*", metavar="PATTERN", help="Only of these collections.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help="Spare the newest N snapshots of each generation, the newest N archives of each collection.",
)
@click.option("--older-than", type=Age(), help="Keep what is younger than this, for example 30d.")
@folder
@dry_run
@yes
@with_shell
def delete(
    shell: Shell,
    names: tuple[str, ...],
    collection: str,
    keep: int | None,
    older_than: float | None,
    folder: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete the snapshots and archives of these NAMES (globs), or by age and number.

    Snapshots (kept by the server, gone with their collection) and archives (files) are counted apart.
    """
    from functools import partial

    import qmigrate.commands.snapshot as command
    from qmigrate.errors import RefusedError
    from qmigrate.model.names import ExactName

    if not names and keep is None and older_than is None:
        raise click.UsageError("name the snapshots: NAMES, --keep or --older-than", click.get_current_context())
    chosen = partial(command.delete, shell.settings(), collection=collection, folder=_path(folder))
    if dry_run:
        shell.show(chosen(names, keep=keep, older_than=older_than, dry_run=True), show_deleted)
        return
    if not yes and shell.may_ask:
        seen = chosen(names, keep=keep, older_than=older_than, dry_run=True)
        show_deleted(shell.console(stderr=True), seen)
        if seen.rows and not shell.confirm("Delete them for good?"):
            raise RefusedError("no snapshot was deleted")
        # Exactly what was shown: a newer one may have been made while the question stood there.
        names, keep, older_than, yes = tuple(ExactName(row.name) for row in seen.rows), None, None, True
        if not names:
            return
    shell.show(chosen(names, keep=keep, older_than=older_than, consent=yes), show_deleted)


def _path(given: object) -> Path | None:
    from pathlib import Path

    return Path(str(given)) if given else None
