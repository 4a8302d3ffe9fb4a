"""upgrade --rehearse: the real operations, proof and speed on a sample, and nothing of it stays, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness import ADD, CREATE, INDEX, Deployment, make_point
from tests.scenarios.cli import call, left, refused
from tests.scenarios.test_rollback import RENAME, put

from qmigrate.commands import gc, rehearse, upgrade
from qmigrate.commands import rollback as back
from qmigrate.errors import EmbedError, PlanError, RefusedError, StoppedError, VerificationError
from qmigrate.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
POINTS = 60
ALSO = """
def upgrade():
    return [op.SetAlias("{name}_also", "{name}"), op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.INTEGER)]
"""
FAILING = """
def spoil(point):
    if point.payload["n"] % 19 == 18:
        raise ValueError("no such thing")
    return point.payload


def upgrade():
    return [op.TransformPoints("{name}", spoil)]
"""


@pytest.fixture
def made(deployment):
    """A loaded collection at 0001."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS)
    return deployment


def basis(made: Deployment) -> str:
    """What plans are made on."""
    return upgrade.plan(made.settings()).collections[0].job.basis


def check_nothing_left(made: Deployment, before, names) -> None:
    """Neither in Qdrant nor in the ledger, but for the run's own record."""
    now = left(made)
    assert (now.names, now.history, now.generations, now.open_runs) == (before.names, before.history, before.generations, ())
    assert made.contents() == names


def test_a_rehearsal_proves_a_sample_and_leaves_nothing(made):
    """Two rebuilds and in-place work, on 20 of 60 points; plans made before it stay good."""
    made.extra["rebuild"] = {"fuse": False}
    made.__post_init__()
    made.revise("0002", ADD)
    made.revise("0003", INDEX)
    made.revise("0004", RENAME)
    before, contents, planned_on = left(made), made.contents(), basis(made)
    result = rehearse.rehearse(made.settings(), 20)
    [one] = result.rehearsals
    assert (one.collection, one.sampled, one.points, one.proven, one.embedded) == (made.name, 20, POINTS, 20, 0)
    assert one.revisions == ("0002", "0003", "0004")
    assert one.per_second > 0
    assert one.projected_seconds > 0
    check_nothing_left(made, before, contents)
    assert basis(made) == planned_on
    assert made.row().revision == "0001"
    ledger = Ledger.open(made.ledger_url)
    newest = ledger.runs(made.name)[0]
    assert (newest.verb, newest.state) == ("rehearse", "done")
    assert not ledger.has_base(f"{made.name}__r0002")
    ledger.close()
    upgrade.upgrade(made.settings())
    assert (made.row().revision, made.row().generation) == ("0004", "g0003")


def test_all_points_are_taken_where_there_are_fewer(made):
    """N is an upper bound; filled vectors of the sample are checked like those of the run."""
    made.revise("0002", ADD)
    [one] = rehearse.rehearse(made.settings(), 5000).rehearsals
    assert (one.sampled, one.proven, one.embedded) == (POINTS, POINTS, POINTS)


def test_in_place_work_alone_is_rehearsed_on_a_throwaway(made):
    """The live collection gets no index, and no alias leads to the throwaway."""
    made.revise("0002", ALSO)
    before, contents = left(made), made.contents()
    [one] = rehearse.rehearse(made.settings(), 10).rehearsals
    assert (one.sampled, one.proven, one.projected_seconds) == (10, None, None)
    check_nothing_left(made, before, contents)
    store = made.store()
    assert store.describe(made.name).schema.indexes == {}
    store.close()


def test_a_creation_is_rehearsed_empty(deployment):
    """What the server refuses about a new collection shows before there is one."""
    deployment.revise("0001", CREATE)
    [one] = rehearse.rehearse(deployment.settings(), 10).rehearsals
    assert (one.sampled, one.proven) == (0, None)
    assert left(deployment).names == ()
    assert call(deployment.root, "upgrade", "--rehearse", "3").code == 0
    assert left(deployment).names == ()


def test_a_point_that_cannot_be_embedded_shows_as_in_the_real_run(made):
    """Exit 2 with the id, and nothing is left."""
    point = make_point(500)
    point.payload["text"] = ""
    put(made, point)
    made.revise("0002", ADD)
    before, contents = left(made), made.contents()
    with pytest.raises(EmbedError, match="501") as caught:
        rehearse.rehearse(made.settings(), 5000)
    assert caught.value.hint == "this was a rehearsal: nothing is left of it"
    check_nothing_left(made, before, contents)
    refused(made.root, ("upgrade", "--rehearse", "5000"), 2, "501")


def test_a_function_that_fails_shows_as_in_the_real_run(made):
    """Exit 2 with the first id."""
    made.revise("0002", FAILING)
    before, contents = left(made), made.contents()
    with pytest.raises(PlanError, match="no such thing"):
        rehearse.rehearse(made.settings(), 5000)
    check_nothing_left(made, before, contents)


