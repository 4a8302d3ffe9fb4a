"""SIGKILL around every journal write and request of a clone, then the same command, or abort: nothing else is left."""

from __future__ import annotations

import signal

import pytest
from tests.conftest import clean
from tests.faults.stride import thinned
from tests.faults.test_kill import child, points_of
from tests.harness import CREATE, Deployment

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.model.names import is_own_alias

POINTS = 40
RETYPE = """
def upgrade():
    return [
        op.CreatePayloadIndex("{name}", "n", PayloadSchemaType.FLOAT),
        op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24), metadata={{"team": "search"}}),
    ]
"""
INDEXED = CREATE.replace(")})]", ")}), op.CreatePayloadIndex(\"{name}\", \"n\", PayloadSchemaType.INTEGER)]")
#: Where a run is killed that is then aborted.
ABORTED_AT = (
    "before create_snapshot",
    "before journal snapshot done",
    "before recover_snapshot",
    "before the end of recover_snapshot",
    "after recover_snapshot",
    "before write_seal",
    "before journal converge running",
)

#: Minutes: see scripts/test --nightly.
pytestmark = [pytest.mark.server, pytest.mark.nightly]


@pytest.fixture
def prepared(qdrant_server, tmp_path):
    """Makes loaded deployments with a revision pending that becomes a clone; removes them at the end."""
    made = []

    def make(name: str) -> Deployment:
        folder = tmp_path / name
        qdrant = {"url": qdrant_server.url, "grpc_port": qdrant_server.grpc_port, "timeout": 1}
        one = Deployment(folder / "project", qdrant, f"sqlite:///{folder}/ledger.db")
        one.revise("0001", INDEXED)
        upgrade.upgrade(one.settings(), "0001")
        one.load(POINTS)
        one.revise("0003", RETYPE)
        made.append(one)
        return one

    yield make
    for one in made:
        clean(one)


def recorded(prepared, tmp_path) -> tuple[Deployment, list[str]]:
    """A clone that nothing disturbs, and the points that it passes."""
    probe = prepared("probe")
    log = tmp_path / "points"
    done = child(probe, "upgrade", "head", log=log)
    assert done.returncode == 0, done.stderr
    assert strategy_of(probe) == "clone"
    return probe, log.read_text().splitlines()


def strategy_of(made: Deployment) -> str | None:
    """How 0003 was applied."""
    return next(row.strategy for row in status.history(made.settings()).rows if row.revision == "0003")


def generations(made: Deployment) -> list[str]:
    """Physical names, and no own alias is left next to them."""
    store = made.store()
    try:
        assert not [one for one in store.aliases().items() if one[0].startswith(made.name) and is_own_alias(*one)]
        return [name for name in store.physical_names() if name.startswith(made.name)]
    finally:
        store.close()


def check_finished(made: Deployment, expected: dict) -> None:
    """Everything is there, once, cloned, sealed as live; what was given up on the way is gone."""
    assert made.contents() == expected
    row = made.row()
    assert (row.revision, row.state, row.points) == ("0003", "ready", POINTS)
    assert strategy_of(made) == "clone"
    store = made.store()
    try:
        live = store.describe(made.name)
    finally:
        store.close()
    assert generations(made) == [f"{made.name}__g0001", live.physical]
    assert (live.seal["state"], live.seal["revision"]) == ("live", "0003")
    assert live.schema.indexes["n"]["type"] == "float"
    assert live.schema.config["hnsw_config"]["m"] == 24


@pytest.mark.timeout(1500)
def test_a_killed_clone_is_resumed_to_the_same_end(prepared, tmp_path):
    """A kill before, during or after any request or journal write ends like a clone that nothing disturbed."""
    probe, labels = recorded(prepared, tmp_path)
    expected = probe.contents()
    # From the index phase on a clone goes the way of a copy, which has kill tests of its own.
    ended = labels.index("before journal converge running") + 1
    numbers = [number for number in points_of(tmp_path / "points") if number <= ended]
    assert {"before recover_snapshot", "before the end of recover_snapshot"} <= {labels[one - 1] for one in numbers}
    assert len(numbers) >= 20
    for number in thinned(numbers):
        made = prepared(f"kill{number}")
        killed = child(made, "upgrade", "head", kill_at=number)
        assert killed.returncode == -signal.SIGKILL, f"{labels[number - 1]}: {killed.stderr}"
        upgrade.upgrade(made.settings())
        try:
            check_finished(made, expected)
        except AssertionError as error:
            raise AssertionError(f"killed {labels[number - 1]}: {error}") from error
        clean(made)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("label", ABORTED_AT)
def test_a_killed_clone_is_aborted_without_trace(prepared, tmp_path, label):
    """Abort removes the clone, and the snapshot that the run has made for it: the live generation is as before."""
    _, labels = recorded(prepared, tmp_path)
    made = prepared("abort")
    before, live = made.contents(), made.row()
    killed = child(made, "upgrade", "head", kill_at=labels.index(label) + 1)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    back.abort(made.settings())
    assert generations(made) == [f"{made.name}__g0001"]
    assert made.contents() == before
    assert (made.row().state, made.row().generation) == ("pending", live.generation)
    store = made.store()
    # One whose making was not recorded may be another client's.
    assert len(store.list_snapshots(made.name)) == (label == "before journal snapshot done")
    store.close()
    upgrade.upgrade(made.settings())
    assert strategy_of(made) == "clone"
    assert made.contents() == before
