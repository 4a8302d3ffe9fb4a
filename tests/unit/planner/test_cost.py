"""What embedding costs: a range that holds the truth, nothing where it is unknown."""

import random

import pytest

from qmigrate.planner.estimate import Speed, cost_of, rate_of


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


def test_the_speed_of_one_embedder_is_that_of_a_run_that_had_no_other():
    """Its own collection's newest first; of runs with several models nothing is known of one of them."""
    few = {"total": 1000, "prove": 1.0, "index": 1.0, "embeds": 1, "width": 100}
    runs = [
        Speed(points=1000, fill=1.0, models=("a:1", "b:1"), collection="docs", **few),
        Speed(points=1000, fill=2.0, models=("a:1",), collection="other", **few),
        Speed(points=100, fill=0.1, models=("a:1",), collection="docs", **few),
        Speed(points=1000, fill=4.0, models=("a:1",), collection="docs", **few),
        Speed(points=1000, fill=8.0, models=("a:1",), collection="docs", **few),
    ]
    assert rate_of("a:1", "docs", runs) == 250
    assert rate_of("a:1", "new", runs) == 500
    assert rate_of("b:1", "docs", runs) is None
