"""The verbs for programs: all that the command line has is in `qmigrate.commands`, callable, typed, and loaded late."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import click
import pytest

from qmigrate import commands
from qmigrate.cli.app import root
from qmigrate.commands.status import status
from qmigrate.errors import ConfigError
from qmigrate.settings.load import Settings

#: Verbs of the command line that are another one of Python: they make an operation of their options.
OTHERS = {
    "fix_sync": "fix",
    "fix_delete": "fix",
    "fix_orphans": "fix",
    "repair": "repair_unlock",
    "edit": "show",
    "completion": None,
    "serve": None,
}


def verbs(command=root, words=()):
    """The words of every command that has none below it, and is no other word for one."""
    if isinstance(command, click.Group):
        for name, below in sorted(command.commands.items()):
            if not below.hidden:
                yield from verbs(below, (*words, name))
    else:
        yield "_".join(words)


@pytest.mark.parametrize("verb", list(verbs()))
def test_each_verb_of_the_command_line_is_a_function(verb):
    """It is there under the words that are typed, and its settings may be left to the default."""
    name = OTHERS.get(verb, verb.replace("-", "_"))
    if name is None:
        return
    found = getattr(commands, name)
    assert callable(found)
    first = next(iter(inspect.signature(found).parameters.values()))
    assert (first.name, first.annotation) == ("settings", "Settings | None")


@pytest.mark.parametrize("name", [one for one in commands.__all__ if one != "Settings"])
def test_settings_may_be_left_out_wherever_nothing_has_to_follow(name):
    """Only where something must be named, as a revision, None stands for the settings."""
    first, *others = inspect.signature(getattr(commands, name)).parameters.values()
    must = any(
        one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL) for one in others
    )
    assert (first.default is None) == (not must)


def test_the_list_is_sorted_and_what_a_console_offers():
    """`dir` has the verbs and nothing of how they are made."""
    assert dir(commands) == commands.__all__ == sorted(commands.__all__)


def test_a_verb_that_is_misspelt():
    """The error names the one that was probably meant."""
    with pytest.raises(AttributeError, match="qmigrate.commands has no verb 'upgrad'; did you mean \"upgrade\"\\?"):
        commands.upgrad  # noqa: B018


def test_a_module_that_is_no_verb_is_not_called():
    """Modules without a function of their name say so."""
    import qmigrate.commands.names as names

    with pytest.raises(TypeError, match="is a module, and no verb"):
        names()
    with pytest.raises(ValueError, match="is a module, and no verb"):
        inspect.signature(names)


ORDERS = {
    "the verb alone": "from qmigrate import commands",
    "a module before": "import qmigrate.commands.upgrade\nfrom qmigrate import commands",
    "its function before": "from qmigrate.commands.status import status\nfrom qmigrate import commands",
    "a module as attribute": "from qmigrate.commands import status, upgrade\nassert status.status and upgrade.plan\nfrom qmigrate import commands",
}


@pytest.mark.parametrize("before", ORDERS.values(), ids=ORDERS.keys())
def test_a_verb_can_be_called_whatever_was_imported_first(tmp_path, before):
    """A verb that has the name of its module is that module, and callable; the settings are found where it runs."""
    code = (
        f"{before}\nfrom dataclasses import asdict\nimport json\n"
        "commands.init()\n"
        "print(json.dumps([commands.status().pending, commands.plan().collections == (), commands.history().rows == (),"
        " commands.status(commands.Settings.load()).ledger.endswith('/.qmigrate/ledger.db'), len(commands.upgrade().outcomes)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, True, True, True, 0]


def test_importing_loads_no_verb():
    """Neither SQL nor a client is loaded before a verb is used."""
    code = "import sys, qmigrate.commands; print(*{name.split('.')[0] for name in sys.modules}, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded.isdisjoint({"sqlalchemy", "qdrant_client", "numpy", "httpx", "click", "rich", "yaml"})
    assert [name for name in loaded if name.startswith("qmigrate.commands.")] == []


def test_the_settings_are_those_of_the_folder(tmp_path, monkeypatch):
    """Without an argument the file of the current folder is read; what is wrong in it is refused."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qmigrate.yaml").write_text("rebiuld: {}")
    with pytest.raises(ConfigError, match="rebiuld"):
        commands.status()
    (tmp_path / "qmigrate.yaml").write_text("qdrant: {path: q}\nledger: {url: 'sqlite:///elsewhere.db'}\n")
    assert commands.status().ledger.endswith("/elsewhere.db")
    assert commands.status(Settings.load()) == status()


def test_help_shows_what_a_verb_takes():
    """`inspect.signature` is that of the function, also where the name is a module's."""
    assert list(inspect.signature(commands.upgrade).parameters)[:2] == ["settings", "target"]
