"""repair --accept: words may change as they like, another meaning needs more than a reason, and all of it is recorded."""

from __future__ import annotations

import pytest
from tests.harness import CREATE, INDEX, Deployment
from tests.scenarios.cli import call

from qmigrate.commands import repair, status, upgrade
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger

SECOND = '''
def half(value):
    """Half of it."""
    return value / 2


def pair(point):
    # Two numbers.
    return [half(point.payload["n"]), 1.0]


def upgrade():
    """What it does."""
    return [
        op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text")),
        op.AddVector("{name}", "p", VectorParams(size=2, distance=Distance.DOT), values=Compute(pair)),
    ]


def downgrade():
    return [op.DropVector("{name}", "b", cutover="immediate"), op.DropVector("{name}", "p", cutover="immediate")]
'''



def named(text: str) -> str:
    """The collection that a file is about."""
    return text.split('AddVector("')[1].split('"')[0]


WORDS = {
    "a comment": lambda text: text + "\n# an afterthought\n",
    "a docstring": lambda text: text.replace("Half of it.", "The half of a value.").replace("What it does.", "More."),
    "the first line": lambda text: text.replace('"""revision 0002"""', '"""Vectors for texts"""'),
    "layout": lambda text: text.replace("values=Embed(", "\n            values=Embed(").replace("value / 2", "(value / 2)"),
    "quotes": lambda text: text.replace('"words"', "'words'"),
    "order of keywords": lambda text: text.replace("size=16, distance=Distance.COSINE", "distance=Distance.COSINE, size=16"),
    "what is meant anyway": lambda text: text.replace('text="text")', 'text="text", on_failure=None)'),
}
MEANINGS = {
    "another field": (lambda text: text.replace('text="text"', 'text="kind"'), "kind"),
    "another size": (lambda text: text.replace("size=2", "size=3"), '"size": 3'),
    "its own code": (lambda text: text.replace("1.0]", "2.0]"), "AddVector"),
    "code that it calls": (lambda text: text.replace("value / 2", "value / 3"), "AddVector"),
    "an operation less": (lambda text: text.replace('        op.AddVector("', '        # op.AddVector("', 1), "removed"),
    "an operation more": (
        lambda text: text.replace("Compute(pair)),\n", f'Compute(pair)),\n        op.SetAlias("x", "{named(text)}"),\n'),
        "added:",
    ),
    "the way back": (lambda text: text.replace('"b", cutover="immediate"', '"b", cutover="hold"'), "downgrade"),
    "what it waits for": (lambda text: text + '\nrequires_sql = "abc"\n', "requires_sql"),
    "what it follows": (lambda text: text.replace("down_revision = '0001'", "down_revision = ('0001',)  # same")
                        + '\nirreversible = "no way"\n', "irreversible"),
}


@pytest.fixture
def made(deployment):
    """A collection at 0002, whose file holds operations, code and a way back."""
    deployment.revise("0001", CREATE)
    deployment.revise("0002", SECOND)
    upgrade.upgrade(deployment.settings())
    return deployment


def change(made: Deployment, edit) -> None:
    """Edit the applied file."""
    path = made.root / "qdrant_migrations" / "versions" / "0002_rev.py"
    after = edit(path.read_text())
    assert after != path.read_text()
    path.write_text(after)


def rows(made: Deployment) -> list:
    """What repair has recorded, newest first."""
    return [row for row in status.history(made.settings(), made.name).rows if row.direction == "repair"]


def forget(made: Deployment) -> None:
    """As an earlier qmigrate has left it: what revisions meant is not recorded."""
    ledger = Ledger.open(made.ledger_url)
    with ledger.database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM qdrant_revision_meanings")
    ledger.close()


@pytest.mark.parametrize("edit", WORDS.values(), ids=WORDS)
def test_words_are_accepted_and_said_to_be_words(made, edit):
    """Whatever Python doesn't see: accepted with a reason alone, and the history has who, why and what."""
    before = status.history(made.settings(), made.name).rows
    change(made, edit)
    assert call(made.root, "upgrade").code == 4
    result = repair.accept(made.settings(), "0002", "tidied up")
    assert (result.meaning, result.differences) == ("same", ())
    assert "only texts differ" in result.detail
    (row,) = rows(made)
    assert (row.strategy, row.revision, row.physical) == ("accept", "0002", before[0].physical)
    assert "@" in str(row.actor)
    assert row.report["reason"] == "tidied up"
    assert row.report["meaning"] == "same"
    assert row.report["old"] != row.report["new"]
    assert made.row().revision == "0002"
    assert call(made.root, "check", "--only", made.name).code == 0
    change(made, lambda text: text + "\n# once more\n")
    assert repair.accept(made.settings(), "0002", "again").meaning == "same"


@pytest.mark.parametrize(("edit", "words"), MEANINGS.values(), ids=MEANINGS)
def test_another_meaning_needs_more_than_a_reason(made, edit, words):
    """Exit 10 names what differs and the option; with it the difference stands in the history."""
    change(made, edit)
    said = call(made.root, "repair", "--accept", "0002", "--reason", "only words")
    assert said.code == 10, said.text
    assert words in said.err
    assert "--changed-meaning" in said.err
    assert call(made.root, "upgrade").code == 4, "nothing was accepted"
    said = call(made.root, "repair", "--accept", "0002", "--reason", "meant so", "--changed-meaning", "--json")
    assert said.code == 0, said.text
    assert said.json["data"]["meaning"] == "changed"
    (row,) = rows(made)
    assert row.report["meaning"] == "changed"
    assert any(words in line for line in row.report["differences"])
    assert "Nothing to do" in call(made.root, "upgrade").out


def test_what_an_earlier_qmigrate_applied_is_not_taken_for_the_same(made):
    """What it did to points is not recorded: the schemas are compared, and consent is needed either way."""
    forget(made)
    change(made, lambda text: text.replace('text="text"', 'text="kind"'))
    with pytest.raises(RefusedError, match="the same schema as before, but an earlier qmigrate"):
        repair.accept(made.settings(), "0002", "only words")
    change(made, lambda text: text.replace("size=2", "size=3"))
    with pytest.raises(RefusedError, match="another schema") as refused:
        repair.accept(made.settings(), "0002", "only words")
    assert made.name in refused.value.message
    assert repair.accept(made.settings(), "0002", "meant so", changed_meaning=True).meaning == "unknown"
    assert rows(made)[0].report["meaning"] == "unknown"


def test_what_was_applied_earlier_is_recorded_by_the_next_upgrade(made):
    """Files that are what was applied confirm it afterwards as well."""
    forget(made)
    made.revise("0003", INDEX)
    upgrade.upgrade(made.settings())
    change(made, lambda text: text + "\n# an afterthought\n")
    assert repair.accept(made.settings(), "0002", "a comment").meaning == "same"


def test_a_file_that_is_what_was_applied_is_accepted_already(made):
    """Nothing is written then."""
    assert "nothing to do" in repair.accept(made.settings(), "0002", "why").detail
    assert rows(made) == []


def test_another_broken_file_is_no_obstacle(made):
    """Only the file that is accepted is read for it; one that can't be used says so."""
    change(made, lambda text: text + "\n# an afterthought\n")
    made.revise("0003", "def (:\n", down="0002")
    assert repair.accept(made.settings(), "0002", "a comment").meaning == "same"
    said = call(made.root, "repair", "--accept", "0003", "--reason", "r")
    assert (said.code, "SyntaxError" in said.err) == (2, True)
