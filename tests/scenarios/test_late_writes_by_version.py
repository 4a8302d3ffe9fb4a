"""Late writes where the versions of the new side are known: what is carried without a doubt, kept, listed or named."""

from __future__ import annotations

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, loaded_on, make_point, write
from tests.scenarios.numbered import numbered
from tests.scenarios.test_late_writes import POINTS, after_the_swap, before_the_swap, rows_of, sweep_of

from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine.barriers import nothing_written
from qmigrate.engine.prove import carry, sweep
from qmigrate.errors import RefusedError
from qmigrate.model.report import KEPT, MAY_OVERWRITE, MAY_UNDO
from qmigrate.ports import PayloadEdit

EXTRA = {"rebuild": {"writes": "auto"}, "limits": {"write_pause": "1ms"}}


@pytest.fixture(params=["numbered", pytest.param("server", marks=pytest.mark.server)])
def made(request, tmp_path, monkeypatch):
    """A loaded collection with a pending rebuild, whose proof lists both sides; no pause is short enough."""
    if request.param == "server":
        deployment = loaded_on(request.getfixturevalue("qdrant_server"), tmp_path, POINTS, timeout=2, **EXTRA)
    else:
        numbered(monkeypatch)
        deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db", extra=EXTRA)
        deployment.revise("0001", CREATE)
        upgrade.upgrade(deployment.settings())
        deployment.load(POINTS, uuids=False)
    deployment.revise("0002", ADD)
    yield deployment
    if request.param == "server":
        clean(deployment)


def old(made) -> str:
    """Physical name of what is left."""
    return f"{made.name}__g0001"


def kinds(made) -> dict:
    """Id -> kind of `history --carried`."""
    return {identifier: kind for kind, identifier, *_ in rows_of(made)[0]}


def test_carries_next_to_other_writes_are_not_listed(made, monkeypatch):
    """A new point, changed ones and a deleted one, more than are carried at once; the new side took writes elsewhere."""
    monkeypatch.setattr(carry, "AT_ONCE", 4)
    monkeypatch.setattr(sweep, "AT_ONCE", 4)

    def late(store):
        write(store, old(made), [make_point(number, text="late") for number in range(3, 12)])
        store.delete(old(made), [20, 21])

    before_the_swap(monkeypatch, made, late)
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(25, text="other")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    found = made.contents()
    assert {found[number + 1][0]["text"] for number in range(3, 12)} == {"late"}
    assert all(len(found[number + 1][1]["b"]) == 16 for number in range(3, 12))
    assert not {20, 21} & found.keys()
    assert found[26][0]["text"] == "other"
    assert (report["carried"], report["listed"]["count"], report["by_filter"]) == (11, 0, 11)
    assert set(kinds(made).values()) == {"may_have_missed"}


def test_without_other_writes_nothing_is_doubtful(made, monkeypatch):
    """Also an insertion; and going back takes none of it for written since."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late"), make_point(100)]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert (report["carried"], report["listed"]["count"], report.get("by_filter")) == (2, 0, 0)
    assert kinds(made) == {4: "carried", 101: "carried"}
    result = back.rollback(made.settings(), "0001")
    since = result.outcomes[-1].report["0.preflight"]["writes_since"]
    assert (since["added"], since["changed"], since["deleted"]) == (0, 0, 0)
    assert made.contents()[4][0]["text"] == "late"


def test_what_was_written_again_with_the_same_value_is_kept(made, monkeypatch):
    """Its contents are those of the proof; its version says that a client has written it, after the late write."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late")]))

    def same(store):
        store.edit_payloads(made.name, [PayloadEdit([4], {"text": make_point(3).payload["text"]})])

    after_the_swap(monkeypatch, made, same)
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert made.contents()[4][0]["text"] == make_point(3).payload["text"]
    assert (report["carried"], report["listed"]["named"]) == (0, [[4, KEPT]])
    (row,), found = rows_of(made)
    assert row[:2] == ("kept", 4)
    assert ("late" in row[2], "late" in row[3]) == (True, False)
    assert found.rows[0].new["met"] == found.rows[0].new["before"]


