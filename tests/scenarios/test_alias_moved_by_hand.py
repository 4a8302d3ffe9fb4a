"""A name that another client moves while a run is not finished: what was written where it led is never deleted."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import pytest
from tests.harness import ADD, CREATE, Deployment, by_hand, make_point, write
from tests.scenarios.cli import call

from qmigrate.commands import adopt, cutover, repair, reset, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import epoch_aliases
from qmigrate.engine import phases as steps
from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.model.plan import Build, GoLive, PutBack
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point

HOLD = """
def upgrade():
    return [op.RenameVector("{name}", "a", "z", cutover="hold")]
"""
POINTS = 10


@pytest.fixture
def made(deployment) -> Deployment:
    """A collection with points, at 0001."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    return deployment


@contextmanager
def cut_at(monkeypatch, kind: str, phase: str):
    """Whatever comes to this phase dies there."""

    def cut(step, work):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        phases = tuple(replace(one, run=cut) if one.name == phase else one for one in steps._CHECKLISTS[kind])
        patch.setitem(steps._CHECKLISTS, kind, phases)
        with pytest.raises(KeyboardInterrupt):
            yield


def lead(made: Deployment, target: str | None, *points: Point, name: str | None = None) -> None:
    """Another client points a name somewhere, or takes it away, and writes through it."""
    store, name = made.store(), name or made.name
    if target is None:
        store.drop_alias(name)
    else:
        store.create_alias(name, target)
        write(store, name, points)
    store.close()


def collection(made: Deployment, name: str) -> str:
    """A collection of another client, with a point."""
    store = made.store()
    vectors = {"a": {"size": 8, "distance": "Cosine"}}
    store.create_collection(name, CollectionSchema(vectors=vectors), seal=None)
    write(store, name, [make_point(77)])
    store.close()
    return name


def there(made: Deployment) -> dict[str, set]:
    """Physical name -> ids."""
    store = made.store()
    names = [name for name in store.physical_names() if name.startswith(made.name)]
    store.close()
    return {name: set(made.contents(name)) for name in names}


DROP = """
def upgrade():
    return [op.DropCollection("{name}")]
"""
ALSO = """
def upgrade():
    return [op.SetAlias("{name}_also", "{name}")]
"""
BOTH = """
def upgrade():
    return [
        op.SetAlias("{name}_also", "{name}"),
        op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text")),
    ]
"""


def targets(made: Deployment) -> dict[str, str]:
    """Where the names of a test lead."""
    store = made.store()
    found = {alias: at for alias, at in store.aliases().items() if alias.startswith(made.name)}
    store.close()
    return found


@pytest.mark.parametrize("verb", ["drop", "rollback"])
def test_a_name_that_was_moved_meanwhile_is_not_taken_away(made, monkeypatch, verb):
    """A run that takes a name away was interrupted; by then it leads to another client's collection, and stays there."""
    made.revise("0002", DROP)
    with cut_at(monkeypatch, GoLive.kind, "converge"):
        if verb == "drop":
            upgrade.upgrade(made.settings())
        else:
            back.rollback(made.settings(), "base", writes="discard")
    other = collection(made, f"{made.name}_x")
    lead(made, other)
    with pytest.raises(RepairNeededError, match=f"{made.name} is on {other}; this run expected {made.name}__g0001"):
        upgrade.upgrade(made.settings())
    assert targets(made)[made.name] == other
    back.abort(made.settings())
    assert targets(made) == {made.name: other}


@pytest.mark.parametrize("what", ["collection", "alias"])
def test_a_repair_of_a_name_looks_again(made, monkeypatch, what):
    """Interrupted behind its look; by then another client has the name."""
    lead(made, None)
    with cut_at(monkeypatch, PutBack.kind, "name"):
        repair.name(made.settings(), made.name)
    if what == "alias":
        lead(made, collection(made, f"{made.name}_x"))
    else:
        collection(made, made.name)
    before = made.contents()
    with pytest.raises(RefusedError, match="another client moved it"):
        upgrade.upgrade(made.settings())
    assert made.contents() == before
    back.abort(made.settings())
    assert made.contents() == before


