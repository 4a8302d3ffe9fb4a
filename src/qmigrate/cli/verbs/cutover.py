"""cutover: go live with what is held."""

from __future__ import annotations

import click

from qmigrate.cli.shell import Shell, with_shell
from qmigrate.cli.verbs.change import dry_run, keep_going, lock_timeout, parallel, show_rest


@click.command(short_help="Go live with what is built and held.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Everything that is held.")
@dry_run
@lock_timeout
@keep_going
@parallel
@with_shell
def cutover(
    shell: Shell,
    names: tuple[str, ...],
    every: bool,
    dry_run: bool,
    lock_timeout: float | None,
    keep_going: bool,
    parallel: int | None,
) -> int:
    """Converge and verify again what is held under NAME (or a glob), then go live with it.

    A refusal leaves it held; an interrupted cut-over is finished.
    """
    from qmigrate.cli.render.cutover import show_cutover
    from qmigrate.commands import cutover as command

    with show_rest(shell, show_cutover), shell.progress() as progress:
        result = command.cutover(
            shell.settings(),
            names,
            every=every,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            keep_going=keep_going,
            parallel=parallel,
            progress=progress,
        )
    shell.show(result, show_cutover)
    return result.exit_code


VERBS: tuple[click.Command, ...] = (cutover,)
