"""The join of two ordered streams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate.sequences import DisorderError, join

KEYS = st.lists(st.binary(min_size=1, max_size=4), unique=True).map(sorted)


@given(KEYS, KEYS)
def test_join_is_the_outer_join_of_two_dictionaries(left, right):
    """Every key of either side appears once, in order, with the items of both sides."""
    ours = list(join(((key, b"l" + key) for key in left), ((key, b"r" + key) for key in right)))
    both = sorted(set(left) | set(right))
    assert ours == [
        (key, b"l" + key if key in left else None, b"r" + key if key in right else None) for key in both
    ]


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"], [b""]])
def test_join_refuses_a_stream_out_of_order(keys):
    """A stream that goes back or repeats a key is an error, never a wrong answer."""
    with pytest.raises(DisorderError):
        list(join([(key, 1) for key in keys], []))


def test_join_reads_no_further_than_it_yields():
    """The walk is lazy: neither stream is read ahead by more than one item."""
    read = []

    def stream():
        for number in range(100):
            read.append(number)
            yield bytes([number + 1]), number

    walk = join(stream(), iter(()))
    next(walk)
    assert len(read) <= 2
