"""What a lease writes and what the ledger then has, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from qmigrate.errors import LeaseHeldError, LedgerError, QmigrateError, RepairNeededError
from qmigrate.ledger import Lease, Ledger, View, accept_checksum, tables
from qmigrate.ledger.codec import Fixed
from qmigrate.model.facts.audit import Audited
from qmigrate.model.plan import Build, Closing, Job, OpRef, Retire
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Generation

pytestmark = pytest.mark.timeout(120)

BIGGEST = 2**64 - 1
UUID = "9d3c1f6e-0000-4000-8000-000000000001"
SCHEMA = CollectionSchema(
    vectors={"": {"size": 4, "distance": "Cosine"}},
    indexes={"kind": {"type": "keyword"}},
    config={"x": 1},
    aliases=("b",),
)
GENERATION = Generation(1, "notes__g0001", None, (), SCHEMA, "building")


@pytest.fixture
def lease(ledger: Ledger) -> Iterator[Lease]:
    """The lease of the collection ``notes``."""
    with ledger.hold("notes", timeout=0) as held:
        yield held


def job(*closings: Closing, supersedes: int | None = None) -> Job:
    """A job of two steps."""
    build = Build((OpRef("0001", 0),), None, "notes__g0001", 1, SCHEMA, "empty", "new")
    return Job("notes", "basis", (build, Retire("notes__g0000", "old")), closings, supersedes)


def opened(lease: Lease, work: Job | None = None, *, verb: str = "upgrade") -> int:
    """A run, opened."""
    return lease.open_run(
        verb, work or job(), {"0001": "abc"}, actor="ann@web-7", tool="0.1", server="Qdrant 1.18", total_points=70
    )


def closing(revision: str, direction: str = "upgrade", *, checksum: str = "abc", step: int = 0) -> Closing:
    """A revision that step 0 ends with."""
    return Closing(step, revision, direction, checksum, SCHEMA, CollectionSchema())


def close(
    lease: Lease,
    run: int,
    *closings: Closing,
    view: View | None = None,
    step: int = 0,
    last: bool = True,
    fixed: Fixed | None = None,
) -> None:
    """Close a step of a copy."""
    lease.close_step(
        run,
        step,
        closings=closings,
        view=view,
        generations=[],
        strategy="copy",
        physical="notes__g0001",
        changes=[{"kind": "index.add"}],
        report={"points": 5, "cosine": float("nan")},
        phase="close",
        last=last,
        fixed=fixed,
    )


def test_a_run_is_read_back_as_it_was_written(ledger: Ledger, lease: Lease) -> None:
    """The job that a resume loads equals the one that was planned, and everything else is there."""
    run = opened(lease)
    found = ledger.open_run("notes")
    assert found is not None
    assert (found.id, found.verb, found.state, found.job, found.checksums) == (
        run,
        "upgrade",
        "running",
        job(),
        {"0001": "abc"},
    )
    assert (found.actor, found.error, found.records, found.done_points, found.total_points) == (
        "ann@web-7",
        None,
        (),
        0,
        70,
    )
    assert found.leased
    assert found.host
    assert found.started_at.utcoffset() == timedelta(0)
    assert abs(found.started_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert ledger.open_runs() == (found,)
    assert ledger.open_run("other") is None


@pytest.mark.parametrize(
    ("state", "stays_open"),
    [("failed", True), ("held", True), ("done", False), ("refused", False), ("unchanged", False), ("aborted", False)],
)
def test_which_ends_of_a_run_leave_it_open(ledger: Ledger, lease: Lease, state: str, stays_open: bool) -> None:
    """Failed and held runs are found again, with the reason; the others only in the list of attempts."""
    run = opened(lease)
    lease.finish_run(run, state, "no \x00 luck\ud800")
    found = ledger.open_run("notes")
    assert (found is not None) == stays_open
    row = ledger.runs("notes")[0]
    assert (row.id, row.state, row.error) == (run, state, "no \\x00 luck\\ud800")
    assert row.finished_at is not None
    if stays_open:
        lease.resume_run(run)
        again = ledger.open_run("notes")
        assert again is not None
        assert (again.state, again.error) == ("running", None)
        assert ledger.runs()[0].finished_at is None


def test_the_lease_of_a_run_shows_when_nobody_works_on_it(ledger: Ledger) -> None:
    """An open run whose holder has gone is not leased."""
    with ledger.hold("notes", timeout=0) as lease:
        opened(lease)
    found = ledger.open_run("notes")
    assert found is not None
    assert not found.leased


def test_a_run_of_another_collection_cannot_be_written(ledger: Ledger, lease: Lease) -> None:
    """The lease guards its own collection only."""
    with ledger.hold("other", timeout=0) as other:
        run = opened(lease)
        for attempt in (
            lambda: other.finish_run(run, "failed"),
            lambda: other.progress(run, 1, 2),
            lambda: opened(other),
        ):
            with pytest.raises(QmigrateError, match="other"):
                attempt()
    assert ledger.runs()[0].state == "running"


def test_the_journal_keeps_one_row_per_phase_with_merged_facts(ledger: Ledger, lease: Lease) -> None:
    """New facts override, older ones stay, and rows come in the order of steps and first mention."""
    run = opened(lease)
    lease.journal(run, 1, "preflight", "running")
    lease.journal(run, 0, "snapshot", "running", {"name": "s", "id": BIGGEST})
    lease.journal(run, 0, "fill", "running")
    lease.journal(run, 0, "snapshot", "done", {"name": "t", "size": 1.5})
    lease.journal(run, 0, "fill", "failed")
    found = ledger.open_run("notes")
    assert found is not None
    assert [(entry.step, entry.phase, entry.state) for entry in found.records] == [
        (0, "snapshot", "done"),
        (0, "fill", "failed"),
        (1, "preflight", "running"),
    ]
    assert found.records[0].facts == {"name": "t", "id": BIGGEST, "size": 1.5}
    assert found.records[0].epoch == lease.epoch
    with ledger.database.reading() as connection:
        ended = dict(
            tuple(row) for row in connection.execute(select(tables.phases.c.phase, tables.phases.c.finished_at))
        )
    assert {phase: moment is not None for phase, moment in ended.items()} == {
        "snapshot": True,
        "fill": True,
        "preflight": False,
    }


def test_generations_are_inserted_and_updated_by_number(ledger: Ledger, lease: Lease) -> None:
    """They come back equal, oldest first, with times in UTC."""
    until = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5)))
    later = Generation(12, "notes__g0012", 1, ("0001", "0002"), SCHEMA, "live", until, {"enabled": True}, True)
    lease.save_generation(later)
    lease.save_generation(GENERATION)
    assert ledger.generations("notes") == (GENERATION, later)
    assert ledger.generations("notes")[1].held_until == until.astimezone(UTC)
    changed = Generation(1, "notes__g0001", None, ("0001",), SCHEMA, "retired")
    lease.save_generation(changed)
    assert ledger.generations("notes") == (changed, later)
    assert ledger.generations("other") == ()


def test_a_closed_step_is_recorded_in_one_piece(ledger: Ledger, lease: Lease) -> None:
    """History, view, generations, journal and run; and closing it again changes nothing."""
    run = opened(lease)
    view = View("notes", "0002", "notes__g0001", SCHEMA, {"": {"model": "m"}})
    lease.journal(run, 0, "close", "running")
    for _ in range(2):
        lease.close_step(
            run,
            0,
            closings=[closing("0001"), closing("0002", checksum="def")],
            view=view,
            generations=[GENERATION],
            strategy="copy",
            physical="notes__g0001",
            changes=[{"kind": "index.add"}],
            report={"points": 5},
            phase="close",
            last=True,
        )
    assert [(row.revision, row.direction, row.checksum) for row in ledger.history()] == [
        ("0002", "upgrade", "def"),
        ("0001", "upgrade", "abc"),
    ]
    row = ledger.history("notes", 1)[0]
    assert (row.collection, row.run, row.strategy, row.physical, row.report, row.actor) == (
        "notes",
        run,
        "copy",
        "notes__g0001",
        {"points": 5},
        "ann@web-7",
    )
    stored = ledger.collections()["notes"]
    assert (stored.revision, stored.physical, stored.declared, stored.embedders) == (
        "0002",
        "notes__g0001",
        SCHEMA,
        {"": {"model": "m"}},
    )
    assert stored.updated_at is not None
    applied = ledger.applied("notes")
    assert [(entry.revision, entry.physical, entry.strategy, entry.prior) for entry in applied] == [
        ("0001", "notes__g0001", "copy", CollectionSchema()),
        ("0002", "notes__g0001", "copy", CollectionSchema()),
    ]
    assert applied[0].changes == ({"kind": "index.add"},)
    (kept,) = ledger.generations("notes")
    # The ledger adds on which server, and when, it was written.
    assert kept.changed_at is not None
    assert kept == replace(GENERATION, server=kept.server, changed_at=kept.changed_at)
    assert ledger.open_run("notes") is None
    assert ledger.runs()[0].state == "done"


def test_a_step_that_fails_to_close_leaves_no_trace(ledger: Ledger, lease: Lease) -> None:
    """A bad value in the last part of the transaction takes the history row and the view back, too."""
    run = opened(lease)
    broken = Generation(2, "notes__g0002", 1, (), SCHEMA, "live", datetime(2030, 1, 1))  # noqa: DTZ001 - the bad value
    with pytest.raises((LedgerError, ValueError)):
        lease.close_step(
            run,
            0,
            closings=[closing("0001")],
            view=View("notes", "0001", "g", SCHEMA),
            generations=[GENERATION, broken],
            strategy="copy",
            physical="g",
            changes=[],
            report={},
            phase="close",
            last=True,
        )
    assert (ledger.history(), ledger.collections(), ledger.generations("notes")) == ([], {}, ())
    assert ledger.runs()[0].state == "running"


def test_a_rollback_row_takes_its_revision_out(ledger: Ledger, lease: Lease) -> None:
    """What is applied is the fold of the history; nothing is deleted from it."""
    for entry in (closing("0001"), closing("0002"), closing("0002", "rollback"), closing("0003"), closing("0002")):
        close(lease, opened(lease), entry)
    assert [entry.revision for entry in ledger.applied("notes")] == ["0001", "0003", "0002"]
    assert len(ledger.history()) == 5
    assert ledger.history()[0].report == {"points": 5, "cosine": None}, "NaN isn't JSON"


def test_a_step_without_a_view_leaves_it_unless_it_closes_something(ledger: Ledger, lease: Lease) -> None:
    """Retiring an old generation doesn't affect the name; closing a revision without a view removes it."""
    close(lease, opened(lease), closing("0001"), view=View("notes", "0001", "g", SCHEMA))
    close(lease, opened(lease), view=None)
    assert ledger.collections()["notes"].revision == "0001"
    close(lease, opened(lease), closing("0002"), view=None)
    assert ledger.collections() == {}


