"""A plain collection that an application deletes and makes again while a run is not finished: nothing of it is taken."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
from tests.harness import ADD, INDEX, by_hand, make_point, write
from tests.scenarios.plain_names import SCHEMA, plain
from tests.scenarios.test_alias_moved_by_hand import HOLD, cut_at, lead, there

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import adopt, fix, gc, snapshot, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import rebuild
from qmigrate.engine.retire import retire
from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.model.plan import Build, EditPoints, GoLive, InPlace, RunCode

POINTS = 40
CALL = """
def called(calling):
    calling.client.delete(calling.alias, points_selector=[901])

def upgrade():
    return [op.Call("{name}", called, key="one")]
"""
FIX = """
def upgrade():
    return [op.DeletePoints("{name}", ids=[1, 901], reason="r", max_share=1)]
"""


def make_again(made) -> None:
    """What an application does that makes its collection new at its start."""
    store = made.store()
    store.drop_collection(by_hand(made.name))
    store.create_collection(made.name, SCHEMA, seal=None)
    write(store, made.name, [make_point(900)])
    store.close()


def made_again_beside(store, name: str) -> None:
    """The same through a store that is open already."""
    store.drop_collection(by_hand(name))
    store.create_collection(name, SCHEMA, seal=None)
    write(store, name, [make_point(900)])


def plain_one(made) -> None:
    """A plain collection at 0001."""
    plain(made, POINTS)


def serving(made, *, alias: bool) -> str:
    """The logical name."""
    return f"{made.name}_live" if alias else made.name


def under_alias(made) -> None:
    """A plain collection that was adopted under another name."""
    store = made.store()
    store.create_collection(made.name, SCHEMA, seal=None)
    write(store, made.name, [make_point(number) for number in range(POINTS)])
    store.close()
    adopt.adopt(made.settings(), made.name, alias=serving(made, alias=True))
    made.last = next(path.name.split("_")[0] for path in (made.root / "qdrant_migrations" / "versions").glob("*.py"))


def seal_of(made):
    """The seal of what has the name."""
    store = made.store()
    found = store.describe(made.name)
    store.close()
    return found.seal


@pytest.mark.parametrize("body", [ADD, HOLD], ids=["interrupted", "held"])
def test_the_only_copy_of_its_points_stays(deployment, monkeypatch, body):
    """What was built of it before has all that is left of its points: an abort, which ends the run, doesn't remove it."""
    plain(deployment, POINTS)
    deployment.revise("0002", body)
    with cut_at(monkeypatch, GoLive.kind, "preflight"):
        upgrade.upgrade(deployment.settings(), allow_gap=True)
    make_again(deployment)
    with pytest.raises(RepairNeededError, match="deleted and recreated"):
        upgrade.upgrade(deployment.settings(), allow_gap=True)
    before = there(deployment)
    for _ in range(2):
        with pytest.raises(RefusedError, match="the only copy of its points") as refused:
            back.abort(deployment.settings())
    assert there(deployment) == before
    assert f"{deployment.name}__g0001" in refused.value.message
    store = deployment.store()
    for physical in store.physical_names():
        if physical.startswith(f"{deployment.name}__"):
            store.drop_collection(by_hand(physical))
    store.close()
    back.abort(deployment.settings())
    assert list(there(deployment)) == [deployment.name]


@pytest.mark.parametrize("phase", ["fill", "index", "converge", "quality"])
@pytest.mark.parametrize("alias", [False, True], ids=["plain", "alias"])
def test_a_build_does_not_make_the_only_copy_equal_to_another_collection(deployment, monkeypatch, phase, alias):
    """It is interrupted at any of its phases: what it has built so far keeps every point, whatever is called next."""
    settings = under_alias if alias else plain_one
    settings(deployment)
    deployment.revise("0002", ADD.replace("{name}", serving(deployment, alias=alias)))
    with cut_at(monkeypatch, Build.kind, phase):
        upgrade.upgrade(deployment.settings(), allow_gap=True)
    make_again(deployment)
    before = there(deployment)
    for verb in (partial(upgrade.upgrade, allow_gap=True), back.abort):
        if phase != "fill" or verb is not back.abort:
            with pytest.raises((RefusedError, RepairNeededError)):
                verb(deployment.settings())
            assert there(deployment) == before


