"""The collector of cycles while points pass through."""

import gc

import pytest

from qmigrate.commands.session import seldom_collected


@pytest.fixture(autouse=True)
def _thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("before", "inside"), [((700, 10, 10), 50_000), ((90_000, 5, 5), 90_000), ((0, 10, 10), 0)])
def test_the_collector_looks_seldom_until_the_last_one_has_left(before, inside):
    """Two passes overlap; what the application has set comes back after the later end, and a higher value never falls."""
    gc.set_threshold(*before)
    one, other = seldom_collected(), seldom_collected()
    with one:
        assert gc.get_threshold()[0] == inside
        other.__enter__()
    assert gc.get_threshold()[0] == inside
    other.__exit__(None, None, None)
    assert gc.get_threshold() == before


def test_a_pass_that_fails_leaves_nothing_behind():
    """The threshold comes back after an error."""
    gc.set_threshold(701, 10, 10)
    with pytest.raises(KeyError), seldom_collected():
        raise KeyError
    assert gc.get_threshold() == (701, 10, 10)
