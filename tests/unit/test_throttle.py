"""How fast points may go, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate.steps.throttle import Throttle


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
    """Nobody waits long after a look at points, and the lease is renewed in between; one point goes at any rate."""
    assert Throttle(rate).portion(most) == wanted
