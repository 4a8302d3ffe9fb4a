"""What `plan` and `upgrade` do with a plan in a file, and the rehearsal. Their commands are in ``upgrade``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qmigrate.cli.layout import Text, labelled
from qmigrate.cli.plans import nothing_to_do
from qmigrate.cli.shell import Duration, Shell
from qmigrate.text import counted, number, quote, rate, took

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from qmigrate.commands.rehearse import Rehearsal, RehearsalResult


def show_rehearsal(console: Console, result: RehearsalResult) -> None:
    """One block per collection, and that nothing is left of it."""
    for rehearsal in result.rehearsals:
        for line in _block(rehearsal):
            console.print(line)
    if not result.rehearsals:
        console.print(nothing_to_do(result.plan) if not result.plan.collections else "Nothing to rehearse.")
        return
    total = sum(entry.projected_seconds or 0.0 for entry in result.rehearsals)
    if total:
        console.print(f"All of it: ~ {took(total)}.")
    console.print("Nothing is left of the rehearsal, and nothing was recorded as applied.")


def _block(rehearsal: Rehearsal) -> list[Text]:
    title = f"  {', '.join(rehearsal.revisions)}  rehearsed in {took(rehearsal.seconds)}"
    lines = [Text.assemble((rehearsal.collection, "bold"), title)]
    lines += labelled("sample", [f"{number(rehearsal.sampled)} of {counted(rehearsal.points, 'point')}"])
    if rehearsal.proven is not None:
        embedded = f", {number(rehearsal.embedded)} with new vectors" if rehearsal.embedded else ""
        lines += labelled("proven", [f"{number(rehearsal.proven)} of {number(rehearsal.sampled)}{embedded}"])
    if rehearsal.per_second is not None and rehearsal.projected_seconds is not None:
        speed = f"{rate(rehearsal.per_second)}, so all of it takes ~ {took(rehearsal.projected_seconds)}"
        lines += labelled("speed", [speed])
    return lines


out_option = click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the plan to a file for upgrade --plan."
)
plan_option = click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Do exactly what `plan --out` wrote; refused when the live state has moved since.",
)
max_estimate_option = click.option(
    "--max-estimate", type=Duration(), help="Exit with 3 instead of starting what is expected to take longer."
)
rehearse_option = click.option(
    "--rehearse", type=click.IntRange(min=1), metavar="N", help="Rehearse it on N points in throwaway collections."
)
#: Parameters of `upgrade` that may go with each of them.
_WITH_PLAN = ("plan", "max_estimate", "lock_timeout", "no_snapshot", "allow_gap", "parallel")
_WITH_REHEARSAL = ("rehearse", "target", "only", "lock_timeout")


def plan_to(shell: Shell, out: Path, target: str, only: tuple[str, ...]) -> int:
    """`plan --out`; the exit code."""
    import qmigrate.commands.plan_file as command
    from qmigrate.cli.plans import show_plan

    made = command.plan_to(shell.settings(), out, target, only or None)
    shell.show(made, functools.partial(show_plan, command=f"qmigrate upgrade --plan {quote(out)}"))
    return made.exit_code


def instead(shell: Shell, context: click.Context, other: Mapping[str, Any]) -> int | None:
    """Do what `upgrade --plan` or `--rehearse` asks for.

    Returns:
        The exit code where one of them was given, so that nothing else is to be done; else None.
    """
    if other["plan"] is not None:
        _refuse_others(context, "--plan", _WITH_PLAN)
        return _upgrade_planned(shell, other["plan"], context.params)
    if other["rehearse"] is not None:
        _refuse_others(context, "--rehearse", _WITH_REHEARSAL)
        _rehearse(shell, context.params)
        return 0
    return None


def _refuse_others(context: click.Context, option: str, allowed: tuple[str, ...]) -> None:
    """Options that have no effect together with `option` are a mistake of the user."""
    for name in context.params:
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and name not in allowed:
            word = "TARGET" if name == "target" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{word} can't go with {option}", context)


def _upgrade_planned(shell: Shell, file: Path, chosen: Mapping[str, Any]) -> int:
    import qmigrate.commands.plan_file as command
    from qmigrate.cli.plans import show_upgrade

    options = {name: chosen[name] for name in _WITH_PLAN if name != "plan"}
    with shell.progress() as progress:
        result = command.upgrade_planned(shell.settings(), file, progress=progress, **options)
    shell.show(result, show_upgrade)
    return result.exit_code


def _rehearse(shell: Shell, chosen: Mapping[str, Any]) -> None:
    import qmigrate.commands.rehearse as command

    with shell.progress() as progress:
        result = command.rehearse(
            shell.settings(),
            chosen["rehearse"],
            chosen["target"],
            only=chosen["only"] or None,
            lock_timeout=chosen["lock_timeout"],
            progress=progress,
        )
    shell.show(result, show_rehearsal)
