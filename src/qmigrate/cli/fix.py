"""fix: data fixes from the command line, and taking one back."""

from __future__ import annotations

import functools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qmigrate.cli.erase import erase_points, with_erase
from qmigrate.cli.layout import Text, columns, short
from qmigrate.cli.shell import Age, Number, Shell, ask, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.cli.values import filter_of, parameters, point_id, value_of
from qmigrate.text import aware, counted, number, tallied

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.commands.fix import Narrow, Review
    from qmigrate.commands.quarantine import Quarantine, Retried
    from qmigrate.operations import DeletePoints, SyncPayload
    from qmigrate.settings.load import Settings


#: Rows that are shown of a collection, and characters of a reason.
_ROWS, _WIDTH = 20, 60


def show_quarantine(console: Console, found: Quarantine) -> None:
    """By collection: how many, and the first of them."""
    if not found.rows:
        console.print("OK: every point has its vectors.")
        return
    for name, count in Counter(row.collection for row in found.rows).items():
        mine = [row for row in found.rows if row.collection == name]
        outcomes = Counter(row.outcome for row in mine)
        parts = ", ".join(f"{number(many)} {outcome}" for outcome, many in sorted(outcomes.items()))
        console.print(Text.assemble((name, "bold"), f"  {counted(count, 'point')} without a vector: {parts}"))
        rows = [
            (str(row.point_id), row.vector or "(unnamed)", row.outcome, number(row.attempts), short(row.reason, _WIDTH))
            for row in mine[:_ROWS]
        ]
        for line in columns(rows, header=("id", "vector", "became", "tries", "why"), right=(3,)):
            console.print(line)
        if count > _ROWS:
            console.print(f"  … {number(count - _ROWS)} more: --json has them all")
    console.print(Text.assemble("Try them again: ", ("qmigrate fix quarantine --retry", "bold")))


def show_retried(console: Console, result: Retried) -> None:
    """What has its vector now, and what hasn't."""
    if not result.collections:
        console.print("Nothing to try again: every point has its vectors.")
        return
    console.print(f"{tallied('point', (result.filled, 'filled'), (result.failed, 'failed again'))}.")
    if result.settled:
        console.print(f"{number(result.settled)} no longer needed it.")
    if result.stranded:
        console.print(
            f"{number(result.stranded)} were dropped from a generation that was rebuilt since: only their file has "
            "them (qmigrate history --deletions names it); or got other ids that are not known any more; or their "
            "vector is not there now, or is one that no embedder has filled."
        )
    if result.waiting:
        console.print(
            Text.assemble(
                f"{number(result.waiting)} are of a generation that is being built; it tries them again: ",
                ("qmigrate upgrade", "bold"),
            )
        )
    if result.failed:
        console.print(Text.assemble("They stay listed: ", ("qmigrate fix quarantine", "bold")))


#: Options of a deletion that have a meaning only with another one.
_BESIDE = {"flag": "soft", "field": "prefix", "age_field": "older_than", "key": "sql", "database": "sql"}

yes = click.option("--yes", is_flag=True, help="Don't ask.")
reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
expect = click.option("--expect", type=click.IntRange(min=0), help="Stop unless exactly this many points would change.")
max_share = click.option(
    "--max-share",
    type=Number(min=0, max=1, min_open=True),
    help="Largest share of the points that may change.  [default: fixes.max_share]",
)
ids_to = click.option(
    "--ids-to", type=click.Path(dir_okay=False), metavar="FILE", help="Write the ids of all points there: JSON Lines."
)
max_rate = click.option("--max-rate", type=Number(min=0, min_open=True), help="Most points per second.")


@click.group()
def fix() -> None:
    """Data fixes: each is counted, capped, done, read back, recorded, and can be undone."""


