"""Figures of a run and who works on it, as those who watch it read them, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from qmigrate.engine import figures as recording
from qmigrate.engine.figures import Recorder, memory
from qmigrate.errors import LedgerError
from qmigrate.ledger import Lease, Ledger
from qmigrate.ledger.watching import Wanted, count, figures_of, one_watched, watched
from qmigrate.model.facts.figures import MOST, Figures, Sample
from qmigrate.model.plan import Build, Job
from qmigrate.model.schema import CollectionSchema
from qmigrate.ports import Silent

pytestmark = pytest.mark.timeout(120)
BUILD = Build((), "notes", "notes__g0001", 1, CollectionSchema(), "copy", "new")


@pytest.fixture
def lease(ledger: Ledger) -> Iterator[Lease]:
    """The lease of the collection ``notes``."""
    with ledger.hold("notes", timeout=0) as held:
        yield held


def opened(lease: Lease, verb: str = "upgrade", actor: str = "ann") -> int:
    """A run, opened."""
    return lease.open_run(verb, Job(lease.collection, "", (BUILD,)), {}, actor=actor, tool="0.1", server="Qdrant")


def taken(count: int) -> Figures:
    """This many samples, taken one after the other."""
    found = Figures(pause=2.0)
    for number in range(1, count + 1):
        found = found.with_one(Sample(number, float(number), "fill", done=number))
    return found


@pytest.mark.parametrize("count", [1, 2, MOST, MOST + 1, MOST * 2, MOST * 9 + 3])
def test_samples_are_thinned_out_over_the_whole_run(count):
    """However many there were, few are kept: the newest, some of the beginning, and none twice."""
    found = taken(count)
    numbers = [one.number for one in found.samples]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= MOST
    assert found.last == count
    assert numbers[0] <= 2 * found.pause / 2.0, "the beginning is still told of"
    assert (found.pause > 2.0) == (count > MOST)


def test_figures_are_kept_apart_from_the_journal(lease, ledger):
    """They change nothing of what a resume reads."""
    run = opened(lease)
    lease.journal(run, 0, "fill", "running", {"again": True})
    before = ledger.open_run("notes").records
    lease.keep_figures(run, taken(3))
    lease.keep_figures(run, taken(4))
    assert ledger.open_run("notes").records == before
    lease.journal(run, 0, "index", "running")
    assert [one.phase for one in ledger.open_run("notes").records] == ["fill", "index"]
    assert figures_of(ledger, run) == taken(4)
    assert one_watched(ledger, run).figures == taken(4)
    assert [one.record.phase for one in one_watched(ledger, run).phases] == ["fill", "index"]
    assert figures_of(ledger, run + 1) == Figures()


def test_a_run_is_leased_only_to_who_works_on_it(lease, ledger):
    """A later holder of the lease says nothing of an earlier run."""
    run = opened(lease)
    assert one_watched(ledger, run).run.leased
    lease.finish_run(run, "failed", "it broke")
    lease._end()
    with ledger.hold("notes", timeout=0) as later:
        second = opened(later)
        first = one_watched(ledger, run)
        assert (first.run.leased, first.expires_at, first.is_over) == (False, None, False)
        assert one_watched(ledger, second).run.leased
        later.resume_run(run)
        assert one_watched(ledger, run).run.leased
        later.finish_run(run, "done")
    assert one_watched(ledger, run).is_over
    assert one_watched(ledger, 0) is None
    assert one_watched(ledger, 2**70) is None


def test_runs_are_filtered_and_paged(lease, ledger):
    """Newest first, by what is asked for."""
    first, second, third = opened(lease), opened(lease, "gc", "100% bob"), opened(lease, actor="cy")
    lease.finish_run(first, "done")
    for wanted, found in (
        (Wanted(), [third, second, first]),
        (Wanted(collection="notes"), [third, second, first]),
        (Wanted(collection="other"), []),
        (Wanted(states=("done",)), [first]),
        (Wanted(states=("done", "running"), verb="upgrade"), [third, first]),
        (Wanted(verb="gc"), [second]),
        (Wanted(actor="0%"), [second]),
        (Wanted(actor="_"), []),
        (Wanted(since=one_watched(ledger, first).now), []),
    ):
        assert [one.run.id for one in watched(ledger, wanted, limit=10)] == found, wanted
        assert count(ledger, wanted) == len(found)
    assert [one.run.id for one in watched(ledger, Wanted(), limit=1, offset=1)] == [second]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1_000_000.0 + self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of the figures."""
    made = Clock()
    monkeypatch.setattr(recording, "time", made)
    return made


def working(lease: Lease, run: int, **more) -> SimpleNamespace:
    """As much of a run's work as figures need."""
    store = SimpleNamespace(capabilities=SimpleNamespace(local=False), readiness=lambda name: SimpleNamespace(queue=len(name)))
    job = Job("notes", "", (BUILD,))
    return SimpleNamespace(**{"lease": lease, "run": run, "step": 0, "phase": "fill", "job": job, "store": store, "busy": None, "progress": Silent(), **more})


def test_a_sample_has_what_was_done_since_the_one_before(lease, ledger, clock):
    """Points per second, shares of the time, the queue and the memory; taken seldom."""
    run = opened(lease)
    busy = {"read": 0.5, "model": 0.5}
    work = working(lease, run, busy=lambda: dict(busy))
    recorder = Recorder(work)
    recorder.begin("notes", "fill", 1000, 100)
    clock.now += 1
    recorder.look()
    assert figures_of(ledger, run) == Figures(), "it is too early"
    recorder.advance(50)
    clock.now += 1
    recorder.look()
    recorder.look()
    clock.now += 2
    recorder.advance(300)
    # Half of the time in 2 s, then all of it in 2 s, is three quarters of 4 s.
    busy.update(read=0.75, model=0.25)
    recorder.look()
    recorder.begin("notes", "converge, pass 1", None)
    work.phase, work.busy = "converge", None
    clock.now += 2
    recorder.look()
    first, second, third = figures_of(ledger, run).samples
    assert (first.number, first.phase, first.doing, first.done, first.total) == (1, "fill", "fill", 150, 1000)
    assert (first.rate, first.busy, first.queue) == (25.0, {"read": 0.5, "model": 0.5}, len("notes__g0001"))
    assert first.memory == pytest.approx(memory(), rel=0.5)
    assert (second.rate, second.busy, second.at - first.at) == (150.0, {"read": 1.0, "model": 0.0}, 2.0)
    assert (third.doing, third.total, third.rate, third.busy) == ("converge, pass 1", None, 0.0, {})


def test_who_resumes_goes_on_with_the_numbers(lease, ledger, clock):
    """So that a listener gets what it has missed, whichever process works."""
    run = opened(lease)
    for _ in range(2):
        recorder = Recorder(working(lease, run))
        for _ in range(2):
            clock.now += 2
            recorder.look()
    assert [one.number for one in figures_of(ledger, run).samples] == [1, 2, 3, 4]


def test_no_failure_of_it_stops_work(lease, ledger, clock, monkeypatch):
    """Neither of the ledger nor of the server; what could be taken is kept the next time."""
    run = opened(lease)
    work = working(lease, run)
    recorder = Recorder(work)

    def broken(*_):
        raise LedgerError("it is gone")

    work.store.readiness = broken
    with monkeypatch.context() as patched:
        patched.setattr(lease, "keep_figures", broken)
        clock.now += 2
        recorder.look()
    clock.now += 2
    recorder.look()
    assert [(one.number, one.queue) for one in figures_of(ledger, run).samples] == [(1, None), (2, None)]
