"""The root command, and the way out: every error becomes a message and exit code. It does no verb's job."""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qmigrate.cli import completion
from qmigrate.cli.help import ALIASES, ELSEWHERE, EXIT_CODES, epilog_of
from qmigrate.cli.shell import Options, Shell, echo, global_options
from qmigrate.errors import ConfigError, PlanError, QmigrateError, RefusedError, RevisionError, without_secrets
from qmigrate.text import closest, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.shell_completion import CompletionItem


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
    hint = getattr(error, "hint", None) or _of_one(error, context) or f"{path} --help"
    _report(options, "UsageError", error.format_message(), hint, USAGE, {})
    return USAGE


def _of_one(error: click.ClickException, context: click.Context | None) -> str | None:
    """Where a name was given to a verb that takes none as an argument: how it is typed; None for anything else."""
    further = re.match(r"Got unexpected extra arguments? \((\S+)", error.format_message())
    if further is None or context is None:
        return None
    name, verb = further[1].rstrip(")"), context.command.name
    check = f"qmigrate check --only {quote(name)}"
    if verb == "status":
        return f"it shows all; of one: {check}, qmigrate history {quote(name)}, or qmigrate schema {quote(name)}"
    if verb == "doctor":
        return f"it checks all; of one: qmigrate doctor --vectors --only {quote(name)}, or {check}"
    takes = any(parameter.name == "only" for parameter in context.command.params)
    return f"{context.command_path} --only {quote(name)}" if takes else None


def interrupted(options: Options) -> int:
    """Ctrl-C where no checkpoint takes care of it."""
    _report(options, "Interrupted", "interrupted", "run the same command again", INTERRUPTED, {})
    return INTERRUPTED


def unexpected(error: Exception, options: Options) -> int:
    """A fault of qmigrate, or of something that it uses."""
    from qmigrate.settings.values import redact

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
    # Where no rollback was typed, its default target is meant.
    hint = hint and hint.replace("qmigrate rollback … ", "qmigrate rollback ")
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
    from qmigrate.cli.layout import Text

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


#: New objects between two passes of Python's search for cycles; see :func:`qmigrate.commands.session.seldom_collected`.
YOUNG = 50_000
#: What a shell reports for a process that died of a closed pipe.
CLOSED_PIPE = 141

EPILOG = "\n".join(
    [
        "\b",
        f"Also understood: {', '.join(f'{word} ({verb})' for word, verb in ALIASES.items())}.",
        "",
        "\b",
        "Exit codes (each verb's --help has its own):",
        *(f"  {code:<4}{meaning}" for code, meaning in EXIT_CODES.items()),
    ]
)


def _ask_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.ensure_object(Options).version = True


def _show_version(options: Options) -> None:
    """This version, that of the client, and that of the server where it answers within a second."""
    from importlib.metadata import version

    from qmigrate.version import __version__

    echo(f"qmigrate {__version__}\nqdrant-client {version('qdrant-client')}\n")
    try:
        settings = Shell(options).settings(stores=False)
    except QmigrateError:
        # What is wrong with the settings is not what was asked.
        return
    if settings.qdrant.url is not None:
        from qmigrate.store import quick
        from qmigrate.store.address import ConnectionSettings

        found = quick.version(ConnectionSettings(**settings.connection()))
        if found is not None:
            echo(f"Qdrant {found} at {settings.qdrant.label}\n")


class _UnknownVerbError(click.UsageError):
    """A word that no verb has."""

    def __init__(self, word: str, ctx: click.Context, known: Sequence[str]) -> None:
        meant = closest(word, known)
        self.hint = ELSEWHERE.get(word) or (f"{ctx.command_path} {meant}" if meant else f"{ctx.command_path} --help")
        super().__init__(f"there is no verb {word!r}", ctx)


