"""The root command, and the way out: every error becomes a message and exit code. It does no verb's job."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from qmigrate.cli import failure
from qmigrate.cli.shell import Options, echo, global_options
from qmigrate.cli.verbs import (
    adopt,
    care,
    change,
    cutover,
    export,
    fix,
    gc,
    look,
    orphans,
    reset,
    retrain,
    snapshot,
    start,
    stats,
)
from qmigrate.cli.verbs import check as checking
from qmigrate.cli.verbs import metrics as monitoring
from qmigrate.cli.verbs import schema as documents
from qmigrate.errors import QmigrateError

#: What a shell reports for a process that died of a closed pipe.
CLOSED_PIPE = 141

EPILOG = """\b
Exit codes: 0 done or nothing to do, 1 internal, 2 usage or settings,
3 pending or too long for --max-estimate, 4 drift, 5 verification failed,
6 lease held, 7 needs repair, 8 lint, 9 store unreachable, 10 refused,
11 built and held, 130/143 stopped at a checkpoint by a signal."""


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from qmigrate import __version__

        click.echo(f"qmigrate {__version__}")
        ctx.exit()


class _Root(click.Group):
    """Lists the verbs in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)


@click.group(cls=_Root, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, callback=_show_version, help="Show the version.")
@global_options(hidden=False)
def root() -> None:
    """Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

    Every option here may also come after the verb. stdout carries the result, stderr everything else.
    """


VERBS = (
    *start.VERBS,
    *adopt.VERBS,
    *change.VERBS,
    *cutover.VERBS,
    *look.VERBS,
    *checking.VERBS,
    *documents.VERBS,
    *snapshot.VERBS,
    *gc.VERBS,
    *fix.VERBS,
    *export.VERBS,
    *monitoring.VERBS,
    *care.VERBS,
)
for verb in VERBS:
    root.add_command(verb)
fix.fix.add_command(orphans.orphans)
fix.fix.add_command(stats.stats)
fix.fix.add_command(reset.reset)
fix.fix.add_command(retrain.retrain)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show an arrow gets a question mark, not a crash in the middle of the work.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    warnings.showwarning = _warned
    threading.excepthook = _thread_died
    # gRPC would write every try of a connection to stderr, besides the one error that reports it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    sys.exit(run(sys.argv[1:] if args is None else args))


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,  # noqa: ARG001  as Python calls it
    line: str | None = None,
) -> None:
    """As Python shows a warning, but no character of it steers the terminal."""
    echo(warnings.formatwarning(message, category, filename, lineno, line), err=True)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """As Python shows what ended a thread, likewise."""
    if died.exc_value is not None and not isinstance(died.exc_value, SystemExit):
        failure.show_traceback(died.exc_value)


def run(args: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    # Needed already when the rest of the line can't be parsed.
    options = Options(json="--json" in args, debug="--debug" in args)
    try:
        with root.make_context("qmigrate", list(args), obj=options) as context:
            result = root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return failure.usage(error, options)
    except QmigrateError as error:
        return failure.known(error, options)
    except (click.Abort, KeyboardInterrupt):
        return failure.interrupted(options)
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:
        return failure.unexpected(error, options)
    return result if isinstance(result, int) else 0
