"""What a retraining would do and did, for people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from qmigrate.cli.render.fix import preview_lines
from qmigrate.cli.render.layout import columns, labelled
from qmigrate.cli.render.words import counted, moment, number
from qmigrate.commands.retrain import Retrained, RetrainResult, RetrainReview
from qmigrate.model.words import quote


def show_retrain_review(console: Console, review: RetrainReview) -> None:
    """What would go for each value, and what would be run then."""
    for line in retrain_review_lines(review):
        console.print(line)
    console.print(f"Nothing was changed: {counted(review.changes, 'point')} would go.")


def retrain_review_lines(review: RetrainReview) -> list[Text]:
    """The same, before the user is asked."""
    lines = [line for preview in review.previews for line in preview_lines(preview)]
    return [*lines, *labelled("then", [" ".join(statement.split()) for statement in review.statements])]


def show_retrain(console: Console, result: RetrainResult) -> None:
    """Per value what is gone and what was marked, and how points come back."""
    for found in result.resumed:
        console.print(f"Resumed {found.collection}: {found.phase}, of {moment(found.started_at)} on host {found.host}")
    said = f"  {counted(result.deleted, 'point')} deleted, {counted(len(result.values), 'value')} to be trained again"
    console.print(Text.assemble((result.collection, "bold"), said))
    header = ("value", "deleted", "rows", "undo")
    for line in columns([_row(one) for one in result.values], header=header, right={1}):
        console.print(line)


def _row(one: Retrained) -> tuple[str, ...]:
    named = one.rows or {str(place): count for place, count in enumerate(one.marked, 1)}
    marked = ", ".join(f"{name} {'?' if count < 0 else number(count)}" for name, count in named.items()) or "–"
    undo = f"qmigrate fix undo {quote(one.log)}" if one.log is not None and one.deleted else "–"
    return str(one.value), number(one.deleted), marked, undo
