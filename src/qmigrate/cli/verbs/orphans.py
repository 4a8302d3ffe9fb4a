"""fix orphans: points without a row and rows without a point, as one of the verbs of fix."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.cli.verbs.change import lock_timeout
from qmigrate.cli.verbs.fix import consent, expect, max_share, parameter, yes

if TYPE_CHECKING:
    from qmigrate.operations import DeleteOrphans


@click.command("orphans", short_help="Find points without a row, and rows without a point.")
@click.argument("collection")
@click.option("--sql", required=True, metavar="SELECT", help="A query that returns the id of every point to keep.")
@click.option("--key", default="id", show_default=True, metavar="COLUMN", help="Its column with the id.")
@click.option("--id-field", metavar="KEY", help="The payload field that holds it, where it is not the point's own id.")
@click.option("--database", default="app", show_default=True, metavar="NAME", help="Its name under databases:.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Of a :parameter; may be repeated.")
@click.option("--check", is_flag=True, help="Only look; exit with 4 when there are any, of either kind.")
@click.option("--sample", type=click.IntRange(min=1), help="With --check: so many points and rows at random.")
@click.option("--missing", type=click.Path(dir_okay=False), metavar="FILE", help="Write ids without a point there.")
@click.option("--missing-table", metavar="TABLE", help="Insert them there, each once: collection, id, found_at.")
@click.option("--missing-call", metavar="MODULE:ATTR", help="Call this function with lists of them.")
@click.option("--grace", type=Duration(), default="15m", show_default=True, help="Between the two looks.")
@click.option("--no-wait", is_flag=True, help="Look once and exit with 12; the same command later looks again.")
@click.option("--no-export", is_flag=True, help="Keep nothing for an undo.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit; wanted unless --check.")
@max_share
@expect
@yes
@lock_timeout
@with_shell
def orphans(shell: Shell, collection: str, **given: Any) -> int:
    """Compare the ids of COLLECTION with those of a query; delete points that have no row.

    A point goes only when it has no row twice, --grace apart; nothing is locked in between. Rows without a point are
    counted, and handed on.
    """
    from qmigrate.cli.render.fix import show_done, show_review
    from qmigrate.commands import fix as command
    from qmigrate.commands import missing
    from qmigrate.errors import RefusedError

    if not given["check"] and not given["reason"]:
        raise click.UsageError("a --reason is wanted, or --check", click.get_current_context())
    if given["sample"] is not None and not given["check"]:
        raise click.UsageError("--sample needs --check: what goes is all of them", click.get_current_context())
    operation = _operation(collection, given)
    taker = missing.function_of(given["missing_call"]) if given["missing_call"] else None
    look = command.Narrow(sample=given["sample"])
    narrow = replace(look, missing_to=given["missing"], missing_table=given["missing_table"])
    settings, expected = shell.settings(), given["expect"]
    if given["check"]:
        with missing.handed(narrow, taker) as wanted:
            found = command.review(settings, operation, wanted)
        shell.show(found, functools.partial(show_review, would="would go"))
        return found.exit_code
    if not given["yes"]:
        found = command.review(settings, operation, look)
        if not found.changes and not (taker or given["missing"] or given["missing_table"]):
            shell.show(found, functools.partial(show_review, would="would go"))
            return found.exit_code
        if found.changes:
            consent(shell, found, flags=f"--yes --expect {found.changes}")
        elif expected is None:
            # Nobody has agreed to what comes later.
            expected = 0
    elif expected is None:
        raise RefusedError("nothing was deleted: say how many may go", hint="--check counts them; --yes --expect N")
    with shell.progress() as progress, missing.handed(narrow, taker) as wanted:
        result = command.fix(
            settings,
            operation,
            narrow=wanted,
            expect=expected,
            wait=not given["no_wait"],
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="deleted"))
    return result.exit_code


def _operation(collection: str, given: dict[str, Any]) -> DeleteOrphans:
    from qmigrate.operations import DeleteOrphans

    return DeleteOrphans(
        collection,
        sql=given["sql"],
        key=given["key"],
        database=given["database"],
        parameters=dict(parameter(one) for one in given["params"]),
        reason=given["reason"] or "only looked at",
        grace=given["grace"],
        max_share=given["max_share"],
        export=not given["no_export"],
        id_field=given["id_field"],
    )
