"""How fast points may go, on a clock of the test's own."""

from __future__ import annotations

import inspect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate import fix
from qmigrate.engine.throttle import LONGEST_QUEUE, Pace, Throttle
from qmigrate.errors import UsageError
from qmigrate.settings.load import Settings


@given(st.floats(0.5, 10_000), st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 3)), min_size=1))
def test_a_rate_is_never_exceeded_and_nobody_waits_longer_than_it_takes(rate, batches):
    """Each batch begins once those before it may be over; work in between counts as waiting."""
    now = [100.0]

    def pause(seconds: float) -> None:
        now[0] += seconds

    throttle, allowed = Throttle(rate, pause, lambda: now[0]), 0.0
    for points, work in batches:
        asked = now[0]
        throttle.take(points)
        assert now[0] == pytest.approx(max(asked, allowed))
        allowed = now[0] + points / rate
        now[0] += work


@pytest.mark.parametrize(
    ("rate", "most", "wanted"), [(None, 2000, 2000), (50_000, 2000, 2000), (300, 2000, 300), (0.2, 2000, 1)]
)
def test_a_portion_takes_a_second_at_most(rate, most, wanted):
    """Little time passes after a check of points, and the lease is renewed in between; one point goes at any rate."""
    assert Throttle(rate).portion(most) == wanted


#: The functions of `qmigrate.fix` that take a rate, with the least that each is called with.
RATED = {
    fix.sync_payload: {"collection": "docs", "sql": "SELECT 1 AS id, 2 AS v", "fields": ["v"]},
    fix.delete_points: {"collection": "docs", "ids": [1], "reason": "why"},
    fix.orphans: {"collection": "docs", "sql": "SELECT 1 AS id", "reason": "why"},
    fix.retrain: {"preset": "p", "values": [1]},
    fix.run: {},
    fix.retry_quarantine: {},
    fix.undo: {"log": 1},
}
WRONG_RATES = [math.nan, math.inf, -math.inf, 0, -1.5, True, "5", 10**400]


def test_every_function_with_a_rate_is_in_the_table():
    """Another one is tested as soon as it is there."""
    public = (getattr(fix, name) for name in fix.__all__)
    assert {one for one in public if "max_rate" in inspect.signature(one).parameters} == set(RATED)


@pytest.fixture
def settings(tmp_path):
    """Of a deployment that was never used."""
    config = tmp_path / "qmigrate.yaml"
    config.write_text("qdrant: {path: ./qdrant}\nledger: {url: 'sqlite:///ledger.db'}\n")
    return Settings.load(config=config, environ={})


@pytest.mark.parametrize("rate", WRONG_RATES, ids=lambda rate: str(rate)[:5] if not isinstance(rate, int) or rate < 10 else "huge")
@pytest.mark.parametrize(
    ("called", "arguments"),
    [*RATED.items(), (fix.delete_points, RATED[fix.delete_points] | {"erase": True})],
    ids=[*(called.__name__ for called in RATED), "erase"],
)
def test_a_rate_that_paces_nothing_is_refused_before_anything_is_opened(called, arguments, rate, settings, tmp_path):
    """It leaves no run behind, and never means that there is no pace."""
    with pytest.raises(UsageError, match="max_rate must be a number above 0"):
        called(**arguments, max_rate=rate, settings=settings)
    assert [file.name for file in tmp_path.iterdir()] == ["qmigrate.yaml"]


class Server:
    """A server whose searches take the longer the more points are written, on a clock of its own."""

    def __init__(self, bears: float, idle: float = 0.004) -> None:
        self.bears, self.idle, self.now = bears, idle, 100.0
        self.queued = 0

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    def search(self, rate: float) -> float:
        return self.idle * (1 + (rate / self.bears) ** 2)


def run(server: Server, pace: Pace, seconds: int, fastest: float = 30_000.0) -> list[float]:
    """Points per second of a work that would be `fastest`, second by second."""
    rates = []
    for _ in range(seconds):
        began, points = server.now, 0
        while server.now - began < 1.0:
            pace.take(1000)
            server.now += 1000 / fastest
            points += 1000
        rates.append(points / (server.now - began))
        for _ in range(10):
            pace.saw(server.search(rates[-1]))
        pace.adapt(server.queued)
    return rates


@pytest.mark.parametrize("bears", [1_000.0, 5_000.0])
def test_work_is_as_fast_as_searches_bear(bears):
    """It falls until they take no longer than they may, stays near that, and says why."""
    server = Server(bears)
    pace = Pace(None, 0.05, server.pause, server.clock)
    rates = run(server, pace, 120)
    # Where a search takes 50 ms.
    borne = bears * (0.05 / 0.004 - 1) ** 0.5
    assert rates[0] > 25_000
    late = sorted(rates[60:])
    assert late[len(late) // 2] == pytest.approx(borne, rel=0.45)
    assert max(rates[60:]) < 1.5 * borne
    assert "slowed to" in pace.note()
    assert "rebuild.max_latency 50 ms" in pace.note()


def test_work_that_disturbs_no_search_is_not_slowed():
    """And it is fast again once searches are."""
    server = Server(1e9)
    pace = Pace(None, 0.05, server.pause, server.clock)
    assert min(run(server, pace, 20)) > 25_000
    assert pace.note() == "searches take 4 ms, rebuild.max_latency 50 ms"
    server.bears = 2_000.0
    assert run(server, pace, 20)[-1] < 15_000
    server.bears = 1e9
    assert run(server, pace, 60)[-1] > 25_000
    assert "slowed" not in pace.note()


def test_a_queue_of_updates_slows_and_a_given_rate_stays_the_highest():
    """Writers of the live collection wait where its queue is full; `max_rate` is never exceeded."""
    server = Server(1e9)
    pace = Pace(2000.0, 0.05, server.pause, server.clock)
    assert max(run(server, pace, 10)[1:]) < 2100
    server.queued = LONGEST_QUEUE + 1
    assert run(server, pace, 20)[-1] < 500
    assert f"{server.queued:,} updates are queued" in pace.note()
    server.queued = 0
    assert 1500 < run(server, pace, 60)[-1] < 2100


def test_what_is_slow_without_us_never_ends_the_work():
    """The rate has a floor, and a search without an answer is one that takes forever."""
    server = Server(1e9, idle=math.inf)
    pace = Pace(None, 0.05, server.pause, server.clock)
    assert run(server, pace, 60)[-1] > 100
    assert "searches have no answer in time" in pace.note()
    pace.give_up("no")
    assert run(server, pace, 3)[-1] > 25_000


def test_before_anything_of_ours_went_nothing_is_slowed():
    """Searches that are slow before the first page are slow without us."""
    server = Server(1e9, idle=0.3)
    pace = Pace(None, 0.05, server.pause, server.clock)
    for _ in range(20):
        pace.saw(0.3)
    pace.adapt(0)
    began = server.now
    pace.take(5000)
    pace.take(5000)
    assert server.now == began


def test_who_waits_at_a_low_rate_goes_once_it_has_risen():
    """A large page that had its turn at the lowest rate holds up the next one for no longer than it has to."""
    server = Server(1e9)
    pace = Pace(None, 0.05, server.pause, server.clock)
    run(server, pace, 5)
    server.bears = 1.0
    run(server, pace, 20)
    server.bears = 1e9
    searched = server.pause

    def pause(seconds: float) -> None:
        searched(seconds)
        for _ in range(10):
            pace.saw(0.004)
        pace.adapt(0)

    pace._pause = pause
    began = server.now
    pace.take(100_000)
    pace.take(1000)
    assert server.now - began < 60
