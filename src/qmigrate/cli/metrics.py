"""metrics: figures for monitoring."""

from __future__ import annotations

from pathlib import Path

import click

from qmigrate.cli.layout import note_lines
from qmigrate.cli.shell import Shell, with_shell


@click.command()
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PATH",
    help="Write them there instead, for a textfile collector.",
)
@with_shell
def metrics(shell: Shell, textfile: Path | None) -> int:
    """Print figures for monitoring: points, pending revisions, the last migration, and the checks of metrics.checks.

    It is a report: pending revisions and drift are exit 0; 9 when a store doesn't answer, which the figures show too.
    """
    import qmigrate.commands.metrics as command
    from qmigrate.commands.metrics import exposition, write

    found = command.metrics(shell.settings())
    for note in note_lines(found.notes):
        if not shell.options.quiet and not shell.options.json:
            shell.console(stderr=True).print(note)
    if textfile is not None:
        write(found, textfile)
    if textfile is None or shell.options.json:
        shell.show(found, lambda _, result: shell.document(exposition(result), end=""))
    return found.exit_code
