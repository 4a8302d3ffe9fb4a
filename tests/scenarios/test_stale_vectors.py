"""A vector that is computed from the one it replaces: a process ends between a write and the base that has it."""

from __future__ import annotations

import signal
from dataclasses import replace

import httpx
import pytest
from tests.faults import forked
from tests.harness import write
from tests.scenarios import stale

from qmigrate.commands import rollback as back
from qmigrate.commands import upgrade
from qmigrate.engine import rebuild
from qmigrate.engine.golive import golive
from qmigrate.errors import StoreError
from qmigrate.ledger import Lease, Ledger

POINTS = 12


def begin(deployment) -> None:
    """A loaded collection with a pending rebuild."""
    deployment.revise("0001", stale.CREATE)
    upgrade.upgrade(deployment.settings())
    put(deployment, *(stale.point(number) for number in range(1, POINTS + 1)))
    deployment.revise("0002", stale.TURN)


def put(deployment, *points) -> None:
    """The application writes."""
    store = deployment.store()
    write(store, deployment.name, points)
    store.close()


def after(monkeypatch, module, name: str, action) -> None:
    """Do something right behind every call of a function."""
    original = getattr(module, name)

    def wrapped(work, *args, **kwargs):
        result = original(work, *args, **kwargs)
        action(work)
        return result

    monkeypatch.setattr(module, name, wrapped)


def vectors(deployment) -> dict[int, list[float]]:
    """Id -> the vector that serves."""
    return {identifier: found["a"] for identifier, (_, found) in deployment.contents().items()}


def expected() -> dict[int, list[float]]:
    """What the new generation must hold."""
    return {number: stale.values(number)[::-1] for number in range(1, POINTS + 1)}


def test_an_interrupted_pass_leaves_no_stale_vector(deployment, monkeypatch):
    """v1 is filled, v2 is redone, the run ends before the base is committed, v1 is written back: v1 goes live."""
    begin(deployment)
    old = f"{deployment.name}__g0001"
    after(monkeypatch, rebuild, "copy_ranges", lambda work: write(work.store, old, [stale.point(5, turned=True)]))

    def ends(self, *args, **kwargs):
        raise StoreError("the process ends here")

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "commit_base", ends)
        with pytest.raises(StoreError, match="ends here"):
            upgrade.upgrade(deployment.settings())
    shadow = deployment.contents(f"{deployment.name}__g0002")
    assert shadow[5][1]["a"] == stale.values(5, turned=True)[::-1]
    put(deployment, stale.point(5))
    monkeypatch.undo()
    upgrade.upgrade(deployment.settings())
    assert vectors(deployment) == expected()
    with_no_dirty(deployment)


@pytest.mark.parametrize("label", ["before commit_base", "after mark_dirty"])
def test_a_killed_pass_leaves_no_stale_vector(deployment, label):
    """The same with SIGKILL, before the base is committed and before the points are written."""
    begin(deployment)
    killed = forked.run("tests.faults.child_stale", str(deployment.config), label)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    put(deployment, stale.point(5))
    upgrade.upgrade(deployment.settings())
    assert vectors(deployment) == expected()
    with_no_dirty(deployment)


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_an_interrupted_carry_leaves_no_stale_vector(deployment, monkeypatch):
    """v2 comes late and is carried, the run ends before that is noted, v1 comes later still: v1 serves, and is listed."""
    begin(deployment)
    old = f"{deployment.name}__g0001"
    swap = golive.swap

    def late(work, target, names):
        write(work.store, old, [stale.point(5, turned=True)])
        swap(work, target, names)

    carry = Lease.carry

    def ends(self, run, step, identifier, before, entry, state, *doubt):
        if state == "done":
            raise StoreError("the process ends here")
        carry(self, run, step, identifier, before, entry, state, *doubt)

    with monkeypatch.context() as patch:
        patch.setattr(golive, "swap", late)
        patch.setattr(Lease, "carry", ends)
        with pytest.raises(StoreError, match="ends here"):
            upgrade.upgrade(deployment.settings())
    assert vectors(deployment)[5] == stale.values(5, turned=True)[::-1]
    # The one write that the fence of a minute later lets pass.
    limits = {"strict_mode_config": {"write_rate_limit": 1000}}
    httpx.patch(f"{deployment.qdrant['url']}/collections/{old}", json=limits).raise_for_status()
    store = deployment.store()
    write(store, old, [stale.point(5)])
    store.close()
    result = upgrade.upgrade(deployment.settings())
    assert vectors(deployment) == expected()
    assert 5 in named(result)


def named(result) -> set:
    """The ids that the last sweep names."""
    reports = [facts["sweep"] for facts in result.outcomes[-1].report.values() if isinstance(facts.get("sweep"), dict)]
    return {identifier for identifier, _ in reports[-1]["listed"]["named"]}


def with_no_dirty(deployment) -> None:
    """What is committed is known again, and after a way back too."""
    ledger = Ledger.open(deployment.ledger_url)
    assert list(ledger.dirty(f"{deployment.name}__g0002")) == []
    ledger.close()
    back.rollback(deployment.settings(), "0001")
    assert vectors(deployment) == {number: stale.values(number) for number in range(1, POINTS + 1)}


@pytest.mark.server
@pytest.mark.parametrize("qdrant_config", ["server"], indirect=True)
def test_a_late_vector_beside_another_write_is_listed(deployment, monkeypatch):
    """Both sides took a vector of one id, its payload stayed: the new side's value is kept, and the id is named."""
    begin(deployment)
    old = f"{deployment.name}__g0001"
    swap = golive.swap

    def late(work, target, names):
        write(work.store, old, [stale.point(5, turned=True)])
        swap(work, target, names)
        write(work.store, deployment.name, [replace(stale.point(5), vectors={"a": [7.0] * 4})])

    monkeypatch.setattr(golive, "swap", late)
    result = upgrade.upgrade(deployment.settings())
    assert vectors(deployment)[5] == [7.0] * 4
    assert 5 in named(result)
