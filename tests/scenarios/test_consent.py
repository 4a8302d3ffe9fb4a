"""Who may agree to what can't be undone: a person, a script of theirs, never an assistant by itself."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from sqlalchemy import create_engine, select
from tests.harness import CREATE, INDEX, audit
from tests.scenarios.cli import VERBS, call

from qmigrate.cli import consent
from qmigrate.cli.app import root
from qmigrate.commands import upgrade
from qmigrate.errors import ConfigError
from qmigrate.ledger import tables

ASKED = "Kim Lee: ticket 17, a closed account"
DELETE = ("fix", "delete", "docs", "--reason", "why", "--yes", "--max-share", "1")

@pytest.fixture
def qdrant_config(tmp_path):
    """Local mode alone: the store has no part in it."""
    return {"path": str(tmp_path / "qdrant")}


@pytest.fixture
def made(deployment):
    """Twelve points under one revision."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    return deployment


def delete(made, *more: str, point: int = 1) -> tuple[str, ...]:
    """Deletes one point, with a consent."""
    return tuple(made.name if word == "docs" else word for word in (*DELETE, "--id", str(point), *more))


@pytest.mark.parametrize("variable", sorted(consent.AGENTS))
def test_every_assistant_is_recognised_by_its_own_variable(variable):
    """Its variable is enough; a value that says no is none, and neither is one that people have set as well."""
    name = consent.agent({variable: "some-agent"})
    assert name == (consent.AGENTS[variable] or "some-agent")
    for off in ("", " ", "0", "false", "No", "off"):
        assert consent.agent({variable: off}) is None
    assert consent.agent({"CURSOR_TRACE_ID": "1", "REPL_ID": "1", "CI": "true", "TERM_PROGRAM": "vscode"}) is None


def test_the_guide_lists_what_is_detected():
    """docs/agents.md has each variable with its name, and no other."""
    text = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| (.*) \|$", text, re.MULTILINE)
    listed = {one: name.strip("`") for variables, name in rows for one in re.findall(r"`([A-Z_]+)`", variables)}
    assert listed.pop("AI_AGENT").startswith("its value")
    assert listed == {name: agent for name, agent in consent.AGENTS.items() if agent}


def test_a_name_of_an_assistant_steers_no_terminal():
    """The value of a variable is shown in a message: control characters never are."""
    assert consent.agent({"AI_AGENT": "a\x1b[2Jb"}) == "an assistant"
    assert len(consent.agent({"AI_AGENT": "a" * 500}) or "") == 60


def consents() -> list[str]:
    """Every verb that has an option of `CONSENTS`, as its words."""
    found: list[str] = []

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))
        if any(one.name in consent.CONSENTS for one in command.params):
            found.append(".".join(words))

    walk(root, ())
    return sorted(found)


def test_the_table_has_every_option_that_agrees():
    """An option whose help says that nothing is asked, or that something is discarded, is a consent."""
    said: set[tuple[str, str]] = set()

    def walk(command: click.Command) -> None:
        for inner in getattr(command, "commands", {}).values():
            walk(inner)
        for one in command.params:
            words = (getattr(one, "help", None) or "").lower()
            if any(mark in words for mark in ("don't ask", "discard what", "written to after it was replaced")):
                said.add((str(one.name), one.opts[0]))

    walk(root)
    assert {name for name, _ in said} == set(consent.CONSENTS)
    assert all(consent.CONSENTS[name] == option for name, option in said)


#: What each verb needs besides its row in VERBS so that it carries a consent.
MORE = {
    "fix.orphans": ("fix", "orphans", "c", "--sql", "SELECT 1 AS id", "--yes", "--expect", "1"),
    "gc": ("gc", "--yes"),
    "repair": ("repair", "--unlock", "c", "--yes"),
    "rollback": ("rollback", "--discard-writes"),
}


@pytest.mark.parametrize("verb", consents())
def test_no_verb_takes_the_consent_of_an_assistant(made, verb):
    """Each refuses with 10 before it opens a store, says who runs it, and how to go on; a person's name is accepted."""
    words = MORE.get(verb, VERBS.get(verb))
    assert words is not None
    assert any(option in words for option in consent.CONSENTS.values())
    said = call(made.root, *words, env={"CLAUDECODE": "1"})
    assert said.code == 10, said.text
    assert "run by an assistant (claude-code), whose own consent doesn't count" in said.err
    again = "".join(line.strip() + " " for line in said.err.splitlines() if line.startswith("  "))
    assert again.strip().endswith(f'then: qmigrate {shlex.join(words)} --requested-by "their name: their reason"')
    assert "Nothing was changed. (10)" in said.err
    named = call(made.root, *words, "--requested-by", ASKED, env={"CLAUDECODE": "1"})
    assert "own consent" not in named.text


