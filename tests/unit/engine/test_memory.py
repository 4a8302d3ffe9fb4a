"""The copy and the proof hold a bounded number of points, whatever the size of the collection."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

#: Megabytes that ten times as many points may cost in addition: queues and pages, not points.
GROWTH_MB = 40

PROGRAM = """
import json, resource, sys, tempfile
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import CollectionState
from qmigrate.ledger import Ledger
from qmigrate.ports import Silent
from qmigrate.settings.load import Settings
from qmigrate.engine import rebuild as build
from qmigrate.engine.work import Work
from tests.fakes import EndlessStore

count, folder, fill = int(sys.argv[1]), sys.argv[2], sys.argv[3]
schema = CollectionSchema(vectors={"a": {"size": 64, "distance": "Dot"}})
store = EndlessStore(schema, count)
ledger = Ledger.open(f"sqlite:///{folder}/ledger.db"); ledger.prepare()
step = Build((), "c__g0001", "c__g0002", 2, schema, fill, "test")
job = Job("c", "basis", (step,))
with ledger.hold("c", timeout=5) as lease:
    work = Work("c", store, lease, None, Settings.load(stores=False), Silent(), CollectionState("c", "alias", True), job, "x")
    work.run = lease.open_run("upgrade", job, {}, actor="a", tool="t", server="s")
    work.learned[(0, "preflight")] = {"points": count}
    for phase in ("fill", "converge"):
        work.phase = phase
        facts = getattr(build, phase)(step, work)
        work.learn(facts)
ledger.close()
print(json.dumps({"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "written": store.written,
                  "proven": facts.report.proven}))
"""


def measure(count, folder, fill):
    """Peak memory in MB of filling and proving `count` points, in a process of its own."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count), str(folder), fill], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.nightly
@pytest.mark.timeout(280)
@pytest.mark.parametrize(("fill", "written"), [("copy", 200_000), ("clone", 0)])
def test_memory_does_not_grow_with_the_collection(tmp_path, fill, written):
    """Ten times as many points cost no more memory, within a stated growth; the proof of a clone writes none."""
    small, large = measure(20_000, tmp_path / "small", fill), measure(200_000, tmp_path / "large", fill)
    assert (large["written"], large["proven"]) == (written, 200_000)
    assert large["rss"] - small["rss"] < GROWTH_MB
