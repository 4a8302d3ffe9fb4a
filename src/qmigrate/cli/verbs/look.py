"""status, history, verify, doctor and wait: what only reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import click

from qmigrate.cli.shell import Duration, Shell, with_shell

PENDING = 3
DIFFERENT = 5


@click.command(short_help="Show the state of every collection.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 when a revision is pending.")
@with_shell
def status(shell: Shell, exit_code: bool) -> int:
    """Show every collection: revision, generation, points, what is pending or running."""
    from qmigrate.cli.render.status import show_status
    from qmigrate.commands import status as command

    found = command.status(shell.settings())
    shell.show(found, show_status)
    return PENDING if exit_code and found.pending else 0


@click.command(short_help="Show what was applied and rolled back.")
@click.argument("collection", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Rows at most.")
@click.option("--deletions", is_flag=True, help="Show the audit of deletions and fixes instead.")
@click.option("--since", type=Duration(), help="With --deletions: within the last 24h, 7d, ….")
@click.option("--type", "kind", metavar="WORD", help="With --deletions: only DIRECTORY, ORPHAN, PAYLOAD_SYNC, ….")
@click.option("--target", metavar="TEXT", help="With --deletions: part of the target, or a glob.")
@click.option("--actor", metavar="TEXT", help="With --deletions: part of the actor's name, or a glob.")
@click.option("--csv", "as_csv", is_flag=True, help="With --deletions: comma-separated values.")
@click.option("--carried", metavar="REV", help="Show late writes to the generation that REV replaced.")
@partial(with_shell, without=("actor",))
def history(
    shell: Shell, collection: str | None, limit: int, deletions: bool, carried: str | None, **given: Any
) -> None:
    """Show what was applied and rolled back, newest first, of COLLECTION or of all."""
    from qmigrate.cli.render.status import show_history
    from qmigrate.commands import status as command

    if carried is not None:
        _show_carried(shell, carried, collection, only=not deletions and not any(given.values()))
        return

    if deletions:
        _show_audit(shell, collection, limit, given)
        return
    if any(value for value in given.values()):
        raise click.UsageError("these options need --deletions", click.get_current_context())
    shell.show(command.history(shell.settings(), collection, limit), show_history)


def _show_carried(shell: Shell, revision: str, collection: str | None, *, only: bool) -> None:
    from qmigrate.cli.render.late_writes import show_late_writes
    from qmigrate.commands.late_writes import carried

    if not only:
        raise click.UsageError("--carried can't be used with --deletions", click.get_current_context())
    shell.show(carried(shell.settings(), revision, collection), show_late_writes)


def _show_audit(shell: Shell, collection: str | None, limit: int, given: dict[str, Any]) -> None:
    from qmigrate.cli.render import deletions as render
    from qmigrate.commands.deletions import deletions

    ago = given["since"]
    found = deletions(
        shell.settings(),
        collection,
        since=None if ago is None else datetime.now(UTC) - timedelta(seconds=ago),
        kind=given["kind"],
        target=given["target"],
        actor=given["actor"],
        limit=limit,
    )
    if given["as_csv"] and not shell.options.json:
        shell.document(render.as_csv(found), end="")
        return
    shell.show(found, render.show_deletions)


@click.command(short_help="Compare every point of two collections.")
@click.argument("a")
@click.argument("b")
@with_shell
def verify(shell: Shell, a: str, b: str) -> int:
    """Compare every point of the collections A and B: ids, payload, and the vectors that both have."""
    from qmigrate.cli.render.care import show_verification
    from qmigrate.commands import verify as command

    with shell.progress() as progress:
        report = command.verify(shell.settings(), a, b, progress=progress)
    shell.show(report, show_verification)
    return 0 if report.holds else DIFFERENT


@click.command(short_help="Check everything that a migration needs.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="Start no check after this.")
@with_shell
def doctor(shell: Shell, timeout: float) -> int:
    """Check everything that a migration needs: versions, rights, room, clocks, names, leftovers, models.

    It changes nothing. Exits with the code of what failed, 9 where several things did.
    """
    from qmigrate.cli.render.doctor import show_doctor
    from qmigrate.commands import doctor as command

    found = command.doctor(shell.settings(), budget=timeout)
    shell.show(found, show_doctor)
    return found.exit_code


@click.command(short_help="Wait until Qdrant and the ledger answer.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="Longest time to wait.")
@with_shell
def wait(shell: Shell, timeout: float) -> None:
    """Wait until Qdrant and the ledger's database answer; for entrypoints."""
    from qmigrate.cli.render.care import show_waited
    from qmigrate.commands import doctor as command

    with shell.progress() as progress:
        found = command.wait(shell.settings(), timeout, progress)
    shell.show(found, show_waited)


VERBS: tuple[click.Command, ...] = (status, history, verify, doctor, wait)
