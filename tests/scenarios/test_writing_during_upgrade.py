"""Writers that never stop: what was acknowledged to them is there afterwards, or it is listed by id."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import clean
from tests.harness import ADD, Deployment, contents, loaded_on, make_point, write

from qmigrate.commands import rollback as back
from qmigrate.commands import status, upgrade
from qmigrate.errors import QmigrateError, RefusedError

POINTS = 1500
CLONE = """
def upgrade():
    return [op.UpdateCollection("{name}", hnsw_config=HnswConfigDiff(m=24))]
"""


class Writer(threading.Thread):
    """Upserts and deletes through the logical name, one operation at a time, and remembers what was acknowledged.

    Attributes:
        truth: id -> text of the last acknowledged upsert, None after a delete.
        unsure: ids whose last operation failed: it may have happened or not.
    """

    def __init__(self, deployment: Deployment, seed: int) -> None:
        super().__init__(daemon=True)
        self.deployment = deployment
        self.random = random.Random(seed)
        self.seed = seed
        self.truth: dict[int, str | None] = {}
        self.unsure: set[int] = set()
        self.operations = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Write until stopped; every writer has ids of its own."""
        store = self.deployment.store()
        try:
            while not self.stopped.is_set():
                number = self.random.randrange(POINTS * 2) // 2 * 2 + self.seed
                self.operations += 1
                text = f"writer {self.seed} operation {self.operations}"
                try:
                    if self.random.random() < 0.25:
                        store.delete(self.deployment.name, [number + 1])
                        self.truth[number + 1] = None
                    else:
                        write(store, self.deployment.name, [make_point(number, text=text)])
                        self.truth[number + 1] = text
                    self.unsure.discard(number + 1)
                except QmigrateError:
                    self.unsure.add(number + 1)
        finally:
            store.close()

    def stop(self) -> None:
        """Stop and wait."""
        self.stopped.set()
        self.join(timeout=60)


@contextmanager
def at_work(made: Deployment) -> Iterator[tuple[Deployment, list[Writer]]]:
    """Two writers at a deployment, which is removed behind the block."""
    writers = [Writer(made, seed) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    try:
        yield made, writers
    finally:
        for writer in writers:
            writer.stop()
        clean(made)


@pytest.fixture
def busy(qdrant_server, tmp_path):
    """A loaded collection on a real server, with two writers at work."""
    with at_work(loaded_on(qdrant_server, tmp_path, POINTS, rebuild={"max_rate": 3000})) as made:
        yield made


def wrong(deployment: Deployment, writers: list[Writer]) -> dict[int, tuple]:
    """Ids whose value behind the name is not what was last acknowledged."""
    store = deployment.store()
    found = contents(store, deployment.name)
    store.close()
    odd = {}
    for writer in writers:
        for identifier, text in writer.truth.items():
            here = found.get(identifier)
            if identifier not in writer.unsure and (here[0]["text"] if here else None) != text:
                odd[identifier] = (here and here[0]["text"], text)
    return odd


def listed(outcome) -> tuple[set, int]:
    """Ids that the sweeps of an outcome listed, and how many there were."""
    ids, count = set(), 0
    for facts in outcome.report.values():
        report = facts.get("sweep") if isinstance(facts, dict) else None
        if isinstance(report, dict):
            ids |= {identifier for identifier, _ in report["listed"]["named"]}
            count += report["listed"]["count"]
    return ids, count


@pytest.mark.server
@pytest.mark.timeout(280)
def test_no_acknowledged_write_is_lost_during_a_rebuild(busy):
    """Upserts and deletes during build, swap and sweep are all there afterwards; exceptions are listed by id."""
    deployment, writers = busy
    deployment.revise("0002", ADD)
    result = upgrade.upgrade(deployment.settings())
    for writer in writers:
        writer.stop()
    assert sum(writer.operations for writer in writers) > 100
    odd = wrong(deployment, writers)
    ids, count = listed(result.outcomes[0])
    assert odd.keys() <= ids or (count > 20 and len(odd) <= count), f"silently lost: {odd}, listed {ids}"
    assert deployment.row().state == "ready"
    # Whatever was built has its vector; what writers of the old shape wrote after the swap can't have it.
    store = deployment.store()
    found = contents(store, deployment.name)
    store.close()
    assert sum("b" in vectors for _, vectors in found.values()) > POINTS / 4


@pytest.mark.server
@pytest.mark.timeout(280)
def test_no_acknowledged_write_is_lost_during_a_clone(busy):
    """The same where the server clones: writes behind its snapshot are found by the proof, and only they are written."""
    deployment, writers = busy
    deployment.revise("0002", CLONE)
    result = upgrade.upgrade(deployment.settings())
    for writer in writers:
        writer.stop()
    assert sum(writer.operations for writer in writers) > 100
    odd = wrong(deployment, writers)
    ids, count = listed(result.outcomes[0])
    assert odd.keys() <= ids or (count > 20 and len(odd) <= count), f"silently lost: {odd}, listed {ids}"
    assert deployment.row().state == "ready"
    assert status.history(deployment.settings()).rows[0].strategy == "clone"
    proof = result.outcomes[0].report["0.converge"]["report"]
    assert proof["proven"] == proof["points"]
    assert proof["repaired"] < POINTS / 2


@pytest.mark.server
@pytest.mark.timeout(280)
def test_no_acknowledged_write_is_lost_by_going_back(busy):
    """A rollback that carries writes, under writers, ends with everything acknowledged or listed."""
    deployment, writers = busy
    deployment.revise("0002", ADD)
    upgrade.upgrade(deployment.settings())
    with pytest.raises(RefusedError):
        back.rollback(deployment.settings(), "0001")
    result = back.rollback(deployment.settings(), "0001", writes="carry")
    for writer in writers:
        writer.stop()
    odd = wrong(deployment, writers)
    ids, count = listed(result.outcomes[0])
    assert odd.keys() <= ids or (count > 20 and len(odd) <= count), f"silently lost: {odd}, listed {ids}"


@pytest.mark.server
@pytest.mark.timeout(280)
def test_policy_refuse_stops_at_the_first_foreign_write(busy):
    """Who promises quiet and isn't quiet gets exit 10, and the live collection stays as it is."""
    deployment, _ = busy
    deployment.extra["rebuild"] = {"writes": "refuse", "max_rate": 3000}
    deployment.__post_init__()
    deployment.revise("0002", ADD)
    with pytest.raises(RefusedError, match="was written to during the rebuild"):
        upgrade.upgrade(deployment.settings())
    row = deployment.row()
    assert (row.revision, row.state) == ("0001", "failed")
    back.abort(deployment.settings())
    assert deployment.row().state == "pending"
