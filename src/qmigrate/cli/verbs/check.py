"""check: drift against a server, or the lint without one."""

from __future__ import annotations

import functools

import click

from qmigrate.cli.shell import Shell, echo, with_shell

FORMATS = ("text", "json", "github", "sarif")


@click.command(short_help="Compare live and recorded; --offline: lint the revisions.")
@click.option("--offline", is_flag=True, help="Read the revision files only: no server, no ledger.")
@click.option("--strict", is_flag=True, help="Unmanaged names count as drift; offline, warnings count as errors.")
@click.option("--only", multiple=True, metavar="NAME", help="Just this collection; may be repeated.")
@click.option("--no-models", is_flag=True, help="Don't load embedders to compare their fingerprints.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="github: annotations of a workflow; sarif: for code scanning, with --offline.",
)
@with_shell
def check(shell: Shell, offline: bool, strict: bool, only: tuple[str, ...], no_models: bool, form: str) -> int:
    """Compare what is live with what is recorded: schemas, seals, names, generations, models, files.

    Exits with 4 when something differs, 3 when a revision is pending or a run unfinished, else 0. With --offline it
    reads the revision files instead, and exits with 8 when a rule is broken.
    """
    context = click.get_current_context()
    if offline:
        if only or no_models:
            raise click.UsageError("--only and --no-models don't go with --offline", context)
        return _lint(shell, strict, form)
    if form == "sarif":
        raise click.UsageError("--format sarif is for --offline: drift has no line in a file", context)
    from qmigrate.cli.render.check import github_lines, show_check
    from qmigrate.commands import check as command

    found = command.check(shell.settings(), only=only or None, strict=strict, models=not no_models)
    if form == "github" and not shell.options.json:
        _lines(github_lines(found))
    elif form == "json" and not shell.options.json:
        shell.data(found)
    else:
        shell.show(found, show_check)
    return found.exit_code


def _lint(shell: Shell, strict: bool, form: str) -> int:
    from qmigrate.cli.render.lint import github_lines, show_lint
    from qmigrate.cli.render.sarif import sarif
    from qmigrate.commands import lint as command

    found = command.lint(shell.settings(stores=False), strict=strict)
    if shell.options.json or form == "text":
        shell.show(found, functools.partial(show_lint, verbose=bool(shell.options.verbose)))
    elif form == "json":
        shell.data(found)
    elif form == "github":
        _lines(github_lines(found))
    else:
        shell.data(sarif(found))
    return found.exit_code


def _lines(lines: list[str]) -> None:
    for line in lines:
        echo(f"{line}\n")


VERBS: tuple[click.Command, ...] = (check,)
