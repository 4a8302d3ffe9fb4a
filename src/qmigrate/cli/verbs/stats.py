"""fix stats: points per folder and per value, as one of the verbs of fix."""

from __future__ import annotations

import functools
from typing import Any

import click

from qmigrate.cli.shell import Shell, with_shell


@click.command("stats", short_help="Count points per folder, and per value.")
@click.argument("collection")
@click.option("--folders", "paths", metavar="FIELD", help="Field with paths.  [default: path, without --by]")
@click.option("--depth", type=click.IntRange(min=1), help="Count by the first parts of a folder: 1 for /photos.")
@click.option("--prefix", metavar="FOLDER", help="Only what is in this folder.")
@click.option("--by", "fields", multiple=True, metavar="FIELD", help="Also per value of a field; may be repeated.")
@click.option("--sql", metavar="SELECT", help="A row per folder (or value); its columns are shown too.")
@click.option("--key", metavar="COLUMN", help="Its column with the folder or value.  [default: the field's name]")
@click.option("--database", default="app", show_default=True, metavar="NAME", help="Its database under databases:.")
@click.option("--top", type=click.IntRange(min=1), default=50, show_default=True, help="Rows of a table at most.")
@with_shell
def stats(shell: Shell, collection: str, **given: Any) -> int:
    """Count the points of COLLECTION per folder of their paths and per value of other fields, in one reading."""
    from qmigrate.cli.render.stats import show_stats
    from qmigrate.commands import stats as command
    from qmigrate.steps.stats import Wanted

    paths = given["paths"]
    if paths is None and (not given["fields"] or given["depth"] or given["prefix"] is not None):
        paths = "path"
    wanted = Wanted(given["fields"], paths, given["depth"], given["prefix"])
    found = command.stats(
        shell.settings(), collection, wanted, sql=given["sql"], key=given["key"], database=given["database"]
    )
    shell.show(found, functools.partial(show_stats, most=given["top"]))
    return 0
