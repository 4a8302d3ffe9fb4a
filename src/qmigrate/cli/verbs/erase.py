"""fix delete --erase: consent, and what it asks for. The options are those of ``fix delete``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.verbs.consent import ask

if TYPE_CHECKING:
    from qmigrate.cli.shell import Shell
    from qmigrate.commands.fix import Review
    from qmigrate.operations import DeletePoints

erase_options = (
    click.option("--erase", is_flag=True, help="For good: from every generation, export and journal; no undo."),
    click.option(
        "--snapshots",
        type=click.Choice(["list", "replace"]),
        default="list",
        show_default=True,
        help="With --erase: older snapshots on the server are listed, or replaced by a new one.",
    ),
)


def with_erase(command: Any) -> Any:
    """Add the options of an erasure to a command."""
    for option in reversed(erase_options):
        command = option(command)
    return command


def erase_points(shell: Shell, operation: DeletePoints, given: dict[str, Any]) -> int:
    """Erase what the operation selects; without a terminal, --yes --expect N is required."""
    from qmigrate.cli.render.erase import show_erased
    from qmigrate.cli.render.fix import show_review
    from qmigrate.commands import erase as command
    from qmigrate.commands.tenants import ALL
    from qmigrate.errors import RefusedError

    settings, expected, most = shell.settings(), given["expect"], None
    if not given["yes"] or given["dry_run"]:
        found = command.review(settings, operation, tenant=ALL)
        if given["dry_run"] or not found.changes:
            shell.show(found, functools.partial(show_review, would="would be erased for good"))
            return 0
        _consent(shell, found)
        most = found.by_collection
        expected = found.changes if expected is None and len(found.previews) == 1 else expected
    elif expected is None:
        raise RefusedError("nothing was erased: state how many may go", hint="--dry-run counts them; --yes --expect N")
    with shell.progress() as progress:
        result = command.erase(
            settings,
            operation,
            expect=expected,
            most=most,
            snapshots=given["snapshots"],
            # Whose points are meant the caller has asked.
            tenant=ALL,
            max_rate=given["max_rate"],
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, show_erased)
    return 0


def _consent(shell: Shell, found: Review) -> None:
    """Show what would go, warn that it can't be undone, and ask.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.cli.render.fix import review_lines
    from qmigrate.errors import RefusedError

    refusal = RefusedError(
        f"{found.changes:,} ids would be erased for good: it can't be undone, and needs consent",
        hint=f"review them first (--dry-run); --yes --expect {found.changes} does it",
        facts={"changes": found.changes},
    )
    ask(
        shell,
        f"Erase {found.changes:,} ids for good?",
        refusal=refusal,
        otherwise="nothing was erased",
        lines=lambda: [
            *review_lines(found), "They go from every generation, export and journal. This can't be undone."
        ],
    )
