"""A name that an operation takes from another collection is handed back on the way back, unless it was moved since."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import harness
from tests.harness import by_hand as remove

from qmigrate.commands import restore, snapshot, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as steps
from qmigrate.errors import RefusedError, StoreError
from qmigrate.model.plan import GoLive, InPlace
from qmigrate.model.schema import CollectionSchema

A8 = '{{"a": VectorParams(size=8, distance=Distance.COSINE)}}'
SIZE4 = 'VectorParams(size=4, distance=Distance.DOT), values=Empty()'
TAKE = 'op.SetAlias("{name}_read", "{name}_two")'


def listed(*operations):
    """The body of a revision."""
    return f"def upgrade():\n    return [{', '.join(operations)}]\n"


def more(which, vector, **_):
    """An operation that rebuilds."""
    return f'op.AddVector("{{name}}_{which}", "{vector}", {SIZE4}, strategy="copy")'


#: What takes the name from one to two: revisions behind the one that made both.
TAKERS = {
    "in place": (listed(TAKE),),
    "rebuild": (listed(TAKE, more("two", "b")),),
    "in place, then rebuild": (listed(TAKE), listed(more("two", "b"))),
    "rebuild twice": (listed(TAKE, more("two", "b")), listed(more("two", "c"))),
    "new collection": (listed(f'op.CreateCollection("{{name}}_three", {A8})', 'op.SetAlias("{name}_read", "{name}_three")'),),
    "drop of its owner": (listed('op.DropCollection("{name}_one")', TAKE),),
    "owner rebuilt since": (listed(TAKE), listed(more("one", "b"))),
}


class Said(list):
    """What a run reports on its way."""

    def __bool__(self):
        """Also while nothing was reported."""
        return True

    def begin(self, *_):
        """Nothing."""

    advance = end = begin
    say = list.append


def started(made, *, alone=False):
    """One and two, `read` on one, which a revision declares or (`alone`) another client has made."""
    names = ("one", "two")
    own = [] if alone else ['op.SetAlias("{name}_read", "{name}_one")']
    made.revise("0001", listed(*(f'op.CreateCollection("{{name}}_{one}", {A8})' for one in names), *own))
    upgrade.upgrade(made.settings())


def aliases(made):
    """Logical names and further ones, without the deployment's own prefix."""
    store = made.store()
    try:
        found = store.aliases()
    finally:
        store.close()
    return {name.removeprefix(f"{made.name}_"): to.removeprefix(f"{made.name}_") for name, to in found.items() if made.name in name}


def by_hand(made, alias, target):
    """Another client makes or (None) removes an alias; a collection that isn't there is made for it."""
    store, name = made.store(), f"{made.name}_{alias}"
    if target is None:
        store.drop_alias(name)
    else:
        target = f"{made.name}_{target}"
        if target not in store.physical_names():
            store.create_collection(target, CollectionSchema(), seal=None)
        store.create_alias(name, target)
    store.close()


def applied(made, taker):
    """One revision after the other, so that each goes live by itself; the last one's id."""
    for number, body in enumerate(TAKERS[taker], start=2):
        made.revise(f"{number:04}", body)
        upgrade.upgrade(made.settings())


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("declared", ["declared", "by hand"])
def test_a_name_that_was_taken_goes_back_to_where_it_led(deployment, taker, declared):
    """However it was taken, and however the collection had got it."""
    started(deployment, alone=declared == "by hand")
    if declared == "by hand":
        by_hand(deployment, "read", "one__g0001")
    before = aliases(deployment)
    assert before["read"] == "one__g0001"
    applied(deployment, taker)
    assert aliases(deployment)["read"].startswith(("two__", "three__"))
    back.rollback(deployment.settings(), "0001", writes="discard")
    assert aliases(deployment) == before


