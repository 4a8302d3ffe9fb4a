"""What is asked of the jobs of a ledger, on both databases."""

from __future__ import annotations

import pytest

from qmigrate.commands import examined
from qmigrate.ledger.job_queue import COMPLETED, FAILED, JobQueue

HEALTH = {"collection": "notes", "points": 3, "seen": 3, "findings": [], "notes": []}


@pytest.mark.parametrize(("name", "others"), [("notes", 205), ("é'ü\"", 1)], ids=["many others", "signs"])
def test_the_newest_of_a_collection(ledger, name, others):
    """However many jobs are about other collections, and newer: names are compared as a whole."""
    queue = JobQueue(ledger)
    made = [queue.add(examined.KIND, {"collection": one})[0] for one in (name, name, *[f"{name}2"] * others, "other")]
    queue.add("upgrade", {"target": "head"})
    assert queue.take("w", 60).id == made[0].id
    queue.end(made[0], "w", COMPLETED, result=HEALTH)
    assert queue.newest(examined.KIND, name).id == made[1].id
    assert queue.newest(examined.KIND, name, (FAILED,)) is None
    found = examined.examination(ledger, name)
    assert (found.job, found.state, found.health is not None) == (made[1].id, "pending", True)
    assert queue.newest(examined.KIND, "absent") is None
    assert examined.examination(ledger, "absent") is None
