"""jobs and worker: what is done in the background, and who does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.layout import columns, short
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.text import counted, moment

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.jobs import Jobs, Worked
    from qmigrate.ledger.job_queue import QueuedJob

_HEADER = ("job", "asked for", "kind", "state", "at", "who")
#: Longest stage or error that is shown in a row.
_LONGEST = 50


def show_jobs(console: Console, found: Jobs) -> None:
    """Newest first."""
    if not found.rows:
        console.print("There are no jobs.")
        return
    for line in columns([_row(one) for one in found.rows], header=_HEADER, indent=0):
        console.print(line, soft_wrap=True)


def _row(one: QueuedJob) -> tuple[str, ...]:
    if one.error is not None:
        at = short(str(one.error.get("message", "")), _LONGEST)
    else:
        at = f"{one.progress} %  {short(one.stage or '', _LONGEST)}".rstrip()
    state = f"{one.state} (to be cancelled)" if one.cancelled_by and one.state == "processing" else one.state
    return one.id, moment(one.created_at), one.kind, state, at, one.actor


def show_job(console: Console, one: QueuedJob) -> None:
    """One job, with what came of it."""
    import json

    console.print(f"{one.id}  {one.kind}  {one.state}  {one.progress} %")
    console.print(f"  asked for {moment(one.created_at)} by {one.actor}, last changed {moment(one.updated_at)}")
    if one.stage:
        console.print(f"  at {one.stage}")
    if one.result is not None:
        console.print(f"  result {json.dumps(one.result, ensure_ascii=False)}", soft_wrap=True)
    if one.error is not None:
        console.print(f"  error {one.error.get('message', '')}", soft_wrap=True)
        if one.error.get("hint"):
            console.print(f"  → {one.error['hint']}", soft_wrap=True)


@click.command()
@click.argument("identifier", required=False, metavar="[JOB]")
@click.option("--cancel", is_flag=True, help="Let it not begin, or stop at its next checkpoint.")
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only these; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many.")
@with_shell
def jobs(shell: Shell, identifier: str | None, cancel: bool, states: tuple[str, ...], limit: int) -> None:
    """Show JOB, or all jobs, newest first: what the HTTP API was asked to do in the background."""
    import qmigrate.commands.jobs as command

    if identifier is None:
        if cancel:
            raise click.UsageError("--cancel needs a JOB", click.get_current_context())
        shell.show(command.jobs(shell.settings(), states, limit=limit), show_jobs)
        return
    settings = shell.settings()
    shell.show(command.cancel(settings, identifier) if cancel else command.job(settings, identifier), show_job)


@click.command()
@click.option("--once", is_flag=True, help="End where no job is left that is due.")
@with_shell
def worker(shell: Shell, once: bool) -> int:
    """Do jobs, one after the other, until a signal comes; several workers may run, on several machines."""
    import qmigrate.commands.jobs as command

    shell.show(command.work(shell.settings(), once=once), lambda console, done: console.print(_done(done)))
    return 0


def _done(done: Worked) -> str:
    return f"{counted(done.ended, 'job')} done."