@pytest.mark.parametrize("how", ["in place", "rebuild", "rollback", "cutover", "drop undone", "moment"])
def test_no_alias_hides_a_collection_of_another_client(made, monkeypatch, how):
    """A server takes such an alias without a word: refused before anything is done; a way back leaves the name there."""
    also, ways = f"{made.name}_also", {"in place": ALSO, "rebuild": BOTH, "moment": BOTH}
    made.revise("0002", ways.get(how, ALSO))
    if how not in ways:
        upgrade.upgrade(made.settings())
        made.revise("0003", {"cutover": HOLD, "rollback": ADD}.get(how, DROP))
        upgrade.upgrade(made.settings())
        if how != "drop undone":
            lead(made, None, name=also)
    if how == "moment":
        if "path" in made.qdrant:
            pytest.skip("local mode refuses it, and no other client is there")
        original = epoch_aliases.own_pairs

        def late(work, target, *given):
            pairs = original(work, target, *given)
            collection(made, also)
            return pairs

        monkeypatch.setattr(epoch_aliases, "own_pairs", late)
        with pytest.raises(RepairNeededError, match=f"another client made a collection {also} in the moment"):
            upgrade.upgrade(made.settings())
        return
    before = made.contents(collection(made, also))
    names = targets(made)
    verb = upgrade.upgrade if how in ways else partial(back.rollback, target="0002")
    verb = partial(cutover.cutover, names=[made.name]) if how == "cutover" else verb
    if how in ("rollback", "drop undone"):
        verb(made.settings())
        assert (made.contents(also), also in targets(made)) == (before, False)
        return
    with pytest.raises(RefusedError, match=f"{also} is to become an alias .* there is a collection of that name"):
        verb(made.settings())
    assert (made.contents(also), targets(made)) == (before, names)
    if how != "cutover":
        assert made.row().state not in ("failed", "interrupted")


@pytest.mark.parametrize("body", [ALSO, BOTH])
def test_no_alias_takes_the_name_of_another_collection_under_management(made, body):
    """Its readers would get other points."""
    other = f"{made.name}_also"
    made.revise("0002", CREATE.replace("{name}", other))
    made.revise("0003", body)
    upgrade.upgrade(made.settings(), "0002")
    before = targets(made)
    with pytest.raises(RefusedError, match=f"{other} is the name of a collection under management"):
        upgrade.upgrade(made.settings())
    assert targets(made) == before


@pytest.mark.parametrize("into", ["{}__e5", "{}__g0009", "{}__r0001", "qmigrate_probe_{}", "a/{}", " "])
def test_nothing_is_restored_into_a_name_that_nobody_could_use(made, into):
    """Names that qmigrate makes itself, and those that Qdrant doesn't take: refused before anything is begun."""
    assert call(made.root, "snapshot", "create", made.name, "--archive").code == 0
    answer = call(made.root, "snapshot", "restore", made.name, "--latest", "--into", into.format(made.name), "--yes")
    assert (answer.code, "nothing can be restored into it" in answer.err) == (2, True), answer.text
    assert list(there(made)) == [f"{made.name}__g0001"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_alias_named_like_ours_that_leads_elsewhere_is_an_application_s(deployment, number):
    """`docs__e5` may be named after a model: it is not removed, not re-pointed, and it is a name like any other."""
    made, alias = deployment, f"{deployment.name}__e{number}"
    collection(made, made.name)
    other = collection(made, f"{made.name}_x")
    lead(made, other, name=alias)
    for _ in range(2):
        with suppress(RefusedError):
            adopt.adopt(made.settings(), made.name)
    for _ in range(2):
        with suppress(RefusedError):
            reset.reset(made.settings(), made.name, reason="r", expect=1, confirm=reset.PHRASE)
    store = made.store()
    assert store.aliases()[alias] == other
    store.close()
    assert made.contents() == {}
    assert [row.name for row in adopt.adopt(made.settings(), alias).rows] == [alias]


def test_an_alias_named_like_ours_moves_with_what_it_leads_to(made):
    """It is a further name of the collection: gc deletes nothing under it."""
    alias, new = f"{made.name}__e1", f"{made.name}__g0002"
    lead(made, f"{made.name}__g0001", name=alias)
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    store = made.store()
    assert {name: at for name, at in store.aliases().items() if name.startswith(made.name)} == {made.name: new, alias: new}
    store.close()


def test_an_alias_that_can_t_be_told_from_ours_refuses_an_adoption(deployment):
    """It leads to the very collection that it is named after."""
    made, alias = deployment, f"{deployment.name}__e7"
    lead(made, collection(made, made.name), name=alias)
    with pytest.raises(RefusedError, match=f"{alias}, an alias of {made.name}, has the form"):
        adopt.adopt(made.settings(), made.name)
    store = made.store()
    assert store.aliases()[alias] == made.name
    store.close()


@pytest.mark.parametrize("verb", ["upgrade", "reset"])
def test_a_generation_that_has_served_is_not_removed_by_an_abort(made, monkeypatch, verb):
    """Moved back by hand after the swap: abort refuses, and what both sides took comes together as in the hint."""
    old, new = f"{made.name}__g0001", f"{made.name}__g0002"
    made.revise("0002", ADD)
    with cut_at(monkeypatch, GoLive.kind, "sweep"):
        if verb == "reset":
            reset.reset(made.settings(), made.name, reason="r", expect=POINTS, confirm=reset.PHRASE)
        else:
            upgrade.upgrade(made.settings())
    lead(made, new, make_point(500))
    lead(made, old, make_point(501))
    with pytest.raises(RepairNeededError, match=f"had moved it to {new}") as stopped:
        upgrade.upgrade(made.settings())
    assert "qmigrate abort" not in stopped.value.hint
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"writes to {new} while it served exist only there"):
            back.abort(made.settings())
    assert 501 in there(made)[new]
    lead(made, new)
    if verb == "upgrade":
        upgrade.upgrade(made.settings())
        assert {501, 502} <= there(made)[new]
        back.rollback(made.settings(), writes="carry")
        assert {501, 502} <= set(made.contents())
        return
    upgrade.upgrade(made.settings(), "0001")
    assert set(made.contents()) == {501}
    assert 502 in there(made)[old]


