"""adopt and stamp: collections that are there already."""

from __future__ import annotations

import functools
import shlex

import click

from qmigrate.cli.shell import Duration, Shell, with_shell
from qmigrate.cli.verbs.change import parallel

take_over = click.option(
    "--take-over", is_flag=True, help="Override the seal of another ledger, which is lost for good."
)
dry_run = click.option("--dry-run", is_flag=True, help="Show what would be recorded and write nothing.")
lock_timeout = click.option(
    "--lock-timeout",
    type=Duration(),
    help="How long to wait for another process.  [default: limits.lock_timeout]",
)


@click.command(short_help="Take existing collections under management.")
@click.argument("pattern")
@click.option("--alias", metavar="NAME", help="Alias of the collection that the application uses from now on.")
@take_over
@click.option("-m", "--message", help="Message of the baseline revision.")
@click.option("--rev-id", metavar="ID", help="Id of the baseline revision, instead of the next number.")
@dry_run
@lock_timeout
@parallel
@with_shell
def adopt(  # noqa: PLR0913  the options of the verb
    shell: Shell,
    pattern: str,
    alias: str | None,
    take_over: bool,
    message: str | None,
    rev_id: str | None,
    dry_run: bool,
    lock_timeout: float | None,
    parallel: int | None,
) -> int:
    """Take the collections that match PATTERN under management, as they are.

    Each is compared with the revisions there are, and is recorded at the newest one that fits. Those that no revision
    creates get one, written from what is there. No point, setting or name is changed.
    """
    from qmigrate.cli.render.adopt import show_adopted
    from qmigrate.commands import adopt as command

    with shell.progress() as progress:
        result = command.adopt(
            shell.settings(),
            pattern,
            alias=alias,
            take_over=take_over,
            message=message,
            revision_id=rev_id,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            parallel=parallel,
            progress=progress,
        )
    flags = [f"--alias {alias}"] if alias else []
    flags += ["--take-over"] if take_over else []
    again = " ".join(["qmigrate", "adopt", f"'{pattern}'" if set(pattern) & set("*?[") else pattern, *flags])
    shell.show(result, functools.partial(show_adopted, command=again))
    return result.exit_code


@click.command(short_help="Record that collections are at a revision.")
@click.argument("revision")
@click.option("--only", multiple=True, metavar="NAME", help="Just this collection; may be repeated.")
@take_over
@dry_run
@lock_timeout
@with_shell
def stamp(
    shell: Shell,
    revision: str,
    only: tuple[str, ...],
    take_over: bool,
    dry_run: bool,
    lock_timeout: float | None,
) -> None:
    """Record that collections are at REVISION, because they are; nothing is run.

    Each is compared with the schema that the revisions up to it have recorded, and refused when it differs.
    """
    from qmigrate.cli.render.adopt import show_adopted
    from qmigrate.commands import adopt as command

    with shell.progress() as progress:
        result = command.stamp(
            shell.settings(),
            revision,
            only=only or None,
            take_over=take_over,
            dry_run=dry_run,
            lock_timeout=lock_timeout,
            progress=progress,
        )
    again = shlex.join(["qmigrate", "stamp", revision, *(word for name in only for word in ("--only", name))])
    shell.show(result, functools.partial(show_adopted, command=again))


VERBS: tuple[click.Command, ...] = (adopt, stamp)
