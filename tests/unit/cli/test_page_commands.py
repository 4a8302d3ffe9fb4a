"""Commands that the pages of the console name: each is one that the command line has."""

import re
from pathlib import Path

import click
import pytest

import qmigrate
from qmigrate.cli.app import root

TEMPLATES = Path(qmigrate.__file__).parent / "console" / "templates"
NAMED = sorted(
    {
        tuple(found.split())
        for page in TEMPLATES.rglob("*.html")
        for found in re.findall(r"command\('qmigrate ([a-z-]+(?: [a-z-]+)*)", page.read_text(encoding="utf-8"))
    }
)


def test_pages_name_commands():
    """The templates are found, and read."""
    assert len(NAMED) > 3


@pytest.mark.parametrize("words", NAMED, ids=" ".join)
def test_a_page_names_a_verb_that_exists(words):
    """Word by word, down to a verb that can be typed as it is."""
    command: click.Command = root
    for word in words:
        if not isinstance(command, click.Group):
            break
        assert word in command.commands, f"there is no verb {word!r} for qmigrate {' '.join(words)}"
        command = command.commands[word]
    assert not isinstance(command, click.Group), f"qmigrate {' '.join(words)} needs another word"
