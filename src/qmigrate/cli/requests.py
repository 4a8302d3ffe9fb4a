"""requests, approve, reject: what waits for another person's approval, and who decides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli import consent
from qmigrate.cli.layout import Text, columns, labelled, short
from qmigrate.cli.shell import Number, Shell, ask, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.text import counted, moment, number

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.requests import AskedFor, RequestRow, RequestRun
    from qmigrate.settings.load import Settings

_HEADER = ("no", "asked for", "collection", "state", "points", "who", "what")
#: Longest words that are shown in a row.
_LONGEST = 60


def show_requests(console: Console, found: AskedFor) -> None:
    """Newest first."""
    if not found.rows:
        console.print("There are no requests.")
        return
    rows = [(*_cells(one), short(one.words, _LONGEST)) for one in found.rows]
    for line in columns(rows, header=_HEADER, right={0, 4}, indent=0):
        console.print(line, soft_wrap=True)


def _cells(one: RequestRow) -> tuple[str, ...]:
    return (str(one.id), moment(one.created_at), one.collection, one.state, number(one.changes), one.asked_by)


def show_request(console: Console, one: RequestRow) -> None:
    """One request, with everything that who decides needs to know."""
    for line in _lines(one):
        console.print(line, soft_wrap=True)


def _lines(one: RequestRow) -> list[Text]:
    share = f" ({one.share * 100:.3g} %)" if one.points else ""
    least, most = one.allowed
    lines = [Text.assemble((f"request {one.id}", "bold"), f"  {one.state}  {one.kind} in {one.collection}")]
    lines += labelled("what", [one.words])
    points = f"{number(one.changes)} of {counted(one.points, 'point')}{share}"
    lines += labelled("points", [f"{points}; the bound is {one.above}"])
    lines += labelled("allows", [f"{number(least)} to {number(most)} points when it runs"])
    lines += labelled("why", [one.reason] if one.reason else [])
    lines += labelled("asked", [f"{moment(one.created_at)} by {one.asked_as}; until {moment(one.expires_at)}"])
    if one.decided_by is not None and one.decided_at is not None:
        said = f": {one.decided_why}" if one.decided_why else ""
        lines += labelled("decided", [f"{moment(one.decided_at)} by {one.decided_as}{said}"])
    if one.run is not None:
        points = "" if one.found is None else f", {counted(one.found, 'point')} found"
        lines += labelled("run", [f"{one.run}{points}"])
    return [*lines, Text(f"  → {one.command}")] if one.command else lines


def show_run(console: Console, done: RequestRun) -> None:
    """What came of it, and how it is undone."""
    said = f"  {counted(done.changed, 'point')}, by request {done.request}"
    console.print(Text.assemble((done.collection, "bold"), said))
    if done.log is not None:
        console.print(f"  fix {done.log}: qmigrate history --deletions")


class _Listing(click.Group):
    """``requests`` alone, or with options, is ``requests list``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the word in, where none is given."""
        if not args or (args[0] not in self.commands and args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("requests", cls=_Listing)
def requests() -> None:
    """Deletions above fixes.approval: who asked, who approved, and what came of it. Alone it lists them."""


@requests.command("list", short_help="List requests, newest first.")
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only these; may be repeated.")
@click.option("--collection", metavar="NAME", help="Only of this collection.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows at most.")
@with_shell
def list_(shell: Shell, states: tuple[str, ...], collection: str | None, limit: int) -> None:
    """List what was asked for, newest first."""
    import qmigrate.commands.requests as command

    found = command.requests(shell.settings(), states, collection=collection, limit=limit)
    shell.show(found, show_requests)


@requests.command("show", short_help="Show one request in full.")
@click.argument("number", type=click.IntRange(min=1))
@with_shell
def show(shell: Shell, number: int) -> None:
    """Show the request NUMBER: what it would delete, how many points of how many, who asks and why."""
    import qmigrate.commands.requests as command

    shell.show(command.request(shell.settings(), number), show_request)


@requests.command("run", short_help="Do what was approved.")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--max-rate", type=Number(min=0, min_open=True), help="Most points per second.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@lock_timeout
@with_shell
def run(shell: Shell, number: int, yes: bool, **given: Any) -> None:
    """Do what the approved request NUMBER asks for: it is counted again, and runs once."""
    import qmigrate.commands.requests as command

    settings = shell.settings()
    if not yes:
        _agree(shell, settings, number, "Do it?", "nothing was changed", f"qmigrate requests run {number} --yes")
    with shell.progress() as progress:
        done = command.run(settings, number, **given, progress=progress)
    shell.show(done, show_run)


@click.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--reason", metavar="TEXT", help="For the record.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@with_shell
def approve(shell: Shell, number: int, reason: str | None, yes: bool) -> None:
    """Approve the request NUMBER of another person; it is run by the command that it names then.

    An assistant can't approve anything, whatever person it names.
    """
    import qmigrate.commands.requests as command

    settings, agent = shell.settings(), consent.agent()
    if not yes and agent is None:
        _agree(shell, settings, number, "Approve it?", "nothing was approved", f"qmigrate approve {number} --yes")
    shell.show(command.approve(settings, number, reason=reason, agent=agent), show_request)


@click.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--reason", required=True, metavar="TEXT", help="Why, for who asked.")
@with_shell
def reject(shell: Shell, number: int, reason: str) -> None:
    """Reject the request NUMBER, or take its approval back before it is used. Who asked may withdraw it so."""
    import qmigrate.commands.requests as command

    shell.show(command.reject(shell.settings(), number, reason=reason, agent=consent.agent()), show_request)


def _agree(shell: Shell, settings: Settings, number: int, question: str, otherwise: str, again: str) -> None:
    """Show a request, and ask.

    Raises:
        RefusedError: no consent.
    """
    import qmigrate.commands.requests as command
    from qmigrate.errors import RefusedError

    found = command.request(settings, number)
    refusal = RefusedError(
        f"{otherwise}: request {number} is about {counted(found.changes, 'point')} of {found.collection}",
        hint=f"check it: qmigrate requests show {number}; then: {again}",
        facts={"request": number, "changes": found.changes},
    )
    ask(shell, question, refusal=refusal, otherwise=otherwise, lines=lambda: _lines(found))
