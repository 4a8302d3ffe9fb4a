"""Every command that a text of the package names can be typed as it stands."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from tests import hints

from qmigrate.commands.doctor import _onwards
from qmigrate.commands.rollback import _hints_as_typed
from qmigrate.errors import CollectionsFailedError, RefusedError

FILES = sorted(file for file in hints.SOURCE.rglob("*.py") if "qmigrate " in file.read_text(encoding="utf-8"))
#: Sentences that name a verb, not a call of it: what follows is known only then.
NAMED = frozenset({"qmigrate fix undo", "qmigrate export show", "qmigrate adopt", "qmigrate verify"})
#: Filled in with the target that was typed, before it is shown: see below.
OPEN = re.compile(r"qmigrate rollback …( --only 1 --(discard-writes|carry-writes|without-files))?")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(hints.SOURCE).as_posix())
def test_commands_parse(file):
    """The command line's own parser takes them: verbs, options, their values, and how many arguments there are."""
    wrong = {}
    for line, text in hints.texts(file):
        for command in hints.commands(text):
            if command in NAMED or OPEN.fullmatch(command) or command == "qmigrate completion 1":
                continue
            with contextlib.redirect_stdout(io.StringIO()):
                problem = hints.problem(command)
            if problem:
                wrong[line] = f"{command}: {problem}"
    assert wrong == {}


#: Where these are said of all collections: the names of verbs, and commands that are exact for what was just done.
WIDE = frozenset({"cli/app.py", "cli/help.py", "commands/rollback.py", "commands/upgrade.py"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(hints.SOURCE).as_posix())
def test_what_takes_something_away_names_of_what(file):
    """Typed as it is said, none ends the runs, deletes the generations or goes back of collections that it isn't about."""
    if file.relative_to(hints.SOURCE).as_posix() in WIDE:
        return
    found = [command for _, text in hints.texts(file) for command in hints.commands(text) if is_wide(command)]
    assert found == []


def is_wide(command: str) -> bool:
    """Whether it is about every collection, and ends, deletes or goes back."""
    _, verb, *words = command.split()
    named = bool(words) and not words[0].startswith("-")
    if verb == "rollback":
        return not {"--only", "…"} & set(words)
    return not named and (verb == "abort" or (verb == "gc" and bool({"--yes", "--now", "--discard-writes"} & set(words))))


def test_the_collector_finds_what_there_is():
    """It is not blind: some hundred commands, in most rooms, and it refuses what can't be typed."""
    found = {(file, command) for file in FILES for _, text in hints.texts(file) for command in hints.commands(text)}
    assert len(found) > 250
    assert len({file.parent for file, _ in found}) > 20
    for command in ("qmigrate upgarde", "qmigrate repair --acept 1", "qmigrate gc --generation", "qmigrate plan … --only x"):
        assert hints.problem(command)
    assert all(map(is_wide, ("qmigrate abort", "qmigrate gc --now --yes", "qmigrate rollback base --discard-writes")))
    assert list(hints.commands("see: qmigrate status shows it; or qmigrate rollback -1 --only 'a b', then (qmigrate gc)")) == [
        "qmigrate status",
        "qmigrate rollback -1 --only 'a b'",
        "qmigrate gc",
    ]


@pytest.mark.parametrize(
    ("target", "words"), [("-1", "qmigrate rollback"), ("0002", "qmigrate rollback 0002"), ("-2", "qmigrate rollback -2")]
)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_the_target_of_a_rollback_is_the_one_that_was_typed(target, words, several):
    """What refuses a rollback deep below knows no target; its hint has it all the same."""
    error = RefusedError("no", hint="qmigrate rollback … --only c --discard-writes loses it")
    raised = CollectionsFailedError({"c": error}, None) if several else error
    with pytest.raises(RefusedError if not several else CollectionsFailedError) as caught, _hints_as_typed(target):
        raise raised
    assert caught.value.hint == f"{words} --only c --discard-writes loses it"
    if several:
        assert caught.value.facts["failed"][0]["hint"] == caught.value.hint


def test_doctor_does_not_send_its_reader_to_doctor():
    """Each hint that any verb may give is shown by doctor as well; there it points to the report itself."""
    shown = [text for file in FILES for _, text in hints.texts(file) if "qmigrate doctor shows" in text]
    assert len(shown) > 5
    assert [one for one in shown if "qmigrate doctor" in str(_onwards(one))] == []
    assert _onwards("right? qmigrate doctor shows both; else: qmigrate gc") == "right? this report shows both; else: qmigrate gc"
    assert _onwards("repair them, then: qmigrate doctor") == "repair them, then: qmigrate doctor"
