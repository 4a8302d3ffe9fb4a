"""Going back to points of another time: what fixes have deleted since goes there too, and can be had back as it was there."""

from __future__ import annotations

from functools import partial

import pytest
from tests.harness import ADD, CREATE, Deployment, audit, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.test_alias_moved_by_hand import cut_at, lead

from qmigrate import op
from qmigrate.commands import fix, gc, restore, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine.fixes import reapply_deletions
from qmigrate.engine.golive import golive
from qmigrate.errors import OvertakenError, QmigrateError, RefusedError, RepairNeededError
from qmigrate.model.plan import GoLive
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


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_kept_is_not_forgotten_where_another_host_goes_on(made, monkeypatch, lost):
    """The file is on the host that was interrupted: without it no other host would know that it has the only copy."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    with monkeypatch.context() as patch:
        patch.setattr(golive, "_converge", lambda step, work: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.undo(made.settings(), made.name, writes="discard")
    (file,) = made.settings().fixes.exports.glob("*g0001*")
    away = file.rename(made.root / file.name)
    with pytest.raises(RepairNeededError, match="which they are in, is not here"):
        restore.undo(made.settings(), made.name, writes="discard")
    if lost:
        file.touch()
    else:
        away.rename(file)
    restore.undo(made.settings(), made.name, writes="discard")
    row = audit(made)[0]
    assert (5 in made.contents(), row.kind) == (False, "FILTER" if lost else "DELETED_AGAIN")
    if not lost:
        assert fix.undo(made.settings(), row.id).done[0].changed == 1


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
    """After a reset another point got the id and was deleted; the one from before the reset is kept in a file, too."""
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
    with pytest.raises(QmigrateError, match="undone already"):
        fix.undo(made.settings(), reset)
    assert fix.undo(made.settings(), row.id).done[0].changed == 1
    assert made.contents()[5][0]["state"] == "paid"


@pytest.mark.parametrize("how", ["restore", "reset"])
def test_a_rollback_lets_points_of_before_a_restore_or_a_reset_be(made, how):
    """What was deleted behind a later rebuild goes where a rollback leads to, and no further than its own time."""
    if how == "restore":
        restore.restore(made.settings(), made.name, consent=True)
        ways = ["snapshot", "restore", made.name, "--undo", "--discard-writes"]
    else:
        said = ["fix", "reset", made.name, "--reason", "r", "--yes", "--expect", "20", "--confirm", "DELETE ALL VECTORS"]
        assert call(made.root, *said).code == 0
        ways = ["fix", "undo", str(audit(made)[0].id), "--overwrite", "--yes"]
        store = made.store()
        write(store, made.name, [Point(5, {"state": "draft", "text": "x"}, {"a": [1.0] * 8})])
        store.close()
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, filter=DRAFTS, reason="r", max_share=1.0)).done
    assert done.changed == 1
    back.rollback(made.settings(), "0001")
    assert 5 not in made.contents()
    assert made.contents(f"{made.name}__g0001")[5][0]["state"] == "paid"
    assert call(made.root, *ways).code == 0
    assert (len(made.contents()), 5 in made.contents()) == (19, False)
    assert fix.undo(made.settings(), audit(made)[0].id).done[0].changed == 1
    assert made.contents()[5][0]["state"] == "paid"


def test_a_fix_of_before_a_reset_is_not_taken_back_in_other_points(made):
    """The application has given new points the same ids and the value that the fix had set: these keep it."""
    (done,) = fix.fix(made.settings(), op.SetPayload(made.name, {"state": "old"}, max_share=1.0)).done
    said = ["fix", "reset", made.name, "--reason", "r", "--yes", "--expect", "20", "--confirm", "DELETE ALL VECTORS"]
    assert call(made.root, *said).code == 0
    reset = audit(made)[0].id
    store = made.store()
    write(store, made.name, [Point(5, {"state": "old"}, {"a": [1.0] * 8})])
    store.close()
    with pytest.raises(RefusedError, match="are other ones"):
        fix.undo(made.settings(), done.log)
    assert made.contents()[5][0] == {"state": "old"}
    fix.undo(made.settings(), reset, overwrite=True)
    assert fix.undo(made.settings(), done.log).done[0].changed == 20
    assert made.contents()[5][0]["state"] == "paid"


def test_a_fix_is_taken_back_in_what_a_restore_has_brought(made):
    """Its points are those of the fix, as they were when the archive was made."""
    (done,) = fix.fix(made.settings(), op.SetPayload(made.name, {"state": "old"}, max_share=1.0)).done
    assert call(made.root, "snapshot", "create", made.name, "--archive").code == 0
    restore.restore(made.settings(), made.name, consent=True)
    assert fix.undo(made.settings(), done.log).done[0].changed == 20
    assert made.contents()[5][0]["state"] == "paid"


@pytest.mark.parametrize(("module", "name"), [(reapply_deletions, "delete"), (golive, "_converge")], ids=["before", "behind"])
def test_an_abort_leaves_no_point_in_a_file_that_nobody_names(made, monkeypatch, module, name):
    """Where the deletion has begun, the way back is finished: its end alone records the number that gives them back."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.undo(made.settings(), made.name, writes="discard")
    with pytest.raises(RefusedError, match="has begun to delete points again"):
        back.abort(made.settings())
    upgrade.upgrade(made.settings())
    assert 5 not in made.contents()
    fix.undo(made.settings(), audit(made)[0].id)
    assert made.contents()[5][0]["state"] == "paid"