@fix.command("sync", short_help="Make payload fields equal to columns of SQL.")
@click.argument("collection", required=False)
@click.option("--preset", metavar="NAME", help="A preset of fixes.presets with kind: sync; it has query and fields.")
@click.option("--sql", metavar="SELECT", help="The query; without ORDER BY.")
@click.option("--sql-file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), help="- for stdin.")
@click.option("--field", "fields", multiple=True, metavar="KEY[=COLUMN]", help="KEY may be a path: metadata.person_id.")
@click.option("--json-column", "json_columns", multiple=True, metavar="NAME", help="A column with JSON: jsonb or text.")
@click.option("--key", metavar="COLUMN", help="The column with the point's id.  [default: id]")
@click.option("--database", metavar="NAME", help="Its database under databases:.  [default: app]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Value of a :parameter; may be repeated.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this point; may be repeated.")
@click.option("--since", metavar="TIME", help="Only rows that changed: 2026-03-01T12:00Z, or 1h ago.")
@click.option("--since-column", metavar="COLUMN", help="The time that --since is compared with.")
@click.option("--check", is_flag=True, help="Change nothing; exit with 4 when anything differs.")
@click.option("--sample", type=click.IntRange(min=1), help="With --check: this many points at random.")
@ids_to
@max_share
@max_rate
@expect
@reason
@yes
@lock_timeout
@with_shell
def sync(shell: Shell, collection: str | None, **given: Any) -> int:
    """Make payload fields of COLLECTION equal to columns of a query, row by row; NULL removes the key.

    Points without a row stay as they are. Without --yes it shows what would change, and asks.
    """
    import qmigrate.commands.fix as command
    from qmigrate.cli.fix_results import show_done, show_review

    settings = shell.settings()
    operation, narrow = _sync(settings, collection, given), _narrow(given)
    if given["sample"] is not None and not given["check"]:
        raise click.UsageError("--sample needs --check: a change is always of all points", click.get_current_context())
    expected, most = given["expect"], None
    if given["check"] or not given["yes"]:
        found = command.review(settings, operation, narrow, expect=expected)
        if given["check"] or not found.changes:
            shell.show(found, show_review)
            return found.exit_code
        consent(shell, found, look="--check")
        most = found.by_collection
        expected = found.changes if expected is None and len(found.previews) == 1 else expected
    with shell.progress() as progress:
        result = command.fix(
            settings,
            operation,
            narrow=narrow,
            expect=expected,
            most=most,
            max_rate=given["max_rate"],
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="changed"))
    return 0


@fix.command("delete", short_help="Delete points.")
@click.argument("collection", required=False)
@click.option("--preset", metavar="NAME", help="A deletion of fixes.presets, with its own conditions.")
@click.option("--value", metavar="VALUE", help="With --preset: its :value; \"90\" in quotes is a string.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="This point; may be repeated.")
@click.option("--filter", "filter_", metavar="JSON", help="A Qdrant filter; @FILE for a file.")
@click.option("--prefix", metavar="PATH", help="Points whose path is this folder or lies below it.")
@click.option("--field", default="path", show_default=True, metavar="KEY", help="The payload key with the path.")
@click.option("--sql", metavar="SELECT", help="A query that returns the ids.")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="Its column with the id.")
@click.option("--database", default="app", show_default=True, metavar="NAME", help="Its database under databases:.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Value of a :parameter; may be repeated.")
@click.option("--type", "kind", metavar="WORD", help="For the audit: SESSION, CATEGORY, …  [default: by selection]")
@click.option("--tenant", metavar="VALUE", help="The tenant, where fixes.tenants names a field; * for all.")
@click.option("--older-than", type=Age(), metavar="AGE", help="Points whose --age-field is older: 90d.")
@click.option("--age-field", default="created_at", show_default=True, metavar="KEY", help="Payload key with the time.")
@click.option("--soft", is_flag=True, help="Only mark them; gc deletes them after fixes.soft_delete.")
@click.option("--flag", default="deleted", show_default=True, metavar="KEY", help="Payload key of the mark.")
@click.option("--no-export", is_flag=True, help="Keep nothing for an undo.")
@with_erase
@max_rate
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit; required unless a preset has one.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and delete nothing.")
@ids_to
@max_share
@expect
@yes
@lock_timeout
@with_shell
def delete(shell: Shell, collection: str | None, **given: Any) -> int:
    """Delete the points of COLLECTION that every given condition selects; they are exported first.

    Without --yes it shows how many and which, and asks. Without a terminal, --yes is required with --expect N, or
    with --max-share where the number isn't known in advance.
    With --erase they go from everything that could bring them back, as a person may request it.
    """
    import qmigrate.commands.fix as command
    from qmigrate.cli.fix_results import show_done, show_review
    from qmigrate.commands.names import ALL, within

    settings = shell.settings()
    _check_beside(given)
    if given["preset"] is None:
        operation = within(settings, _deletion(collection, given), tenant(given))
    else:
        operation = _preset(settings, collection, given)
    if given["erase"]:
        if given["ids_to"]:
            raise click.UsageError("--erase keeps no ids, so --ids-to has none", click.get_current_context())
        return erase_points(shell, operation, given)
    expected, most, narrow = given["expect"], None, command.Narrow(ids_to=given["ids_to"])
    if not given["yes"] or given["dry_run"]:
        found = command.review(settings, operation, narrow, tenant=ALL)
        types = tuple(line for preview in found.previews for line in preview.misfits)
        command.check_there(operation, found.changes, [preview.counts for preview in found.previews], types)
        if given["dry_run"] or not found.changes:
            shell.show(found, show_review)
            return 0
        consent(shell, found, flags=f"--yes --expect {found.changes}", question=deletion(found))
        most = found.by_collection
        expected = found.changes if expected is None and len(found.previews) == 1 else expected
    else:
        check_bounded(expected, operation.max_share, look="--dry-run")
    with shell.progress() as progress:
        result = command.fix(
            settings,
            operation,
            narrow=narrow,
            expect=expected,
            most=most,
            max_rate=given["max_rate"],
            # Whose points are meant was asked above, or is in the preset.
            tenant=ALL,
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="marked as deleted" if operation.soft else "deleted"))
    return 0


