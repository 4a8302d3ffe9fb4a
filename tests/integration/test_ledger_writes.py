"""What a lease writes and what the ledger then says, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select

from qmigrate.errors import LedgerError, QmigrateError
from qmigrate.ledger import Lease, Ledger, View, accept_checksum, tables
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
    lease: Lease, run: int, *closings: Closing, view: View | None = None, step: int = 0, last: bool = True
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
    [("failed", True), ("held", True), ("done", False), ("refused", False), ("aborted", False)],
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
        other.supersede(run)
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


def test_ranges_are_fixed_once(ledger: Ledger, lease: Lease) -> None:
    """A second call returns what is stored, and the largest id survives."""
    run = opened(lease)
    borders = [(None, 7), (7, BIGGEST), (BIGGEST, UUID), (UUID, None)]
    fixed = lease.fix_ranges(run, 0, borders)
    assert [(share.number, share.start, share.stop) for share in fixed] == [
        (number, *edges) for number, edges in enumerate(borders)
    ]
    assert all((share.cursor, share.points, share.done) == (None, 0, False) for share in fixed)
    assert lease.fix_ranges(run, 0, [(None, None)]) == fixed == ledger.ranges(run, 0)
    assert ledger.ranges(run, 1) == ()


def test_a_checkpoint_moves_cursor_base_and_progress_together(ledger: Ledger, lease: Lease) -> None:
    """Pages are read in the order of ranges, whatever the order of the checkpoints; the run counts all ranges."""
    run = opened(lease)
    lease.fix_ranges(run, 0, [(None, 7), (7, None)])
    lease.checkpoint(run, 0, 1, BIGGEST, 20, False, "g", [b"1a", b"1b"])
    lease.checkpoint(run, 0, 0, 6, 3, True, "g", [b"0a"])
    lease.checkpoint(run, 0, 1, UUID, 25, True, "g", [b"1c"])
    assert list(ledger.base_pages("g")) == [b"0a", b"1a", b"1b", b"1c"]
    assert list(ledger.base_pages("g", 1)) == [b"1a", b"1b", b"1c"]
    assert [(share.cursor, share.points, share.done) for share in ledger.ranges(run, 0)] == [
        (6, 3, True),
        (UUID, 25, True),
    ]
    found = ledger.open_run("notes")
    assert found is not None
    assert found.done_points == 28
    lease.progress(run, 40, 50)
    found = ledger.open_run("notes")
    assert found is not None
    assert (found.done_points, found.total_points) == (40, 50)
    with pytest.raises(QmigrateError, match="no range 9"):
        lease.checkpoint(run, 0, 9, 1, 1, False, "g", [b"x"])
    assert b"x" not in list(ledger.base_pages("g"))


def test_a_staged_base_is_invisible_until_it_is_committed(ledger: Ledger, lease: Lease) -> None:
    """Staging, discarding and committing; the committed base is replaced as a whole."""
    run = opened(lease)
    lease.fix_ranges(run, 0, [(None, None)])
    assert not ledger.has_base("g")
    lease.checkpoint(run, 0, 0, 1, 1, True, "g", [b"old"])
    lease.stage_base("g", 1, [b"dead"])
    assert list(ledger.base_pages("g")) == [b"old"]
    lease.discard_stage("g")
    many = [bytes([number]) * 3 for number in range(20)]
    lease.stage_base("g", 2, many[10:])
    lease.stage_base("g", 0, many[:5])
    lease.stage_base("g", 0, many[5:10])
    assert list(ledger.base_pages("g")) == [b"old"]
    lease.commit_base("g")
    assert list(ledger.base_pages("g")) == many
    assert list(ledger.base_pages("g", 2)) == many[10:]
    lease.drop_base("g")
    assert not ledger.has_base("g")
    assert list(ledger.base_pages("g")) == []
    with ledger.database.reading() as connection:
        assert connection.execute(select(tables.fingerprints.c.page)).all() == [], "replaced pages are deleted"


def test_an_empty_base_is_a_base(ledger: Ledger, lease: Lease) -> None:
    """A pass over an empty collection commits a base without pages, also in place of another."""
    lease.discard_stage("g")
    lease.commit_base("g")
    assert ledger.has_base("g")
    lease.stage_base("g", 0, [b"one"])
    lease.commit_base("g")
    lease.discard_stage("g")
    lease.commit_base("g")
    assert list(ledger.base_pages("g")) == []
    assert ledger.has_base("g")


def test_bases_of_other_generations_are_left_alone(ledger: Ledger, lease: Lease) -> None:
    """Replacing and dropping one base keeps the other."""
    for name in ("g", "g<"):
        lease.stage_base(name, 0, [name.encode()])
        lease.commit_base(name)
    lease.stage_base("g", 0, [b"new"])
    lease.commit_base("g")
    assert list(ledger.base_pages("g<")) == [b"g<"]
    lease.drop_base("g")
    assert list(ledger.base_pages("g<")) == [b"g<"]


def test_a_base_that_is_replaced_while_it_is_read_is_no_base(ledger: Ledger, lease: Lease) -> None:
    """The reader gets an error, never the mixture of two passes."""
    for content in (b"a", b"b"):
        lease.stage_base("g", 0, [content] * 20)
        if content == b"a":
            lease.commit_base("g")
            pages = ledger.base_pages("g")
            assert next(pages) == b"a"
    lease.commit_base("g")
    with pytest.raises(LedgerError, match="replaced"):
        list(pages)


def test_carries_are_kept_by_point(ledger: Ledger, lease: Lease) -> None:
    """Bytes come back as they were; a second state of the same point replaces the first."""
    run = opened(lease)
    lease.carry(run, 0, 7, b"\x00\xff", b"", "running")
    lease.carry(run, 0, UUID, b"u", b"v", "listed")
    lease.carry(run, 0, BIGGEST, b"b", b"c", "done")
    lease.carry(run, 0, 7, b"\x00\xff", b"\x01", "done")
    found = {entry.point_id: (entry.before, entry.after, entry.state) for entry in ledger.carries(run, 0)}
    assert found == {7: (b"\x00\xff", b"\x01", "done"), UUID: (b"u", b"v", "listed"), BIGGEST: (b"b", b"c", "done")}
    assert ledger.carries(run, 1) == []


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


def test_quarantined_points_are_counted_once(ledger: Ledger, lease: Lease) -> None:
    """A point that fails again is another attempt, not another point."""
    for point in (7, "7", 7):
        lease.quarantine("g", point, "fill", "EmbedError", "broken\x00file")
    lease.quarantine("h", 7, "fill", "EmbedError", "broken")
    assert (ledger.quarantined("g"), ledger.quarantined("h"), ledger.quarantined("i")) == (2, 1, 0)
    with ledger.database.reading() as connection:
        attempts = connection.execute(
            select(tables.quarantine.c.attempts).where(tables.quarantine.c.generation == "g")
        ).scalars()
        assert sorted(attempts) == [1, 2]


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
    assert ledger.generations("notes") == (GENERATION,)
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
    assert ledger.history()[0].report == {"points": 5, "cosine": None}, "NaN is no JSON"


def test_a_step_without_a_view_leaves_it_unless_it_closes_something(ledger: Ledger, lease: Lease) -> None:
    """Retiring an old generation says nothing about the name; closing a revision without a view removes it."""
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
    lease.supersede(failed)
    assert ledger.runs()[1].state == "aborted"


def test_superseding_never_reopens_or_changes_a_finished_run(ledger: Ledger, lease: Lease) -> None:
    """What is done stays done."""
    run = opened(lease)
    lease.finish_run(run, "done")
    lease.supersede(run)
    assert ledger.runs()[0].state == "done"


def test_the_newest_checksum_of_an_applied_revision_counts(ledger: Ledger, lease: Lease) -> None:
    """An acceptance overrides what was applied before it; one of a revision that isn't applied shows nowhere."""
    close(lease, opened(lease), closing("0001", checksum="one"))
    close(lease, opened(lease), closing("0002", checksum="two"))
    close(lease, opened(lease), closing("0002", "rollback"))
    assert ledger.applied_checksums() == {"0001": "one"}
    accept_checksum(ledger, "0001", "first", "typo", "ann")
    accept_checksum(ledger, "0001", "second", "another", "ann")
    accept_checksum(ledger, "0002", "never", "why", "ann")
    assert ledger.accepted() == {"0001": "second", "0002": "never"}
    assert ledger.applied_checksums() == {"0001": "second"}
    close(lease, opened(lease), closing("0001", "rollback"))
    close(lease, opened(lease), closing("0001", checksum="third"))
    assert ledger.applied_checksums() == {"0001": "third"}


def test_limits_take_the_newest(ledger: Ledger, lease: Lease) -> None:
    """Runs, history and deletions are listed newest first."""
    for number in range(3):
        close(lease, opened(lease), closing(f"000{number}"))
        lease.log_deletion("FILTER", f"number {number}", number, reason="why", actor="ann", facts={"n": number})
    assert [row.revision for row in ledger.history(limit=2)] == ["0002", "0001"]
    assert len(ledger.runs("notes", 2)) == 2
    assert ledger.runs("other") == []
    assert [(row.target, row.count, row.facts, row.collection) for row in ledger.deletions(1)] == [
        ("number 2", 2, {"n": 2}, "notes")
    ]
