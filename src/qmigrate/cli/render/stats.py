"""Counts per folder and value, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.layout import columns
from qmigrate.cli.render.words import counted, moment, number, took
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
