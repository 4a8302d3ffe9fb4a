"""plan, upgrade, rollback and abort: what changes collections."""

from __future__ import annotations

import functools
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli import plan_file
from qmigrate.cli.report import html_option
from qmigrate.cli.shell import Duration, Shell, TargetCommand, with_shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

only = click.option("--only", multiple=True, metavar="NAME", help="Just this collection; may be repeated.")
dry_run = click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
lock_timeout = click.option(
    "--lock-timeout",
    type=Duration(),
    help="How long to wait for another process.  [default: limits.lock_timeout]",
)

parallel = click.option(
    "--parallel",
    type=click.IntRange(min=1),
    metavar="N",
    help="Collections at a time.  [default: as many as the server has cores, at most 4; 1 in local mode]",
)
keep_going = click.option("--keep-going", is_flag=True, help="When a collection fails, continue with the others.")


@contextmanager
def show_rest(shell: Shell, render: Callable[..., None]) -> Iterator[None]:
    """When some collections fail, what became of the others is printed before the error; JSON has both in one."""
    from qmigrate.errors import CollectionsFailedError

    try:
        yield
    except CollectionsFailedError as error:
        if not shell.options.json and error.result.outcomes:
            shell.show(error.result, render)
        raise


def _again(verb: str, target: str, default: str, names: tuple[str, ...], *flags: str) -> str:
    """The command line that does what was planned."""
    chosen = [target] if target != default else []
    return shlex.join(["qmigrate", verb, *chosen, *(word for name in names for word in ("--only", name)), *flags])


def _flags(**given: bool) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, wanted in given.items() if wanted]


@click.command(cls=TargetCommand)
@click.argument("target", default="head")
@only
@plan_file.out_option
@click.option(
    "--trial/--no-trial",
    default=None,
    help="Try embedders that never ran here on some items, to know the time.  [default: those that need no service]",
)
@html_option
@with_shell
def plan(shell: Shell, target: str, only: tuple[str, ...], out: Path | None, trial: bool | None) -> int:
    """Show what an upgrade to TARGET would do, and write nothing anywhere.

    Exits as the upgrade would where that refuses before its first write.

    TARGET is head, heads, a revision id or the beginning of one, or +1 for the next revision.
    """
    import qmigrate.commands.upgrade as command
    from qmigrate.cli.plans import show_plan

    if out is not None:
        return plan_file.plan_to(shell, out, target, only)
    made = command.plan(shell.settings(), target, only or None, trial=trial)
    shell.show(made, functools.partial(show_plan, command=_again("upgrade", target, "head", only), only=only))
    return made.exit_code


@click.command(cls=TargetCommand)
@click.argument("target", default="head")
@only
@dry_run
@lock_timeout
@click.option("--no-snapshot", is_flag=True, help="Rebuild without a snapshot first.")
@click.option("--allow-gap", is_flag=True, help="Allow reads of a plain name to fail for some milliseconds.")
@click.option("--hold", is_flag=True, help="Build and prove, then wait for qmigrate cutover.")
@keep_going
@parallel
@plan_file.plan_option
@plan_file.max_estimate_option
@plan_file.rehearse_option
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), help="Where vectors are made.  [default: rebuild.engine]"
)
@html_option
@with_shell
def upgrade(
    shell: Shell,
    target: str,
    only: tuple[str, ...],
    dry_run: bool,
    lock_timeout: float | None,
    no_snapshot: bool,
    allow_gap: bool,
    keep_going: bool,
    **other: Any,
) -> int:
    """Bring every collection to TARGET; an interrupted run is finished first, from where it was.

    What a revision holds is built and proven, and waits for qmigrate cutover (exit code 11).

    TARGET is head, heads, a revision id or the beginning of one, or +1 for the next revision.
    """
    import qmigrate.commands.upgrade as command
    from qmigrate.cli.plans import show_plan, show_upgrade

    if not dry_run and other["rehearse"] is None:
        _check_named(shell, target, only)
    instead = plan_file.instead(shell, click.get_current_context(), other)
    if instead is not None:
        return instead
    settings = shell.settings().with_engine(other["engine"])
    if other["max_estimate"] is not None:
        command.guard(settings, target, only or None, other["max_estimate"])
    with show_rest(shell, show_upgrade), shell.progress() as progress:
        result = command.upgrade(
            settings,
            target,
            only=only or None,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            no_snapshot=no_snapshot,
            allow_gap=allow_gap,
            hold=other["hold"],
            keep_going=keep_going,
            parallel=other["parallel"],
            progress=progress,
        )
    flags = _flags(no_snapshot=no_snapshot, allow_gap=allow_gap, hold=other["hold"])
    again = _again("upgrade", target, "head", only, *flags)
    if dry_run and not shell.options.json:
        shell.show(result.plan, functools.partial(show_plan, command=again, only=only))
    else:
        shell.show(result, functools.partial(show_upgrade, only=only))
    return result.exit_code or (result.plan.exit_code if dry_run else 0)


def _check_named(shell: Shell, target: str, only: tuple[str, ...]) -> None:
    """A revision that declares that there is no way back is applied at a person's request.

    Raises:
        RefusedError: no person is named, where that has to be said.
    """
    import qmigrate.commands.upgrade as command

    settings = shell.settings()
    if shell.request.missing(settings) is None:
        return
    for revision, why in command.irreversible(settings, target, only or None).items():
        shell.request.require(settings, f"revision {revision} has no way back ({why})")


@click.command(cls=TargetCommand)
@click.argument("target", default="-1")
@only
@click.option("--carry-writes", is_flag=True, help="Carry back what was written since.")
@click.option("--discard-writes", is_flag=True, help="Discard what was written since.")
@click.option("--now", is_flag=True, help="Go back first and count afterwards: for an outage.")
@click.option("--without-files", is_flag=True, help="Also to where only squashed files lead on that are gone.")
@dry_run
@lock_timeout
@parallel
@with_shell
def rollback(
    shell: Shell,
    target: str,
    only: tuple[str, ...],
    dry_run: bool,
    lock_timeout: float | None,
    parallel: int | None,
    without_files: bool,
    **choices: bool,
) -> int:
    """Go back to TARGET; refused when something was written since, unless an option decides what becomes of it.

    TARGET is a revision id or the beginning of one, base, or -1 for one revision back (the default).
    """
    import qmigrate.commands.rollback as command
    from qmigrate.cli.plans import show_plan, show_upgrade

    flags = _flags(**choices)
    if len(flags) > 1:
        raise click.UsageError(f"{' and '.join(flags)} can't go together", click.get_current_context())
    writes = flags[0].removeprefix("--").removesuffix("-writes") if flags else "refuse"
    with shell.progress() as progress:
        result = command.rollback(
            shell.settings(),
            target,
            only=only or None,
            writes=writes,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            parallel=parallel,
            without_files=without_files,
            progress=progress,
        )
    if dry_run and not shell.options.json:
        again = _again("rollback", target, "-1", only, *flags, *_flags(without_files=without_files))
        shell.show(result.plan, functools.partial(show_plan, command=again))
    else:
        shell.show(result, show_upgrade)
    return result.exit_code


@click.command()
@click.argument("collection", required=False)
@lock_timeout
@with_shell
def abort(shell: Shell, collection: str | None, lock_timeout: float | None) -> None:
    """Undo what unfinished runs have begun, of COLLECTION or of all."""
    import qmigrate.commands.rollback as command
    from qmigrate.cli.plans import show_upgrade

    with shell.progress() as progress:
        result = command.abort(shell.settings(), collection, lock_timeout=lock_timeout, progress=progress)
    shell.show(result, show_upgrade)
