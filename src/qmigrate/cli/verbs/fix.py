"""fix: data fixes from the command line, and taking one back."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.cli.verbs.change import lock_timeout
from qmigrate.cli.verbs.consent import ask
from qmigrate.cli.verbs.erase import erase_points, with_erase

if TYPE_CHECKING:
    from qmigrate.commands.fix import Narrow, Review
    from qmigrate.operations import DeletePoints, SyncPayload
    from qmigrate.settings import Settings

yes = click.option("--yes", is_flag=True, help="Don't ask.")
reason = click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
expect = click.option("--expect", type=click.IntRange(min=0), help="Stop unless exactly so many points would change.")
max_share = click.option(
    "--max-share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Largest share of the points that may change.  [default: fixes.max_share]",
)


@click.group()
def fix() -> None:
    """Data fixes: each is counted, capped, done, read back, recorded, and can be undone."""


@fix.command("sync", short_help="Make payload fields equal to columns of SQL.")
@click.argument("collection")
@click.option("--sql", metavar="SELECT", help="The query; without ORDER BY.")
@click.option("--sql-file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), help="- for stdin.")
@click.option("--field", "fields", multiple=True, required=True, metavar="KEY[=COLUMN]", help="May be repeated.")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="The column with the point's id.")
@click.option("--database", default="app", show_default=True, metavar="NAME", help="Its name under databases:.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Of a :parameter; may be repeated.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only this point; may be repeated.")
@click.option("--since", metavar="TIME", help="Only rows that changed: 2026-03-01T12:00Z, or 1h ago.")
@click.option("--since-column", metavar="COLUMN", help="The time that --since is compared with.")
@click.option("--check", is_flag=True, help="Only look; exit with 4 when anything differs.")
@click.option("--sample", type=click.IntRange(min=1), help="With --check: so many points at random.")
@max_share
@expect
@reason
@yes
@lock_timeout
@with_shell
def sync(shell: Shell, collection: str, **given: Any) -> int:
    """Make payload fields of COLLECTION equal to columns of a query, row by row; NULL removes the key.

    Points without a row are left alone. Without --yes it shows what would change, and asks.
    """
    from qmigrate.cli.render.fix import show_done, show_review
    from qmigrate.commands import fix as command

    settings = shell.settings()
    operation, narrow = _operation(collection, given), _narrow(given)
    if given["sample"] is not None and not given["check"]:
        raise click.UsageError("--sample needs --check: what is mended is all of it", click.get_current_context())
    expected = given["expect"]
    if given["check"] or not given["yes"]:
        found = command.review(settings, operation, narrow)
        if given["check"] or not found.changes:
            shell.show(found, show_review)
            return found.exit_code
        consent(shell, found)
        expected = found.changes if expected is None and len(found.previews) == 1 else expected
    with shell.progress() as progress:
        result = command.fix(
            settings,
            operation,
            narrow=narrow,
            expect=expected,
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="changed"))
    return 0


@fix.command("delete", short_help="Delete points.")
@click.argument("collection", required=False)
@click.option("--preset", metavar="NAME", help="A deletion of fixes.presets; the other conditions are its own then.")
@click.option("--value", metavar="VALUE", help="With --preset: of its parameter :value.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="This point; may be repeated.")
@click.option("--filter", "filter_", metavar="YAML", help="A filter of Qdrant, as YAML or JSON; @FILE for a file.")
@click.option("--prefix", metavar="PATH", help="Points whose path is this folder or lies below it.")
@click.option("--field", default="path", show_default=True, metavar="KEY", help="The payload key with the path.")
@click.option("--sql", metavar="SELECT", help="A query that returns the ids.")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="Its column with the id.")
@click.option("--database", default="app", show_default=True, metavar="NAME", help="Its name under databases:.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Of a :parameter; may be repeated.")
@click.option("--type", "kind", metavar="WORD", help="For the audit: SESSION, CATEGORY, …  [default: by selection]")
@click.option("--tenant", metavar="VALUE", help="Whose points, where fixes.tenants names a field; * for all.")
@click.option("--older-than", type=Duration(), metavar="AGE", help="Points whose --age-field lies so long ago: 90d.")
@click.option("--age-field", default="created_at", show_default=True, metavar="KEY", help="With times.")
@click.option("--soft", is_flag=True, help="Only mark them; gc deletes them after fixes.soft_delete.")
@click.option("--flag", default="deleted", show_default=True, metavar="KEY", help="Key of the mark.")
@click.option("--no-export", is_flag=True, help="Keep nothing for an undo.")
@with_erase
@click.option("--max-rate", type=click.FloatRange(min=0, min_open=True), help="Most points per second.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit; wanted unless a preset has one.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and delete nothing.")
@max_share
@expect
@yes
@lock_timeout
@with_shell
def delete(shell: Shell, collection: str | None, **given: Any) -> int:
    """Delete the points of COLLECTION that every given condition selects; they are exported first.

    Without --yes it shows how many and which, and asks. Where nobody can answer, --yes is wanted with --expect N, or
    with --max-share where the number isn't known before.
    With --erase they go from everything that could bring them back: what a person may ask for.
    """
    from qmigrate.cli.render.fix import show_done, show_review
    from qmigrate.commands import fix as command
    from qmigrate.commands.tenants import within
    from qmigrate.errors import RefusedError

    settings = shell.settings()
    if given["preset"] is None:
        operation = within(settings, _deletion(collection, given), _tenant(given))
    else:
        operation = _preset(settings, collection, given)
    if given["erase"]:
        return erase_points(shell, operation, given)
    expected = given["expect"]
    if not given["yes"] or given["dry_run"]:
        found = command.review(settings, operation)
        if given["dry_run"] or not found.changes:
            shell.show(found, functools.partial(show_review, would="would go"))
            return 0
        consent(shell, found, flags=f"--yes --expect {found.changes}")
        expected = found.changes if expected is None and len(found.previews) == 1 else expected
    elif expected is None and given["max_share"] is None:
        raise RefusedError(
            "nothing was deleted: say how many may go", hint="--dry-run counts them; --yes --expect N, or --max-share"
        )
    with shell.progress() as progress:
        result = command.fix(
            settings,
            operation,
            expect=expected,
            max_rate=given["max_rate"],
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="marked as deleted" if operation.soft else "deleted"))
    return 0


@fix.command("quarantine", short_help="Points that could not be embedded: list them, or try them again.")
@click.argument("collection", required=False)
@click.option("--retry", is_flag=True, help="Embed them again, and fill in what goes well.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@lock_timeout
@with_shell
def quarantine(
    shell: Shell, collection: str | None, retry: bool, reason: str, lock_timeout: float | None
) -> int:
    """List the points of COLLECTION, or of all, that have no vector since they could not be embedded.

    With --retry they go through their embedder again: vectors are filled in, points that were dropped come back.
    """
    from qmigrate.cli.render.quarantine import show_quarantine, show_retried
    from qmigrate.commands import quarantine as command

    settings = shell.settings()
    if not retry:
        shell.show(command.quarantine(settings, collection), show_quarantine)
        return 0
    with shell.progress() as progress:
        result = command.retry(settings, collection, reason=reason, lock_timeout=lock_timeout, progress=progress)
    shell.show(result, show_retried)
    return result.exit_code


@fix.command("undo", short_help="Take a fix back.")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--overwrite", is_flag=True, help="Also points that were changed since.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@yes
@lock_timeout
@with_shell
def undo(
    shell: Shell, number: int, overwrite: bool, dry_run: bool, yes: bool, lock_timeout: float | None
) -> int:
    """Give points back what the fix NUMBER has taken from them; what was changed since stays."""
    from qmigrate.cli.render.fix import show_done, show_review
    from qmigrate.commands import fix as command

    settings = shell.settings()
    if dry_run or not yes:
        found = command.undo_review(settings, number, overwrite=overwrite)
        if dry_run or not found.changes:
            shell.show(found, show_review)
            return 0
        consent(shell, found)
    with shell.progress() as progress:
        result = command.undo(settings, number, overwrite=overwrite, lock_timeout=lock_timeout, progress=progress)
    shell.show(result, functools.partial(show_done, unit="restored"))
    return 0


def _operation(collection: str, given: dict[str, Any]) -> SyncPayload:
    from qmigrate.operations import SyncPayload

    if (given["sql"] is None) == (given["sql_file"] is None):
        raise click.UsageError("give the query: --sql, or --sql-file", click.get_current_context())
    sql = given["sql"]
    if sql is None:
        sql = text_of(given["sql_file"], "--sql-file")
    pairs = [field.partition("=") for field in given["fields"]]
    return SyncPayload(
        collection,
        sql=sql,
        key=given["key"],
        fields={name: column or name for name, _, column in pairs},
        database=given["database"],
        parameters=dict(parameter(one) for one in given["params"]),
        max_share=given["max_share"],
        reason=given["reason"],
    )


def _preset(settings: Settings, collection: str | None, given: dict[str, Any]) -> DeletePoints:
    from qmigrate.commands.presets import preset

    clashing = [name for name in ("ids", "filter_", "prefix", "sql", "kind", "older_than") if given[name]]
    if clashing:
        raise click.UsageError("with --preset the conditions are those of the preset", click.get_current_context())
    values = dict(parameter(one) for one in given["params"])
    if given["value"] is not None:
        values.update([parameter(f"value={given['value']}")])
    kept = False if given["no_export"] else None
    return preset(
        settings,
        given["preset"],
        values,
        collection=collection,
        reason=given["reason"],
        tenant=_tenant(given),
        max_share=given["max_share"],
        export=kept,
        soft=given["soft"] or None,
        flag=given["flag"] if given["soft"] else None,
    )


def _deletion(collection: str | None, given: dict[str, Any]) -> DeletePoints:
    from qmigrate.operations import DeletePoints

    if collection is None or given["value"] is not None:
        what = "name a COLLECTION, or a --preset" if collection is None else "--value goes with --preset"
        raise click.UsageError(what, click.get_current_context())
    return DeletePoints(
        collection,
        ids=[point_id(one) for one in given["ids"]] or None,
        filter=_yaml(given["filter_"]) if given["filter_"] is not None else None,
        prefix=given["prefix"],
        field=given["field"],
        sql=given["sql"],
        key=given["key"],
        database=given["database"],
        parameters=dict(parameter(one) for one in given["params"]),
        reason=given["reason"],
        max_share=given["max_share"],
        export=not given["no_export"],
        type=given["kind"],
        older_than=_age(given),
        soft=given["soft"],
        flag=given["flag"],
    )


def _tenant(given: dict[str, Any]) -> Any:
    written = given["tenant"]
    if written is not None and len(written) > 1 and written[0] == written[-1] == '"':
        # A number that the payload has as a text.
        return written[1:-1]
    return written if written in (None, "*") else parameter(f"tenant={written}")[1]


def _age(given: dict[str, Any]) -> dict[str, Any] | None:
    return None if given["older_than"] is None else {"field": given["age_field"], "age": given["older_than"]}


def _yaml(text: str) -> Any:
    """A value as YAML, of which JSON is a part; ``@FILE`` stands for what is in a file."""
    import yaml

    if text.startswith("@"):
        text = text_of(text[1:], "--filter")
    if not text.strip():
        # Left out it would select more.
        raise click.UsageError("--filter is given, but empty", click.get_current_context())
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = next(iter(str(error).splitlines()), "")
        raise click.UsageError(f"--filter is no YAML: {line}", click.get_current_context()) from None


def parameter(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``; a whole number is one, everything else is a text."""
    name, mark, value = text.partition("=")
    if not name or not mark:
        raise click.UsageError(f"--param {text}: NAME=VALUE is wanted", click.get_current_context())
    # As many digits as Python reads; what is longer is no number of a database either.
    return name, int(value) if re.fullmatch(r"-?[0-9]{1,100}", value) else value


