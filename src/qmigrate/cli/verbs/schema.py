"""schema: collections documented, for a wiki, for git, for programs."""

from __future__ import annotations

import click

from qmigrate.cli.shell import Shell, with_shell


@click.command(short_help="Document what collections look like, and their changelog.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--live", is_flag=True, help="As Qdrant has it; the default, where it can be reached.")
@click.option("--recorded", is_flag=True, help="As the ledger has it: what revisions declared and nothing else.")
@click.option("--revision", metavar="REV", help="As this revision declares it; asks neither Qdrant nor the ledger.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("yaml", "markdown", "json")),
    default="yaml",
    show_default=True,
    help="How it is written.",
)
@click.option("--changelog/--no-changelog", default=None, help="With its history.  [default: in markdown]")
@with_shell
def schema(
    shell: Shell,
    names: tuple[str, ...],
    live: bool,
    recorded: bool,
    revision: str | None,
    form: str,
    changelog: bool | None,
) -> None:
    """Document the collections NAME (or globs), or all: vectors, payload indexes, settings, aliases, models."""
    from qmigrate.cli.render import schema as render
    from qmigrate.commands import schema as command

    if live + recorded + (revision is not None) > 1:
        raise click.UsageError("choose one of --live, --recorded and --revision", click.get_current_context())
    source = "live" if live else "recorded" if recorded else None
    found = command.schema(shell.settings(stores=revision is None), names, source=source, revision=revision)
    for note in found.notes:
        if not shell.options.quiet:
            shell.console(stderr=True).print(f"note: {note}")
    writers = {"yaml": render.as_yaml, "markdown": render.as_markdown, "json": render.as_json}
    wanted = form == "markdown" if changelog is None else changelog
    shell.show(found, lambda _, result: shell.document(writers[form](result, changelog=wanted)))


VERBS: tuple[click.Command, ...] = (schema,)