def test_an_insertion_that_undoes_a_deletion_is_listed(made, monkeypatch):
    """Absent at the proof, inserted late, deleted through the name: back, and listed; one that is changed is not."""
    before_the_swap(
        monkeypatch, made, lambda store: write(store, old(made), [make_point(100), make_point(3, text="late")])
    )
    after_the_swap(monkeypatch, made, lambda store: store.delete(made.name, [101]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert 101 in made.contents()
    assert (report["may_undo"], report["listed"]["named"], report["by_filter"]) == (1, [[101, MAY_UNDO]], 1)
    assert kinds(made) == {101: "may_undo_delete", 4: "may_have_missed"}


def test_an_insertion_that_the_new_side_has_too_is_kept(made, monkeypatch):
    """The newer point stays, whichever it is."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(100, text="old side")]))
    after_the_swap(monkeypatch, made, lambda store: write(store, made.name, [make_point(100, text="new side")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert made.contents()[101][0]["text"] == "new side"
    assert (report["carried"], report["listed"]["named"]) == (0, [[101, KEPT]])


def test_a_point_that_the_new_side_has_deleted_stays_so(made, monkeypatch):
    """Deleted through the name after the late write: its deletion is newer, and the id is listed."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late")]))
    after_the_swap(monkeypatch, made, lambda store: store.delete(made.name, [4]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert 4 not in made.contents()
    assert report["listed"]["named"] == [[4, KEPT]]


def test_a_deletion_by_filter_that_met_nothing_is_named(made, monkeypatch):
    """It would have met the late value; no version shows that it came."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late")]))
    after_the_swap(monkeypatch, made, lambda store: store.delete(made.name, [5000]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert made.contents()[4][0]["text"] == "late"
    assert (report["listed"]["count"], report["by_filter"]) == (0, 1)
    assert kinds(made) == {4: "may_have_missed"}


def meanwhile(monkeypatch, name, action):
    """Do something once, right behind a step of the carry."""
    original, done = getattr(carry.NewSide, name, None) or getattr(carry, name), []

    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        if not done:
            done.append(name)
            action(next(one for one in args if hasattr(one, "store")).store)
        return result

    monkeypatch.setattr(carry.NewSide if hasattr(carry.NewSide, name) else carry, name, wrapped)


def test_a_write_between_the_look_and_the_carry_is_listed(made, monkeypatch):
    """It is overwritten, which the numbers of operations show: the id is listed."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late")]))
    meanwhile(monkeypatch, "look", lambda store: write(store, made.name, [make_point(3, text="newer")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert (report["carried"], report["listed"]["named"]) == (1, [[4, MAY_OVERWRITE]])
    assert made.contents()[4][0]["text"] == "late"


def test_a_write_right_behind_a_carry_is_a_write_since(made, monkeypatch):
    """It stays, and who goes back is asked about it."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(3, text="late")]))
    meanwhile(monkeypatch, "_send", lambda store: write(store, made.name, [make_point(3, text="newer")]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert (report["carried"], report["listed"]["count"]) == (1, 0)
    assert made.contents()[4][0]["text"] == "newer"
    with pytest.raises(RefusedError) as refused:
        back.rollback(made.settings(), "0001")
    since = refused.value.facts["writes_since"]
    assert (since["added"], since["changed"], since["deleted"]) == (0, 1, 0)


def test_a_late_point_that_cannot_be_made_stops_no_other(made, monkeypatch):
    """It has no text to embed: listed; those that are carried with it are there."""

    def late(store):
        point = make_point(100)
        del point.payload["text"]
        write(store, old(made), [point, make_point(101), make_point(3, text="late")])

    before_the_swap(monkeypatch, made, late)
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert report["carried"] == 2
    assert [identifier for identifier, _ in report["listed"]["named"]] == [101]
    assert made.contents()[102][0]["text"]


def test_an_id_that_comes_late_twice_is_carried_twice(made, monkeypatch):
    """In a further round what is there is ours; what the first one listed stays listed."""
    before_the_swap(monkeypatch, made, lambda store: write(store, old(made), [make_point(100, text="one")]))
    original, rounds = sweep._read_and_carry, []

    def twice(work, *args):
        found = original(work, *args)
        if not rounds:
            rounds.append(1)
            work.store.lift_fence(old(made), {})
            write(work.store, old(made), [make_point(100, text="two")])
            work.store.fence(old(made))
        return found

    def by_numbers(work, before, now, own, seconds):
        return nothing_written(work, before, now, delta=own[0], own_writes=own[1])

    monkeypatch.setattr(sweep, "is_last", by_numbers)
    monkeypatch.setattr(sweep, "_read_and_carry", twice)
    after_the_swap(monkeypatch, made, lambda store: store.delete(made.name, [101]))
    report = sweep_of(upgrade.upgrade(made.settings()))
    assert made.contents()[101][0]["text"] == "two"
    assert report["rounds"] == 2
    assert kinds(made) == {101: "may_undo_delete"}
    assert report["listed"]["named"] == [[101, MAY_UNDO]]