def test_a_view_may_have_no_revision_and_no_generation(ledger: Ledger, lease: Lease) -> None:
    """Rolled back to nothing, the name is still known."""
    close(lease, opened(lease), closing("0001", "rollback"), view=View("notes", None, None, None))
    found = ledger.collections()["notes"]
    assert (found.revision, found.physical, found.declared, found.embedders) == (None, None, None, {})


def test_an_abort_ends_the_run_that_it_supersedes(ledger: Ledger, lease: Lease) -> None:
    """While it works it is the open run; with its last step both are closed in one transaction."""
    failed = opened(lease)
    lease.finish_run(failed, "failed", "no luck")
    abort = opened(lease, job(supersedes=failed), verb="abort")
    current = ledger.open_run("notes")
    assert current is not None
    assert current.id == abort
    assert [run.id for run in ledger.open_runs()] == [failed, abort]
    close(lease, abort, last=False)
    assert len(ledger.open_runs()) == 2
    close(lease, abort, step=1)
    assert [(row.id, row.state) for row in ledger.runs()] == [(abort, "done"), (failed, "aborted")]


def test_superseding_never_reopens_or_changes_a_finished_run(ledger: Ledger, lease: Lease) -> None:
    """What is done stays done."""
    run = opened(lease)
    lease.finish_run(run, "done")
    close(lease, opened(lease, job(supersedes=run), verb="abort"))
    assert [row.state for row in ledger.runs()] == ["done", "done"]