def point_id(text: str) -> int | str:
    """An id as it was typed: digits are a number."""
    return int(text) if re.fullmatch(r"[0-9]{1,100}", text) else text


def text_of(file: str, option: str) -> str:
    """What is in a file; - is stdin.

    Raises:
        UsageError: it can't be read, or is not UTF-8.
    """
    try:
        with click.open_file(file, encoding="utf-8") as opened:
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
    )


def _moment(text: str) -> datetime:
    """A time with its zone, or that many seconds, minutes, hours or days ago."""
    from qmigrate.settings_read import parse_duration

    ago = parse_duration(text)
    if ago is not None:
        return datetime.now(UTC) - timedelta(seconds=ago)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"--since {text}: a time such as 2026-03-01T12:00+00:00 is wanted, or 1h for the last hour"
        raise click.UsageError(message, click.get_current_context()) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def consent(shell: Shell, found: Review, flags: str = "--yes") -> None:
    """Show what would change, then ask; nobody is asked where nobody can answer.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.cli.render.fix import review_lines
    from qmigrate.errors import RefusedError

    refusal = RefusedError(
        f"{found.changes:,} points would change, and that needs consent",
        hint=f"look at them first (--check, --dry-run); {flags} does it",
        facts={"changes": found.changes},
    )
    ask(
        shell,
        f"Change {found.changes:,} points?",
        refusal=refusal,
        otherwise="nothing was changed",
        lines=lambda: review_lines(found),
    )


VERBS: tuple[click.Command, ...] = (fix,)
