"""An abort that waits for a run which is still alive: it undoes what the run has done by the end of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.conftest import clean
from tests.harness import ADD, CREATE, Deployment, make_point
from tests.scenarios.test_alias_moved_by_hand import cut_at, lead, there

from qmigrate import op
from qmigrate.commands import cutover, fix, run_job, upgrade
from qmigrate.commands import rollback as back
from qmigrate.engine import phases as steps
from qmigrate.errors import RefusedError
from qmigrate.model.plan import EditPoints, GoLive

POINTS = 10


pytestmark = pytest.mark.server


@pytest.fixture
def made(qdrant_server, tmp_path):
    """A collection with points, at 0001; two processes at a time need a server."""
    config = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 2}
    deployment = Deployment(tmp_path / "project", config, f"sqlite:///{tmp_path}/ledger.db")
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    yield deployment
    clean(deployment)


def while_it_waits(monkeypatch, what: Callable[[], None]) -> None:
    """The next that waits for a lease gets it only after this has happened."""
    real, due = run_job.hold_lease, [what]

    def hold(session, name, lock_timeout):
        if due:
            due.pop()()
        return real(session, name, lock_timeout)

    monkeypatch.setattr(run_job, "hold_lease", hold)


def goes_on_and_dies(made: Deployment, monkeypatch, kind: str, phase: str) -> None:
    """The interrupted run does this phase, and dies before it has written down that it is done."""

    def dying(run):
        def phase_of(step, work):
            run(step, work)
            raise KeyboardInterrupt

        return phase_of

    with monkeypatch.context() as patch:
        phases = tuple(replace(one, run=dying(one.run)) if one.name == phase else one for one in steps._CHECKLISTS[kind])
        patch.setitem(steps._CHECKLISTS, kind, phases)
        with pytest.raises(KeyboardInterrupt):
            upgrade.upgrade(made.settings())


def test_a_fix_that_went_on_meanwhile_is_taken_back(made, monkeypatch):
    """When the abort was planned it had changed nothing yet."""
    with cut_at(monkeypatch, EditPoints.kind, "export"):
        fix.fix(made.settings(), op.DeletePoints(made.name, ids=[0, 1, 3], reason="r", max_share=1))
    before = made.contents()
    while_it_waits(monkeypatch, lambda: goes_on_and_dies(made, monkeypatch, EditPoints.kind, "change"))
    back.abort(made.settings())
    assert made.contents() == before


def test_a_way_back_that_went_on_meanwhile_can_only_be_finished(made, monkeypatch):
    """It has begun to bring writes back since the abort was planned."""
    made.revise("0002", ADD)
    upgrade.upgrade(made.settings())
    lead(made, f"{made.name}__g0002", make_point(500))
    with cut_at(monkeypatch, GoLive.kind, "hold"):
        back.rollback(made.settings(), writes="carry")
    while_it_waits(monkeypatch, lambda: goes_on_and_dies(made, monkeypatch, GoLive.kind, "converge"))
    with pytest.raises(RefusedError, match="has begun to bring writes back"):
        back.abort(made.settings())
    assert 501 in there(made)[f"{made.name}__g0001"]
    upgrade.upgrade(made.settings(), "0001")
    assert 501 in made.contents()


def test_a_cut_over_that_another_process_has_asked_for_meanwhile_is_not_one_of_the_next(made, monkeypatch):
    """Two go-lives of one run wait one after the other: each for a consent of its own."""
    body = """
def upgrade():
    return [op.RenameVector("{name}", "%s", "%s", cutover="hold")]
"""
    made.extra["rebuild"] = {"fuse": False}
    made.__post_init__()
    made.revise("0002", body % ("a", "b"))
    made.revise("0003", body % ("b", "c"))
    upgrade.upgrade(made.settings())
    while_it_waits(monkeypatch, lambda: cutover.cutover(made.settings(), [made.name]))
    again = cutover.cutover(made.settings(), [made.name])
    assert [one.revisions for one in again.held] == [("0003",)]
    assert made.row().revision == "0002"


def test_a_run_that_was_begun_meanwhile_is_left(made, monkeypatch):
    """What was to be aborted is over by then; another one has begun and was interrupted."""
    made.revise("0002", ADD)
    with cut_at(monkeypatch, GoLive.kind, "preflight"):
        upgrade.upgrade(made.settings())

    def another() -> None:
        back.abort(made.settings())
        with cut_at(monkeypatch, GoLive.kind, "preflight"):
            upgrade.upgrade(made.settings())

    while_it_waits(monkeypatch, another)
    assert back.abort(made.settings()).outcomes == ()
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"