def test_the_newest_checksum_of_an_applied_revision_counts(ledger: Ledger, lease: Lease) -> None:
    """An acceptance overrides what was applied before it; one of a revision that isn't applied shows nowhere."""
    close(lease, opened(lease), closing("0001", checksum="one"))
    close(lease, opened(lease), closing("0002", checksum="two"))
    close(lease, opened(lease), closing("0002", "rollback"))
    assert ledger.applied_checksums() == {"0001": "one"}
    accept_checksum(ledger, ("0001", "first"), "typo", "ann")
    accept_checksum(ledger, ("0001", "second"), "another", "ann")
    accept_checksum(ledger, ("0002", "never"), "why", "ann")
    assert ledger.applied_checksums() == {"0001": "second"}
    close(lease, opened(lease), closing("0001", "rollback"))
    close(lease, opened(lease), closing("0001", checksum="third"))
    assert ledger.applied_checksums() == {"0001": "third"}


def test_limits_take_the_newest(ledger: Ledger, lease: Lease) -> None:
    """Runs, history and deletions are listed newest first."""
    for number in range(3):
        fixed = Fixed("FILTER", f"number {number}", number, "why", Audited(lost=number))
        close(lease, opened(lease), closing(f"000{number}"), fixed=fixed)
    assert [row.revision for row in ledger.history(limit=2)] == ["0002", "0001"]
    assert len(ledger.runs("notes", 2)) == 2
    assert ledger.runs("other") == []
    assert [(row.target, row.count, row.facts, row.collection) for row in ledger.deletions(1)] == [
        ("number 2", 2, {"lost": 2}, "notes")
    ]


