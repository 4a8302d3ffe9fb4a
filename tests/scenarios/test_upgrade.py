"""The main job, end to end, on every combination of store and ledger that this machine has."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, INDEX, make_point, write

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.errors import RefusedError


@pytest.fixture
def three(deployment):
    """A deployment with three revisions: create, index, a second vector."""
    deployment.revise("0001", CREATE)
    deployment.revise("0002", INDEX)
    deployment.revise("0003", ADD)
    return deployment


def test_plan_upgrade_search_and_rollback(three):
    """From an empty folder to a second vector on every point and back again, nothing lost on the way."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(300)
    before = three.contents()
    assert len(before) == 300
    planned = upgrade.plan(settings)
    assert [closing.revision for closing in planned.collections[0].job.closes] == ["0002", "0003"]
    upgrade.upgrade(settings)
    after = three.contents()
    assert {key: (payload, {"a": vectors["a"]}) for key, (payload, vectors) in after.items()} == before
    assert all(len(vectors["b"]) == 16 for _, vectors in after.values())
    row = three.row()
    assert (row.revision, row.state, row.points) == ("0003", "ready", 300)
    assert not upgrade.upgrade(settings).outcomes
    back.rollback(settings, "0001")
    assert three.contents() == before
    assert [row.direction for row in status.history(settings).rows][:1] == ["rollback"]
    upgrade.upgrade(settings)
    assert three.contents() == after
    assert len(status.history(settings).rows) == 7


def test_rollback_refuses_to_lose_writes(three):
    """What was written since is counted; going back needs a choice, and each choice does what it says."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(50)
    before = three.contents()
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100), make_point(1, text="changed")])
    store.delete(three.name, [1])
    store.close()
    with pytest.raises(RefusedError) as refused:
        back.rollback(settings, "0001")
    assert refused.value.exit_code == 10
    assert refused.value.facts["writes_since"] == {"added": 1, "changed": 1, "deleted": 1}
    assert three.row().revision == "0003"
    back.rollback(settings, "0001", writes="carry")
    carried = three.contents()
    assert carried.keys() == before.keys() - {1} | {101}
    assert carried[2][0]["text"] == "changed"
    assert set(carried[2][1]) == {"a"}


def test_rollback_discarding_writes_gives_the_old_points_back(three):
    """With consent, the parent generation comes back exactly as it was."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(20)
    before = three.contents()
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100)])
    store.close()
    back.rollback(settings, "0001", writes="discard")
    assert three.contents() == before


def test_rollback_now_flips_first_and_carries_afterwards(three):
    """In an outage the name goes back first; what was written since is carried by the sweep."""
    settings = three.settings()
    upgrade.upgrade(settings, "0001")
    three.load(20)
    upgrade.upgrade(settings)
    store = three.store()
    write(store, three.name, [make_point(100)])
    store.close()
    back.rollback(settings, "0001", writes="now")
    found = three.contents()
    assert 101 in found
    assert set(found[101][1]) == {"a"}


def test_rollback_to_base_takes_the_name_away(three):
    """Back to base the name is gone; the way forward makes the collection again."""
    settings = three.settings()
    upgrade.upgrade(settings)
    back.rollback(settings, "base")
    store = three.store()
    assert three.name not in store.aliases()
    store.close()
    upgrade.upgrade(settings)
    assert three.row().revision == "0003"