@fix.command("quarantine", short_help="Points that could not be embedded: list them, or try them again.")
@click.argument("collection", required=False)
@click.option("--retry", is_flag=True, help="Embed them again, and fill in those that succeed.")
@reason
@max_rate
@lock_timeout
@with_shell
def quarantine(shell: Shell, collection: str | None, retry: bool, **given: Any) -> int:
    """List the points of COLLECTION, or of all, that have no vector since they could not be embedded.

    With --retry they go through their embedder again: vectors are filled in, points that were dropped come back.
    """
    import qmigrate.commands.quarantine as command

    settings = shell.settings()
    if not retry:
        shell.show(command.quarantine(settings, collection), show_quarantine)
        return 0
    with shell.progress() as progress:
        result = command.retry(settings, collection, **given, progress=progress)
    shell.show(result, show_retried)
    return result.exit_code


@fix.command("undo", short_help="Undo a fix.")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--overwrite", is_flag=True, help="Also points that were changed since.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@max_rate
@yes
@lock_timeout
@with_shell
def undo(shell: Shell, number: int, overwrite: bool, dry_run: bool, yes: bool, **given: Any) -> int:
    """Restore what the fix NUMBER has changed; points that were changed since stay as they are."""
    import qmigrate.commands.fix as command
    from qmigrate.cli.fix_results import show_done, show_review

    settings = shell.settings()
    if dry_run or not yes:
        found = command.undo_review(settings, number, overwrite=overwrite)
        if dry_run or not found.changes:
            shell.show(found, show_review)
            return 0
        consent(shell, found)
    with shell.progress() as progress:
        result = command.undo(settings, number, overwrite=overwrite, **given, progress=progress)
    shell.show(result, functools.partial(show_done, unit="restored"))
    return 0


def _sync(settings: Settings, collection: str | None, given: dict[str, Any]) -> SyncPayload:
    from qmigrate.commands.presets import sync_preset
    from qmigrate.operations import SyncPayload

    values = parameters(given["params"])
    said = {name: given[name] for name in ("reason", "max_share") if given[name] not in (None, "")}
    query = {name: given[name] for name in ("key", "database") if given[name] is not None}
    if given["preset"] is not None:
        if query or any(given[name] for name in ("sql", "sql_file", "fields", "json_columns")):
            message = "with --preset query and fields are those of the preset"
            raise click.UsageError(message, click.get_current_context())
        return sync_preset(settings, given["preset"], values, collection=collection, **said)
    if collection is None or not given["fields"]:
        message = "name a COLLECTION, the query and at least one --field, or a --preset"
        raise click.UsageError(message, click.get_current_context())
    if (given["sql"] is None) == (given["sql_file"] is None):
        raise click.UsageError("give the query: --sql, or --sql-file", click.get_current_context())
    sql = given["sql"]
    if sql is None:
        sql = text_of(given["sql_file"], "--sql-file")
    pairs = [field.partition("=") for field in given["fields"]]
    return SyncPayload(
        collection,
        sql=sql,
        fields={name: column or name.rpartition(".")[2] for name, _, column in pairs},
        parameters=values,
        json=given["json_columns"],
        **query,
        **said,
    )


def _check_beside(given: dict[str, Any]) -> None:
    """Options without a meaning alone, or with a preset, were meant to limit what is deleted, or to mark it only.

    Raises:
        UsageError: one was typed so.
    """
    context = click.get_current_context()
    for name, other in _BESIDE.items():
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        option = f"--{name.replace('_', '-')}"
        if given["preset"] is not None and name != "flag":
            raise click.UsageError(f"{option} can't go with --preset: the conditions are those of the preset", context)
        if not given[other]:
            raise click.UsageError(f"{option} goes with --{other.replace('_', '-')}", context)