def test_a_deletion_that_has_begun_can_not_be_undone_by_another_state(ledger: Ledger, lease: Lease) -> None:
    """From its record on the generation is only ever gone, whichever process writes it; what it was before is kept."""
    lease.save_generation(GENERATION)
    permit = lease.begin_deletion(GENERATION.physical, 5)
    assert permit.use(5) == GENERATION.physical
    [row] = ledger.generations("notes")
    assert (row.state, row.deletion, row.never_served) == ("deleting", {"state": "building", "epoch": lease.epoch}, True)
    for state in ("building", "live", "retired"):
        with pytest.raises(RepairNeededError):
            lease.save_generation(replace(row, state=state))
    lease.save_generation(replace(row, state="gone"))
    assert ledger.generations("notes")[0].state == "gone"


def test_only_who_began_a_deletion_takes_it_back(ledger: Ledger) -> None:
    """An answer of the server shows that nothing is on its way; but an earlier holder's request may be."""
    with ledger.hold("notes", timeout=0) as lease:
        lease.save_generation(replace(GENERATION, state="retired"))
        lease.begin_deletion(GENERATION.physical, 5)
        assert lease.cancel_deletion(GENERATION.physical)
        assert (ledger.generations("notes")[0].state, ledger.generations("notes")[0].deletion) == ("retired", None)
        lease.begin_deletion(GENERATION.physical, 5)
    with ledger.hold("notes", timeout=0) as lease:
        lease.begin_deletion(GENERATION.physical, 5)
        assert not lease.cancel_deletion(GENERATION.physical)
        assert ledger.generations("notes")[0].state == "deleting"


def test_a_lease_outlives_the_deletion_that_it_permits(ledger: Ledger) -> None:
    """However short it is otherwise: no process takes it over while the request may still be under way."""
    with ledger.hold("notes", timeout=0, ttl=30) as lease:
        lease.save_generation(GENERATION)
        lease.begin_deletion(GENERATION.physical, 3600)
        assert lease.remaining() > 3600
        lease.renew()
        [row] = ledger.leases()
        assert row.expires_at - datetime.now(UTC) > timedelta(seconds=3600)


def test_a_permit_is_for_one_request_of_a_living_lease(ledger: Ledger) -> None:
    """Neither twice, nor where the request could outlast the lease, nor without one."""
    with ledger.hold("notes", timeout=0, ttl=30) as lease:
        lease.save_generation(GENERATION)
        permit = lease.begin_deletion(GENERATION.physical, 5)
        with pytest.raises(LeaseHeldError):
            permit.use(3600)
        permit.use(5)
        with pytest.raises(QmigrateError, match="used already"):
            permit.use(5)
        late = lease.begin_deletion(GENERATION.physical, 5)
        with pytest.raises(QmigrateError, match="not a generation"):
            lease.begin_deletion("other__g0001", 5)
    with pytest.raises(LeaseHeldError):
        late.use(0)
    with pytest.raises(LeaseHeldError):
        lease.begin_deletion(GENERATION.physical, 5)
