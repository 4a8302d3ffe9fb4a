"""repair: what plans do not cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from qmigrate.cli.shell import Shell, ask, with_shell

if TYPE_CHECKING:
    from qmigrate.model.plan import Plan


@click.command()
@click.option("--accept", metavar="REVISION", help="Accept that an applied revision file has changed.")
@click.option("--reason", metavar="TEXT", help="Why, for the record; goes with --accept.")
@click.option("--changed-meaning", is_flag=True, help="With --accept: also when its meaning has changed.")
@click.option("--name", metavar="COLLECTION", help="Point a moved name back to where the ledger left it.")
@click.option("--vanished", metavar="GENERATION", help="Record that a generation is gone; no other one is touched.")
@click.option("--unlock", metavar="COLLECTION", help="End the lease of a process that is known to be dead.")
@click.option("--leftovers", is_flag=True, help="Remove qmigrate's own aliases and probes of ended processes.")
@click.option("--schema", metavar="COLLECTION", help="Undo drift: restore the recorded schema and seal in place.")
@click.option("--yes", is_flag=True, help="Don't ask; goes with --name, --unlock and --schema.")
@with_shell
def repair(  # noqa: PLR0913  the options of the verb
    shell: Shell,
    accept: str | None,
    reason: str | None,
    changed_meaning: bool,
    name: str | None,
    vanished: str | None,
    unlock: str | None,
    leftovers: bool,
    schema: str | None,
    yes: bool,
) -> None:
    """Record a decision that only a human can make, clear away what a dead process has left, or undo drift.

    Of collections in use it touches the one that --schema or --name names, and no other.
    """
    import qmigrate.commands.repair as command
    from qmigrate.cli.results import show_repaired

    context = click.get_current_context()
    chosen = (accept, name, vanished, unlock, schema, leftovers or None)
    if sum(one is not None for one in chosen) != 1:
        raise click.UsageError(
            "choose one of --accept, --name, --vanished, --unlock, --leftovers and --schema", context
        )
    if schema is not None:
        _restore(shell, schema, yes)
        return
    if name is not None:
        _put_back(shell, name, yes)
        return
    if accept is not None:
        if not reason or not reason.strip():
            raise click.UsageError("--accept needs a --reason", context)
        done = command.accept(shell.settings(), accept, reason, changed_meaning=changed_meaning)
        shell.show(done, show_repaired)
    elif unlock is not None:
        settings = shell.settings()
        _consent(shell, unlock, yes)
        shell.show(command.unlock(settings, unlock), show_repaired)
    elif vanished is not None:
        with shell.progress() as progress:
            result = command.vanished(shell.settings(), vanished, progress=progress)
        shell.show(result, show_repaired)
    else:
        with shell.progress() as progress:
            result = command.leftovers(shell.settings(), progress=progress)
        shell.show(result, show_repaired)


def _put_back(shell: Shell, collection: str, yes: bool) -> None:
    """Applications read something else from then on, so what will be done is shown first."""
    import qmigrate.commands.repair as command
    from qmigrate.cli.results import show_repaired
    from qmigrate.errors import RefusedError

    def agreed(plan: Plan) -> None:
        for item in plan.collections:
            for line in item.lines:
                shell.console(stderr=True).print(line)
        if not yes:
            ask(
                shell,
                "Move the name?",
                refusal=RefusedError(f"moving the name {collection} needs consent", hint="add --yes"),
                otherwise=f"{collection} is left where it is",
            )

    settings = shell.settings()
    with shell.progress() as progress:
        result = command.name(settings, collection, agreed=agreed, progress=progress)
    shell.show(result, show_repaired)


def _restore(shell: Shell, collection: str, yes: bool) -> None:
    """Other people's changes are undone, so what will be done is shown first."""
    from qmigrate.cli.plans import show_upgrade
    from qmigrate.cli.results import lines_of
    from qmigrate.commands import drift
    from qmigrate.errors import RefusedError

    def agreed(plan: Plan) -> None:
        for line in lines_of(plan):
            shell.console(stderr=True).print(line)
        if yes:
            return
        ask(
            shell,
            "Change the live collection?",
            refusal=RefusedError(f"changing the live collection {collection} needs consent", hint="add --yes"),
            otherwise=f"{collection} is unchanged",
        )

    settings = shell.settings()
    with shell.progress() as progress:
        result = drift.restore(settings, collection, agreed=agreed, progress=progress)
    shell.show(result, show_upgrade)


def _consent(shell: Shell, collection: str, yes: bool) -> None:
    """Two processes on one collection are what the lease is there to prevent."""
    from qmigrate.errors import RefusedError

    question = f"Is the process that holds the lease of {collection} really dead?"
    if yes:
        return
    hint = "add --yes when its holder is dead"
    ask(
        shell,
        question,
        refusal=RefusedError(f"ending the lease of {collection} needs consent", hint=hint),
        otherwise=f"the lease of {collection} is unchanged",
    )
