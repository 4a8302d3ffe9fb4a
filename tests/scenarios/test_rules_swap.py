"""The rules around a swap: writes and names at the moments that each of them is for, made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios import stale
from tests.scenarios.plain_names import plain
from tests.scenarios.test_alias_moved_by_hand import collection, targets
from tests.scenarios.test_gc import physical, rebuilt, type_of
from tests.scenarios.test_late_writes import sweep_of
from tests.scenarios.test_stale_vectors import after, begin, expected, vectors

from qmigrate.commands import gc, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine.golive import freeze, golive
from qmigrate.engine.prove import proof, sweep
from qmigrate.engine.retire import retire
from qmigrate.errors import QmigrateError, RepairNeededError, StoreError
from qmigrate.model.names import is_own_alias

POINTS = 12


def loaded(made: Deployment, **rebuild: str) -> Deployment:
    """A loaded collection with a rebuild pending, under settings of the section ``rebuild``."""
    made.extra["rebuild"] = rebuild
    made.__post_init__()
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    made.load(POINTS, uuids=False)
    made.revise("0002", ADD)
    return made


def old(made: Deployment) -> str:
    """The generation that is left."""
    return f"{made.name}__g0001"


def passes(store, physical: str, *points) -> None:
    """Writes of a client that come through a fence, as one does when its token is back; the fence stands behind them."""
    alias = next(one for one, at in store.aliases().items() if is_own_alias(one, at) and at == physical)
    store.lift_fence(alias, {})
    write(store, physical, points)
    store.fence(alias)


def once(action: Callable) -> Callable:
    """The first time only."""
    done: list[bool] = []

    def acting(work) -> None:
        if not done:
            done.append(True)
            action(work)

    return acting


on_server = pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)


def test_a_vector_that_only_the_last_pass_sees_is_redone_and_is_no_write_since(deployment, monkeypatch):
    """In its payload nothing has changed; and the base that it leaves behind is that of the last pass."""
    begin(deployment)
    late = once(lambda work: write(work.store, old(deployment), [stale.point(5, turned=True)]))
    original = proof.last_pass

    def last_pass(work, *args):
        late(work)
        return original(work, *args)

    monkeypatch.setattr(proof, "last_pass", last_pass)
    upgrade.upgrade(deployment.settings())
    assert vectors(deployment) == {**expected(), 5: stale.values(5, turned=True)[::-1]}
    back.rollback(deployment.settings(), "0001")
    assert vectors(deployment)[5] == stale.values(5, turned=True)


@pytest.mark.server
@on_server
def test_a_write_behind_the_last_pass_and_before_its_end_is_carried(deployment, monkeypatch):
    """The ids that vouch for a reading are read first: a write behind its reading shows as one."""
    loaded(deployment)
    late = once(lambda work: write(work.store, old(deployment), [make_point(3, text="late")]))
    after(monkeypatch, proof, "last_pass", late)
    upgrade.upgrade(deployment.settings())
    assert deployment.contents()[4][0]["text"] == "late"


def test_every_node_shows_the_name_before_the_sweep(deployment, monkeypatch):
    """A node that is behind leads writers to the old generation: nothing is compared or fenced before it has the name."""
    loaded(deployment)
    kind = type_of(deployment)
    aliases_of_nodes = kind.aliases_of_nodes
    behind = [True, True, True]

    def answers(self):
        (now,) = aliases_of_nodes(self)
        if now.get(deployment.name) == f"{deployment.name}__g0002" and behind:
            behind.pop()
            return (now, {**now, deployment.name: old(deployment)})
        return (now, now)

    monkeypatch.setattr(kind, "aliases_of_nodes", answers)
    seen: list[bool] = []
    original = golive.sweep
    monkeypatch.setattr(golive, "sweep", lambda *args, **more: seen.append(not behind) or original(*args, **more))
    upgrade.upgrade(deployment.settings())
    assert seen == [True]


@pytest.mark.server
@on_server
def test_a_write_during_the_sweep_is_found_by_another_round(deployment, monkeypatch):
    """One write before the swap, another behind the reading of the sweep; what was carried first isn't taken for foreign."""
    loaded(deployment)
    swap = golive.swap

    def late(work, target, names):
        write(work.store, old(deployment), [make_point(3, text="before the swap")])
        swap(work, target, names)

    monkeypatch.setattr(golive, "swap", late)
    read = once(lambda work: passes(work.store, old(deployment), make_point(5, text="during the sweep")))
    after(monkeypatch, sweep, "_read_and_carry", read)
    report = sweep_of(upgrade.upgrade(deployment.settings()))
    found = deployment.contents()
    assert (found[4][0]["text"], found[6][0]["text"]) == ("before the swap", "during the sweep")
    assert (report["carried"], report["listed"]["count"], report["rounds"]) == (2, 0, 2)


