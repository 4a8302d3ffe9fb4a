"""What embedding costs: a range that holds the truth, nothing where it is unknown."""

import random

import pytest

from qmigrate.planner.estimate import cost_of


def test_the_range_holds_the_truth():
    """In nearly all of 200 samples of lengths that differ by a hundred times."""
    inside, wide = 0, []
    for seed in range(200):
        rng = random.Random(seed)
        lengths = [round(rng.lognormvariate(4, 1)) for _ in range(5000)]
        found = cost_of("e", 5000, rng.sample(lengths, 512), 0.1, 32)
        assert found.tokens is not None
        inside += found.tokens[0] <= sum(lengths) <= found.tokens[1]
        wide.append(found.tokens[1] / found.tokens[0])
        assert found.money == (pytest.approx(found.tokens[0] / 1e7), pytest.approx(found.tokens[1] / 1e7))
    assert inside >= 190
    assert max(wide) < 2


def test_everything_counted_is_exact():
    """There is nothing left to guess."""
    found = cost_of("e", 3, [10, 20, 30], 2.0, 2)
    assert (found.tokens, found.requests, found.money) == ((60, 60), 2, (pytest.approx(0.00012), pytest.approx(0.00012)))


@pytest.mark.parametrize(("counted", "price"), [(None, 1.0), ([], 1.0), ([3, 4], None)])
def test_what_is_unknown_stays_so(counted, price):
    """No tokens, or no price."""
    assert cost_of("e", 10, counted, price, None).money is None
