"""init and revision: the files of a project."""

from __future__ import annotations

import click

from qmigrate.cli.shell import Shell, with_shell


@click.command(short_help="Write qmigrate.yaml and the folder of the revisions.")
@with_shell
def init(shell: Shell) -> None:
    """Write qmigrate.yaml and the folder of the revisions here; nothing is overwritten."""
    import qmigrate.commands.init as command
    from qmigrate.cli.results import show_init

    shell.show(command.init(shell.settings(stores=False)), show_init)


@click.command(short_help="Write the next revision file.")
@click.option("-m", "--message", help="What changes, in a few words.")
@click.option("--merge", is_flag=True, help="Join several heads.")
@click.option("--from-drift", is_flag=True, help="Accept what was changed by hand: record the live schema.")
@click.option("--only", multiple=True, metavar="NAME", help="With --from-drift: just this collection; repeatable.")
@click.option("--rev-id", metavar="ID", help="Its id, instead of the next number.")
@with_shell
def revision(
    shell: Shell, message: str | None, merge: bool, from_drift: bool, only: tuple[str, ...], rev_id: str | None
) -> None:
    """Write the next revision file."""
    context = click.get_current_context()
    if from_drift:
        if merge:
            raise click.UsageError("--merge and --from-drift can't go together", context)
        from qmigrate.cli.results import show_drift_revision
        from qmigrate.commands import drift

        made = drift.from_drift(shell.settings(), message, only=only or None, revision_id=rev_id)
        shell.show(made, show_drift_revision)
        return
    if message is None or only:
        missing = "--only is for --from-drift" if message else "Missing option '-m' / '--message'."
        raise click.UsageError(missing, context)
    import qmigrate.commands.init as command
    from qmigrate.cli.results import show_revision

    settings = shell.settings(stores=False)
    shell.show(command.revision(settings, message, merge=merge, revision_id=rev_id), show_revision)