@pytest.mark.server
@on_server
def test_a_freeze_that_a_write_has_passed_is_proven_again(deployment, monkeypatch):
    """It came between the reading of its id and the end of the proof: the closing barrier shows it, nothing is late."""
    loaded(deployment, writes="freeze")
    late = once(lambda work: passes(work.store, old(deployment), make_point(3, text="through the fence")))
    # Passes come before the freeze, too.
    after(monkeypatch, freeze, "prove", lambda work: late(work) if work.frozen is not None else None)
    result = upgrade.upgrade(deployment.settings())
    assert deployment.contents()[4][0]["text"] == "through the fence"
    assert sweep_of(result)["carried"] == 0


@pytest.mark.server
@on_server
def test_a_freeze_that_has_grown_old_is_renewed_before_the_swap(deployment, monkeypatch):
    """A token may be back: what came through is in the new generation when the name moves, not carried after it."""
    loaded(deployment, writes="freeze")
    late = once(lambda work: passes(work.store, old(deployment), make_point(3, text="a minute later")))
    after(monkeypatch, freeze, "prove_frozen", late)
    monkeypatch.setattr(freeze, "TOKEN_RETURNS", -1.0)
    result = upgrade.upgrade(deployment.settings())
    assert deployment.contents()[4][0]["text"] == "a minute later"
    assert sweep_of(result)["carried"] == 0


@pytest.mark.server
@on_server
def test_a_freeze_behind_a_name_that_has_moved_stays_as_the_fence(deployment, monkeypatch):
    """What fails behind the swap lifts nothing: the old generation would take writes that no name shows."""
    loaded(deployment, writes="freeze")

    def ends(*_args):
        raise StoreError("not every node shows it yet")

    with monkeypatch.context() as patch:
        patch.setattr(golive, "read_back", ends)
        with pytest.raises(StoreError, match="not every node"):
            upgrade.upgrade(deployment.settings())
    store = deployment.store()
    with pytest.raises(QmigrateError, match="(?i)rate limit|429"):
        write(store, old(deployment), [make_point(200)])
    store.close()
    upgrade.upgrade(deployment.settings())
    assert len(deployment.contents()) == POINTS


@pytest.mark.server
@on_server
def test_no_write_is_acknowledged_right_before_a_plain_collection_is_deleted(deployment, monkeypatch):
    """It would be gone with the collection: the server refuses it, since its writes are frozen since the proof."""
    made = deployment
    made.extra["rebuild"] = {"plain_names": "gap"}
    made.__post_init__()
    plain(made)
    made.revise("0002", ADD)
    kind = type_of(made)
    real, acknowledged = kind.drop_collection, []

    def late(self, permit):
        if permit.physical == made.name:
            with suppress(QmigrateError):
                write(self, made.name, [make_point(7777)])
                acknowledged.append(7778)
        real(self, permit)

    monkeypatch.setattr(kind, "drop_collection", late)
    upgrade.upgrade(made.settings(), allow_gap=True)
    assert set(acknowledged) <= made.contents().keys()


def test_a_name_that_moves_between_the_proof_and_the_swap_is_left_where_it_is(deployment, monkeypatch):
    """Another client points it elsewhere in that moment: seen by the last look, not overwritten."""
    loaded(deployment)
    other = collection(deployment, f"{deployment.name}_x")
    moves = golive.moves

    def late(step, work):
        work.store.create_alias(deployment.name, other)
        return moves(step, work)

    monkeypatch.setattr(golive, "moves", late)
    with pytest.raises(RepairNeededError, match=f"is on {other}"):
        upgrade.upgrade(deployment.settings())
    assert targets(deployment)[deployment.name] == other


@pytest.mark.server
@on_server
def test_a_rollback_that_counts_afterwards_knows_what_both_sides_were(deployment):
    """``--now`` flips first: what was written since is found by the base with its sides exchanged, and nothing else is."""
    loaded(deployment)
    upgrade.upgrade(deployment.settings())
    deployment.load(1, start=3, uuids=False)
    store = deployment.store()
    write(store, deployment.name, [make_point(3, text="since")])
    store.close()
    result = back.rollback(deployment.settings(), "0001", writes="now")
    assert deployment.contents()[4][0]["text"] == "since"
    assert sweep_of(result)["carried"] == 1


def test_a_name_that_comes_to_an_old_generation_behind_its_check_spares_it(deployment, monkeypatch):
    """Names are read once more right before the deletion: another client uses it from now on."""
    made = rebuilt(deployment)
    snapshots = retire._snapshots

    def late(step, work):
        work.store.create_alias(f"{made.name}_mine", old(made))
        return snapshots(step, work)

    monkeypatch.setattr(retire, "_snapshots", late)
    [spared] = gc.gc(made.settings(), made.name).spared
    assert "is in use" in spared.reason
    assert physical(made) == ["__g0001", "__g0002"]
