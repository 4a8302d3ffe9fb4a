"""How fast points may go, on a clock of the test's own."""

from __future__ import annotations

import inspect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate import fix
from qmigrate.engine.throttle import Throttle
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