def test_an_abort_before_anything_is_deleted_again_leaves_all(made, monkeypatch):
    """Nothing was begun then."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    with monkeypatch.context() as patch:
        patch.setattr(reapply_deletions, "drop_records", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restore.undo(made.settings(), made.name, writes="discard")
    back.abort(made.settings())
    assert made.contents(f"{made.name}__g0001")[5][0]["state"] == "paid"
    restore.undo(made.settings(), made.name, writes="discard")
    fix.undo(made.settings(), audit(made)[0].id)
    assert made.contents()[5][0]["state"] == "paid"


def interrupted(monkeypatch, act) -> None:
    """What goes back dies right behind the deletions that it has repeated."""
    with monkeypatch.context() as patch:
        patch.setattr(golive, "_converge", lambda step, work: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            act()


def test_a_way_back_that_has_begun_to_delete_is_not_aborted(made, monkeypatch):
    """An abort would say that all stands where it stood, and no number would give the point back."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    interrupted(monkeypatch, lambda: restore.undo(made.settings(), made.name, writes="discard"))
    said = call(made.root, "abort", made.name)
    assert (said.code, "can only be finished" in said.err) == (10, True)
    upgrade.upgrade(made.settings())
    row = audit(made)[0]
    assert (row.kind, row.count) == ("DELETED_AGAIN", 1)
    assert fix.undo(made.settings(), row.id).done[0].changed == 1
    assert made.contents()[5][0]["state"] == "paid"


def test_nor_is_a_rollback_that_gives_writes_up(deployment, monkeypatch):
    """What is undone afterwards would be in the generation that was left, and not in the one that it goes back to."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(20, uuids=False)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    fix.fix(deployment.settings(), op.DeletePoints(deployment.name, ids=[5, 6], reason="r"))
    interrupted(monkeypatch, lambda: back.rollback(deployment.settings(), "0001", writes="discard"))
    with pytest.raises(RefusedError, match="can only be finished"):
        back.abort(deployment.settings(), deployment.name)
    upgrade.upgrade(deployment.settings(), "0001")
    assert deployment.row().revision == "0001"
    assert not {5, 6} & deployment.contents().keys()


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_deleted_again_on_another_host_waits_for_its_file(made, monkeypatch, lost):
    """The points are only there; a person may say that it is lost."""
    restore.restore(made.settings(), made.name, consent=True)
    deleted(made)
    interrupted(monkeypatch, lambda: restore.undo(made.settings(), made.name, writes="discard"))
    (file,) = (made.root / ".qmigrate" / "exports").glob(f"{made.name}__g0001-*")
    away = file.rename(made.root / "elsewhere")
    with pytest.raises(RepairNeededError, match="is not here"):
        upgrade.upgrade(made.settings())
    if lost:
        file.touch()
    else:
        away.rename(file)
    upgrade.upgrade(made.settings())
    assert [row.kind for row in audit(made)][:1] == (["FILTER"] if lost else ["DELETED_AGAIN"])
    assert 5 not in made.contents()


def led_apart(made, how: str):
    """A restore or a reset was done; what undoes it without consent."""
    if how == "restore":
        restore.restore(made.settings(), made.name, consent=True)
        return partial(restore.undo, made.settings(), made.name)
    said = ["fix", "reset", made.name, "--reason", "r", "--yes", "--expect", "20", "--confirm", "DELETE ALL VECTORS"]
    assert call(made.root, *said).code == 0
    return partial(fix.undo, made.settings(), audit(made)[0].id)


@pytest.mark.parametrize("how", ["restore", "reset"])
def test_what_was_written_while_a_way_back_was_interrupted_is_asked_about(made, monkeypatch, how):
    """It was counted before; what came since would be left behind without consent."""
    undo = led_apart(made, how)
    with cut_at(monkeypatch, GoLive.kind, "converge"):
        undo()
    lead(made, f"{made.name}__g0002", make_point(900))
    with pytest.raises(OvertakenError, match="1 point added"):
        upgrade.upgrade(made.settings())
    assert (901 in made.contents(), made.row().state) == (True, "ready")
    with pytest.raises(RefusedError, match="1 point added"):
        undo()
    undo(**{"restore": {"writes": "discard"}, "reset": {"overwrite": True}}[how])
    assert (len(made.contents()), 901 in made.contents()) == (20, False)


@pytest.mark.parametrize("how", ["restore", "reset"])
def test_what_is_written_while_the_name_moves_back_is_named_and_kept(made, monkeypatch, how):
    """It is only in what was left: the history names it, and no clean-up deletes it without consent."""
    undo, real = led_apart(made, how), golive.swap

    def late(work, target, names):
        write(work.store, made.name, [make_point(900)])
        return real(work, target, names)

    with monkeypatch.context() as patch:
        patch.setattr(golive, "swap", late)
        undo()
    assert (len(made.contents()), 901 in made.contents()) == (20, False)
    (sweep,) = [row.report["sweep"] for row in status.history(made.settings()).rows[:1]]
    assert [one[0] for one in sweep["listed"]["named"]] == [901]
    spared = gc.gc(made.settings(), made.name, now=True).spared
    assert [one.writes for one in spared] == [{"count": 1, "named": [[901, "new"]]}]
    assert 901 in made.contents(f"{made.name}__g0002")
    gc.gc(made.settings(), made.name, now=True, discard_writes=True)


@pytest.mark.parametrize("how", ["restore", "reset"])
def test_what_nobody_wrote_to_goes_as_before(made, how):
    """Nothing came: what was left behind is what its proof saw, but for what fixes have deleted."""
    undo = led_apart(made, how)
    if how == "restore":
        deleted(made)
    undo()
    swept = gc.gc(made.settings(), made.name, now=True)
    assert (len(swept.collected), swept.spared) == (1, ())
