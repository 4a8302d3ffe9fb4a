"""A user's own function as an embedder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qmigrate.commands.workers.settings_json import to_json
from qmigrate.embed import fingerprint_digest, load
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import EmbedError, UnavailableError
from qmigrate.settings.load import Settings

MODULE = """
from qmigrate.errors import UnavailableError

def lengths(items):
    return [[float(len(item)), 1.0] for item in items]

class Model:
    @staticmethod
    def encode(items):
        return lengths(items)

def picky(items):
    if "bad" in items:
        raise KeyError("no such word")
    return lengths(items)

def nothing(items):
    return None

def down(items):
    raise UnavailableError("the model server is down")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module that can be imported under the returned name."""
    name = f"user_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("attribute", ["lengths", "Model.encode"])
def test_a_function_is_called_with_a_list(module: str, attribute: str) -> None:
    """Functions and methods of classes both work, by their dotted name."""
    embedder = load("own", {"type": "callable", "function": f"{module}:{attribute}", "size": 2})
    assert [row.tolist() for row in embed_all(embedder, ["a", "bbb"], size=2)] == [[1.0, 1.0], [3.0, 1.0]]


def test_max_batch_is_kept(module: str) -> None:
    """A function that can't take many items has that in the settings."""
    embedder = load("own", {"type": "callable", "function": f"{module}:lengths", "max_batch": 3})
    assert embedder.max_batch == 3


def test_a_raised_error_is_that_of_its_item(module: str) -> None:
    """Whatever the function raises becomes a failure that shows function, item and cause."""
    embedder = load("own", {"type": "callable", "function": f"{module}:picky"})
    made = embed_all(embedder, ["good", "bad", "fine"], size=2)
    assert isinstance(made[0], np.ndarray)
    assert isinstance(made[1], Failure)
    for part in (f"{module}:picky", "'bad'", "KeyError", "no such word"):
        assert part in made[1].message


def test_an_outage_passes_through(module: str) -> None:
    """A function that reports an outage with the package's own error stops the run."""
    with pytest.raises(UnavailableError):
        load("own", {"type": "callable", "function": f"{module}:down"}).embed(["a"])


def test_a_result_without_length_is_refused(module: str) -> None:
    """Returning nothing is an error, not an empty page."""
    with pytest.raises(EmbedError, match="NoneType"):
        load("own", {"type": "callable", "function": f"{module}:nothing"}).embed(["a"])


def test_a_module_that_fails_on_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause inside the user's module is shown, not only that it can't be imported."""
    (tmp_path / "user_broken.py").write_text("1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EmbedError, match="ZeroDivisionError"):
        load("own", {"type": "callable", "function": "user_broken:f"})


def test_changed_source_is_another_model_unless_a_version_says_otherwise(module: str) -> None:
    """Without a version the source decides; with one, only the version does."""
    plain = load("own", {"type": "callable", "function": f"{module}:lengths"}).fingerprint()
    versioned = load(
        "own", {"type": "callable", "function": f"{module}:lengths", "version": "7"}
    ).fingerprint()
    assert plain["source"]
    assert "source" not in versioned
    assert fingerprint_digest(plain) != fingerprint_digest(versioned)


PROJECT = """
from pathlib import Path
from qmigrate.embed import load
from qmigrate.settings.load import Settings
settings = Settings.load({arguments}environ={{}}, stores=False)
config = settings.embedders["own"]
"""
HELPER = """
import json, sys
from qmigrate.commands.workers.settings_json import from_json
from qmigrate.embed import load
print(load("own", from_json(json.load(sys.stdin)).embedders["own"]).embed(["four"])[0][0])
"""
ASKED = PROJECT + "print(load('own', config).embed(['four'])[0][0])"


@pytest.mark.parametrize(
    ("place", "written", "found"),
    [
        ("", "", True),
        ("src", "sys_path: [src]", True),
        ("src/deep", "sys_path: [elsewhere, src/deep]", True),
        ("src", "", False),
        ("", "sys_path: []", False),
        ("", "sys_path: [src]", False),
    ],
)
@pytest.mark.parametrize("helper", [False, True], ids=["here", "in a helper"])
def test_the_function_is_next_to_the_settings(tmp_path: Path, place: str, written: str, found: bool, helper: bool) -> None:
    """Wherever the command is started: the folder of the settings, or those that they name, and in helpers as well."""
    (tmp_path / "project" / place).mkdir(parents=True)
    (tmp_path / "project" / place / "models_of_project.py").write_text(MODULE)
    config = tmp_path / "project" / "qmigrate.yaml"
    config.write_text(f"embedders: {{own: {{type: callable, function: 'models_of_project:lengths', {written}}}}}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code, given = ASKED.format(arguments=f"config={str(config)!r}, "), ""
    if helper:
        given = json.dumps(to_json(Settings.load(config=config, environ={}, stores=False)))
        code = HELPER
    # As helpers are started: nothing of the current folder is run.
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=elsewhere, input=given, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), "No module named 'models_of_project'" in done.stderr) == (
        ("4.0", False) if found else ("", True)
    ), done.stderr


def test_the_current_folder_is_not_searched_without_settings(tmp_path: Path) -> None:
    """A module that happens to lie where the command is started is not run; with a settings file there it is."""
    (tmp_path / "models_of_project.py").write_text(MODULE)
    code = ASKED.format(arguments="").replace(
        'settings.embedders["own"]',
        "{'type': 'callable', 'function': 'models_of_project:lengths', **settings.embedders.get('own', {})}",
    )
    for written, printed in (("", ""), ("embedders: {own: {type: callable}}\n", "4.0")):
        if written:
            (tmp_path / "qmigrate.yaml").write_text(written)
        done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == printed, done.stderr