def test_a_pass_stops_where_its_source_is_made_again_under_it(deployment, monkeypatch):
    """What the new one lacks is not deleted in what was built, though the pass had begun with the old one."""
    plain_one(deployment)
    deployment.revise("0002", ADD)
    original = rebuild.prove

    def proven(work, sides, **more):
        make_again(deployment) if not work.store.capabilities.local else made_again_beside(work.store, deployment.name)
        return original(work, sides, **more)

    monkeypatch.setattr(rebuild, "prove", proven)
    with pytest.raises(RepairNeededError, match="deleted and recreated"):
        upgrade.upgrade(deployment.settings(), allow_gap=True)
    assert len(there(deployment)[f"{deployment.name}__g0001"]) == POINTS


def test_points_that_a_collection_lacks_because_it_was_made_again_are_not_deleted_in_what_serves(
    deployment, monkeypatch
):
    """The name of an adopted collection is an alias; its own name is used on, behind a swap that was interrupted."""
    under_alias(deployment)
    deployment.revise("0002", ADD.replace("{name}", serving(deployment, alias=True)))
    with cut_at(monkeypatch, GoLive.kind, "sweep"):
        upgrade.upgrade(deployment.settings())
    make_again(deployment)
    upgrade.upgrade(deployment.settings())
    assert len(there(deployment)[f"{serving(deployment, alias=True)}__g0001"]) == POINTS
    assert set(deployment.contents()) == {901}


@pytest.mark.parametrize("writes", ["refuse", "discard", "carry"])
def test_a_rollback_goes_back_to_no_collection_that_was_made_again(deployment, writes):
    """The collection that was adopted under an alias is the way back, until an application makes it new."""
    under_alias(deployment)
    deployment.revise("0002", ADD.replace("{name}", serving(deployment, alias=True)))
    upgrade.upgrade(deployment.settings())
    make_again(deployment)
    before = there(deployment)
    with pytest.raises((RefusedError, RepairNeededError)):
        back.rollback(deployment.settings(), "-1", writes=writes)
    assert there(deployment) == before
    assert len(deployment.contents(serving(deployment, alias=True))) == POINTS


@pytest.mark.parametrize("discard", [False, True])
def test_a_deletion_that_is_finished_later_does_not_reach_what_was_made_again(deployment, monkeypatch, discard):
    """The collection that was adopted under an alias is collected; killed behind its deletion, the name is used again."""
    under_alias(deployment)
    deployment.revise("0002", ADD.replace("{name}", serving(deployment, alias=True)))
    upgrade.upgrade(deployment.settings())
    real = retire._destroy

    def dies(*given):
        real(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retire, "_destroy", dies)
        with pytest.raises(KeyboardInterrupt):
            gc.gc(deployment.settings(), now=True, generations=[deployment.name], discard_writes=discard)
    store = deployment.store()
    store.create_collection(deployment.name, SCHEMA, seal=None)
    write(store, deployment.name, [make_point(900)])
    store.close()
    upgrade.upgrade(deployment.settings())
    gc.gc(deployment.settings())
    store = deployment.store()
    found = store.describe(deployment.name)
    store.close()
    assert found is not None
    assert "write_rate_limit" not in (found.schema.config.get("strict_mode_config") or {}), "it takes writes"
    assert set(deployment.contents()) == {901}
    assert len(deployment.contents(serving(deployment, alias=True))) == POINTS


@pytest.mark.parametrize("phase", ["change", "verify", "close"])
def test_what_was_begun_in_place_under_an_alias_does_not_go_on_in_another_collection(deployment, monkeypatch, phase):
    """The alias was put back by hand: the run stops, an abort ends it, and nothing is changed or sealed."""
    under_alias(deployment)
    name = serving(deployment, alias=True)
    deployment.revise("0002", INDEX.replace("{name}", name))
    with cut_at(monkeypatch, InPlace.kind, phase):
        upgrade.upgrade(deployment.settings())
    make_again(deployment)
    lead(deployment, deployment.name, name=name)
    for verb in (upgrade.upgrade, back.abort, upgrade.upgrade):
        with nullcontext() if verb is back.abort else pytest.raises(RepairNeededError):
            verb(deployment.settings())
        assert set(deployment.contents()) == {901}
        assert seal_of(deployment) is None


@pytest.mark.parametrize("phase", ["preflight", "change", "verify", "close"])
def test_what_was_begun_in_place_does_not_go_on_in_another_collection(deployment, monkeypatch, phase):
    """It is neither changed nor sealed, by the resumed run or by an abort; a human decides."""
    stops(deployment, monkeypatch, (INDEX, InPlace.kind, phase))


