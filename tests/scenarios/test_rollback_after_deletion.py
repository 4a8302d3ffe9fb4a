"""What a fix or a revision has deleted does not come back by a rollback, and a rollback doesn't ask about it as a write."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, Deployment, counts, make_point, write
from tests.scenarios.cli import call
from tests.scenarios.test_erase import REKEY, ids_of

from qmigrate import op
from qmigrate.commands import fix, gc, restore, snapshot, status, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger

EVERYBODY = set(range(1, 13))
DELETION = """
def upgrade():
    return [op.DeletePoints("{name}", ids=[7], reason="r", max_share=1.0)]
"""


@pytest.fixture
def made(deployment: Deployment) -> Deployment:
    """At 0002, built from 0001; 3 and 4 were deleted since."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    delete(deployment, 3, 4)
    return deployment


def delete(made: Deployment, *ids: int) -> int:
    """By a fix; its number."""
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=ids, reason="r")).done
    return done.log


def journals(made: Deployment) -> int:
    """How many runs' journals are kept."""
    ledger = Ledger.open(made.settings().ledger.url)
    try:
        return sum(ledger.has_base(f"edit:{run.id}:0") for run in ledger.runs())
    finally:
        ledger.close()


def test_a_rollback_deletes_them_there_too_and_says_so(made):
    """No consent is asked for, nothing is carried; by a fix and by a revision; forth, back and gc see nothing odd."""
    made.revise("0003", DELETION)
    upgrade.upgrade(made.settings())
    assert ids_of(made, 1) == EVERYBODY
    done = call(made.root, "rollback", "0001")
    assert (done.code, "3 points that fixes have deleted since, here too" in done.out) == (0, True), done.text
    assert set(made.contents()) == EVERYBODY - {3, 4, 7}
    report = next(row.report for row in status.history(made.settings()).rows if row.direction == "rollback")
    assert (report["deleted_again"], counts(report["writes_since"])) == (3, (0, 0, 0))
    swept = gc.gc(made.settings(), made.name, now=True)
    assert (len(swept.collected), swept.spared) == (1, ())
    upgrade.upgrade(made.settings(), "0002")
    assert set(made.contents()) == EVERYBODY - {3, 4, 7}
    back.rollback(made.settings(), "0001")
    assert set(made.contents()) == EVERYBODY - {3, 4, 7}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("writes", ["discard", "carry", "now"])
def test_whatever_becomes_of_writes_they_stay_away(made, writes):
    """What the application wrote is asked about as always; a deletion that was undone is none."""
    fix.undo(made.settings(), delete(made, 5))
    store = made.store()
    store.delete(made.name, [6])
    write(store, made.name, [make_point(2, text="again")])
    store.close()
    with pytest.raises(RefusedError, match="1 point changed, 1 deleted"):
        back.rollback(made.settings(), "0001")
    back.rollback(made.settings(), "0001", writes=writes)
    lost = {3, 4} if writes == "discard" else {4, 6}
    assert set(made.contents()) == EVERYBODY - lost
    if writes == "carry":
        assert made.contents()[3][0]["text"] == "again"


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_through_a_rekey_and_over_two_rebuilds(deployment):
    """Deleted under the new id it goes under the old one too, wherever a further way back leads."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    deployment.revise("0003", REKEY)
    upgrade.upgrade(deployment.settings())
    delete(deployment, 4)
    back.rollback(deployment.settings(), "0002")
    assert set(deployment.contents()) == EVERYBODY - {3}
    assert ids_of(deployment, 1) == EVERYBODY - {3}
    store = deployment.store()
    assert list(store.aliases()) == [deployment.name]
    store.close()
    back.rollback(deployment.settings(), "0001", writes="discard")
    assert set(deployment.contents()) == EVERYBODY - {3}


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
def test_the_undo_of_a_restore_and_what_is_kept_for_it(made, monkeypatch):
    """Deleted after a restore, it is deleted behind it too; which points, is kept as long as there is a way back."""
    taken = snapshot.create(made.settings(), made.name, archived=True).rows[0].name
    restore.restore(made.settings(), made.name, taken, consent=True)
    made.extra["fixes"] = {"max_share": 1.0, "undo": "0s"}
    made.__post_init__()
    delete(made, 8)
    delete(made, 9)
    assert journals(made) == 3
    restore.undo(made.settings(), made.name, writes="discard")
    assert set(made.contents()) == EVERYBODY - {3, 4, 8, 9}
    gc.gc(made.settings(), made.name, now=True)
    assert journals(made) == 0


@pytest.mark.parametrize("qdrant_config", ["local"], indirect=True)
@pytest.mark.parametrize("writes", ["refuse", "discard", "carry"])
def test_what_the_same_run_has_deleted_behind_a_rebuild(deployment, writes):
    """A deletion that was applied in one run with the rebuild before it: a rollback over both leaves the point away."""
    deployment.extra["fixes"] = {"max_share": 1.0}
    deployment.__post_init__()
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(12, uuids=False)
    for number, body in (("0002", ADD), ("0003", DELETION)):
        deployment.revise(number, body)
    upgrade.upgrade(deployment.settings())
    assert set(deployment.contents()) == EVERYBODY - {7}
    back.rollback(deployment.settings(), "0001", writes=writes)
    assert set(deployment.contents()) == EVERYBODY - {7}
