"""export show: exports of fixes, as lines of JSON."""

from __future__ import annotations

import dataclasses
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qmigrate.cli.shell import Shell, echo_json, with_shell

if TYPE_CHECKING:
    from qmigrate.commands.export import Exported


@click.group()
def export() -> None:
    """Exports: the points that fixes have deleted, and archives."""


@export.command("show", short_help="Print the points of an export, or the ids of a fix.")
@click.argument("what", metavar="FILE|NUMBER")
@click.option("--ids", is_flag=True, help="Only ids.")
@click.option("--vectors", is_flag=True, help="Vectors, too.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The first N.")
@with_shell
def show(shell: Shell, what: str, ids: bool, vectors: bool, limit: int | None) -> None:
    """Print one JSON object per point of FILE, or of the fix NUMBER, in the order of ids.

    Of a fix without an export (--no-export) only the ids are there, which the ledger keeps for fixes.undo.
    """
    import qmigrate.commands.export as command

    number = what.isdigit() and not Path(what).exists()
    with command.show(
        shell.settings(stores=number), int(what) if number else what, ids=ids, vectors=vectors
    ) as found:
        entries = islice(found.entries, limit)
        if shell.options.json:
            shell.show(dataclasses.replace(found, entries=list(entries)), lambda *_: None)
            return
        if not shell.options.quiet:
            shell.console(stderr=True).print(_head(found))
        for one in entries:
            echo_json(one, line=True)


def _head(found: Exported) -> str:
    from qmigrate.text import counted, moment

    fix = f", fix {found.log}" if found.log is not None else ""
    points = f", {counted(found.points, 'point')}" if found.points is not None else " (ids as the ledger keeps them)"
    return f"{found.collection}: {found.kind}{fix} of {moment(found.created_at)}{points}"
