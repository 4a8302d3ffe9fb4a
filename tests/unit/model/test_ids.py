"""Pages of ids: made, checked and compared as arrays, the same as one by one."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc

from qmigrate.model.ids import NUMBERS, UUIDS, DescentError, ascending, differing, pages_of, plain_page, points_of
from qmigrate.store.id_pages import decoded, looked_up
from qmigrate.store.records import order_key

NUMBER = st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1))
UUID = st.one_of(st.integers(0, 20), st.integers(0, 2**128 - 1)).map(lambda number: str(uuid.UUID(int=number)))
IDS = st.sets(st.one_of(NUMBER, UUID), max_size=60).map(lambda ids: sorted(ids, key=order_key))


def pages(ids, size):
    """A stream of pages of at most this many ids."""
    for first in range(0, len(ids), size):
        yield from pages_of(ids[first : first + size])


@given(IDS, IDS, st.integers(1, 9), st.integers(1, 9))
def test_two_streams_differ_in_what_their_sets_differ_in(left, right, one, other):
    """Whatever the pages' sizes, each side's own ids are found, ascending, and every id is counted once."""
    found = list(differing(pages(left, one), pages(right, other)))
    assert [key for part in found for key in points_of(part.left)] == [key for key in left if key not in set(right)]
    assert [key for part in found for key in points_of(part.right)] == [key for key in right if key not in set(left)]
    assert (sum(part.lefts for part in found), sum(part.rights for part in found)) == (len(left), len(right))


@pytest.mark.parametrize(
    ("ids", "before", "after"),
    [
        ([[1, 2, 2]], 2, 2),
        ([[1, 5], [5, 6]], 5, 5),
        ([[3], [2]], 3, 2),
        ([[str(uuid.UUID(int=2)), str(uuid.UUID(int=1))]], str(uuid.UUID(int=2)), str(uuid.UUID(int=1))),
        ([[str(uuid.UUID(int=2)), 7]], str(uuid.UUID(int=2)), 7),
        ([[str(uuid.UUID(int=2))], [7]], str(uuid.UUID(int=2)), 7),
    ],
)
def test_ids_that_do_not_ascend_are_named(ids, before, after):
    """A repeated id, one that goes back, within a page and between two, and a number behind a UUID."""
    with pytest.raises(DescentError) as caught:
        list(ascending(page for part in ids for page in pages_of(part)))
    assert (caught.value.before, caught.value.after) == (before, after)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2**64 - 1], NUMBERS),
        (["00000000-0000-0000-0000-00000000000a"], UUIDS),
        ([1, -1], None),
        ([2**64], None),
        ([True], None),
        ([1, 1.0], None),
        ([None], None),
        (["00000000-0000-0000-0000-00000000000A"], None),
        (["0000000000000000000000000000000a"], None),
        (["00000000-0000-0000-0000-00000000000", "a00000000-0000-0000-0000-00000000000a"], None),
        (["00000000-0000-0000-0000-00000000000\xe4"], None),
        (["7"], None),
    ],
)
def test_only_plain_values_become_a_page_at_once(values, wanted):
    """Unsigned integers and canonical texts do; anything else is left to the caller."""
    page = plain_page(values)
    assert (None if page is None else page.dtype) == wanted
    assert page is None or points_of(page) == values


def answer(ids, following=None, *, payload=False, kind=grpc.ScrollResponse) -> bytes:
    """An answer of the server with these points."""
    found = kind(time=0.5)
    for key in ids:
        identifier = grpc.PointId(num=key) if isinstance(key, int) else grpc.PointId(uuid=key)
        point = grpc.RetrievedPoint(id=identifier)
        if payload:
            point.payload["n"].integer_value = 1
        found.result.append(point)
    if following is not None:
        found.next_page_offset.num = following
    return found.SerializeToString()


@given(IDS, st.none() | NUMBER, st.booleans())
def test_an_answer_of_ids_is_decoded_as_the_library_does(ids, following, payload):
    """Numbers of every length and UUIDs, with a next page and without; a strange answer too."""
    found, offset = decoded(answer(ids, following, payload=payload))
    assert [key for page in found for key in points_of(page)] == ids
    assert (None if offset is None else grpc.PointId.FromString(offset).num) == following


def test_an_answer_in_another_order_is_decoded_too():
    """Runs of equally long records are found again when a longer one lies between."""
    found, offset = decoded(answer([1, 300, 2, 70_000, 3]))
    assert np.concatenate(found).tolist() == [1, 300, 2, 70_000, 3]
    assert offset is None


@given(IDS, st.booleans(), st.booleans())
def test_an_answer_to_a_look_up_is_decoded_too(ids, payload, backwards):
    """The tags are others there, and the points may be in any order."""
    asked = ids[::-1] if backwards else ids
    found = looked_up(answer(asked, payload=payload, kind=grpc.GetResponse))
    assert sorted(map(str, (key for page in found for key in points_of(page)))) == sorted(map(str, ids))