def test_a_proof_that_fails_shows_as_in_the_real_run(made, monkeypatch):
    """Exit 5, and nothing is left."""
    from qmigrate.engine.points.compare import Judge

    made.revise("0002", ADD)
    before, contents = left(made), made.contents()
    monkeypatch.setattr(Judge, "why_not", lambda *args: "is not what it should be")
    monkeypatch.setattr(Judge, "proven", lambda *args: None)
    with pytest.raises(VerificationError) as caught:
        rehearse.rehearse(made.settings(), 20)
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    check_nothing_left(made, before, contents)


def test_a_stopped_rehearsal_leaves_nothing(made, monkeypatch):
    """Ctrl-C in the fill: it is cleaned up before the command ends."""
    from qmigrate.engine import rebuild

    made.revise("0002", ADD)
    before, contents = left(made), made.contents()

    def stop(*args):
        raise StoppedError("stopped at a checkpoint, as asked")

    monkeypatch.setattr(rebuild, "copy_ranges", stop)
    with pytest.raises(StoppedError):
        rehearse.rehearse(made.settings(), 20)
    monkeypatch.undo()
    check_nothing_left(made, before, contents)


def kill_in(made: Deployment, label: str) -> None:
    """A rehearsal in a process of its own, killed right before a journal write."""
    command = [sys.executable, str(ROOT / "tests/faults/child.py"), str(made.config), "rehearse", "head", "-", "-", label]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("verb", ["upgrade", "rehearse", "rollback", "abort"])
def test_the_next_command_removes_what_a_killed_rehearsal_left(made, verb):
    """Kill -9 in the middle: whatever comes next finds it by its run, and then does its own work."""
    made.revise("0002", ADD)
    before, contents = left(made), made.contents()
    kill_in(made, "before journal fill done")
    assert len(left(made).names) > len(before.names)
    if verb == "upgrade":
        upgrade.upgrade(made.settings())
        assert made.row().revision == "0002"
        names = left(made).names
        assert not [name for name in names if "__r0" in name]
        return
    if verb == "rehearse":
        assert rehearse.rehearse(made.settings(), 20).rehearsals[0].proven == 20
    elif verb == "abort":
        back.abort(made.settings())
    else:
        back.rollback(made.settings(), "0001")
    check_nothing_left(made, before, contents)


def test_leftovers_without_a_run_are_recognised_by_name_and_seal(made):
    """The ledger has nothing of them any more: gc and the next rehearsal remove what carries its own seal."""
    made.revise("0002", ADD)
    store = made.store()
    schema = store.describe(made.name).schema.with_(aliases=())
    seal = store.describe(made.name).seal
    store.create_collection(f"{made.name}__r0001", schema, seal={**seal, "state": "building", "generation": -1})
    store.create_collection(f"{made.name}__r0009", schema, seal=None)
    store.close()
    assert made.row().state == "pending"
    result = gc.review(made.settings(), made.name)
    assert [(one.generation, one.reason) for one in result.going] == [(f"{made.name}__r0001", "left by a rehearsal")]
    rehearse.rehearse(made.settings(), 10)
    assert f"{made.name}__r0001" not in left(made).names
    assert f"{made.name}__r0009" in left(made).names


def test_throwaways_are_no_collections_of_anybody(made):
    """Status and globs don't show them."""
    made.revise("0002", ADD)
    kill_in(made, "before journal fill done")
    from qmigrate.commands import status

    names = [row.name for row in status.status(made.settings()).collections]
    assert not [name for name in names if "__r0" in name]


def test_an_unfinished_upgrade_is_finished_first(made, monkeypatch):
    """There is no state to rehearse on: exit 10 has how to get one."""
    from qmigrate.engine.golive import golive

    made.revise("0002", ADD)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(golive, "swap", stop)
    with pytest.raises(KeyboardInterrupt):
        upgrade.upgrade(made.settings())
    monkeypatch.undo()
    with pytest.raises(RefusedError, match="is not finished"):
        rehearse.rehearse(made.settings(), 10)
    assert len(left(made).open_runs) == 1
    upgrade.upgrade(made.settings())
    assert made.row().revision == "0002"


def test_the_command_line_shows_how_it_went(made):
    """For people and as JSON; what doesn't go together is refused; nothing to rehearse is reported."""
    made.revise("0002", ADD)
    shown = call(made.root, "upgrade", "--rehearse", "15")
    assert shown.code == 0, shown.text
    for words in ("15 of 60 points", "15 of 15", "so all of it takes", "Nothing is left of the rehearsal"):
        assert words in shown.out, shown.out
    data = call(made.root, "upgrade", "--rehearse", "15", "--json").json
    assert data["schema"] == "qmigrate.upgrade/1"
    assert data["data"]["rehearsals"][0]["proven"] == 15
    for extra in ("--dry-run", "--no-snapshot"):
        assert call(made.root, "upgrade", "--rehearse", "15", extra).code == 2
    assert call(made.root, "upgrade", "--rehearse", "0").code == 2
    assert call(made.root, "upgrade").code == 0
    assert "Nothing to do" in call(made.root, "upgrade", "--rehearse", "15").out
