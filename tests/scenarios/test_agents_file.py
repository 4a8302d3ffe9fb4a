"""init --agents: the rules for assistants, in a file of their own or in one that is there."""

from __future__ import annotations

import re

import pytest
from tests.scenarios.cli import call

from qmigrate.cli.consent import CONSENTS
from qmigrate.errors import QmigrateError
from qmigrate.settings.load import Settings


def rules(tmp_path) -> str:
    """What a new project gets."""
    done = call(tmp_path, "init", "--agents")
    assert (done.code, done.err) == (0, ""), done.text
    assert done.out == "wrote AGENTS.md: read it, then commit it\n"
    return (tmp_path / "AGENTS.md").read_text()


def test_the_rules_name_every_consent_and_the_folder(tmp_path):
    """They are about this project, and about each option that needs a person."""
    (tmp_path / "qmigrate.yaml").write_text("scripts: db/vectors\nledger: {url: 'sqlite:///l.db'}\n")
    text = rules(tmp_path)
    assert "`db/vectors/versions/`" in text
    assert all(f"`{option}`" in text for option in CONSENTS.values())
    assert "--requested-by" in text
    assert "${" not in text
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".md"] == ["AGENTS.md"]


def test_the_rules_have_every_exit_code(tmp_path):
    """An assistant acts by the code, so none is missing."""
    text = rules(tmp_path)
    line = next(one for one in text.splitlines() if one.startswith("Exit codes"))
    named = {int(code) for code in re.findall(r"(?:^|[ ,])(\d+) ", line)}
    codes: set[int] = set()

    def walk(kind: type[QmigrateError]) -> None:
        codes.add(kind.exit_code)
        for one in kind.__subclasses__():
            walk(one)

    walk(QmigrateError)
    assert codes - {1, 129, 130, 143} <= named


@pytest.mark.parametrize("before", ["# Ours\n\nBe kind.\n", "\n", "without a line feed"], ids=["text", "blank", "open line"])
def test_what_is_there_stays(tmp_path, before):
    """The part is put behind it once; a newer one takes its place, wherever it stands by then."""
    whole = rules(tmp_path)
    file = tmp_path / "AGENTS.md"
    file.write_text(before)
    assert rules(tmp_path) == (f"{before.rstrip()}\n\n{whole}" if before.strip() else whole)
    same = call(tmp_path, "init", "--agents")
    assert (same.code, same.out) == (0, "AGENTS.md has these rules already.\n")
    assert call(tmp_path, "init", "--agents", "--json").json["data"]["created"] == []
    file.write_text(f"{before}\n{whole.replace('**Read first.**', 'old')}behind\n")
    assert rules(tmp_path) == f"{before}\n{whole}behind\n"


def test_a_part_without_an_end_is_refused(tmp_path):
    """What follows may be the user's: nothing is changed."""
    text = rules(tmp_path).replace("<!-- qmigrate: end -->", "")
    (tmp_path / "AGENTS.md").write_text(text)
    said = call(tmp_path, "init", "--agents")
    assert (said.code, "none with '<!-- qmigrate: end -->'" in said.err) == (2, True), said.text
    assert (tmp_path / "AGENTS.md").read_text() == text


def test_a_file_of_another_kind_is_refused(tmp_path):
    """Bytes that can't be read as a text are not replaced."""
    (tmp_path / "AGENTS.md").write_bytes(b"\xff\xfe\x00")
    said = call(tmp_path, "init", "--agents")
    assert (said.code, "AGENTS.md can't be read" in said.err) == (2, True), said.text
    assert (tmp_path / "AGENTS.md").read_bytes() == b"\xff\xfe\x00"


def test_it_makes_nothing_else_and_needs_no_new_project(tmp_path):
    """Before `init` and after it; `init` itself writes no such file."""
    rules(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["AGENTS.md"]
    assert call(tmp_path, "init").code == 0
    assert Settings.load(config=tmp_path / "qmigrate.yaml", environ={}).scripts.is_dir()
    assert call(tmp_path, "init", "--agents").out == "AGENTS.md has these rules already.\n"
