"""revision: the next revision file, empty, from a declaration, from what is live, or from drift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from qmigrate.cli.findings import near, show_kept
from qmigrate.cli.layout import Text
from qmigrate.cli.shell import Shell, with_shell
from qmigrate.errors import UsageError
from qmigrate.text import counted, quote, took

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.autogenerate import Generated, Question
    from qmigrate.commands.drift import LiveRevision


@dataclass(frozen=True, slots=True)
class _Given:
    """The options of one command."""

    message: str | None
    merge: bool
    only: tuple[str, ...]
    rev_id: str | None
    rename: tuple[str, ...]
    different: tuple[str, ...]
    drops: bool
    dry_run: bool
    operations: tuple[str, ...]


@click.command()
@click.option("-m", "--message", help="What changes, in a few words.")
@click.option("--merge", is_flag=True, help="Join several heads.")
@click.option("--autogenerate", is_flag=True, help="Write what makes the declared collections of the revisions so far.")
@click.option(
    "--rename", multiple=True, metavar="OLD=NEW", help="With --autogenerate: it has another name; repeatable."
)
@click.option(
    "--different", multiple=True, metavar="OLD=NEW", help="With --autogenerate: it is another one; repeatable."
)
@click.option("--drops", is_flag=True, help="With --autogenerate: drop what is not declared any more.")
@click.option("--dry-run", is_flag=True, help="With --autogenerate: show the files, and write none.")
@click.option("--from-live", metavar="NAME", help="Write what makes this collection as it is live.")
@click.option("--from-drift", is_flag=True, help="Accept what was changed by hand: record the live schema.")
@click.option("--only", multiple=True, metavar="NAME", help="With --autogenerate, --from-drift: just this collection.")
@click.option(
    "--op", "operations", multiple=True, metavar="OPERATION", help="What it does, as a revision has it; repeatable."
)
@click.option("--rev-id", metavar="ID", help="Its id, instead of the next one.")
@with_shell
def revision(  # noqa: PLR0913  the options of the command
    shell: Shell,
    message: str | None,
    merge: bool,
    autogenerate: bool,
    rename: tuple[str, ...],
    different: tuple[str, ...],
    drops: bool,
    dry_run: bool,
    from_live: str | None,
    from_drift: bool,
    only: tuple[str, ...],
    operations: tuple[str, ...],
    rev_id: str | None,
) -> None:
    """Write the next revision file."""
    given = _Given(message, merge, only, rev_id, rename, different, drops, dry_run, operations)
    _refuse_mixed(given, autogenerate=autogenerate, from_live=from_live, from_drift=from_drift)
    if autogenerate:
        _autogenerate(shell, given)
    elif from_live is not None:
        from qmigrate.commands import drift

        shell.show(drift.from_live(shell.settings(), from_live, message, revision_id=rev_id), show_live_revision)
    elif from_drift:
        from qmigrate.cli.results import show_drift_revision
        from qmigrate.commands import drift

        made = drift.from_drift(shell.settings(), message, only=only or None, revision_id=rev_id)
        shell.show(made, show_drift_revision)
    else:
        _empty(shell, given)


def _refuse_mixed(given: _Given, *, autogenerate: bool, from_live: str | None, from_drift: bool) -> None:
    """Each way to write one has options of its own."""
    context = click.get_current_context()
    ways = {
        "--merge": given.merge,
        "--op": bool(given.operations),
        "--autogenerate": autogenerate,
        "--from-live": from_live is not None,
        "--from-drift": from_drift,
    }
    chosen = [name for name, one in ways.items() if one]
    if len(chosen) > 1:
        raise click.UsageError(f"{chosen[0]} and {chosen[1]} can't go together", context)
    if (given.rename or given.different or given.drops or given.dry_run) and not autogenerate:
        raise click.UsageError("--rename, --different, --drops and --dry-run are for --autogenerate", context)
    if given.only and not (autogenerate or from_drift):
        raise click.UsageError("--only is for --autogenerate and --from-drift", context)


def _empty(shell: Shell, given: _Given) -> None:
    if given.message is None:
        hint = 'qmigrate revision -m "what changes"\nqmigrate revision --help'
        raise UsageError("Missing option '-m' / '--message'.", hint=hint)
    import qmigrate.commands.init as command
    from qmigrate.cli.results import show_revision

    made = command.revision(
        shell.settings(stores=False),
        given.message,
        merge=given.merge,
        revision_id=given.rev_id,
        operations=given.operations,
    )
    shell.show(made, partial(show_revision, filled=bool(given.operations)))


def _autogenerate(shell: Shell, given: _Given) -> None:
    if given.message is None:
        hint = 'qmigrate revision --autogenerate -m "what changes"'
        raise UsageError("Missing option '-m' / '--message'.", hint=hint)
    import qmigrate.commands.autogenerate as command

    wishes = command.Wishes(given.rename, given.different, given.drops, given.only or None, given.rev_id)
    ask = (lambda question: _ask(shell, question)) if shell.may_ask else None
    made = command.autogenerate(shell.settings(stores=False), given.message, wishes, dry_run=given.dry_run, ask=ask)
    shell.show(made, show_generated)


def _ask(shell: Shell, question: Question) -> bool:
    """Whether it has another name now; each answer with its price."""
    one = question.rename
    console = shell.console(stderr=True)
    where = f" of {one.collection}" if one.what == "vector" else ""
    console.print(Text(f"{one.what} {one.new or '(unnamed)'}{where} is new, and {one.old or '(unnamed)'} is gone."))
    console.print(Text("  renamed: 0 points embedded; readers and writers use the new name"))
    console.print(Text(f"  another one: {_price(question)}; {one.old or '(unnamed)'} goes only with --drops"))
    return shell.confirm(f"Is {one.new or '(unnamed)'} the new name of {one.old or '(unnamed)'}?")


def _price(question: Question) -> str:
    if question.points is None or question.seconds is None:
        return "every point embedded (lint.points in qmigrate.yaml says how many there are)"
    return f"{counted(question.points, 'point')} embedded, about {took(question.seconds)}"


def show_generated(console: Console, result: Generated) -> None:
    """The files, what is left to decide, and what was left alone."""
    for one in result.files:
        console.print(f"{'would make' if result.dry_run else 'made'} {near(one.path)}  (revision {one.revision})")
        for line in one.changes:
            console.print(Text(f"  {line}"))
        if result.dry_run:
            console.print(Text(one.text))
    if not result.files:
        console.print(f"The revisions make what {result.declared} declares: nothing to write.")
    for line in result.kept:
        console.print(Text(f"note: not declared any more, and kept: {line} (--drops drops it)"))
    for line in result.unsaid:
        console.print(Text(f"note: a revision can't express it: {line}"))
    show_kept(console, result.silent, result.alone)
    undecided = [(one, line) for one in result.files for line in one.undecided]
    for one, line in undecided:
        console.print(Text(f"decide in {quote(one.path.name)}: {line}"))
    if result.files and not result.dry_run:
        console.print("Next: review it, qmigrate check --offline, then qmigrate plan")


def show_live_revision(console: Console, result: LiveRevision) -> None:
    """The new file, and what records it."""
    after = f"after {', '.join(result.down)}" if result.down else "the first one"
    console.print(f"made {near(result.path)}  (revision {result.revision}, {after})")
    for line in result.missing:
        console.print(Text(f"note: a revision can't express it: {line}"))
    if result.managed:
        console.print("Next: review it, then qmigrate upgrade, which finds it done already and records it")
    else:
        adopt = f"qmigrate adopt {quote(result.collection)}"
        console.print(Text(f"Next: review it, then {adopt}, which records the collection at it"))
