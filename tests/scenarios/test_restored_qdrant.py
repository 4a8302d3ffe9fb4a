"""Qdrant, or the ledger, is put back to an earlier state than the other: no advice leads to what loses points."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import check, cutover, gc, repair, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as steps
from qmigrate.errors import ForeignLedgerError, QmigrateError, RefusedError, RepairNeededError
from qmigrate.model.plan import Build, GoLive


@pytest.fixture
def made(tmp_path) -> Deployment:
    """At 0001, in local mode: what there is of it are two folders and a file."""
    made = Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(9)
    made.revise("0002", ADD)
    return made


def saved(tmp_path, which):
    """A backup of one of the two, and what puts it back."""
    place, kept = tmp_path / which, tmp_path / f"{which}.saved"
    copy, remove = (shutil.copytree, shutil.rmtree) if place.is_dir() else (shutil.copy, lambda one: one.unlink())
    copy(place, kept)

    def put_back():
        remove(place)
        copy(kept, place)

    return put_back


def everything(made) -> set:
    """Ids in any collection."""
    store = made.store()
    names = store.physical_names()
    store.close()
    return {one for name in names for one in made.contents(name)}


@pytest.mark.parametrize("which", ["qdrant", "ledger.db"])
def test_what_serves_is_not_left_for_an_earlier_state(made, tmp_path, which):
    """A rollback has carried points over since: what one of the two has of it, the other has not."""
    upgrade.upgrade(made.settings())
    made.load(3, start=50)
    put_back = saved(tmp_path, which)
    back.rollback(made.settings(), "0001", writes="carry")
    made.load(2, start=70)
    put_back()
    before, serves = everything(made), made.contents()
    answer = call(made.root, "check", "--only", made.name)
    assert "restored from a backup" in answer.out
    assert "repair --name" not in answer.out
    for verb in (
        lambda: repair.name(made.settings(), made.name),
        lambda: upgrade.upgrade(made.settings()),
        lambda: back.rollback(made.settings(), "0001", writes="discard"),
        lambda: back.rollback(made.settings(), "base", writes="discard"),
    ):
        with pytest.raises(RepairNeededError, match="restored from a backup") as refused:
            verb()
        assert "repair --name" not in refused.value.hint
    with suppress(QmigrateError):
        gc.gc(made.settings(), made.name, now=True)
    assert everything(made) == before
    assert made.contents() == serves
    # The way out that is named keeps what serves.
    assert call(made.root, "adopt", made.name, "--take-over").code == 0
    assert made.contents() == serves
    with suppress(QmigrateError):
        gc.gc(made.settings(), made.name, now=True)
    assert everything(made) == before
    check.check(made.settings())


def test_what_the_ledger_left_it_on_was_not_made_yet(made, tmp_path):
    """Qdrant is from before the upgrade: no client has moved the name, and the way out keeps what serves."""
    put_back = saved(tmp_path, "qdrant")
    upgrade.upgrade(made.settings())
    put_back()
    serves = made.contents()
    assert "restored from a backup" in call(made.root, "check", "--only", made.name).out
    for verb in (lambda: repair.name(made.settings(), made.name), lambda: upgrade.upgrade(made.settings())):
        with pytest.raises(RepairNeededError, match="restored from a backup") as refused:
            verb()
        assert "repair --name" not in refused.value.hint
    assert call(made.root, "adopt", made.name, "--take-over").code == 0
    upgrade.upgrade(made.settings())
    assert made.contents().keys() == serves.keys()
    assert made.row().state == "ready"


@pytest.mark.parametrize("phase", ["converge", "close"])
def test_what_was_never_closed_does_not_serve(made, tmp_path, monkeypatch, phase):
    """A backup of the middle of an upgrade: the next generation may lack points, and is sealed as being built."""
    _stopped(made, monkeypatch, Build.kind if phase == "converge" else GoLive.kind, phase)
    put_back = saved(tmp_path, "qdrant")
    made.load(2, start=70)
    upgrade.upgrade(made.settings())
    put_back()
    before, serves = everything(made), made.contents()
    with pytest.raises(RepairNeededError, match="restored from a backup") as refused:
        upgrade.upgrade(made.settings())
    assert "repair --name" not in refused.value.hint
    with suppress(RepairNeededError):
        repair.name(made.settings(), made.name)
    with suppress(QmigrateError):
        gc.gc(made.settings(), made.name, now=True)
    assert everything(made) == before
    assert made.contents() == serves


def _stopped(made, monkeypatch, kind, phase):
    """An upgrade that dies right before a phase."""
    with pytest.raises(KeyboardInterrupt), _cut(monkeypatch, kind, phase):
        upgrade.upgrade(made.settings())


@contextmanager
def _cut(monkeypatch, kind, phase):
    """Whatever comes to this phase dies there."""

    def stop(step, work):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        cut = tuple(replace(one, run=stop) if one.name == phase else one for one in steps._CHECKLISTS[kind])
        patch.setitem(steps._CHECKLISTS, kind, cut)
        yield


@pytest.mark.parametrize("back_by_hand", [False, True], ids=["where it is", "moved back by hand"])
def test_what_has_served_is_not_aborted_by_an_old_ledger(made, tmp_path, monkeypatch, back_by_hand):
    """A backup of the middle of an upgrade: its run has long ended, and what it has built was written to since."""
    _stopped(made, monkeypatch, Build.kind, "fill")
    put_back = saved(tmp_path, "ledger.db")
    upgrade.upgrade(made.settings())
    made.load(3, start=50)
    put_back()
    if back_by_hand:
        store = made.store()
        store.create_alias(made.name, f"{made.name}__g0001")
        store.close()
    before, serves = everything(made), made.contents()
    for verb in (
        lambda: upgrade.upgrade(made.settings()),
        lambda: back.abort(made.settings()),
        lambda: cutover.cutover(made.settings(), [made.name]),
        lambda: gc.gc(made.settings(), made.name, now=True, discard_writes=True),
    ):
        with suppress(RefusedError, ForeignLedgerError):
            verb()
        assert everything(made) == before
    for verb in (lambda: upgrade.upgrade(made.settings()), lambda: back.abort(made.settings())):
        with pytest.raises((RefusedError, ForeignLedgerError), match="is sealed as what serves .* from a backup") as told:
            verb()
        assert "abort" not in told.value.hint
    assert "repair --name" not in call(made.root, "check", "--only", made.name).out
    assert made.contents() == serves
    if not back_by_hand:
        # The way out that is named.
        (tmp_path / "ledger.db").unlink()
        assert call(made.root, "adopt", made.name, "--take-over").code == 0
        assert made.contents() == serves
        upgrade.upgrade(made.settings())
        assert made.contents() == serves


@pytest.mark.parametrize("forth_by_hand", [False, True], ids=["where it is", "moved by hand"])
def test_a_rollback_is_not_done_again_by_an_old_ledger(made, tmp_path, monkeypatch, forth_by_hand):
    """A backup of the middle of it: what was written since would be replaced by what came before."""
    upgrade.upgrade(made.settings())
    made.load(3, start=50)
    with pytest.raises(KeyboardInterrupt), _cut(monkeypatch, GoLive.kind, "converge"):
        back.rollback(made.settings(), "0001", writes="carry")
    put_back = saved(tmp_path, "ledger.db")
    back.rollback(made.settings(), "0001", writes="carry")
    store = made.store()
    write(store, made.name, [make_point(1, text="newer")])
    store.close()
    first = f"{made.name}__g0001"
    put_back()
    if forth_by_hand:
        store = made.store()
        store.create_alias(made.name, f"{made.name}__g0002")
        store.close()
    before = made.contents(first)
    with pytest.raises(ForeignLedgerError, match="is sealed as what serves .* from a backup") as told:
        upgrade.upgrade(made.settings())
    assert "abort" not in told.value.hint
    with suppress(QmigrateError):
        back.abort(made.settings())
    assert made.contents(first) == before
    assert before[2][0]["text"] == "newer"


def test_a_name_that_was_moved_by_hand_goes_back(made):
    """Forwards and backwards: there the seal of what the ledger has is the newest one."""
    upgrade.upgrade(made.settings())
    for verb, recorded, other in (
        (None, "g0002", "g0001"),
        (lambda: back.rollback(made.settings(), "0001", writes="carry"), "g0001", "g0002"),
    ):
        if verb is not None:
            verb()
        store = made.store()
        store.create_alias(made.name, f"{made.name}__{other}")
        store.close()
        repair.name(made.settings(), made.name)
        assert made.row().generation == recorded


def test_what_has_the_only_copy_stays(made, tmp_path):
    """Qdrant is from before a rollback, and a person points the name to where the ledger has it: gc is not misled."""
    upgrade.upgrade(made.settings())
    made.load(3, start=50)
    put_back = saved(tmp_path, "qdrant")
    back.rollback(made.settings(), "0001", writes="carry")
    put_back()
    store = made.store()
    store.create_alias(made.name, f"{made.name}__g0001")
    store.close()
    before = everything(made)
    gc.gc(made.settings(), made.name, now=True)
    assert everything(made) == before
    assert "sealed later" in call(made.root, "gc", made.name, "--now", "--dry-run").out
    gc.gc(made.settings(), made.name, now=True, discard_writes=True)
    assert everything(made) < before
