"""The audit of data fixes for people, and as CSV."""

from __future__ import annotations

import csv
import io

from rich.console import Console

from qmigrate.cli.render.layout import columns, short
from qmigrate.cli.render.words import moment, number
from qmigrate.commands.deletions import Deletion, Deletions

_HEADER = ("fix", "when", "collection", "type", "target", "points", "reason", "who")
#: Longest target and reason that are shown.
_LONGEST = 40


def show_deletions(console: Console, found: Deletions) -> None:
    """Newest first."""
    if not found.rows:
        console.print("Nothing was deleted or changed on purpose.")
        return
    for line in columns([_row(one) for one in found.rows], header=_HEADER, right={0, 5}, indent=0):
        console.print(line)


def as_csv(found: Deletions) -> str:
    """With a header; times are ISO 8601."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("id", "created_at", "collection", "kind", "target", "count", "changed", "reason", "actor", "undone_by")
    writer.writerow(names)
    for one in found.rows:
        writer.writerow([_cell(getattr(one, name)) for name in names])
    return out.getvalue()


def _cell(value: object) -> object:
    """A spreadsheet must not take a text for a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@"):
        return "'" + value
    return value.isoformat() if hasattr(value, "isoformat") else value


def _row(one: Deletion) -> tuple[str, ...]:
    points = one.count if one.changed is None else one.changed
    undone = f" (undone by {one.undone_by})" if one.undone_by is not None else ""
    return (
        str(one.id),
        moment(one.created_at),
        one.collection or "–",
        one.kind + undone,
        short(one.target, _LONGEST),
        number(points),
        short(one.reason or "–", _LONGEST),
        one.actor or "–",
    )
