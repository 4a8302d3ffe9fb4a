"""What gc, plan files and rehearsals ask of the ledger and forget in it, on both databases; and gc itself on each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.harness import Deployment
from tests.scenarios.test_gc import rebuilt, write_behind

from qmigrate.commands import gc, rehearse
from qmigrate.ledger import Doubt, Lease, Ledger, Quarantined
from qmigrate.model.facts.phases import Left
from qmigrate.model.plan import GoLive, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Generation

pytestmark = pytest.mark.timeout(200)
SCHEMA = CollectionSchema(vectors={"": {"size": 4, "distance": "Cosine"}})


@pytest.fixture
def lease(ledger: Ledger) -> Iterator[Lease]:
    """The lease of the collection ``notes``."""
    with ledger.hold("notes", timeout=0) as held:
        yield held


def generation(number: int, state: str, held: datetime | None = None) -> Generation:
    """A row."""
    return Generation(number, f"notes__g{number:04d}", None, (), SCHEMA, state, held_until=held)


def left_by(lease: Lease, step: GoLive, facts: dict, *, closed: bool = True) -> int:
    """A run of one go-live."""
    run = lease.open_run("upgrade", Job("notes", "b", (step,)), {}, actor="a", tool="t", server="s")
    lease.journal(run, 0, "sweep", "done", facts)
    lease.journal(run, 0, "close", "done" if closed else "running")
    lease.finish_run(run, "done" if closed else "aborted")
    return run


@pytest.mark.parametrize(
    ("rows", "due"),
    [
        ([("retired", -1)], True),
        ([("retired", 60)], False),
        ([("retired", None)], False),
        ([("building", None)], True),
        ([("live", None), ("gone", -1)], False),
        ([("live", None), ("retired", 60), ("retired", -1)], True),
    ],
)
def test_what_is_due_is_found_by_one_query(ledger, lease, rows, due):
    """Past its holdover, or never finished; times are compared as times on both databases."""
    now = datetime.now(UTC)
    for number, (state, seconds) in enumerate(rows, start=1):
        lease.save_generation(generation(number, state, None if seconds is None else now + timedelta(seconds=seconds)))
    assert ledger.due(now) == (("notes",) if due else ())


def test_a_row_says_when_it_was_changed(ledger, lease):
    """By the database's clock; a value that is not stored yet doesn't know."""
    lease.save_generation(generation(1, "live"))
    [row] = ledger.generations("notes")
    assert row == generation(1, "live")
    assert abs((datetime.now(UTC) - row.changed_at).total_seconds()) < 60
    assert generation(1, "live").changed_at is None


def test_the_newest_finished_go_live_away_from_a_generation_counts(ledger, lease):
    """Forwards or backwards; one that was not closed doesn't count."""
    there = GoLive((), "notes__g0001", "notes__g0002", ("notes",))
    here = GoLive((), "notes__g0002", "notes__g0001", ("notes",), back=True, writes="carry")
    assert ledger.leaving("notes", "notes__g0001") is None
    first = left_by(lease, there, {"left": {"ids": {"a": 1}, "barrier_delta": 2}})
    second = left_by(lease, here, {})
    left_by(lease, there, {"left": {}}, closed=False)
    forwards, backwards = ledger.leaving("notes", "notes__g0001"), ledger.leaving("notes", "notes__g0002")
    assert (forwards.run, forwards.step, forwards.target, forwards.back) == (first, 0, "notes__g0002", False)
    assert (forwards.left, backwards.left) == (Left({"a": 1}, 2), None)
    assert (backwards.run, backwards.writes, backwards.back) == (second, "carry", True)


def test_the_newest_job_is_that_of_the_last_run_that_was_done(ledger, lease):
    """Refused and aborted ones don't count; an open one means that nothing is done."""
    step = GoLive((), None, "notes__g0001", ("notes",))
    assert ledger.newest_job("notes") is None
    left_by(lease, step, {})
    assert ledger.newest_job("notes") == Job("notes", "b", (step,))
    left_by(lease, step, {}, closed=False)
    assert ledger.newest_job("notes") is not None
    lease.open_run("gc", Job("notes", "c", ()), {}, actor="a", tool="t", server="s")
    assert ledger.newest_job("notes") is None


def test_a_throwaway_and_carried_writes_are_forgotten(ledger, lease):
    """Row, quarantine and carries of exactly that generation and step."""
    for number in (1, -1):
        lease.save_generation(generation(number, "building"))
        lease.quarantine(generation(number, "building").physical, 1, [Quarantined(7, "b", "kept", "read", "no text")])
    lease.carry(1, 0, 7, b"a" * 16, b"b" * 16, "done")
    lease.carry(1, 1, 7, b"a" * 16, b"b" * 16, "done")
    lease.forget_generation(generation(-1, "building").physical)
    lease.drop_carries(1, 0)
    assert [row.number for row in ledger.generations("notes")] == [1]
    assert ledger.quarantined(generation(-1, "building").physical) == 0
    assert ledger.quarantined("notes__g0001") == 1
    assert (ledger.carries(1, 0), len(ledger.carries(1, 1))) == ([], 1)


def test_doubtful_late_writes_outlast_their_generation(ledger, lease):
    """What is proven goes with it; what a person should check stays, until its point is erased."""
    run = lease.open_run("upgrade", Job("notes", "c", ()), {}, actor="a", tool="t", server="s")
    for identifier in (7, 8, 9):
        lease.carry(run, 0, identifier, b"a" * 32, b"b" * 32, "done", Doubt("may undo a delete", b"m" * 16))
    lease.carried_for_sure(run, 0, [8])
    assert [(one.point_id, one.doubt) for one in ledger.carries(run, 0)] == [
        (7, Doubt("may undo a delete", b"m" * 16)), (8, Doubt(None, b"m" * 16)), (9, Doubt("may undo a delete", b"m" * 16))
    ]
    lease.drop_carries(run, 0)
    ((found, job, late),) = ledger.late_writes("notes")
    assert (found, job.collection, [(step, one.point_id) for step, one in late]) == (run, "notes", [(0, 7), (0, 9)])
    assert list(ledger.late_writes("others")) == []
    assert lease.forget_doubtful([9, 10]) == 1
    assert [one.point_id for one in ledger.carries(run, 0)] == [7]


def test_gc_and_a_rehearsal_on_every_kind_of_ledger(ledger_url, tmp_path):
    """Spared while it was written to, gone with consent; a rehearsal leaves no row."""
    made = rebuilt(Deployment(tmp_path / "project", {"path": str(tmp_path / "qdrant")}, ledger_url))
    write_behind(made, f"{made.name}__g0001", delete=[1])
    assert gc.gc(made.settings(), made.name).spared[0].writes["count"] == 1
    assert gc.gc(made.settings(), made.name, discard_writes=True).collected
    made.revise("0003", 'def upgrade():\n    return [op.RenameVector("{name}", "b", "c", cutover="immediate")]')
    assert rehearse.rehearse(made.settings(), 10).rehearsals[0].proven == 10
    ledger = Ledger.open(ledger_url)
    assert [(row.number, row.state) for row in ledger.generations(made.name)] == [(1, "gone"), (2, "live")]
    ledger.close()
