"""Old rows of the deletion audit: into a file, read back, then removed; never silently, and never what is needed."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.harness import audit
from tests.scenarios.cli import call
from tests.scenarios.test_console import served, tokens  # noqa: F401  fixtures

from qmigrate import op
from qmigrate.commands import audit as archiving
from qmigrate.commands import fix, gc
from qmigrate.errors import UnavailableError, UnknownNameError
from qmigrate.ledger import Ledger


@pytest.fixture
def old(served):  # noqa: F811
    """Three deletions that left nothing to undo, two of them long ago, and a row of the application."""
    served.made.extra["fixes"] = {**served.made.extra["fixes"], "audit": "90d"}
    served.made.__post_init__()
    for number in range(3):
        wish = op.DeletePoints(served.made.name, ids=[served.ids[number]], reason="r", max_share=1, export=False)
        fix.fix(served.made.settings(), wish)
        if number == 1:
            change(served, "UPDATE vector_deletion_logs SET created_at = '2020-01-01 00:00:00'")
    change(
        served,
        "INSERT INTO vector_deletion_logs (deletion_type, deletion_target, vector_count, created_at) "
        "VALUES ('ASSET', '7', 1, '2019-01-01 00:00:00')",
    )
    return served


def change(served, sql: str, **values) -> None:  # noqa: F811
    """Something that happens to the ledger."""
    ledger = Ledger.open(served.made.ledger_url)
    with ledger.database.writing() as connection:
        connection.execute(text(sql), values)
    ledger.close()


def ids(served) -> list[int]:  # noqa: F811
    """Rows of the audit."""
    return sorted(row.id for row in audit(served.made))


def test_old_rows_go_into_a_file_and_the_audit_says_so(old):
    """Old rows go into a file that its owner alone can read, and the audit says where."""
    before = {row.id: row for row in audit(old.made)}
    done = gc.gc(old.made.settings().acting("kim"))
    found = done.audit
    path = Path(found.file)
    assert (found.rows, found.problem, path.parent) == (2, None, old.made.settings().fixes.exports / "audit")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hashlib.sha256(path.read_bytes()).hexdigest() == found.sha256
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["id"], one["deletion_target"], one["actor"]) for one in kept] == [(row.id, row.target, row.actor) for row in list(before.values())[::-1][:2]]
    assert kept[0]["metadata"]["run"] == before[kept[0]["id"]].told.run
    said = next(row for row in audit(old.made) if row.id == found.log)
    assert (said.kind, said.target, said.actor, said.facts["audit"]["rows"]) == ("AUDIT_ARCHIVED", found.file, "kim", 2)
    assert ids(old) == sorted({*before} - {one["id"] for one in kept} | {found.log}), "the application's row stays"
    assert gc.gc(old.made.settings()).audit is None


def test_it_is_said_before_and_asked_for(old):
    """A dry run says it and changes nothing; without consent nothing is archived."""
    before = ids(old)
    shown = call(old.made.root, "gc", "--dry-run")
    assert "audit: 2 rows older than" in shown.out
    refused = call(old.made.root, "gc")
    assert (refused.code, "2 rows of the audit from the ledger" in refused.err) == (10, True)
    assert ids(old) == before
    done = call(old.made.root, "gc", "--yes")
    assert (done.code, "archived to" in done.out) == (0, True)
    assert len(ids(old)) == len(before) - 1


def test_an_upgrade_archives_nothing(old):
    """What an upgrade collects by itself leaves the audit alone."""
    from qmigrate.commands import upgrade

    before = ids(old)
    upgrade.upgrade(old.made.settings())
    gc.gc(old.made.settings(), old.made.name)
    assert ids(old) == before


def test_what_is_still_needed_stays(served):  # noqa: F811
    """A deletion that can be undone, and everything behind it, stays, however old."""
    served.made.extra["fixes"] = {**served.made.extra["fixes"], "audit": "90d"}
    served.made.__post_init__()
    for number, export in ((0, True), (1, False)):
        wish = op.DeletePoints(served.made.name, ids=[served.ids[number]], reason="r", max_share=1, export=export)
        fix.fix(served.made.settings(), wish)
    change(served, "UPDATE vector_deletion_logs SET created_at = '2020-01-01 00:00:00'")
    before = ids(served)
    assert gc.review(served.made.settings()).audit is None
    assert gc.gc(served.made.settings()).audit is None
    assert ids(served) == before
    fix.undo(served.made.settings(), before[0])
    assert len(served.made.contents()) == 5


def test_a_row_that_changes_meanwhile_removes_nothing(old, monkeypatch):
    """What was written into the file is what is removed, or nothing is."""
    before, written = ids(old), archiving._written

    def changed(path, rows):
        digest = written(path, rows)
        change(old, "UPDATE vector_deletion_logs SET deletion_reason = 'other' WHERE id = :id", id=rows[0]["id"])
        return digest

    monkeypatch.setattr(archiving, "_written", changed)
    done = gc.gc(old.made.settings())
    assert "none was removed" in done.audit.problem
    assert done.exit_code == 10
    assert ids(old) == before
    assert not list((old.made.settings().fixes.exports / "audit").glob("*"))


def test_a_file_that_can_not_be_written_removes_nothing(old, monkeypatch):
    """A file that can't be written, or read back, removes nothing."""

    def full(path, rows):
        raise UnavailableError(f"{path} can't be written: no space left")

    before = ids(old)
    monkeypatch.setattr(archiving, "_written", full)
    assert "no space left" in gc.gc(old.made.settings()).audit.problem
    assert ids(old) == before


def test_a_lost_answer_to_the_commit_leaves_the_only_copy(old, monkeypatch):
    """The rows may be gone although the ledger did not answer: the file stays."""
    remove = archiving.remove_rows

    def lost(*given):
        remove(*given)
        raise UnavailableError("the connection was lost")

    before = ids(old)
    monkeypatch.setattr(archiving, "remove_rows", lost)
    found = gc.gc(old.made.settings()).audit
    kept = [json.loads(line)["id"] for line in Path(found.file).read_text().splitlines()]
    assert found.problem == "the connection was lost"
    assert len(kept) == found.rows == 2
    assert set(before) <= {*kept, *ids(old)}


def test_a_number_is_never_that_of_another_fix(served):  # noqa: F811
    """Where all rows are archived, too: who has noted a number, and undoes it, means the fix of then."""
    served.made.extra["fixes"] = {**served.made.extra["fixes"], "audit": "90d"}
    served.made.__post_init__()

    def deleted(number: int, **more) -> int:
        wish = op.DeletePoints(served.made.name, ids=[served.ids[number]], reason="r", max_share=1, **more)
        return fix.fix(served.made.settings(), wish).log

    noted = [deleted(number, export=False) for number in range(3)]
    change(served, "UPDATE vector_deletion_logs SET created_at = '2020-01-01 00:00:00'")
    # Nothing is found, so nothing is recorded; what is too old to be undone goes.
    fix.fix(served.made.settings(), op.SetPayload(served.made.name, {"seen": 1}, filter={"must": [{"has_id": [999]}]}, reason="r"))
    assert gc.gc(served.made.settings()).audit.rows == 3
    assert deleted(3) > max(noted)
    there = served.made.contents()
    for number in noted:
        with pytest.raises(UnknownNameError, match="there is no fix"):
            fix.undo(served.made.settings(), number)
    assert served.made.contents() == there
