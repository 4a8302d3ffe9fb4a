"""Fingerprint pages: packing, exchange, order keys."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from qmigrate.engine.points.base import BaseEntry, PageWriter, exchanged, pack, unpack
from qmigrate.store.records import DIGEST_SIZE, id_of_key, order_key

IDS = st.one_of(st.integers(0, 2**64 - 1), st.uuids().map(str))
DIGESTS = st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE)


@given(st.lists(st.tuples(IDS.map(order_key), st.builds(BaseEntry, DIGESTS, DIGESTS)), max_size=20))
def test_pages_come_back_as_they_were_packed(entries):
    """What is packed is unpacked equal and in order."""
    assert list(unpack([pack(entries)])) == entries


@given(st.lists(st.tuples(IDS.map(order_key), st.builds(BaseEntry, DIGESTS, DIGESTS)), max_size=20))
def test_exchange_twice_is_nothing(entries):
    """Exchanging the sides of a base twice gives the base."""
    page = pack(entries)
    assert b"".join(exchanged(exchanged([page]))) == page


@given(IDS)
def test_order_keys_can_be_read_back(identifier):
    """An order key holds the complete id."""
    assert id_of_key(order_key(identifier)) == identifier


@given(st.lists(IDS, min_size=2, max_size=10))
def test_order_keys_sort_as_qdrant_scrolls(ids):
    """Unsigned integers ascending, then UUIDs by bytes."""
    wanted = sorted(one for one in ids if isinstance(one, int)) + sorted(
        (one for one in ids if isinstance(one, str)), key=lambda one: uuid.UUID(one).bytes
    )
    assert sorted(ids, key=order_key) == wanted


def test_page_writer_hands_out_each_entry_once():
    """Taking empties the writer."""
    writer = PageWriter()
    writer.add(order_key(1), BaseEntry(bytes(16), bytes(16)))
    assert len(writer.take()) == 1
    assert writer.take() == []


@given(
    st.lists(st.tuples(IDS.map(order_key), DIGESTS, st.booleans()), max_size=20, unique_by=lambda one: one[0]),
    st.integers(1, 5),
)
def test_points_that_are_equal_on_both_sides_are_entries_like_others(points, size):
    """Added in one go, or one by one, in any turn: the page is the same."""
    points, writer = sorted(points), PageWriter()
    for start in range(0, len(points), size):
        part = points[start : start + size]
        if part[0][2]:
            writer.add_equal(b"".join(key for key, _, _ in part), [digest for _, digest, _ in part])
        else:
            for key, digest, _ in part:
                writer.add(key, BaseEntry(digest, digest))
    assert list(unpack(writer.take())) == [(key, BaseEntry(digest, digest)) for key, digest, _ in points]
    assert writer.take() == []
    assert not writer.full
