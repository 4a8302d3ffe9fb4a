"""fix delete --erase: consent, and what it asks for. The options are those of ``fix delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.layout import Text, columns, labelled
from qmigrate.cli.shell import ask
from qmigrate.text import counted, documented, number, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.cli.shell import Shell
    from qmigrate.commands.fix import Review
    from qmigrate.commands.results import Erasure
    from qmigrate.commands.run_fixes import Done, FixResult
    from qmigrate.operations import DeletePoints


#: Of each kind of thing that is named.
_NAMED = 20


def show_erased(console: Console, result: FixResult) -> None:
    """Per collection: where points were, that none is left, and what may still hold them."""
    for one in result.done:
        for line in _lines(one):
            console.print(line)
    if not any(one.erasure for one in result.done):
        console.print("Nothing to do.")


def _lines(one: Done) -> list[Text]:
    found = one.erasure
    if found is None:
        return []
    lines = [Text.assemble((one.collection, "bold"), f"  {counted(found.ids, 'id')} erased in {took(one.seconds)}")]
    rows = [(place.name, number(place.found), number(place.left)) for place in found.places]
    lines += columns(rows, header=("place", "found", "left"), right={1, 2})
    if found.written_again:
        lines += labelled("again", [f"{counted(found.written_again, 'point')} written again since, and kept"])
    return [*lines, *_beyond(found)]


def _beyond(found: Erasure) -> list[Text]:
    """What may still hold them, each with the command that deletes it."""
    lines: list[Text] = []
    if found.made is not None:
        lines += labelled("made", [f"snapshot {found.made}, without them"])
    left = [one for one in found.snapshots if not one.deleted]
    told = [f"{one.name} of {one.collection}: {one.command}" for one in left[:_NAMED]]
    more = [f"and {number(len(left) - _NAMED)} more: qmigrate snapshot list"] if len(left) > _NAMED else []
    if left:
        lines.append(Text(f"{counted(len(left), 'snapshot')} made earlier may still hold them:"))
        lines += labelled("snapshot", [*told, *more])
    lines += labelled("review", list(found.beyond[:_NAMED]))
    lines.append(Text("Not reached: backups outside of qmigrate, and what the database and Qdrant keep until they"))
    lines.append(Text(f"clean up: {documented('fixes', 'Erasure')}. It can't be undone."))
    return lines


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
    import qmigrate.commands.erase as command
    from qmigrate.cli.fix_results import show_review
    from qmigrate.commands.names import ALL
    from qmigrate.errors import RefusedError

    settings, expected, most = shell.settings(), given["expect"], None
    if not given["yes"] or given["dry_run"]:
        found = command.review(settings, operation, tenant=ALL)
        if given["dry_run"] or not found.changes:
            shell.show(found, show_review)
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
    from qmigrate.cli.fix_results import review_lines
    from qmigrate.errors import RefusedError

    refusal = RefusedError(
        f"{counted(found.changes, 'id')} would be erased for good: it can't be undone, and needs consent",
        hint=f"review them first (--dry-run); --yes --expect {found.changes} does it",
        facts={"changes": found.changes},
    )
    ask(
        shell,
        f"Erase {counted(found.changes, 'id')} for good?",
        refusal=refusal,
        otherwise="nothing was erased",
        lines=lambda: [
            *review_lines(found), "They go from every generation, export and journal. This can't be undone."
        ],
    )
