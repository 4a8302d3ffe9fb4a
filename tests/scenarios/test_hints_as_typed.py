"""What a verb says to type is typed: each command does what the words around it say."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.harness import ADD, CREATE, Deployment
from tests.scenarios.cli import call

from qmigrate.commands import upgrade

HELD = """
def upgrade():
    return [op.AlterVector("{name}", "a", VectorParams(size=4, distance="Dot"), values=Compute(lambda p: [1.0] * 4), cutover="hold")]
"""


@pytest.fixture
def made(tmp_path) -> Deployment:
    """One collection at its first revision, whose id is long; local mode."""
    found = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db", "docs")
    found.revise("20261201043956gnfm", CREATE)
    upgrade.upgrade(found.settings())
    found.load(5)
    return found


def test_the_beginning_of_an_id_is_an_id(made):
    """What `show` finds by the beginning of an id, `history --carried` finds, too; it says the whole id."""
    for wanted in ("20261201043956gnfm", "20261201043956", "2026"):
        said = call(made.root, "history", "--carried", wanted)
        assert (said.code, "20261201043956gnfm replaced" in said.out) == (0, True), said.text
        assert call(made.root, "show", wanted).code == 0
    made.revise("20261301", ADD, down="20261201043956gnfm")
    assert "20261301 was never applied" in call(made.root, "history", "--carried", "202613").err
    assert "several revisions begin with" in call(made.root, "history", "--carried", "2026").err


@pytest.mark.parametrize("verb", ["status", "doctor", "check", "plan"])
def test_a_name_where_none_is_taken(made, verb):
    """The hint has the name where it is taken, and can be typed."""
    said = call(made.root, verb, *(["head"] if verb == "plan" else []), "docs")
    assert said.code == 2, said.text
    assert "--help" not in said.err, said.text
    typed = re.findall(r"qmigrate [a-z]+(?: --[a-z]+)* docs", said.err)
    assert typed, said.err
    for command in typed:
        assert call(made.root, *shlex.split(command)[1:]).code in (0, 4), command


def test_a_database_that_is_not_named(made):
    """The lines to write are shown."""
    said = call(made.root, "fix", "orphans", "docs", "--sql", "SELECT id FROM docs", "--check")
    assert (said.code, "databases: {app: {url_env: DATABASE_URL}}" in said.err) == (2, True), said.text


def test_what_is_held_names_its_cut_over(made):
    """The line that says until when has the whole command."""
    made.revise("20261301", HELD, down="20261201043956gnfm")
    said = call(made.root, "upgrade")
    assert said.code == 11, said.text
    assert "until qmigrate cutover docs" in said.out, said.text
    refused = call(made.root, "cutover")
    assert refused.code == 2, refused.text
    assert "NAME...|--all" in call(made.root, "cutover", "--help").out, refused.text
    assert call(made.root, "cutover", "docs").code == 0
