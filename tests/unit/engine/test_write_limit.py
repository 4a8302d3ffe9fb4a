"""The time that writes of points may take, as it is recorded: what a process does, and for what the next one waits."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from qmigrate.engine.write_limit import START, Limit, limited, longest
from qmigrate.errors import LeaseHeldError
from qmigrate.model.names import own_alias
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.state import Record

MOST = 60.0
FILL, PROOF = "fill", "converge"


class Noting:
    """A run's journal, as far as the limit uses it."""

    def __init__(self, learned=None, late=0.0, most=MOST):
        self.noted, self.lost, self.step = [], False, 0
        self.learned, self.late_until = learned or {}, time.monotonic() + late
        self.store = SimpleNamespace(request_timeout=most, limited_writes=self.during)
        self.lease = SimpleNamespace(epoch=3)
        self.limit = self.name = None

    def note(self, facts):
        if self.lost:
            raise LeaseHeldError("another holder")
        self.noted.append(facts.write_limit)

    def during(self, name, limit):
        self.name, self.limit = name, limit
        return nullcontext()


def test_it_doubles_up_to_the_longest_time():
    """Once for each limit that was exceeded, however many writes have; lifted at once where it can't be kept."""
    work = Noting()
    limit = Limit(work, START, MOST)
    for _ in range(4):
        limit.exceeded(START)
    assert work.noted == [START, 2 * START]
    limit.exceeded(2 * START)
    limit.exceeded(MOST)
    assert (work.noted, limit.seconds) == ([START, 2 * START, MOST], MOST)
    other = Limit(Noting(), START, MOST)
    other.lift()
    other.lift()
    assert (other._work.noted, other.seconds) == ([START, MOST], MOST)


@pytest.mark.parametrize("raised", ["exceeded", "lift"])
def test_a_longer_time_is_recorded_before_it_is_used(raised):
    """A holder that was replaced can't record it, and so never uses it."""
    work = Noting()
    limit = Limit(work, START, MOST)
    work.lost = True
    with pytest.raises(LeaseHeldError):
        limit.exceeded(START) if raised == "exceeded" else limit.lift()
    assert limit.seconds == START


@pytest.mark.parametrize(
    ("learned", "late", "delegated", "most", "expected"),
    [
        ({}, 0.0, False, MOST, START),
        ({}, 0.0, False, 5.0, 5.0),
        ({}, 0.0, True, MOST, MOST),
        ({(0, FILL): {"write_limit": 30.0}}, 0.0, False, MOST, 30.0),
        ({(0, FILL): {"write_limit": 30.0}}, 0.0, False, 20.0, 20.0),
        ({(1, FILL): {"write_limit": 30.0}}, 0.0, False, MOST, START),
        ({}, 40.0, False, MOST, 40.0),
    ],
)
def test_it_begins_with_what_earlier_holders_needed(learned, late, delegated, most, expected):
    """And with what is left of the wait for one of them: who takes over counts from this one on."""
    work = Noting(learned, late, most)
    with limited(work, "shop__g0002", delegated=delegated):
        assert work.limit.seconds == pytest.approx(expected, abs=0.5)
    assert work.noted == [work.limit.seconds]
    assert work.name == own_alias("shop__g0002", 3)


def test_where_nothing_outlives_its_call_nothing_is_recorded():
    """Local mode."""
    work = Noting(most=0.0)
    with limited(work, "shop__g0002"):
        assert work.limit is None
    assert not work.noted


BUILD = object.__new__(Build)
LIVE = object.__new__(GoLive)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(0, "shadow", "done", 1, None), (0, FILL, "running", 1, 15.0)], 15.0),
        ([(0, FILL, "done", 1, 15.0), (0, PROOF, "running", 2, 30.0)], 30.0),
        ([(0, FILL, "running", 1, None)], MOST),
        ([(0, FILL, "done", 1, 15.0), (0, "index", "running", 1, 15.0)], MOST),
        ([(0, FILL, "done", 1, 15.0)], MOST),
        ([(0, PROOF, "running", 1, 15.0), (0, "snapshot", "running", 2, None)], MOST),
        ([(1, PROOF, "running", 1, 15.0)], MOST),
        ([], MOST),
    ],
)
def test_who_takes_over_waits_for_what_was_recorded(records, expected):
    """With the phase that was running; everything else sends requests that may take longer."""
    rows = [
        Record(step, phase, state, {} if limit is None else {"write_limit": limit}, epoch)
        for step, phase, state, epoch, limit in records
    ]
    run = SimpleNamespace(records=rows, job=SimpleNamespace(steps=(BUILD, LIVE)))
    assert longest(run, MOST) == expected