def _preset(settings: Settings, collection: str | None, given: dict[str, Any]) -> DeletePoints:
    from qmigrate.commands.presets import preset

    clashing = [name for name in ("ids", "filter_", "prefix", "sql", "kind", "older_than") if given[name]]
    if clashing:
        raise click.UsageError("with --preset the conditions are those of the preset", click.get_current_context())
    values = parameters(given["params"])
    if given["value"] is not None:
        values["value"] = value_of(given["value"], "--value")
    kept = False if given["no_export"] else None
    return preset(
        settings,
        given["preset"],
        values,
        collection=collection,
        reason=given["reason"],
        tenant=tenant(given),
        max_share=given["max_share"],
        export=kept,
        soft=given["soft"] or None,
        flag=given["flag"] if given["soft"] else None,
    )


def _deletion(collection: str | None, given: dict[str, Any]) -> DeletePoints:
    from qmigrate.operations import DeletePoints

    if collection is None or given["value"] is not None:
        what = "name a COLLECTION, or a --preset" if collection is None else "--value needs --preset"
        raise click.UsageError(what, click.get_current_context())
    return DeletePoints(
        collection,
        ids=[point_id(one) for one in given["ids"]] or None,
        filter=filter_of(given["filter_"]) if given["filter_"] is not None else None,
        prefix=given["prefix"],
        field=given["field"],
        sql=given["sql"],
        key=given["key"],
        database=given["database"],
        parameters=parameters(given["params"]),
        reason=given["reason"],
        max_share=given["max_share"],
        export=not given["no_export"],
        type=given["kind"],
        older_than=_age(given),
        soft=given["soft"],
        flag=given["flag"],
    )


def tenant(given: dict[str, Any]) -> Any:
    """The value of --tenant, of its type; None where it is not given."""
    written = given["tenant"]
    return written if written in (None, "*") else value_of(written, "--tenant")


def _age(given: dict[str, Any]) -> dict[str, Any] | None:
    return None if given["older_than"] is None else {"field": given["age_field"], "age": given["older_than"]}


def text_of(file: str, option: str) -> str:
    """What is in a file, without the mark that Windows puts before UTF-8; - is stdin.

    Raises:
        UsageError: it can't be read, or is not UTF-8.
    """
    try:
        with click.open_file(file, encoding="utf-8-sig") as opened:
            return str(opened.read())
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise click.UsageError(f"{option}: {file} can't be read: {why}", click.get_current_context()) from None


def _narrow(given: dict[str, Any]) -> Narrow:
    from qmigrate.commands.fix import Narrow

    return Narrow(
        ids=list(given["ids"]) or None,
        since=_moment(given["since"]) if given["since"] else None,
        column=given["since_column"],
        sample=given["sample"],
        ids_to=given["ids_to"],
    )


def _moment(text: str) -> datetime:
    """A time with its zone, or that many seconds, minutes, hours or days ago."""
    from qmigrate.settings.values import parse_duration

    ago = parse_duration(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(seconds=ago)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"--since {text}: expected a time such as 2026-03-01T12:00+00:00, or 1h for the last hour"
        raise click.UsageError(message, click.get_current_context()) from None
    return aware(found)


def check_bounded(expected: int | None, share: float | None, *, look: str) -> None:
    """See that a bound is given on how many points may go, where no user is asked.

    Args:
        expected: exactly this many.
        share: at most this share of the collection, from the command line or the preset.
        look: the option that counts them.

    Raises:
        RefusedError: neither was given.
    """
    from qmigrate.errors import RefusedError

    if expected is None and share is None:
        raise RefusedError(
            "nothing was deleted: state how many may go", hint=f"{look} counts them; --yes --expect N, or --max-share"
        )


def deletion(found: Review) -> str:
    """The question before a deletion: how many of how many points go, and of what."""
    from qmigrate.text import counted

    of = found.previews[0].collection if len(found.previews) == 1 else counted(len(found.previews), "collection")
    return f"Delete {found.changes:,} of {counted(sum(one.points for one in found.previews), 'point')} of {of}?"


def consent(
    shell: Shell, found: Review, flags: str = "--yes", question: str | None = None, look: str = "--dry-run"
) -> None:
    """Show what would change, then ask; without a terminal it is refused instead.

    Args:
        look: the option of the verb that shows it and changes nothing.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.cli.fix_results import review_lines
    from qmigrate.errors import RefusedError

    if found.refusal is not None:
        raise found.refusal.error()
    refusal = RefusedError(
        f"{counted(found.changes, 'point')} would {found.would}, and that needs consent",
        hint=f"review them first ({look}); {flags} does it",
        facts={"changes": found.changes},
    )
    ask(
        shell,
        question or f"Change {counted(found.changes, 'point')}?",
        refusal=refusal,
        otherwise="nothing was changed",
        lines=lambda: review_lines(found),
    )
