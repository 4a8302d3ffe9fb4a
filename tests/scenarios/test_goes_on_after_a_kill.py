"""Who takes over from a dead process copies and proves at once; what that one had under way is found behind the proof."""

from __future__ import annotations

import pytest
from tests.harness import ADD, CREATE, Deployment, make_point, write
from tests.scenarios.numbered import numbered
from tests.scenarios.test_stop_and_continue import interrupted

from qmigrate.commands import upgrade
from qmigrate.engine.prove import proof
from qmigrate.store.local.local import LocalStore

POINTS = 30
DROPPED = """
def upgrade():
    return [
        op.AddVector("{name}", "b", VectorParams(size=4, distance=Distance.DOT),
                     values=Compute(lambda point: [float(place) for place in point.vectors["a"][:4]])),
    ]
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A loaded collection whose requests outlive their process by a second."""
    numbered(monkeypatch)
    monkeypatch.setattr(LocalStore, "request_timeout", 1.0)
    deployment = Deployment(tmp_path / "project", {"path": str(tmp_path / "q")}, f"sqlite:///{tmp_path}/l.db")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    return deployment


def watched(monkeypatch, land) -> list[str]:
    """What the proof does, in order; `land` is called at the end of its wait."""
    order, full, delta, wait = [], proof.last_pass, proof.delta_pass, proof.await_late

    def read(*args):
        order.append("all points")
        return full(*args)

    def listed(*args):
        report, count = delta(*args)
        order.append(f"{count} points")
        return report, count

    def waited(work):
        wait(work)
        order.append("the wait is over")
        land(work.store)

    monkeypatch.setattr(proof, "last_pass", read)
    monkeypatch.setattr(proof, "delta_pass", listed)
    monkeypatch.setattr(proof, "await_late", waited)
    return order


def test_what_lands_behind_the_proof_is_found_by_another_listing(made, monkeypatch):
    """All points are read once, while it may still land; then only what it has written."""
    made.revise("0002", ADD)
    interrupted(made, monkeypatch, KeyboardInterrupt())

    def land(store):
        stale = make_point(3, text="of the dead holder")
        write(store, f"{made.name}__g0002", [stale, make_point(100)])

    order = watched(monkeypatch, land)
    upgrade.upgrade(made.settings())
    assert order[:3] == ["all points", "the wait is over", "2 points"]
    found = made.contents()
    assert found[4][0]["text"] == "the text number 3"
    assert len(found[4][1]["b"]) == 16
    assert found.keys() == set(range(1, POINTS + 1))


def test_where_nothing_landed_nothing_is_read_again(made, monkeypatch):
    """The listing behind the wait shows that."""
    made.revise("0002", ADD)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    order = watched(monkeypatch, lambda _store: None)
    upgrade.upgrade(made.settings())
    assert order[:3] == ["all points", "the wait is over", "0 points"]


def test_where_the_target_explains_no_vector_nothing_goes_on(made, monkeypatch):
    """What is computed of what the target may lack: the copy itself waits, and the proof has nothing to wait for."""
    made.revise("0002", DROPPED)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    order = watched(monkeypatch, lambda _store: None)
    upgrade.upgrade(made.settings())
    assert "the wait is over" not in order


def test_without_versions_the_proof_waits(made, monkeypatch):
    """It reads all points once, behind the wait."""
    made.revise("0002", ADD)
    interrupted(made, monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(proof, "can_list", lambda work, sides: False)
    monkeypatch.setattr(proof, "lists", lambda work, sides: (None, None))
    order = watched(monkeypatch, lambda store: write(store, f"{made.name}__g0002", [make_point(3, text="dead")]))
    upgrade.upgrade(made.settings())
    assert order[:2] == ["the wait is over", "all points"]
    assert made.contents()[4][0]["text"] == "the text number 3"