@pytest.mark.parametrize(
    ("body", "kind", "phase"),
    [
        *((FIX, EditPoints.kind, phase) for phase in ("select", "change", "close")),
        *((CALL, RunCode.kind, phase) for phase in ("change", "close")),
    ],
)
def test_points_of_another_collection_are_not_changed(deployment, monkeypatch, body, kind, phase):
    """The same for what changes points."""
    stops(deployment, monkeypatch, (body, kind, phase))


def stops(deployment, monkeypatch, place) -> None:
    """Interrupted at a phase, with the collection recreated: the run stops, ends with an abort, and seals nothing."""
    body, kind, phase = place
    plain(deployment, POINTS)
    deployment.revise("0002", body)
    with cut_at(monkeypatch, kind, phase):
        upgrade.upgrade(deployment.settings())
    make_again(deployment)
    for verb in (upgrade.upgrade, back.abort, upgrade.upgrade):
        with nullcontext() if verb is back.abort else pytest.raises(RepairNeededError):
            verb(deployment.settings())
        assert set(deployment.contents()) == {901}
        assert seal_of(deployment) is None
    with pytest.raises(RepairNeededError, match="no seal any more"):
        fix.fix(deployment.settings(), op.DeletePoints(deployment.name, ids=[901], reason="r", max_share=1))


def twice_rebuilt(made) -> str:
    """A collection that was adopted under an alias, rebuilt twice, and recreated by its application; what serves."""
    under_alias(made)
    name = serving(made, alias=True)
    for revision, body in (("0002", ADD), ("0003", ADD.replace('"b"', '"c"'))):
        made.revise(revision, body.replace("{name}", name))
        upgrade.upgrade(made.settings())
    store = made.store()
    store.drop_collection(by_hand(made.name))
    store.create_collection(made.name, SCHEMA, seal=None)
    write(store, made.name, [make_point(4), make_point(900)])
    store.close()
    return name


def test_an_erasure_does_not_reach_a_collection_that_was_made_again(deployment):
    """Its ids mean other points; what the ledger calls a generation of the collection is not it any more."""
    name = twice_rebuilt(deployment)
    done = program.delete_points(name, ids=[5], reason="r", erase=True, max_share=1.0, settings=deployment.settings()).done
    assert [one.changed for one in done] == [1]
    assert f"{deployment.name} was deleted and recreated by another client" in str(done[0].erasure)
    assert set(deployment.contents()) == {5, 901}
    assert 5 not in deployment.contents(f"{name}__g0001")


def test_a_rollback_repeats_no_deletion_in_a_collection_that_was_made_again(deployment):
    """What fixes have deleted goes where it leads back to, and further back only in what is a generation still."""
    name = twice_rebuilt(deployment)
    fix.fix(deployment.settings(), op.DeletePoints(name, ids=[5], reason="r", max_share=1.0))
    back.rollback(deployment.settings(), "0002")
    assert set(deployment.contents()) == {5, 901}
    assert len(deployment.contents(name)) == POINTS - 1


@pytest.mark.parametrize("phase", ["converge", "swap"])
@pytest.mark.parametrize("writes", ["refuse", "discard"])
def test_an_interrupted_rollback_does_not_go_on_to_a_collection_that_was_made_again(
    deployment, monkeypatch, phase, writes
):
    """The way back led to it when it was begun."""
    under_alias(deployment)
    name = serving(deployment, alias=True)
    deployment.revise("0002", ADD.replace("{name}", name))
    upgrade.upgrade(deployment.settings())
    with cut_at(monkeypatch, GoLive.kind, phase):
        back.rollback(deployment.settings(), "-1", writes=writes)
    make_again(deployment)
    before = there(deployment)
    with pytest.raises(RepairNeededError, match="deleted and recreated"):
        upgrade.upgrade(deployment.settings())
    assert there(deployment) == before
    assert len(deployment.contents(name)) == POINTS


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_snapshots_of_a_collection_that_was_made_again_are_its_own(deployment):
    """A clean-up of those of the generation that had the name before deletes none; what a run has made of it goes."""
    name = twice_rebuilt(deployment)
    store = deployment.store()
    made = [store.create_snapshot(deployment.name).name for _ in range(2)]
    store.close()
    done = snapshot.delete(deployment.settings(), collection=name, older_than=0.0, consent=True)
    assert set(done.spared) == set(made)
    store = deployment.store()
    left = {one.name for one in store.list_snapshots(deployment.name)}
    store.close()
    assert left == set(made)
