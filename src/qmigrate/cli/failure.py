"""Errors for people and for programs, and their exit codes. It repairs nothing."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, Any

import click

from qmigrate.errors import ConfigError, PlanError, QmigrateError, RefusedError, RevisionError, without_secrets

if TYPE_CHECKING:
    from qmigrate.cli.shell import Options

USAGE = 2
INTERNAL = 1
INTERRUPTED = 130


def known(error: QmigrateError, options: Options) -> int:
    """An error of ours: what, where, why, and the next command."""
    _trace(error, options)
    _report(options, type(error).__name__, error.message, error.hint, error.exit_code, error.facts, error.code)
    if not options.json and not _logs_json(options):
        closing = _closing(error, options)
        if closing:
            _print(options, closing)
    return error.exit_code


def usage(error: click.ClickException, options: Options) -> int:
    """What click could not parse."""
    from qmigrate.cli.shell import verb_of

    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    options.verb = verb_of(context)
    path = context.command_path if context else "qmigrate"
    _report(options, "UsageError", error.format_message(), f"{path} --help", USAGE, {})
    return USAGE


def interrupted(options: Options) -> int:
    """Ctrl-C where no checkpoint takes care of it."""
    _report(options, "Interrupted", "interrupted", "run the same command again", INTERRUPTED, {})
    return INTERRUPTED


def unexpected(error: Exception, options: Options) -> int:
    """A fault of qmigrate, or of something that it uses."""
    from qmigrate.settings_read import redact

    _trace(error, options)
    message = redact(f"unexpected {type(error).__name__}: {error}".rstrip(": "))
    hint = None if options.debug else "run it with --debug for the traceback, and please report it"
    _report(options, type(error).__name__, message, hint, INTERNAL, {})
    return INTERNAL


def _trace(error: BaseException, options: Options) -> None:
    if options.debug:
        show_traceback(error)


def show_traceback(error: BaseException) -> None:
    """Where an error came from; what it quotes steers no terminal and holds no secret of a URL."""
    from qmigrate.cli.shell import echo

    echo(without_secrets("".join(traceback.format_exception(error))), err=True)


def _report(
    options: Options, kind: str, message: str, hint: str | None, exit_code: int, facts: dict[str, Any], code: str = ""
) -> None:
    if options.json:
        from qmigrate.cli.shell import echo_json

        error: dict[str, Any] = {"type": kind, "message": message, "hint": hint, "exit_code": exit_code}
        # What it is beyond the exit code, for those that have a word of their own.
        error |= {"code": code} if code else {}
        error["facts"] = facts
        echo_json({"schema": f"qmigrate.{options.verb}/1", "ok": False, "error": error})
        return
    if _logs_json(options):
        from qmigrate.json_log import line as json_line

        _print(options, json_line("error", type=kind, message=message, hint=hint, exit_code=exit_code, code=code))
        return
    from rich.text import Text

    _print(options, Text.assemble(("error:", "bold red"), " ", message))
    for line in (hint or "").splitlines():
        _print(options, f"  → {line}")


def _logs_json(options: Options) -> bool:
    """Whether lines on stderr are JSON; a wrong value in the environment is an error of its own, printed as text."""
    from qmigrate.json_log import VARIABLE

    return (options.log or os.environ.get(VARIABLE)) == "json"


def _print(options: Options, line: Any) -> None:
    from qmigrate.cli.console import console

    console(stderr=True, plain=options.no_color).print(line)


def _closing(error: QmigrateError, options: Options) -> str | None:
    """What is left behind, printed only where it is certain: no work had begun for any collection."""
    if (options.shown is not None and options.shown.used) or error.facts.get("done"):
        return None
    if isinstance(error, RefusedError):
        return f"Nothing was changed. ({error.exit_code})"
    if isinstance(error, ConfigError | RevisionError | PlanError):
        return f"Nothing was written. ({error.exit_code})"
    return None
