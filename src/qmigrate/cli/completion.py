"""completion: what a shell offers after `qmigrate`: verbs, options, collections, revisions. It loads no revision.

A shell asks while a person types: nothing here waits for a server longer than a second, and nothing fails aloud.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.shell import Options, Shell, with_shell
from qmigrate.errors import UnavailableError
from qmigrate.text import quote, visible

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from qmigrate.settings.load import Settings

#: By which a script asks for what may follow; click's mechanism.
VARIABLE = "_QMIGRATE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
#: Names of arguments and options -> what they name. `names` of `snapshot delete` are those of snapshots.
_COLLECTIONS = frozenset({"collection", "pattern", "only", "a", "b", "names", "name", "unlock", "schema"})
_GENERATIONS = frozenset({"generations", "vanished"})
_REVISIONS = frozenset({"revision", "accept", "carried", "target"})
#: Verbs whose arguments or options of these names mean something else.
_OTHERS = frozenset({("snapshot delete", "names"), ("history", "target"), ("fix delete", "target")})
#: Instead of a revision, for the verbs that go to a target.
_TARGETS = {"plan": ("head", "heads", "+1"), "upgrade": ("head", "heads", "+1"), "rollback": ("base", "-1")}


@dataclass(frozen=True, slots=True)
class Completion:
    """`completion`.

    Attributes:
        shell: bash, zsh or fish.
        script: what the shell has to run.
        file: where it was installed, or None.
    """

    shell: str
    script: str
    file: Path | None = None


@click.command()
@click.argument("shell_name", metavar="bash|zsh|fish", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Write it where the shell looks for it, instead of printing it.")
@with_shell
def completion(shell: Shell, shell_name: str, install: bool) -> None:
    """Print what makes a shell complete verbs, options, collections and revisions.

    For this shell alone: eval "$(qmigrate completion bash)"; for good: --install.
    """
    root = click.get_current_context().find_root().command
    script = script_of(root, shell_name)
    file = _install(shell_name, script) if install else None
    shell.show(Completion(shell_name, script, file), lambda console, made: _shown(shell, console, made))


def _shown(shell: Shell, console: Any, made: Completion) -> None:
    if made.file is None:
        shell.document(made.script)
        return
    console.print(f"made {made.file}; a new {made.shell} completes qmigrate")
    if made.shell == "zsh":
        console.print("unless ~/.zshrc has it already, add: fpath+=~/.zfunc; autoload -Uz compinit; compinit")


def script_of(root: click.Command, shell_name: str) -> str:
    """The script of a shell, as click makes it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell_name)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell_name}")
    return kind(root, {}, "qmigrate", VARIABLE).source().strip("\n")


def _install(shell_name: str, script: str) -> Path:
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    file = {
        "bash": data / "bash-completion" / "completions" / "qmigrate",
        "zsh": home / ".zfunc" / "_qmigrate",
        "fish": config / "fish" / "completions" / "qmigrate.fish",
    }[shell_name]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{script}\n", encoding="utf-8")
    except OSError as error:
        hint = f"qmigrate completion {shell_name}"
        raise UnavailableError(f"{file} can't be written: {error.strerror}", hint=hint) from error
    return file


def answer(root: click.Command, instruction: str) -> int:
    """Print what may follow on the line that the shell has put into the environment.

    Returns:
        The exit code; whatever goes wrong is silent, since it would be printed into the line that is being typed.
    """
    from click.shell_completion import shell_complete

    try:
        return shell_complete(root, {}, "qmigrate", VARIABLE, instruction)
    except Exception:
        return 1


def offer_names(command: click.Command, verb: str) -> None:
    """Have the arguments and options of a verb complete what they name.

    Args:
        verb: its words: ``fix sync``.
    """
    for parameter in command.params:
        name = parameter.name or ""
        found = _source(verb, name, parameter)
        if found is not None:
            # A method of this one parameter, as `shell_complete=` makes it where a parameter is declared.
            vars(parameter)["shell_complete"] = _offering(found)


_Source = Callable[["Settings"], Iterable[tuple[str, str]]]


def _source(verb: str, name: str, parameter: click.Parameter) -> _Source | None:
    if (verb, name) in _OTHERS or isinstance(parameter.type, click.Path):
        return None
    if name in _REVISIONS:
        words = _TARGETS.get(verb, ("head",) if verb in ("show", "edit") else ())
        return lambda settings: [*((word, "") for word in words), *_revisions(settings)]
    if name in _GENERATIONS:
        return lambda settings: ((one, "") for one in _names(settings, made=True))
    if name in _COLLECTIONS:
        return lambda settings: ((one, "") for one in _names(settings, made=False))
    if name == "preset":
        return lambda settings: ((one, "") for one in settings.fixes.presets)
    return None


def _offering(source: _Source) -> Callable[[click.Context, str], list[CompletionItem[str]]]:
    def offered(ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        try:
            found = dict(source(_settings(ctx)))
        except Exception:
            # Settings that can't be read, a folder that isn't there: nothing to offer.
            return []
        chosen = sorted(one for one in found if one.startswith(incomplete) and quote(one) == one == visible(one))
        return [CompletionItem(one, help=visible(found[one]).replace("\n", " ") or None) for one in chosen]

    return offered


def _settings(ctx: click.Context) -> Settings:
    """Those of the line so far."""
    from qmigrate.settings.load import Settings

    options = ctx.ensure_object(Options)
    return Settings.load(
        config=options.config,
        qdrant_url=options.qdrant_url,
        ledger_url=options.ledger_url,
        scripts=options.scripts,
        stores=False,
    )


def _names(settings: Settings, *, made: bool) -> list[str]:
    """Names of the server, and those that revisions create; or the generations behind them."""
    from qmigrate.model.names import is_made, is_own_alias
    from qmigrate.store.address import ConnectionSettings
    from qmigrate.store.quick import names

    found = {*names(ConnectionSettings(**settings.connection())), *(() if made else _declared(settings))}
    return [one for one in found if is_made(one) == made and not is_own_alias(one, one.partition("__e")[0])]


def _trees(settings: Settings) -> Iterator[ast.Module]:
    """The revision files as they are written; none is run."""
    for file in sorted((settings.scripts / "versions").glob("*.py")):
        try:
            yield ast.parse(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            continue


def _revisions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Id and first line of the docstring."""
    for tree in _trees(settings):
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = [one.id for one in node.targets if isinstance(one, ast.Name)]
                if "revision" in names and isinstance(node.value.value, str):
                    yield node.value.value, (ast.get_docstring(tree) or "").partition("\n")[0]


def _declared(settings: Settings) -> Iterator[str]:
    """What revisions create: the first argument of ``op.CreateCollection``, where that is a name."""
    for tree in _trees(settings):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                first = node.args[0]
                if node.func.attr == "CreateCollection" and isinstance(first, ast.Constant):
                    name = str(first.value)
                    if not set("*?[") & set(name):
                        yield name
