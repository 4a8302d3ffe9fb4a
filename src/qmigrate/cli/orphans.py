"""fix orphans: points without a row and rows without a point, as one of the verbs of fix."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.fix import check_bounded, consent, deletion, expect, ids_to, max_rate, max_share, tenant, yes
from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.cli.upgrade import lock_timeout
from qmigrate.cli.values import parameters

if TYPE_CHECKING:
    from qmigrate.commands.presets import OrphanPreset
    from qmigrate.operations import DeleteOrphans
    from qmigrate.settings.load import Settings

#: Options for what is compared, as in a preset.
_QUERY = ("sql", "key", "id_field", "database")


@click.command("orphans", short_help="Find points without a row, and rows without a point.")
@click.argument("collection", required=False)
@click.option("--sql", metavar="SELECT", help="A query that returns the id of every point to keep.")
@click.option("--preset", metavar="NAME", help="A preset of fixes.presets with kind: orphans; it has the query.")
@click.option("--key", metavar="COLUMN", help="Its column with the id.  [default: id]")
@click.option("--id-field", metavar="KEY", help="The payload field that holds it, where it is not the point's own id.")
@click.option("--database", metavar="NAME", help="Its database under databases:.  [default: app]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Value of a :parameter; may be repeated.")
@click.option("--check", is_flag=True, help="Delete nothing; exit with 4 when there are any, of either kind.")
@click.option("--sample", type=click.IntRange(min=1), help="With --check: this many points and rows at random.")
@click.option("--missing", type=click.Path(dir_okay=False), metavar="FILE", help="File for the ids without a point.")
@click.option("--missing-table", metavar="TABLE", help="Insert them here, each once: collection, id, found_at.")
@click.option("--missing-call", metavar="MODULE:ATTR", help="Call this function with lists of them.")
@click.option("--grace", type=Duration(), help="Time between the two looks.  [default: 15m]")
@click.option("--no-wait", is_flag=True, help="Look once and exit with 12; the same command later looks again.")
@click.option("--tenant", metavar="VALUE", help="The tenant, where fixes.tenants names a field; * for all.")
@click.option("--no-export", is_flag=True, help="Keep nothing for an undo.")
@click.option("--reason", metavar="TEXT", help="Why, for the audit; required unless --check, or a preset has one.")
@ids_to
@max_share
@max_rate
@expect
@yes
@lock_timeout
@with_shell
def orphans(shell: Shell, collection: str | None, **given: Any) -> int:
    """Compare the ids of COLLECTION with those of a query; delete points that have no row.

    A point goes only when it has no row twice, --grace apart; nothing is locked in between. Rows without a point are
    counted, and passed on.
    """
    import qmigrate.commands.fix as command
    from qmigrate.cli.fix_results import show_done, show_review
    from qmigrate.commands import missing_rows
    from qmigrate.commands.names import ALL

    if given["sample"] is not None and not given["check"]:
        raise click.UsageError("--sample needs --check: a deletion takes all of them", click.get_current_context())
    settings, expected, most = shell.settings(), given["expect"], None
    wish = _wish(settings, collection, given)
    operation = _bounded(settings, wish.operation, given)
    taker = missing_rows.function_of(settings, wish.missing_call) if wish.missing_call else None
    look = command.Narrow(sample=given["sample"], ids_to=given["ids_to"])
    narrow = replace(look, missing_to=wish.missing, missing_table=wish.missing_table)
    if given["check"]:
        with missing_rows.handed(narrow, taker) as wanted:
            found = command.review(settings, operation, wanted, tenant=ALL)
        shell.show(found, show_review)
        return found.exit_code
    if not given["yes"]:
        found = command.review(settings, operation, look, tenant=ALL)
        if not found.changes and not (taker or wish.missing or wish.missing_table):
            shell.show(found, show_review)
            return 0
        if found.changes:
            consent(shell, found, flags=f"--yes --expect {found.changes}", question=deletion(found), look="--check")
            most = found.by_collection
        elif expected is None:
            # What comes later was not agreed to.
            expected = 0
    else:
        check_bounded(expected, operation.max_share, look="--check")
    with shell.progress() as progress, missing_rows.handed(narrow, taker) as wanted:
        result = command.fix(
            settings,
            operation,
            narrow=wanted,
            expect=expected,
            most=most,
            max_rate=given["max_rate"],
            wait=not given["no_wait"],
            # Whose points are meant was asked above.
            tenant=ALL,
            lock_timeout=given["lock_timeout"],
            progress=progress,
        )
    shell.show(result, functools.partial(show_done, unit="deleted"))
    return result.exit_code


def _bounded(settings: Settings, operation: DeleteOrphans, given: dict[str, Any]) -> DeleteOrphans:
    """The comparison for one tenant, where several share the collection; a check need not say which."""
    from qmigrate.commands.names import within

    return operation if given["check"] and given["tenant"] is None else within(settings, operation, tenant(given))


def _wish(settings: Settings, collection: str | None, given: dict[str, Any]) -> OrphanPreset:
    """What is compared, and where missing ids go: by a preset and options given with it, or by options alone."""
    from qmigrate.commands.presets import OrphanPreset, orphan_preset
    from qmigrate.operations import DeleteOrphans

    values = parameters(given["params"])
    said = {name: given[name] for name in ("reason", "grace", "max_share") if given[name] is not None}
    said |= {"export": False} if given["no_export"] else {}
    to = {name: given[name] for name in ("missing_table", "missing_call") if given[name] is not None}
    # Here a path is as seen from where the command runs.
    to |= {"missing": str(Path(given["missing"]).absolute())} if given["missing"] is not None else {}
    query = {name: given[name] for name in _QUERY if given[name] is not None}
    if given["preset"] is None:
        if collection is None or given["sql"] is None:
            raise click.UsageError("name a COLLECTION and --sql, or a --preset", click.get_current_context())
        wish = OrphanPreset(
            DeleteOrphans(collection, **{**query, "parameters": values, "reason": "", **said}), **to
        )
    elif query:
        raise click.UsageError("with --preset the query is that of the preset", click.get_current_context())
    else:
        wish = orphan_preset(settings, given["preset"], values, collection=collection, **said, **to)
    if wish.operation.reason:
        return wish
    if not given["check"]:
        raise click.UsageError("a --reason is required, or --check", click.get_current_context())
    return replace(wish, operation=replace(wish.operation, reason="only checked"))
