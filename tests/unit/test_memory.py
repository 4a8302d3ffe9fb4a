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
from qmigrate.settings import Settings
from qmigrate.steps import build
from qmigrate.steps.work import Work
from tests.fakes import EndlessStore

count, folder = int(sys.argv[1]), sys.argv[2]
schema = CollectionSchema(vectors={"a": {"size": 64, "distance": "Dot"}})
store = EndlessStore(schema, count)
ledger = Ledger.open(f"sqlite:///{folder}/ledger.db"); ledger.prepare()
step = Build((), "c__g0001", "c__g0002", 2, schema, "copy", "test")
job = Job("c", "basis", (step,))
with ledger.hold("c", timeout=5) as lease:
    work = Work("c", store, lease, None, Settings.load(stores=False), Silent(), CollectionState("c", "alias", True), job, "x")
    work.run = lease.open_run("upgrade", job, {}, actor="a", tool="t", server="s")
    work.learned[(0, "preflight")] = {"points": count}
    for phase in ("fill", "converge"):
        work.phase = phase
        facts = getattr(build, phase)(step, work)
        work.learned.setdefault((0, phase), {}).update(facts)
ledger.close()
print(json.dumps({"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "written": store.written,
                  "proven": facts["report"]["proven"]}))
"""


def measure(count, folder):
    """Peak memory in MB of a copy and proof of `count` points, in a process of its own."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(count), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(280)
def test_memory_does_not_grow_with_the_collection(tmp_path):
    """Two hundred thousand points cost no more memory than twenty thousand, within a stated growth."""
    small, large = measure(20_000, tmp_path / "small"), measure(200_000, tmp_path / "large")
    assert (large["written"], large["proven"]) == (200_000, 200_000)
    assert large["rss"] - small["rss"] < GROWTH_MB