def test_the_request_is_recorded(made):
    """The audit and the run have who asked, why, and which assistant passed it on."""
    refused = call(made.root, *delete(made, "--json"), env={"GEMINI_CLI": "1"})
    assert refused.json["error"]["facts"] == {"consent": "unnamed", "agent": "gemini-cli"}
    assert refused.json["error"]["exit_code"] == refused.code == 10
    assert audit(made) == []
    done = call(made.root, *delete(made), env={"GEMINI_CLI": "1", consent.VARIABLE: f"  {ASKED} "})
    assert done.code == 0, done.text
    shown = call(made.root, "history", "--deletions", "--json").json["data"]["rows"]
    assert shown[0]["metadata"] == {"requested_by": ASKED, "agent": "gemini-cli"}
    engine = create_engine(made.settings().ledger.url)
    with engine.connect() as connection:
        kept = list(connection.scalars(select(tables.runs.c.metadata).where(tables.runs.c.metadata.is_not(None))))
    engine.dispose()
    assert kept == [{"requested_by": ASKED, "agent": "gemini-cli"}]


def test_scripts_of_people_go_on_as_they_did(made):
    """Without a terminal --yes is enough, unless fixes.consent: named asks every script for a name."""
    assert call(made.root, *delete(made)).code == 0
    config = made.root / "qmigrate.yaml"
    config.write_text(config.read_text() + "\nfixes: {consent: named}\n")
    said = call(made.root, *delete(made))
    assert said.code == 10, said.text
    assert "with fixes.consent: named a command without a terminal has to say who asked for it" in said.err
    assert call(made.root, *delete(made, "--requested-by", ASKED, point=2)).code == 0
    assert call(made.root, *delete(made, "--dry-run", point=3)).code == 0
    wrong = config.read_text().replace("consent: named", "consent: other")
    config.write_text(wrong)
    said = call(made.root, *delete(made))
    assert (said.code, "fixes.consent" in said.err) == (2, True)


def test_looking_needs_nobody(made):
    """A dry run, a plan and a status are what an assistant is for."""
    env = {"CURSOR_AGENT": "1"}
    for words in (delete(made, "--dry-run"), ("plan",), ("status",), ("gc", "--dry-run"), ("history",)):
        assert call(made.root, *words, env=env).code == 0, words


@pytest.mark.parametrize("said", ["", "Kim", "Kim:", ": why", " : ", "a\nb: c", "x" * 300 + ": y"])
def test_a_request_without_a_person_or_a_reason_is_refused(made, said):
    """Exit 2 for what has no name, no reason, or control characters; nothing is recorded."""
    answer = call(made.root, *delete(made, "--requested-by", said), env={"CLAUDECODE": "1"})
    assert (answer.code, "NAME: WHY" in answer.err) == (2, True), answer.text
    assert audit(made) == []
    if said:
        with pytest.raises(ConfigError, match="who asked"):
            _ = consent.Request(said).person


def test_a_terminal_in_the_hands_of_an_assistant_answers_for_no_user(made, monkeypatch):
    """Where a question would be asked, an assistant is refused as without a terminal; with a person named it is asked."""
    from qmigrate.cli import shell

    monkeypatch.setattr(shell.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    asked: list[str] = []
    monkeypatch.setattr(shell.click, "confirm", lambda question, **_: asked.append(question) or True)
    words = tuple(word for word in delete(made) if word != "--yes")
    said = call(made.root, *words, env={"CLAUDECODE": "1"})
    assert (said.code, asked) == (10, []), said.text
    assert call(made.root, *words, "--requested-by", ASKED, env={"CLAUDECODE": "1"}).code == 0
    assert len(asked) == 1
    # A person at a terminal gives a consent by being there, whatever the setting says.
    config = made.root / "qmigrate.yaml"
    config.write_text(config.read_text() + "\nfixes: {consent: named}\n")
    assert call(made.root, *delete(made, point=2)).code == 0


def test_an_upgrade_without_a_way_back_needs_a_person(made):
    """Of a revision that declares it, the words are shown; other revisions are applied as ever."""
    made.revise("0002", INDEX)
    env = {"OPENCODE": "1"}
    assert call(made.root, "upgrade", env=env).code == 0
    why = "the months are lost"
    made.revise("0003", f'irreversible = "{why}"\n\n' + INDEX.replace('"kind"', '"month"'))
    for words in (("upgrade",), ("upgrade", "--plan", "plan.json")):
        call(made.root, "plan", "--out", "plan.json", env=env)
        said = call(made.root, *words, env=env)
        assert said.code == 10, said.text
        assert f"revision 0003 has no way back ({why}), and this is run by an assistant (opencode)" in said.err
    assert call(made.root, "upgrade", "--dry-run", env=env).code == 0
    assert made.row().revision == "0002"
    assert call(made.root, "upgrade", "--requested-by", ASKED, env=env).code == 0
