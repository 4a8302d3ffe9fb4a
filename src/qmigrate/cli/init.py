"""init and revision: the files of a project."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from qmigrate.cli.shell import Shell, with_shell
from qmigrate.errors import QmigrateError, StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmigrate.commands.init import Answers

#: Type of embedder -> what is asked for besides: key, question, default; without one it has to be answered.
_EMBEDDERS: Mapping[str, tuple[tuple[str, str, str | None], ...]] = {
    "hashing": (("size", "Values of a vector", "256"),),
    "pixels": (("size", "Values of a vector", "512"),),
    "callable": (("function", "Your function, as module:function", None),),
    "http": (
        ("url", "URL of the server", None),
        ("model", "Name of the model", None),
        ("api_key_env", "Environment variable that holds its API key; Enter for none", ""),
    ),
    "open_clip": (("model", "Model", "ViT-B-32"), ("pretrained", "Weights", "laion2b_s34b_b79k")),
    "sentence_transformers": (("model", "Model", "sentence-transformers/all-MiniLM-L6-v2"),),
}
#: What the answers are about.
_TYPED = ("QMIGRATE_QDRANT_URL", "QMIGRATE_QDRANT_GRPC_PORT", "QMIGRATE_QDRANT_GRPC_HOST", "QMIGRATE_LEDGER_URL")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@click.command()
@click.option("--agents", is_flag=True, help="Write the rules for AI assistants into AGENTS.md, and nothing else.")
@click.option("--guided", is_flag=True, help="Ask for Qdrant, SQL and an embedder, and try each.")
@with_shell
def init(shell: Shell, agents: bool, guided: bool) -> None:
    """Write what is missing of qmigrate.yaml, the folder of the revisions and .gitignore; nothing is overwritten."""
    import qmigrate.commands.init as command
    from qmigrate.cli.results import show_agents, show_init

    settings = shell.settings(stores=False)
    if agents:
        shell.show(command.agents(settings), show_agents)
        return
    answers = None
    if guided:
        if not shell.may_ask:
            why = "--json was given" if shell.options.json else "stdin is not a terminal"
            raise UsageError(f"init --guided asks questions, and {why}", hint="qmigrate init")
        command.check_new(settings)
        answers = _asked(shell)
    shell.show(command.init(settings, answers), show_init)


def _asked(shell: Shell) -> Answers:
    from qmigrate.commands.init import Answers

    qdrant = _until_it_works(shell, _ask_qdrant, lambda found: _try_qdrant(shell, found))
    ledger = _until_it_works(shell, _ask_ledger, lambda found: _try_ledger(qdrant, found))
    embedders = _until_it_works(shell, _ask_embedder, _try_embedder)
    return Answers(qdrant=qdrant, ledger=ledger, embedders=embedders)


def _until_it_works(
    shell: Shell, ask: Callable[[Shell], dict[str, Any]], attempt: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """Ask, try, and ask again, until it works or is to be written as it is."""
    from qmigrate.cli.layout import Text

    console = shell.console(stderr=True)
    while True:
        found = ask(shell)
        try:
            console.print(Text.assemble(("ok", "green"), f"  {attempt(found)}"))
        except QmigrateError as error:
            console.print(Text.assemble(("error:", "bold red"), " ", error.message))
            for line in (error.hint or "").splitlines():
                console.print(f"  → {line}")
            if not isinstance(error, UsageError) and shell.confirm("Write it all the same?"):
                return found
        else:
            return found


def _ask_qdrant(shell: Shell) -> dict[str, Any]:
    url = shell.ask("Qdrant: URL of a server; Enter for its local mode, in .qmigrate/qdrant")
    if not url:
        return {}
    key = shell.ask("Environment variable that holds its API key; Enter for none")
    return {"url": url} | ({"api_key_env": key} if key else {})


def _environ() -> dict[str, str]:
    """The environment without what would win over the answers: they are to be tried as they are written."""
    return {name: one for name, one in os.environ.items() if name not in _TYPED}


def _try_qdrant(shell: Shell, found: dict[str, Any]) -> str:
    """What answers there; a port for points that doesn't is asked for, and becomes part of what was `found`."""
    import qmigrate.commands.init as command
    from qmigrate.cli.layout import Text
    from qmigrate.settings.load import Settings

    def as_typed() -> Settings:
        return Settings.load(content={"qdrant": found}, stores=False, environ=_environ())

    if not found:
        return "local mode: nothing to try"
    answers = f"{command.try_qdrant(as_typed())} answers"
    while True:
        try:
            return f"{answers}; points go to {command.try_points(as_typed())}"
        except StoreError as error:
            shell.console(stderr=True).print(Text(f"{answers}, but its port for points doesn't: {error.message}"))
        port = shell.ask("Its gRPC port; Enter to have points go over REST, too")
        found |= {"grpc_port": int(port) if port.isdigit() else port} if port else {"prefer_rest": True}


def _ask_ledger(shell: Shell) -> dict[str, Any]:
    said = shell.ask(
        "Ledger, where qmigrate records what it did: a SQLAlchemy URL, or the environment variable that holds one; "
        "Enter for a file, .qmigrate/ledger.db"
    )
    if not said:
        return {}
    return {"url_env": said} if _VARIABLE.fullmatch(said) else {"url": said}


def _try_ledger(qdrant: dict[str, Any], found: dict[str, Any]) -> str:
    import qmigrate.commands.init as command
    from qmigrate.settings.load import Settings
    from qmigrate.settings.values import redact

    url = str(found.get("url", ""))
    if redact(url) != url:
        raise UsageError(
            "a password doesn't belong in a file of the project",
            hint="put the URL into an environment variable, and name that here",
        )
    content = {"qdrant": qdrant} | ({"ledger": found} if found else {})
    settings = Settings.load(content={name: one for name, one in content.items() if one}, environ=_environ())
    return f"{command.try_ledger(settings)} can be used" if found else "a file: nothing to try"


def _ask_embedder(shell: Shell) -> dict[str, Any]:
    kind = shell.ask("Embedder", "hashing", among=list(_EMBEDDERS))
    config: dict[str, Any] = {"type": kind}
    for key, question, default in _EMBEDDERS[kind]:
        said = shell.ask(question, default)
        if said:
            config[key] = int(said) if said.isdigit() else said
    name = shell.ask("Its name in revisions", "images" if kind in ("pixels", "open_clip") else "words")
    return {name: config}


def _try_embedder(found: dict[str, Any]) -> str:
    import qmigrate.commands.init as command
    from qmigrate.settings.load import Settings

    settings = Settings.load(content={"embedders": found}, stores=False, environ=_environ())
    return "; ".join(f"{name}: {command.try_embedder(name, one)}" for name, one in settings.embedders.items())
