"""check: drift against a server, or the lint without one."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.findings import annotation, show_kept
from qmigrate.cli.layout import Text, columns, short
from qmigrate.cli.shell import Shell, echo, with_shell
from qmigrate.text import counted, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from qmigrate.commands.autogenerate import DeclaredCheck
    from qmigrate.commands.check import Checked, CheckedCollection
    from qmigrate.drift import Finding


STYLES = {"drift": "bold red", "pending": "yellow", "note": "magenta"}
#: Longest value shown in a difference; --json has them in full.
VALUE = 44
#: Collections that a line names.
MOST_NAMED = 5


def show_check(console: Console, result: Checked) -> None:
    """What is not as recorded, collection by collection, and what to do."""
    console.print(f"{result.qdrant} · ledger {result.ledger}")
    if result.files:
        console.print()
        console.print(Text("revision files", style="bold"))
        _show(console, result.files)
    for row in result.collections:
        if row.findings:
            console.print()
            console.print(_title(row))
            _show(console, row.findings)
    if result.not_compared:
        named = ", ".join(result.not_compared[:MOST_NAMED])
        more = f" and {len(result.not_compared) - MOST_NAMED} more" if len(result.not_compared) > MOST_NAMED else ""
        console.print()
        console.print(
            f"Not compared: settings of {named}{more} that no revision declares; an earlier qmigrate did not record "
            "them, the next change that is applied will"
        )
    for line in result.silent:
        console.print(f"\nnote: {line}")
    console.print()
    console.print(_summary(result))


def _title(row: CheckedCollection) -> Text:
    at = " · ".join(part for part in (row.revision, row.physical if row.physical != row.name else "plain") if part)
    return Text.assemble((row.name, "bold"), f"  {at}" if at else "")


def _show(console: Console, findings: Iterable[Finding]) -> None:
    fields = [one for one in findings if one.kind == "schema" and one.severity == "drift"]
    others = [one for one in findings if one not in fields]
    if fields:
        cells = [("drift", one.path, _value(one.recorded), "→", _value(one.live)) for one in fields]
        for line in columns(cells, header=("", "field", "recorded", "", "live")):
            line.highlight_words(["drift"], STYLES["drift"])
            console.print(line)
    for one in others:
        console.print(Text.assemble("  ", (one.severity, STYLES[one.severity]), f"  {_sentence(one)}"))
        if one.severity == "drift" and (one.recorded is not None or one.live is not None):
            console.print(f"         recorded {_value(one.recorded)} → live {_value(one.live)}")
    for fix in dict.fromkeys(fix for one in (*fields, *others) for fix in one.fixes):
        console.print(f"  → {fix}")


def _sentence(one: Finding) -> str:
    """A message that begins with what it is about."""
    if one.severity != "note":
        return one.message
    return f"{one.path} {one.message}" if one.message.startswith(("is ", "has ")) else one.message


def _value(value: Any) -> str:
    if value is None:
        return "–"
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return short(words, VALUE)


def _summary(result: Checked) -> str:
    looked = counted(len(result.collections), "collection")
    found = [(result.drift, "drift"), (result.pending, "pending")]
    parts = [f"{count} {what}" for count, what in found if count]
    parts += [counted(result.notes, "note")] if result.notes else []
    if not parts:
        return f"Everything is as recorded: {looked}."
    said = f"{looked}: {', '.join(parts)}."
    return said if result.exit_code == 0 else f"{said} ({result.exit_code})"


def github_lines(result: Checked) -> list[str]:
    """One annotation per finding: drift is an error, pending work a warning, the rest a notice."""
    levels = {"drift": "error", "pending": "warning", "note": "notice"}
    lines = [_annotated(levels[one.severity], "revision files", one) for one in result.files]
    lines += [_annotated(levels[one.severity], row.name, one) for row in result.collections for one in row.findings]
    return lines


def _annotated(level: str, subject: str, one: Finding) -> str:
    values = f" (recorded {_value(one.recorded)}, live {_value(one.live)})" if one.severity == "drift" else ""
    message = "\n".join([f"{_sentence(one)}{values}", *one.fixes])
    return annotation(level, message, title=f"{subject}: {one.kind}")


FORMATS = ("text", "json", "github", "sarif")


@click.command()
@click.option("--offline", is_flag=True, help="Read the revision files only: no server, no ledger.")
@click.option("--declared", is_flag=True, help="Compare the revisions with what is declared: no server, no ledger.")
@click.option("--strict", is_flag=True, help="Unmanaged names count as drift; offline, warnings count as errors.")
@click.option("--only", multiple=True, metavar="NAME", help="Just this collection; may be repeated.")
@click.option("--no-models", is_flag=True, help="Don't load embedders to compare their fingerprints.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="github: annotations of a workflow; sarif: for code scanning, with --offline.",
)
@with_shell
def check(
    shell: Shell, offline: bool, declared: bool, strict: bool, only: tuple[str, ...], no_models: bool, form: str
) -> int:
    """Compare what is live with what is recorded: schemas, seals, names, generations, models, files.

    Exits with 4 when something differs, 3 when a revision is pending or a run unfinished, else 0. With --offline it
    reads the revision files instead, and exits with 8 when a rule is broken. With --declared it compares them with
    the declaration, and exits with 3 when a revision is missing.
    """
    context = click.get_current_context()
    if declared:
        if offline or no_models or strict or form not in ("text", "json"):
            raise click.UsageError("--declared goes with --only and --format json", context)
        return _declared(shell, only, form)
    if offline:
        if only or no_models:
            raise click.UsageError("--only and --no-models don't go with --offline", context)
        return _lint(shell, strict, form)
    if form == "sarif":
        raise click.UsageError("--format sarif is for --offline: drift has no line in a file", context)
    import qmigrate.commands.check as command

    found = command.check(shell.settings(), only=only or None, strict=strict, models=not no_models)
    if form == "github" and not shell.options.json:
        _lines(github_lines(found))
    elif form == "json" and not shell.options.json:
        shell.data(found)
    else:
        shell.show(found, show_check)
    return found.exit_code


def _declared(shell: Shell, only: tuple[str, ...], form: str) -> int:
    import qmigrate.commands.autogenerate as command

    found = command.check_declared(shell.settings(stores=False), only=only or None)
    if form == "json" and not shell.options.json:
        shell.data(found)
    else:
        shell.show(found, show_declared)
    return found.exit_code


def show_declared(console: Console, result: DeclaredCheck) -> None:
    """What differs, and the operations as they would be written."""
    for text in result.texts:
        console.print(Text(text))
        console.print()
    for written in result.renames:
        console.print(Text(f"note: may have another name now: --rename or --different {quote(written)} decides it"))
    for line in result.unsaid:
        console.print(Text(f"differs, and a revision can't express it: {line}"))
    show_kept(console, result.silent, result.alone)
    declared = f"{result.declared}: {counted(result.collections, 'collection')}"
    if not result.exit_code:
        console.print(Text(f"The revisions make what is declared: {declared}."))
        return
    console.print(Text(f"{declared}, {counted(len(result.changes) + len(result.unsaid), 'difference')}. (3)"))
    if any("drop " in line for line in result.changes):
        console.print(Text('  → qmigrate revision --autogenerate --drops -m "what changes"'))
    else:
        console.print(Text('  → qmigrate revision --autogenerate -m "what changes"'))


def _lint(shell: Shell, strict: bool, form: str) -> int:
    import qmigrate.commands.lint as command
    from qmigrate.cli.findings import lint_github_lines, sarif, show_lint

    found = command.lint(shell.settings(stores=False), strict=strict)
    if shell.options.json or form == "text":
        shell.show(found, functools.partial(show_lint, verbose=bool(shell.options.verbose)))
    elif form == "json":
        shell.data(found)
    elif form == "github":
        _lines(lint_github_lines(found))
    else:
        shell.data(sarif(found))
    return found.exit_code


def _lines(lines: list[str]) -> None:
    for line in lines:
        echo(f"{line}\n")
