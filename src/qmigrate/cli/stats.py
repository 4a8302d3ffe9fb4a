"""fix stats: points per folder and per value, as one of the verbs of fix."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.layout import Text, columns
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.text import counted, moment, number, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.stats import Grouped, Statistics


def show_stats(console: Console, found: Statistics, most: int) -> None:
    """One table per field, the largest first.

    Args:
        most: rows of a table.
    """
    below = f" in {found.prefix}" if found.prefix else ""
    figures = f"  {counted(found.points, 'point')}{below}, counted in {took(found.seconds)}"
    console.print(Text.assemble((found.collection, "bold"), figures))
    for one in found.grouped:
        for line in _table(one, most):
            console.print(line)


def _table(one: Grouped, most: int) -> list[Text]:
    label = f"folder of {one.by}" if one.folders else one.by
    rows = [
        [number(group.points), _shown(group.value), *(_shown(group.columns.get(name)) for name in one.columns)]
        for group in one.groups[:most]
    ]
    lines = [Text("")]
    lines += columns(rows, header=("points", label, *one.columns), right={0}) if rows else []
    more = len(one.groups) - most
    if more > 0:
        rest = sum(group.points for group in one.groups[most:])
        lines.append(Text(f"  and {number(more)} more with {counted(rest, 'point')} (--top, --json)", style="dim"))
    if one.without or not rows:
        lines.append(Text(f"  {counted(one.without, 'point')} without {one.by}"))
    if one.unmatched:
        lines.append(Text(f"  {counted(one.unmatched, 'row')} of SQL without any point"))
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or '""'


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
    import qmigrate.commands.stats as command
    from qmigrate.commands.stats import Wanted

    paths = given["paths"]
    if paths is None and (not given["fields"] or given["depth"] or given["prefix"] is not None):
        paths = "path"
    wanted = Wanted(given["fields"], paths, given["depth"], given["prefix"])
    found = command.stats(
        shell.settings(), collection, wanted, sql=given["sql"], key=given["key"], database=given["database"]
    )
    shell.show(found, functools.partial(show_stats, most=given["top"]))
    return 0
