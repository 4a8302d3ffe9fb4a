"""What a verb meets of the terminal: global options, settings, progress, result. It depends on no verb."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qmigrate.cli import consent, starting
from qmigrate.errors import without_secrets
from qmigrate.json_log import FORMS, VARIABLE, JsonFormatter, chosen_form
from qmigrate.text import to_plain, visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console

    from qmigrate.cli.layout import Text
    from qmigrate.cli.progress import Shown
    from qmigrate.errors import RefusedError
    from qmigrate.settings.load import Settings

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


@dataclass
class Options:
    """The global options, and the arguments as they were typed.

    `verb`, `shown`, `result` and `code` are filled in on the way: the display, what was shown, and the exit code.
    """

    config: str | None = None
    qdrant_url: str | None = None
    ledger_url: str | None = None
    scripts: str | None = None
    actor: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    requested_by: str | None = None
    json: bool = False
    debug: bool = False
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    log: str | None = None
    version: bool = False
    typed: tuple[str, ...] = field(default=(), repr=False)
    verb: str = "qmigrate"
    shown: Shown | None = field(default=None, repr=False)
    result: Any = field(default=None, repr=False)
    code: int = 0


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    """A global option may be given before or after the verb; the later one wins, an absent one does nothing."""
    # An empty text was given, too: the settings refuse it.
    if (value or value == "") and parameter.name:
        setattr(ctx.ensure_object(Options), parameter.name, value)


def _keep_person(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """An empty name is kept, to be refused: it may be a variable that is missing."""
    if value is not None:
        setattr(ctx.ensure_object(Options), str(parameter.name), value)


def _keep_metadata(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    """Facts before the verb and after it belong together."""
    for one in value:
        name, mark, said = one.partition("=")
        if not name or not mark:
            raise click.BadParameter(f"expected KEY=VALUE, got {one}", ctx, parameter)
        ctx.ensure_object(Options).metadata[name] = said


def global_options(*, hidden: bool, without: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """The options that every verb takes.

    Args:
        hidden: leave them out of the help, since the root's help lists them.
        without: names that the verb uses for something else.
    """
    made = functools.partial(click.option, expose_value=False, callback=_keep)
    rest = functools.partial(made, hidden=hidden)
    facts = functools.partial(click.option, expose_value=False, hidden=hidden)
    options = [
        rest("--config", metavar="FILE", help="Settings file.  [QMIGRATE_CONFIG; default: qmigrate.yaml]"),
        rest("--qdrant-url", metavar="URL", help="Qdrant server.  [QMIGRATE_QDRANT_URL]"),
        rest("--ledger-url", metavar="URL", help="SQL database of the ledger.  [QMIGRATE_LEDGER_URL]"),
        rest("--scripts", metavar="FOLDER", help="Folder of the revisions.  [QMIGRATE_SCRIPTS]"),
        facts("--actor", metavar="NAME", callback=_keep_person, help="Who acts, for the records.  [QMIGRATE_ACTOR]"),
        facts(
            "--requested-by",
            metavar='"NAME: WHY"',
            callback=_keep_person,
            help="The person who asked for it, and why; an assistant needs one to delete.  [QMIGRATE_REQUESTED_BY]",
        ),
        facts(
            "--metadata",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_keep_metadata,
            help="Metadata of your own for the audit of fixes; may be repeated.",
        ),
        made("--json", is_flag=True, help="The result, or the error, as one JSON object on stdout."),
        rest("--debug", is_flag=True, help="Tracebacks."),
        rest("-q", "--quiet", is_flag=True, help="No progress."),
        rest("-v", "--verbose", count=True, help="Log to stderr; -vv for more."),
        rest("--log", type=click.Choice(FORMS), help="Lines on stderr: text, or JSON for a collector.  [QMIGRATE_LOG]"),
        rest("--no-color", is_flag=True, help="No colours.  [NO_COLOR]"),
    ]

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        known: list[click.Option] = getattr(function, "__click_params__", [])
        known[:] = [one for one in known if one.name not in without]
        return function

    return decorate


class Shell:
    """One call of a verb.

    Args:
        options: the global options.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def may_ask(self) -> bool:
        """Whether a user is there to answer, and more than JSON was asked for; an assistant answers for no user."""
        if self.options.json or not sys.stdin.isatty():
            return False
        return consent.agent() is None or self.request.person is not None

    @property
    def request(self) -> consent.Request:
        """Whose request this command is."""
        return consent.Request(self.options.requested_by, self.options.typed)

    def settings(self, *, stores: bool = True) -> Settings:
        """The settings; see :meth:`qmigrate.settings.load.Settings.load`.

        Every verb asks for them first, so here a consent is seen to come from a person, and no verb forgets it.

        Raises:
            RefusedError: it doesn't, where that has to be said.
        """
        from qmigrate.settings.load import Settings

        asked = self.request
        found = Settings.load(
            config=self.options.config,
            qdrant_url=self.options.qdrant_url,
            ledger_url=self.options.ledger_url,
            scripts=self.options.scripts,
            actor=self.options.actor,
            stores=stores,
        ).acting(metadata={**self.options.metadata, **asked.facts()})
        context = click.get_current_context(silent=True)
        asked.check(found, context.params if context else {})
        return found

    @contextmanager
    def progress(self) -> Iterator[Shown]:
        """Where long work reports to, on stderr; the display is taken away at the end, whatever happens."""
        from qmigrate.cli.progress import shown_for

        form = log_form(self.options)
        self.options.shown = shown_for(self.console(stderr=True), quiet=self.options.quiet, form=form)
        self.options.shown.wait("connecting and planning")
        try:
            yield self.options.shown
        finally:
            self.options.shown.close()

    def console(self, *, stderr: bool = False) -> Console:
        """Where to print for people."""
        from qmigrate.cli.console import console

        return console(stderr=stderr, plain=self.options.no_color)

    def show(self, result: Result, render: Callable[[Console, Result], None]) -> None:
        """Print the result: as JSON when that was asked for, else with `render`."""
        self.options.result = result
        if self.options.json:
            self.data({"schema": f"qmigrate.{self.options.verb}/1", "ok": True, "data": result})
        else:
            render(self.console(), result)

    def data(self, value: Any) -> None:
        """Print a value as JSON and nothing around it: for formats that others define."""
        echo_json(value)

    def document(self, text: str, *, end: str = "\n") -> None:
        """Print a format of others as it is, since a file gets it; a terminal is not steered by it.

        Not through a console: neither its width nor its colours may change a document.
        """
        echo(text + end, exactly=not sys.stdout.isatty())

    def confirm(self, question: str) -> bool:
        """A yes or no from the terminal."""
        starting.over()
        return click.confirm(visible(question), err=True)

    def ask(self, question: str, default: str | None = "", *, among: Sequence[str] = ()) -> str:
        """One line from the terminal.

        Args:
            default: what an empty line means; None where there has to be an answer.
            among: the only answers there are.
        """
        kind = click.Choice(among) if among else None
        said = click.prompt(visible(question), default=default, type=kind, show_default=bool(default), err=True)
        return str(said).strip()


