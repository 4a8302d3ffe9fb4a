"""The join of two ordered streams."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmigrate.sequences import DisorderError, join, join_pages

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


@dataclass(frozen=True)
class Keyed:
    """A page of keys of two bytes, and their items."""

    items: tuple[tuple[bytes, bytes], ...]

    @property
    def body(self) -> bytes:
        """Everything."""
        return b"".join(key + item for key, item in self.items)

    @property
    def keys(self) -> bytes:
        """The keys."""
        return b"".join(key for key, _ in self.items)

    @property
    def records(self) -> list[bytes]:
        """The items."""
        return [item for _, item in self.items]


# Few keys and items, so that streams agree for a while; pages of any size, empty ones too.
ITEMS = st.dictionaries(st.integers(1, 30).map(lambda it: it.to_bytes(2, "big")), st.sampled_from([b"a", b"b"]))
SIZES = st.lists(st.integers(0, 7), min_size=1, max_size=5).filter(any)


def paged(items, sizes):
    """A stream in pages of these sizes, repeated."""
    left, turn = sorted(items.items()), 0
    while left:
        size = sizes[turn % len(sizes)]
        yield Keyed(tuple(left[:size]))
        left, turn = left[size:], turn + 1


@given(ITEMS, ITEMS, SIZES, SIZES, st.booleans())
def test_pages_are_joined_as_their_items_are(left, right, sizes, others, alike):
    """Whatever the pages are, and also where both streams are the same but for a few items."""
    if alike:
        right, others = {**left, **dict(list(right.items())[:2])}, sizes
    found = []
    for stretch in join_pages(paged(left, sizes), paged(right, others), 2):
        keys = [stretch.keys[at : at + 2] for at in range(0, len(stretch.keys), 2)]
        lefts, rights = (side or [None] * len(keys) for side in (stretch.left, stretch.right))
        assert keys
        found += zip(keys, lefts, rights, strict=True)
    assert found == list(join(sorted(left.items()), sorted(right.items())))


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("numbers", [[[2, 1]], [[1, 1]], [[1, 2], [2, 3]], [[3], [1, 2]]], ids=str)
def test_pages_out_of_order_are_refused(numbers, side, equal):
    """On either side, within a page and between two; also where both sides have the very same pages."""
    wrong = [Keyed(tuple((one.to_bytes(2, "big"), b"a") for one in page)) for page in numbers]
    others = wrong if equal else [Keyed((((9).to_bytes(2, "big"), b"a"),))]
    with pytest.raises(DisorderError, match=side if not equal else "left"):
        list(join_pages(*((wrong, others) if side == "left" else (others, wrong)), 2))