@pytest.mark.parametrize("more_work", [(), (more("two", "b"),)], ids=["in place", "rebuild"])
def test_the_name_of_a_collection_is_not_taken_as_an_alias(deployment, more_work):
    """It would be lost to its own collection; one that was dropped before has left its name, and gets it back."""
    started(deployment)
    before = aliases(deployment)
    path = deployment.revise("0002", listed('op.SetAlias("{name}_one", "{name}_two")', *more_work))
    with pytest.raises(RefusedError, match="name of a collection under management"):
        upgrade.upgrade(deployment.settings())
    assert aliases(deployment) == before
    back.abort(deployment.settings())
    text = path.read_text()
    path.write_text(text.replace("return [", f'return [op.DropCollection("{deployment.name}_one"), '))
    upgrade.upgrade(deployment.settings())
    assert aliases(deployment)["one"].startswith("two__")
    back.rollback(deployment.settings(), "0001", writes="discard")
    assert aliases(deployment) == before


def test_it_goes_back_to_what_serves_its_owner_by_then(deployment):
    """Not to the generation that the owner has left since."""
    started(deployment)
    applied(deployment, "owner rebuilt since")
    back.rollback(deployment.settings(), "0001", only=[f"{deployment.name}_two"])
    assert aliases(deployment) == {"one": "one__g0002", "two": "two__g0001", "read": "one__g0002"}


@pytest.mark.parametrize("taker", ["in place", "rebuild", "new collection"])
@pytest.mark.parametrize("since", ["other", None])
def test_a_name_that_was_moved_since_stays_where_it_is(deployment, taker, since):
    """Another client gave it to another collection, or removed it: that is left alone, and reported."""
    started(deployment)
    applied(deployment, taker)
    by_hand(deployment, "read", since)
    said = Said()
    back.rollback(deployment.settings(), "0001", writes="discard", progress=said)
    assert aliases(deployment).get("read") == since
    assert any(f"{deployment.name}_read" in line and "another client" in line for line in said)


@pytest.mark.parametrize("taker", ["in place", "rebuild", "new collection"])
def test_a_name_whose_owner_is_gone_is_dropped_and_that_is_said(deployment, taker):
    """There is nothing that it could be handed back to."""
    started(deployment, alone=True)
    by_hand(deployment, "read", "foreign")
    applied(deployment, taker)
    store = deployment.store()
    store.drop_collection(harness.by_hand(f"{deployment.name}_foreign"))
    store.close()
    said = Said()
    back.rollback(deployment.settings(), "0001", writes="discard", progress=said)
    assert "read" not in aliases(deployment)
    assert any(f"{deployment.name}_read" in line and f"{deployment.name}_foreign" in line for line in said)


def test_a_drop_gives_back_every_name_that_it_took(deployment):
    """Also those that no revision declares, but for one that was given away since."""
    started(deployment)
    by_hand(deployment, "hand", "one__g0001")
    by_hand(deployment, "moved", "one__g0001")
    before = aliases(deployment)
    deployment.revise("0002", listed('op.DropCollection("{name}_one")'))
    upgrade.upgrade(deployment.settings())
    assert aliases(deployment) == {"two": "two__g0001"}
    by_hand(deployment, "moved", "other")
    said = Said()
    back.rollback(deployment.settings(), "0001", progress=said)
    assert aliases(deployment) == {**before, "moved": "other"}
    assert any(f"{deployment.name}_moved" in line for line in said)


def cut(monkeypatch, kind, phase, *, after):
    """The phase of a kind of step fails, before its work or behind it."""

    def failing(step, work):
        if after:
            original(step, work)
        raise StoreError("cut off")

    original = next(one.run for one in steps._CHECKLISTS[kind] if one.name == phase)
    phases = tuple(replace(one, run=failing) if one.name == phase else one for one in steps._CHECKLISTS[kind])
    monkeypatch.setitem(steps._CHECKLISTS, kind, phases)