def echo(text: str, *, err: bool = False, exactly: bool = False) -> None:
    """Write a text without a console; it ends its lines itself.

    Args:
        err: to stderr.
        exactly: with its control characters.
    """
    starting.over()
    # With colours, which click would else take out of a file.
    click.echo(text if exactly else visible(text), err=err, nl=False, color=exactly or None)


def echo_json(value: Any, *, line: bool = False) -> None:
    """Write a value as JSON to stdout.

    Args:
        line: as one line of a JSON Lines file.
    """
    form: dict[str, Any] = {"separators": (",", ":")} if line else {"indent": 2}
    echo(visible_json(json.dumps(to_plain(value), ensure_ascii=False, **form)) + "\n", exactly=True)


def with_shell(function: Callable[..., Any], without: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A verb's function gets a :class:`Shell` as its first argument, and takes the global options.

    Args:
        without: those that the verb uses for something else; they may come before it.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        options = context.ensure_object(Options)
        options.verb = verb_of(context)
        _refuse_empty(context)
        _set_up_logging(options)
        if not options.quiet and not options.verbose and log_form(options) == "text":
            starting.begin()
        try:
            done = function(Shell(options), *args, **kwargs)
            options.code = done if isinstance(done, int) else 0
            return done
        finally:
            starting.over()

    return global_options(hidden=True, without=without)(called)


def _refuse_empty(context: click.Context) -> None:
    """An argument, a name or a file that is empty is a variable that is missing, and must not mean "none" or "all"."""
    for parameter in context.command.params:
        named = isinstance(parameter, click.Argument) or isinstance(parameter.type, click.Path)
        if not named and getattr(parameter, "metavar", None) not in _NAMES:
            continue
        value = context.params.get(parameter.name or "")
        if any(one in ("", Path()) for one in (value if isinstance(value, tuple) else (value,))):
            label = parameter.make_metavar(context) if isinstance(parameter, click.Argument) else parameter.opts[0]
            raise click.UsageError(f"{label.strip('[]')} is given, but empty", context)


def verb_of(context: click.Context | None) -> str:
    """``snapshot.create`` for ``qmigrate snapshot create``; ``qmigrate`` where no verb is known."""
    words = context.command_path.split()[1:] if context else []
    return ".".join(words) or "qmigrate"


def log_form(options: Options) -> str:
    """``text`` or ``json``: the option, else the environment.

    Raises:
        ConfigError: the environment has something else.
    """
    return options.log or chosen_form(os.environ.get(VARIABLE))


def masked(record: logging.LogRecord) -> bool:
    """Every record passes, without the secrets of what it quotes, such as the URL that a client asks."""
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


class _Warnings(logging.Handler):
    """Warnings of libraries where no log was asked for: one line each on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        echo(f"{without_secrets(self.format(record))}\n", err=True)


def _set_up_logging(options: Options) -> None:
    form = log_form(options)
    if not options.verbose:
        # Python's own way of last resort would write them as they are.
        logging.lastResort = _Warnings(logging.WARNING)
        return
    level = logging.INFO if options.verbose == 1 else logging.DEBUG
    if options.verbose == 1:
        # At INFO it tells of each of its plugins whenever it is imported.
        logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    if form == "json":
        lines = logging.StreamHandler()
        lines.setFormatter(JsonFormatter())
        logging.basicConfig(level=level, handlers=[lines], force=True)
        return
    from rich.logging import RichHandler

    shell = Shell(options)
    handler = RichHandler(console=shell.console(stderr=True), show_path=False, omit_repeated_times=False)
    handler.addFilter(masked)
    logging.basicConfig(level=level, format="%(name)s: %(message)s", handlers=[handler], force=True)


if TYPE_CHECKING:
    _Seconds = click.ParamType[float]
else:
    # Not generic at run time in the older versions of click that are supported.
    _Seconds = click.ParamType


#: How the help calls what names a thing; such a value can't be empty.
_NAMES = frozenset({"COLLECTION", "FILE", "FOLDER", "GENERATION", "GLOB", "NAME", "PATTERN", "REV"})


class Number(click.FloatRange):
    """A number within bounds. NaN is neither above nor below any, and nothing is counted with infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """What was typed."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return float(found)


class Duration(_Seconds):
    """Seconds, written as 60s, 5m, 24h or 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of what was typed."""
        from qmigrate.settings.values import is_bare_number, parse_duration

        found = parse_duration(value)
        if found is None and is_bare_number(value):
            self.fail(f"{value!r} has no unit: 90d, 24h, 5m or 60s", param, ctx)
        if found is None:
            self.fail(f"{value!r} is not a duration such as 60s, 5m, 24h or 7d", param, ctx)
        return found


class Age(Duration):
    """A duration that has a unit even where it is 0: everything is older than that."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of what was typed."""
        from qmigrate.settings.values import is_bare_number

        if is_bare_number(value):
            self.fail(f"{value!r} has no unit: 90d, 24h, 5m or 60s", param, ctx)
        return super().convert(value, param, ctx)


class TargetCommand(click.Command):
    """A command whose argument may be ``-1``, which click alone would take for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put relative targets where no option is looked for."""
        if "--" not in args:
            relative = [word for word in args if re.fullmatch(r"-\d+", word)]
            others = [word for word in args if word not in relative]
            args = [*others, "--", *relative] if relative else args
        return super().parse_args(ctx, args)


def ask(
    shell: Shell,
    question: str,
    *,
    refusal: RefusedError,
    otherwise: str,
    lines: Callable[[], Iterable[Text | str]] = tuple,
) -> None:
    """Show `lines`, then ask; without a terminal, `refusal` is raised instead.

    Args:
        question: answered with yes or no.
        refusal: raised where no user can answer.
        otherwise: the message after a no.
        lines: made only where they are shown.

    Raises:
        RefusedError: no consent.
    """
    from qmigrate.errors import RefusedError

    if not shell.may_ask:
        raise refusal
    console = shell.console(stderr=True)
    for line in lines():
        console.print(line)
    if not shell.confirm(question):
        raise RefusedError(otherwise)
