"""fix retrain: delete the points of some values of a preset and mark its rows, as one of the verbs of fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.fix import check_bounded, expect, max_rate, max_share, text_of, yes
from qmigrate.cli.fix_results import preview_lines
from qmigrate.cli.layout import Text, columns, labelled
from qmigrate.cli.shell import Shell, ask, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.cli.values import parameters, value_of
from qmigrate.text import counted, moment, number, quote

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.retrain import Retrained, RetrainResult, RetrainReview, Wish


def show_retrain_review(console: Console, review: RetrainReview) -> None:
    """What would go for each value, and what would be run then."""
    for line in retrain_review_lines(review):
        console.print(line)
    console.print(f"Nothing was changed: {counted(review.changes, 'point')} would be deleted.")


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


_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command("retrain", short_help="Delete points by a preset, and mark the rows that they came from.")
@click.argument("collection", required=False)
@click.option("--preset", required=True, metavar="NAME", help="A preset of fixes.presets with mark: or queue:.")
@click.option("--value", "values", multiple=True, metavar="VALUE", help="Its :value, \"90\" is a string; repeatable.")
@click.option("--from-file", type=_FILE, metavar="FILE", help="A value per line; - for stdin.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Another parameter; may be repeated.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for audit and rows; or the preset has one.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and run no statement.")
@click.option("--allow-unmarked", is_flag=True, help="Delete points also where no row would be marked.")
@max_share
@max_rate
@expect
@yes
@lock_timeout
@with_shell
def retrain(shell: Shell, collection: str | None, **given: Any) -> int:
    """Delete what a preset selects for each value, and run the statements that mark its rows as not trained.

    Points are deleted as by fix delete --preset. The preview runs no statement.
    """
    import qmigrate.commands.retrain as command

    settings, wish, expected = shell.settings(), _wish(collection, given), given["expect"]
    shown = not given["yes"] or given["dry_run"]
    if shown:
        found = command.review(settings, wish)
        if given["dry_run"]:
            shell.show(found, show_retrain_review)
            return 0
        _consent(shell, found)
        expected = found.changes if expected is None else expected
    else:
        check_bounded(expected, command.cap_of(settings, wish), look="--dry-run")
    with shell.progress() as progress:
        result = command.retrain(
            settings,
            wish,
            expect=expected,
            max_rate=given["max_rate"],
            reviewed=shown,
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, show_retrain)
    return 0


def _wish(collection: str | None, given: dict[str, Any]) -> Wish:
    from qmigrate.commands.retrain import Wish

    values = list(given["values"])
    if given["from_file"] is not None:
        lines = text_of(given["from_file"], "--from-file").split("\n")
        values += [line for line in (written.rstrip("\r") for written in lines) if line.strip()]
    return Wish(
        name=given["preset"],
        values=[value_of(value, "--value") for value in values],
        parameters=parameters(given["params"]),
        reason=given["reason"],
        collection=collection,
        max_share=given["max_share"],
        allow_unmarked=given["allow_unmarked"],
    )


def _consent(shell: Shell, found: RetrainReview) -> None:
    """Show what would go and be run, then ask.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.errors import RefusedError

    refusal = RefusedError(
        f"{counted(found.changes, 'point')} would be deleted and rows marked, and that needs consent",
        hint=f"review them first (--dry-run); --yes --expect {found.changes} does it",
        facts={"changes": found.changes},
    )
    ask(
        shell,
        f"Delete {counted(found.changes, 'point')}, and mark the rows?",
        refusal=refusal,
        otherwise="nothing was changed",
        lines=lambda: retrain_review_lines(found),
    )
