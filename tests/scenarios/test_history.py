"""The history tells what happened, when, to how many points, how long it took and why; with --all also what came to nothing."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE
from tests.scenarios.cli import call

from qmigrate import op
from qmigrate.commands import fix, history, rollback, status, upgrade
from qmigrate.errors import EmbedError, StoreError
from qmigrate.store.local.local import LocalStore

FIXES = """def upgrade():
    return [op.DeletePoints("{name}", ids=[3, 4], reason="why"), op.SetPayload("{name}", {{"z": 1}})]
"""


@pytest.fixture
def made(deployment):
    """A dozen points at 0001."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE, doc="texts of the archive")
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    return deployment


def test_a_row_has_its_number_title_points_reason_and_duration(made):
    """What the ledger has of it, and the first line of the file."""
    made.revise("0002", ADD, doc="and of their translations")
    upgrade.upgrade(made.settings())
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[3, 4], reason="asked for"))
    newest, second, first = status.history(made.settings(), made.name).rows
    assert newest.id > second.id > first.id
    assert (newest.direction, newest.points, newest.reason) == ("fix", 2, "asked for")
    assert (second.title, second.points, second.reason) == ("and of their translations", 12, None)
    assert first.title == "texts of the archive"
    assert all(row.seconds is not None and row.seconds >= 0 and row.state == "done" for row in (newest, second, first))
    said = call(made.root, "history", made.name, env={"TZ": "UTC", "COLUMNS": "200"})
    assert "when (UTC)" in said.out
    assert "and of their translations" in said.out


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_attempts_that_came_to_nothing_are_in_all_of_it(made, monkeypatch):
    """Refused, failed and aborted: each with its verb, why, and what it was to do."""
    made.revise("0002", ADD.replace('text="text"', 'text="nothing"'))
    with pytest.raises(EmbedError):
        upgrade.upgrade(made.settings())
    made.revise("0002", ADD, down="0001")
    with monkeypatch.context() as patched:

        def fail(*_, **__):
            raise StoreError("the disk is full")

        patched.setattr(LocalStore, "upsert", fail)
        with pytest.raises(StoreError):
            upgrade.upgrade(made.settings())
    running = status.history(made.settings(), made.name, attempts=True).rows
    rollback.abort(made.settings(), made.name)
    plain = status.history(made.settings(), made.name).rows
    assert [row.revision for row in plain] == ["0001"]
    found = status.history(made.settings(), made.name, attempts=True).rows
    assert [(row.revision, row.direction, row.state) for row in running[:2]] == [
        ("0002", "upgrade", "failed"), ("0002", "upgrade", "unchanged")
    ]  # fmt: skip
    assert "the disk is full" in str(running[0].reason)
    assert {row.state for row in found} == {"aborted", "unchanged", "done"}
    assert status.history(made.settings(), made.name, 1, attempts=True).rows == found[:1]
    assert "upgrade aborted" in call(made.root, "history", "--all").out
    assert call(made.root, "history", "--all", "--deletions").code == 2


def test_an_undo_reads_as_one(made):
    """A fix has its number there, and its undo names it; neither looks like a revision."""
    fix.fix(made.settings(), op.DeletePoints(made.name, ids=[3, 4], reason="asked for"))
    [number] = status.history(made.settings(), made.name).rows[0].fixes
    assert call(made.root, "fix", "undo", str(number), "--yes").code == 0
    newest, second, first = status.history(made.settings(), made.name).rows
    assert (newest.undoes, second.undoes, first.undoes) == (number, None, None)
    assert (second.fixes, first.fixes) == ((number,), ())
    assert newest.fixes not in ((), second.fixes)
    said = call(made.root, "history", made.name, env={"COLUMNS": "200"}).out
    assert f"undo of fix {number}" in said
    assert f"fix {number} " in said
    assert "fix, edit" not in said


def test_what_a_revision_did_to_points_is_undone_by_its_number(made):
    """`upgrade` and `rollback` print the commands as they are typed; a plan says where the number comes from."""
    made.revise("0002", FIXES)
    assert "with the number that upgrade shows" in call(made.root, "plan").out
    upgraded = call(made.root, "upgrade", "--json").json["data"]
    numbers = [row.id for row in history.deletions(made.settings()).rows]
    undo = [f"qmigrate fix undo {number}" for number in numbers]
    assert upgraded["undo"] == undo
    assert len(numbers) == 2
    dry = call(made.root, "rollback", "--dry-run").out
    said = call(made.root, "rollback").out
    for text in (dry, said):
        assert "; ".join(undo) in " ".join(text.split())
    for command in undo:
        assert call(made.root, *command.split()[1:], "--yes").code == 0, command
    assert len(made.contents()) == 12