#: Verb -> the module that has it, and its line in the help; in the order in which they are used.
VERBS: Mapping[str, tuple[str, str]] = {
    "init": ("init", "Write qmigrate.yaml and the folder of the revisions."),
    "revision": ("revision", "Write the next revision file."),
    "squash": ("squash", "Write one revision that replaces several."),
    "adopt": ("adopt", "Take existing collections under management."),
    "stamp": ("adopt", "Record that collections are at a revision."),
    "plan": ("upgrade", "Show what an upgrade would do."),
    "upgrade": ("upgrade", "Bring every collection to a revision."),
    "rollback": ("upgrade", "Go back to an earlier revision."),
    "abort": ("upgrade", "Undo what unfinished runs have begun."),
    "cutover": ("cutover", "Go live with what is built and held."),
    "status": ("inspect", "Show the state of every collection."),
    "history": ("inspect", "Show what was applied and rolled back."),
    "heads": ("show", "Show the newest revisions."),
    "branches": ("show", "Show where the revisions branch."),
    "show": ("show", "Show one revision: what it does, and where it was applied."),
    "edit": ("show", "Open the file of a revision in your editor."),
    "verify": ("inspect", "Compare every point of two collections."),
    "evaluate": ("evaluate", "Compare search by two vectors on the same questions."),
    "try-models": ("evaluate", "Try embedders on a sample, before one is chosen."),
    "doctor": ("inspect", "Check everything that a migration needs."),
    "wait": ("inspect", "Wait until Qdrant and the ledger answer."),
    "check": ("check", "Compare live and recorded; --offline: lint the revisions."),
    "schema": ("schema", "Document what collections look like, and their changelog."),
    "snapshot": ("snapshot", "Make, list, restore and delete snapshots and archives."),
    "gc": ("gc", "Delete old generations past their holdover."),
    "fix": ("fix", "Change or delete points on purpose: counted, recorded, undone."),
    "export": ("export", "Show the points of exports and archives."),
    "metrics": ("metrics", "Print figures for monitoring, as OpenMetrics."),
    "serve": ("serve", "Serve the HTTP API."),
    "jobs": ("jobs", "Show, and cancel, what is done in the background."),
    "worker": ("jobs", "Do the jobs that the HTTP API was asked for."),
    "requests": ("requests", "Show and run what needs another person's approval."),
    "approve": ("requests", "Approve what another person has asked for."),
    "reject": ("requests", "Reject what was asked for, or take an approval back."),
    "repair": ("repair", "Record a decision that only a human can make."),
    "completion": ("completion", "Print or install the completion of a shell."),
}
#: Verbs of a group that have modules of their own.
_FURTHER = {"fix": ("orphans", "stats", "reset", "retrain")}


class _Verbs(MutableMapping[str, click.Command]):
    """The commands of :data:`VERBS`; each is loaded when it is first asked for, so that the help loads none."""

    def __init__(self) -> None:
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, verb: str) -> click.Command:
        if verb not in self._loaded:
            module, line = VERBS[verb]
            command = _command(module, verb)
            command.short_help = line
            if isinstance(command, click.Group):
                for name in _FURTHER.get(verb, ()):
                    command.add_command(_command(name, name))
            _complete(verb, command)
            self._loaded[verb] = command
        return self._loaded[verb]

    def __setitem__(self, verb: str, command: click.Command) -> None:
        self._loaded[verb] = command

    def __delitem__(self, verb: str) -> None:
        del self._loaded[verb]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


def _command(module: str, verb: str) -> click.Command:
    found: click.Command = getattr(importlib.import_module(f"qmigrate.cli.{module}"), verb.replace("-", "_"))
    return found


def _complete(verb: str, command: click.Command) -> None:
    """What a verb has that is derived from its name: its exit codes, and what its arguments may name."""
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            _complete(f"{verb} {name}", one)
        return
    command.epilog = epilog_of(verb)
    completion.offer_names(command, verb)


class _Root(click.Group):
    """Lists the verbs in the order in which they are used, and knows what they are called elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  likewise
        """The lines of :data:`VERBS`, as click writes those of commands that are loaded."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Verbs with their lines; none is loaded for it."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(verb, help=line) for verb, (_, line) in VERBS.items() if verb.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Also ``--version``, once all other options are known, which say where the server is."""
        rest = super().parse_args(ctx, args)
        if ctx.ensure_object(Options).version and not ctx.resilient_parsing:
            _show_version(ctx.obj)
            ctx.exit()
        return rest

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that a word stands for, under its own name."""
        word, *others = args
        verb = ALIASES.get(word, word)
        if verb not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            raise _UnknownVerbError(word, ctx, [*self.commands, *ALIASES])
        return super().resolve_command(ctx, [verb, *others])


@click.group(cls=_Root, commands=_Verbs(), epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, callback=_ask_version, help="Versions of tool, client and server."
)
@global_options(hidden=False)
def root() -> None:
    """Schema migration for Qdrant: versioned revisions, recorded in SQL, proven before they go live.

    Every option here may also come after the verb. stdout carries the result, stderr everything else.
    """


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    set_up_process()
    sys.exit(run(sys.argv[1:] if args is None else args))


def set_up_process() -> None:
    """What holds for a whole process of the command line: its streams, warnings, threads, and what gRPC writes."""
    # Most of what a short command makes are classes and functions of modules, which are there to the end: looking
    # through them for cycles again and again was an eighth of its time. Points pass through with the same threshold.
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show an arrow gets a question mark, not a crash in the middle of the work.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    warnings.showwarning = _warned
    threading.excepthook = _thread_died
    # gRPC would write every try of a connection to stderr, besides the one error that reports it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


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
        show_traceback(died.exc_value)


def run(args: Sequence[str]) -> int:
    """Run the command line.

    Returns:
        The exit code.
    """
    instruction = os.environ.get(completion.VARIABLE)
    if instruction:
        return completion.answer(root, instruction)
    # Needed already when the rest of the line can't be parsed.
    options = Options(json="--json" in args, debug="--debug" in args, typed=tuple(args))
    try:
        with root.make_context("qmigrate", list(args), obj=options) as context:
            result = root.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return usage(error, options)
    except QmigrateError as error:
        return known(error, options)
    except (click.Abort, KeyboardInterrupt):
        return interrupted(options)
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as error:
        return unexpected(error, options)
    return result if isinstance(result, int) else 0