def test_what_has_served_is_removed_once_nobody_needs_it(made, monkeypatch):
    """Deleted by hand, the run is over with an abort; a run whose name never moved is undone as before."""
    made.revise("0002", ADD)
    with cut_at(monkeypatch, GoLive.kind, "sweep"):
        upgrade.upgrade(made.settings())
    lead(made, f"{made.name}__g0001")
    store = made.store()
    store.drop_collection(by_hand(f"{made.name}__g0002"))
    store.close()
    back.abort(made.settings())
    with cut_at(monkeypatch, GoLive.kind, "swap"):
        upgrade.upgrade(made.settings())
    back.abort(made.settings())
    assert list(there(made)) == [f"{made.name}__g0001"]


@pytest.mark.parametrize(("kind", "phase"), [(Build.kind, "fill"), (Build.kind, "converge"), (GoLive.kind, "preflight")])
def test_nothing_is_built_on_in_what_serves(made, monkeypatch, kind, phase):
    """The name was moved to the unfinished generation by hand: what was written there is not overwritten by a resume."""
    old, new = f"{made.name}__g0001", f"{made.name}__g0002"
    made.revise("0002", ADD)
    with cut_at(monkeypatch, kind, phase):
        upgrade.upgrade(made.settings())
    lead(made, new, make_point(500), make_point(1, text="changed"))
    before = made.contents()
    for _ in range(2):
        with pytest.raises(RepairNeededError, match="another client moved the name"):
            upgrade.upgrade(made.settings())
    assert made.contents() == before
    lead(made, old)
    upgrade.upgrade(made.settings())
    assert set(made.contents()) == there(made)[old]


def test_a_name_that_comes_to_an_unfinished_generation_meanwhile_stops_the_run(made, monkeypatch):
    """Moved by hand between proof and swap, it was not moved by the run."""
    made.revise("0002", ADD)
    original = next(one.run for one in steps._CHECKLISTS[Build.kind] if one.name == "quality")

    def moved(step, work):
        work.store.create_alias(made.name, step.target)
        return original(step, work)

    phases = tuple(replace(one, run=moved) if one.name == "quality" else one for one in steps._CHECKLISTS[Build.kind])
    with monkeypatch.context() as patch:
        patch.setitem(steps._CHECKLISTS, Build.kind, phases)
        with pytest.raises(RepairNeededError, match="another client moved it"):
            upgrade.upgrade(made.settings())
    lead(made, f"{made.name}__g0001")
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def test_what_was_written_to_a_held_generation_is_not_deleted(made):
    """The name was moved there by hand and back again: neither the cut-over nor an abort takes what was written."""
    old, new = f"{made.name}__g0001", f"{made.name}__g0002"
    made.revise("0002", HOLD)
    assert upgrade.upgrade(made.settings()).held
    point = make_point(500)
    lead(made, new, replace(point, vectors={"z": point.vectors["a"]}))
    with pytest.raises(RepairNeededError, match="another client moved the name") as stopped:
        cutover.cutover(made.settings(), [made.name])
    assert "copy what you need" in stopped.value.hint
    lead(made, old)
    for verb in (partial(cutover.cutover, names=[made.name]), back.abort):
        with pytest.raises(RefusedError, match=r"1 points differ from what was proven: 501 \(new\)"):
            verb(made.settings())
    assert 501 in there(made)[new]
    store = made.store()
    store.delete(new, [501])
    store.close()
    cutover.cutover(made.settings(), [made.name])
    assert set(made.contents()) == there(made)[old]
