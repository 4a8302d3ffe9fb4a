"""init and revision: the files of a project."""

from __future__ import annotations

import click

from qmigrate.cli.shell import Shell, with_shell


@click.command(short_help="Write qmigrate.yaml and the folder of the revisions.")
@with_shell
def init(shell: Shell) -> None:
    """Write qmigrate.yaml and the folder of the revisions here; nothing is overwritten."""
    from qmigrate.cli.render.care import show_init
    from qmigrate.commands import init as command

    shell.show(command.init(shell.settings(stores=False)), show_init)


@click.command()
@click.option("-m", "--message", required=True, help="What changes, in a few words.")
@click.option("--merge", is_flag=True, help="Join several heads.")
@click.option("--rev-id", metavar="ID", help="Instead of the next number.")
@with_shell
def revision(shell: Shell, message: str, merge: bool, rev_id: str | None) -> None:
    """Write the next revision file."""
    from qmigrate.cli.render.care import show_revision
    from qmigrate.commands import init as command

    settings = shell.settings(stores=False)
    shell.show(command.revision(settings, message, merge=merge, revision_id=rev_id), show_revision)


VERBS: tuple[click.Command, ...] = (init, revision)
