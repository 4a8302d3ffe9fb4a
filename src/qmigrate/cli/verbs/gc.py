"""gc: old generations past their holdover."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from qmigrate.cli.shell import Shell, with_shell
from qmigrate.cli.verbs.change import lock_timeout
from qmigrate.cli.verbs.consent import ask
from qmigrate.model.words import quote

if TYPE_CHECKING:
    from qmigrate.commands.gc import GcResult


@click.command(short_help="Delete old generations past their holdover.")
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
    from qmigrate.cli.render.gc import show_gc, show_preview
    from qmigrate.commands import gc as command

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
    _consent(shell, found, yes, now=now)
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


def _consent(shell: Shell, found: GcResult, yes: bool, *, now: bool) -> None:
    """Show what goes, then ask; without a terminal it is refused instead.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.cli.render.gc import preview
    from qmigrate.errors import RefusedError

    if yes:
        return
    from qmigrate.model.words import counted

    parts = [counted(len(found.going), "generation")] if found.going else []
    if any(one.points for one in found.purges):
        parts.append(f"{counted(sum(one.points for one in found.purges), 'point')} marked as deleted")
    what = " and ".join(parts)
    held = " There is no way back to what is still held." if now else ""
    ask(
        shell,
        f"Delete {what}?{held}",
        refusal=RefusedError(
            f"deleting {what} needs consent", hint="qmigrate gc --dry-run shows them; --yes deletes them"
        ),
        otherwise="nothing was deleted",
        lines=lambda: preview(found),
    )


VERBS: tuple[click.Command, ...] = (gc,)
