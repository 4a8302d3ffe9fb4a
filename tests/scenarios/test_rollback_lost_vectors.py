"""A way back brings no point along without a vector that the generation it goes to has, and says what it leaves."""

from __future__ import annotations

import pytest
from tests.harness import ADD, INDEX, make_point, write

from qmigrate.commands import fix, gc, reset, restore, snapshot, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import DriftError, RefusedError
from qmigrate.model.schema import Change

CREATE = """
def upgrade():
    return [op.CreateCollection("{name}", {{
        "a": VectorParams(size=8, distance=Distance.COSINE), "k": VectorParams(size=2, distance=Distance.DOT),
    }})]
"""
DROP = """
irreversible = "its values are gone"


def upgrade():
    return [op.DropVector("{name}", "a", cutover="immediate", strategy="in_place")]
"""
BESIDE = """
def upgrade():
    return [op.AddVector("{name}", "{vector}", VectorParams(size={size}, distance=Distance.COSINE), values=Empty(){how})]
"""
IN_PLACE = ', strategy="in_place"'


def beside(vector, size, how=IN_PLACE):
    """A vector that nothing fills."""
    return BESIDE.replace("{vector}", vector).replace("{size}", str(size)).replace("{how}", how)


def by_hand(made):
    """As another client drops it."""
    store = made.store()
    store.apply(f"{made.name}__g0002", Change("vector.drop", "a", before={"size": 8, "distance": "Cosine"}))
    store.close()


def by_hand_and_back(made):
    """The schema shows nothing of it, and no record does."""
    by_hand(made)
    store = made.store()
    store.apply(f"{made.name}__g0002", Change("vector.add", "a", after={"size": 8, "distance": "Cosine"}))
    store.close()


#: How the vector is lost: revisions in turn, or what another client does.
WAYS = {
    "in place": (DROP,),
    "and another one of its name is there": (DROP, beside("a", 8)),
    "and one of another size is there": (DROP, beside("a", 4)),
    "below a rebuild": (DROP, beside("c", 4, "")),
    "by hand": by_hand,
    "by hand, and recreated by hand": by_hand_and_back,
}


@pytest.fixture
def made(deployment):
    """At 0002, in a generation of its own, with points that were written before and after."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(6)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    return deployment


def applied(made, revisions):
    """One after the other, so that none is done together with another."""
    for number, body in enumerate(revisions, 3):
        made.revise(f"{number:04}", body)
        upgrade.upgrade(made.settings())


@pytest.mark.parametrize("writes", ["refuse", "carry", "now"])
@pytest.mark.parametrize("way", WAYS)
def test_no_vector_of_the_way_back_is_lost(made, way, writes):
    """What the old generation has of a vector that was dropped since is nowhere else."""
    older = made.contents(f"{made.name}__g0001")
    change = WAYS[way]
    if callable(change):
        change(made)
    else:
        applied(made, change)
    before = made.contents()
    with pytest.raises(RefusedError, match="vector 'a'") as refused:
        back.rollback(made.settings(), "0001", writes=writes)
    assert "--discard-writes" in refused.value.hint
    assert "--carry-writes" not in refused.value.hint
    assert made.contents() == before
    assert made.contents(f"{made.name}__g0001") == older
    assert made.row().state == ("drift" if change is by_hand else "ready")
    back.rollback(made.settings(), "0001", writes="discard")
    assert made.contents() == older


@pytest.mark.parametrize("how", [IN_PLACE, ""], ids=["in place", "by a rebuild"])
def test_values_that_have_no_place_are_named(made, how):
    """They can't be brought along, and no model makes them again: they stay where they are."""
    applied(made, (beside("c", 4, how), beside("never", 4, how)))
    store = made.store()
    store.edit_vectors(made.name, {1: {"c": [1.0, 0.0, 0.0, 0.0]}})
    store.close()
    left = f"{made.name}__{made.row().generation}"
    with pytest.raises(RefusedError, match="1 point changed") as refused:
        back.rollback(made.settings(), "0001")
    assert f"but not what 1 point has in vector 'c', which stays in {left}" in refused.value.hint
    assert "'b'" not in refused.value.hint
    assert "never" not in refused.value.hint
    said: list[str] = []
    back.rollback(made.settings(), "0001", writes="carry", progress=Saying(said))
    named = [line for line in said if "not brought along" in line]
    assert named == [f"{made.name}: not brought along is what 1 point has in vector 'c', which stays in {left} until gc"]