@pytest.mark.parametrize(("taker", "kind", "phase"), [("in place", InPlace.kind, "change"), ("rebuild", GoLive.kind, "swap")])
@pytest.mark.parametrize("tries", [1, 2])
def test_an_interrupted_run_still_knows_where_a_name_led(deployment, monkeypatch, taker, kind, phase, tries):
    """It was noted before the request, and is not overwritten by what the request has made."""
    started(deployment)
    before = aliases(deployment)
    with monkeypatch.context() as patch:
        cut(patch, kind, phase, after=True)
        for number in range(tries):
            if not number:
                deployment.revise("0002", TAKERS[taker][0])
            with pytest.raises(StoreError, match="cut off"):
                upgrade.upgrade(deployment.settings())
    assert aliases(deployment)["read"].startswith("two__")
    upgrade.upgrade(deployment.settings())
    back.rollback(deployment.settings(), "0001", writes="discard")
    assert aliases(deployment) == before


@pytest.mark.parametrize("moved", [False, True])
def test_an_abort_gives_a_name_back(deployment, monkeypatch, moved):
    """What the upgrade had taken in place goes back, unless another client has moved it since."""
    started(deployment)
    before = aliases(deployment)
    with monkeypatch.context() as patch:
        cut(patch, InPlace.kind, "verify", after=False)
        deployment.revise("0002", TAKERS["in place"][0])
        with pytest.raises(StoreError, match="cut off"):
            upgrade.upgrade(deployment.settings())
    assert aliases(deployment)["read"] == "two__g0001"
    if moved:
        by_hand(deployment, "read", "other")
    said = Said()
    back.abort(deployment.settings(), progress=said)
    assert aliases(deployment) == {**before, **({"read": "other"} if moved else {})}
    assert any("another client" in line for line in said) is moved


@pytest.mark.parametrize("phase", ["change", "verify"])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("earlier", ["one__g0001", None])
def test_an_abort_of_a_way_back_takes_a_name_again(deployment, monkeypatch, phase, moved, earlier):
    """Only from where that way back has put it: another client may have it by then."""
    started(deployment, alone=True)
    if earlier:
        by_hand(deployment, "read", earlier)
    applied(deployment, "in place")
    before = aliases(deployment)
    with monkeypatch.context() as patch:
        cut(patch, InPlace.kind, phase, after=False)
        with pytest.raises(StoreError, match="cut off"):
            back.rollback(deployment.settings(), "0001")
    if moved:
        by_hand(deployment, "read", "other")
    back.abort(deployment.settings())
    assert aliases(deployment) == {**before, **({"read": "other"} if moved else {})}


@pytest.mark.parametrize("taker", ["in place", "rebuild"])
def test_it_goes_back_to_what_has_the_name_of_the_collection_by_then(deployment, taker):
    """Another application has put its collection behind an alias of that name, as its clients need it."""
    started(deployment, alone=True)
    by_hand(deployment, "read", "theirs")
    applied(deployment, taker)
    store = deployment.store()
    store.drop_collection(remove(f"{deployment.name}_theirs"))
    store.close()
    by_hand(deployment, "theirs", "theirs_v2")
    back.rollback(deployment.settings(), "0001", writes="discard")
    found = aliases(deployment)
    assert (found["read"], found["theirs"]) == ("theirs_v2", "theirs_v2")


@pytest.mark.parametrize("more_work", [(), (more("two", "b"),)], ids=["in place", "rebuild"])
def test_the_undo_of_a_restore_gives_back_what_was_taken_since(deployment, more_work):
    """With the revision that has taken the name it is undone."""
    started(deployment)
    before, two = aliases(deployment), f"{deployment.name}_two"
    snapshot.create(deployment.settings(), two, archived=True)
    restore.restore(deployment.settings(), two, consent=True)
    deployment.revise("0002", listed(TAKE, *more_work))
    upgrade.upgrade(deployment.settings())
    assert aliases(deployment)["read"].startswith("two__")
    if more_work:
        back.rollback(deployment.settings(), "0001", only=[two], writes="discard")
    restore.undo(deployment.settings(), two, writes="discard")
    assert aliases(deployment) == before
