"""Writers that never stop, next to passes that read only what was written: nothing is lost, and little is read."""

from __future__ import annotations

import pytest
from tests.harness import ADD, loaded_on
from tests.scenarios.test_writing_during_upgrade import POINTS, at_work, listed, wrong

from qmigrate.commands import upgrade
from qmigrate.engine.prove import delta

pytestmark = [pytest.mark.server, pytest.mark.timeout(280)]


@pytest.fixture(params=["converge", "freeze", "auto"])
def busy(qdrant_server, tmp_path, request):
    """A loaded collection on a real server with two writers at work, under each policy."""
    limits, rebuild = {"write_pause": "60s"}, {"max_rate": 3000, "writes": request.param}
    with at_work(loaded_on(qdrant_server, tmp_path, POINTS, limits=limits, rebuild=rebuild)) as made:
        yield made


def test_what_was_written_is_found_by_version(busy, monkeypatch):
    """The last pass reads what was written; every acknowledged write is there or listed, with no doubt under a freeze."""
    deployment, writers = busy
    read = []
    original = delta.delta_pass

    def counting(work, sides, before, now, sample):
        report, count = original(work, sides, before, now, sample)
        read.append(count)
        assert report.points == report.proven
        return report, count

    monkeypatch.setattr("qmigrate.engine.prove.proof.delta_pass", counting)
    deployment.revise("0002", ADD)
    result = upgrade.upgrade(deployment.settings())
    for writer in writers:
        writer.stop()
    odd = wrong(deployment, writers)
    ids, count = listed(result.outcomes[0])
    assert odd.keys() <= ids or (count > 20 and len(odd) <= count), f"silently lost: {odd}, listed {ids}"
    if deployment.extra["rebuild"]["writes"] != "converge":
        assert not odd
        assert not count
    # How much is read depends on the machine; test_delta_passes counts it where nothing else writes.
    assert read
