"""A plain collection that an application deletes and makes again while a run is not finished: nothing of it is taken."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from tests.harness import ADD, INDEX, by_hand, make_point, write
from tests.scenarios.plain_names import SCHEMA, plain
from tests.scenarios.test_moved_by_hand import HOLD, cut_at, there

from qmigrate import op
from qmigrate.commands import fix, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.model.plan import EditPoints, GoLive, InPlace, RunCode

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
    store.create_collection(made.name, SCHEMA, seal=None, defer_index=False)
    write(store, made.name, [make_point(900)])
    store.close()


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