class Saying:
    """Keeps what is said."""

    def __init__(self, said):
        self._said = said

    def __getattr__(self, name):
        return (lambda line, *_: self._said.append(line)) if name == "say" else lambda *_, **__: None


def test_other_changes_in_place_keep_the_way_back(made):
    """A vector that the old generation never had stops nothing, be it dropped again."""
    applied(made, (beside("c", 4),))
    back.rollback(made.settings(), "0002")
    upgrade.upgrade(made.settings())
    store = made.store()
    write(store, made.name, [make_point(50)])
    store.close()
    back.rollback(made.settings(), "0001", writes="carry")
    assert 51 in made.contents()
    assert {name for _, vectors in made.contents().values() for name in vectors} == {"a"}


def lost_by(made, generation):
    """What another client has dropped there, who has lifted its fence, too."""
    store = made.store()
    if "url" in made.qdrant:
        store.lift_fence(f"{made.name}__{generation}", {})
    store.apply(f"{made.name}__{generation}", Change("vector.drop", "a", before={"size": 8, "distance": "Cosine"}))
    store.close()


@pytest.mark.parametrize("writes", ["refuse", "carry", "discard", "now"])
@pytest.mark.parametrize("written", [False, True], ids=["unwritten", "written"])
@pytest.mark.parametrize("later", [(), (beside("c", 4, ""),)], ids=["alone", "below a rebuild"])
def test_nothing_goes_back_to_what_has_lost_a_vector(made, writes, written, later):
    """It would serve without it, and what is left, which still has it, would be deleted some day."""
    applied(made, later)
    lost_by(made, "g0001")
    if written:
        made.load(1, start=50)
    before = made.contents()
    with pytest.raises(DriftError, match="g0001 has lost vector 'a'"):
        back.rollback(made.settings(), "0001", writes=writes)
    assert made.contents() == before
    assert made.row().state == "ready"


def test_what_a_revision_has_dropped_stops_nothing(made):
    """Going back to a generation from before gives it back; going back to one from after has nothing to lose."""
    applied(made, (DROP, beside("c", 4, "")))
    back.rollback(made.settings(), "0003")
    assert {name for _, vectors in made.contents().values() for name in vectors} == {"b"}
    back.rollback(made.settings(), "0001", writes="discard")
    assert {name for _, vectors in made.contents().values() for name in vectors} == {"a"}


@pytest.mark.parametrize("undo", ["restore", "reset"])
def test_nothing_is_undone_to_what_has_lost_a_vector(made, undo):
    """The same where the points are of another time."""
    if undo == "restore":
        snapshot.create(made.settings(), made.name, archived=True)
        restore.restore(made.settings(), made.name, consent=True)
    else:
        reset.reset(made.settings(), made.name, reason="r", expect=6, confirm=reset.PHRASE)
    lost_by(made, "g0002")
    serves = made.row().generation
    undone = {
        "restore": lambda: restore.undo(made.settings(), made.name, writes="discard"),
        "reset": lambda: fix.undo(made.settings(), 1, overwrite=True),
    }
    with pytest.raises(DriftError, match="g0002 has lost vector 'a'"):
        undone[undo]()
    assert (made.row().state, made.row().generation) == ("ready", serves)


def test_the_last_generation_with_a_vector_is_not_cleared_away(made):
    """What serves has lost it, and its values are nowhere else: no holdover that ends decides about that."""
    made.extra["rebuild"] = {"holdover": "0s"}
    made.__post_init__()
    back.rollback(made.settings(), "0001")
    upgrade.upgrade(made.settings())
    lost_by(made, made.row().generation)
    made.revise("0003", INDEX)
    upgrade.upgrade(made.settings())
    review = gc.review(made.settings(), made.name)
    (stays,) = [one for one in review.staying if one.generation.endswith("g0001")]
    assert "it has vector 'a', which what serves has lost" in stays.reason
    gc.gc(made.settings(), made.name)
    assert {name for _, vectors in made.contents(f"{made.name}__g0001").values() for name in vectors} == {"a"}
    assert f"{made.name}__g0001" in {one.generation for one in gc.gc(made.settings(), made.name, now=True).collected}
