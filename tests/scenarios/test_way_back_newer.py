"""Going back to points of another time: what fixes have deleted since goes there too, and can be had back as it was there."""

from __future__ import annotations

import pytest
from tests.harness import CREATE, Deployment, audit, write
from tests.scenarios.cli import call

from qmigrate import op
from qmigrate.commands import fix, restore, upgrade
from qmigrate.engine.golive import golive
from qmigrate.errors import QmigrateError
from qmigrate.model.transform import Point
from qmigrate.ports import PayloadEdit

DRAFTS = {"must": [{"key": "state", "match": {"value": "draft"}}]}


@pytest.fixture
def made(tmp_path) -> Deployment:
    """Twenty points, of which the fifth was a draft when an archive was made, and is paid now."""
    found = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    found.revise("0001", CREATE)
    upgrade.upgrade(found.settings())
    found.load(20, uuids=False)
    state(found, "draft")
    assert call(found.root, "snapshot", "create", found.name, "--archive").code == 0
    state(found, "paid")
    return found


def state(made: Deployment, value: str) -> None:
    """The application writes the fifth point."""
    store = made.store()
    store.edit_payloads(made.name, [PayloadEdit([5], {"state": value})])
    store.close()


def deleted(made: Deployment) -> int:
    """What is a draft goes; the number for its undo."""
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, filter=DRAFTS, reason="r")).done
    assert done.changed == 1
    return done.log


@pytest.mark.parametrize("interrupted", [False, True])
def test_points_that_are_newer_than_what_was_deleted_are_kept(made, monkeypatch, interrupted):
    """The deletion was of the restored draft; the paid one goes with it on the way back, into a file that undoes it."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    if interrupted:
        with monkeypatch.context() as patch:
            patch.setattr(golive, "_converge", lambda step, work: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                restore.undo(made.settings(), made.name, writes="discard")
    restore.undo(made.settings(), made.name, writes="discard")
    assert 5 not in made.contents()
    row = audit(made)[0]
    assert (row.kind, row.count, row.target) == ("DELETED_AGAIN", 1, f"{made.name}__g0001")
    assert fix.undo(made.settings(), row.id).done[0].changed == 1
    assert made.contents()[5][0]["state"] == "paid"


def test_a_way_back_that_deletes_nothing_again_has_no_row(made):
    """What was deleted isn't in what it goes back to."""
    restore.restore(made.settings(), made.name, consent=True)
    store = made.store()
    write(store, made.name, [Point(99, {"state": "draft"}, {"a": [1.0] * 8})])
    store.delete(made.name, [5])
    store.close()
    log = deleted(made)
    restore.undo(made.settings(), made.name, writes="discard")
    assert (audit(made)[0].id, made.contents()[5][0]["state"]) == (log, "paid")


def test_the_same_holds_for_a_reset(made):
    """After a reset another point got the id and was deleted; the one of before the reset is kept in a file, too."""
    said = ["fix", "reset", made.name, "--reason", "r", "--yes", "--expect", "20", "--confirm", "DELETE ALL VECTORS"]
    assert call(made.root, *said).code == 0
    reset = audit(made)[0].id
    store = made.store()
    write(store, made.name, [Point(5, {"state": "draft"}, {"a": [1.0] * 8}), Point(6, {}, {"a": [1.0] * 8})])
    store.close()
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, filter=DRAFTS, reason="r", max_share=1.0)).done
    assert done.changed == 1
    fix.undo(made.settings(), reset, overwrite=True)
    row = audit(made)[0]
    assert (row.kind, len(made.contents()), 5 in made.contents()) == ("UNDO", 19, False)
    with pytest.raises(QmigrateError, match="taken back already"):
        fix.undo(made.settings(), reset)
    assert fix.undo(made.settings(), row.id).done[0].changed == 1
    assert made.contents()[5][0]["state"] == "paid"
