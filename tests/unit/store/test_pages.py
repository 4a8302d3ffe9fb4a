"""Pages of points as bytes: what is moved, keyed and compared there is what the messages say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from tests.unit.store.test_wire import IDS, PAYLOADS, VECTORS, stored

from qmigrate.store import exact, pages, records, wire

# Nameless is only the unnamed vector, which stands alone.
NAMED = st.dictionaries(st.text(min_size=1, max_size=6), VECTORS, max_size=3)


@st.composite
def points(draw):
    """One of every kind: ids of both kinds, nested payloads, no vector, an unnamed one, named ones of all kinds."""
    unnamed = draw(st.none() | VECTORS)
    return stored(draw(IDS), draw(PAYLOADS), draw(NAMED) if unnamed is None else {}, unnamed)


PAGES = st.lists(points(), max_size=6, unique_by=lambda point: records.order_key(records.point_id(point))).map(
    lambda page: sorted(page, key=lambda point: records.order_key(records.point_id(point)))
)


def answer(page, following=None):
    """What a server sends; its maps are in any order."""
    made = grpc.ScrollResponse(result=page, time=0.25)
    made.usage.SetInParent()
    if following is not None:
        made.next_page_offset.num = following
    return made.SerializeToString()


def built(point):
    """The point to be written, built of plain values: the path that knows nothing of bytes."""
    vectors = records.vectors_of(point)
    made = grpc.PointStruct.FromString(records.new_point(records.point_id(point), vectors))
    for key, value in records.payload_of(point).items():
        made.payload[key].CopyFrom(exact.value_of(value))
    return made


def canonical(message):
    """Equal for equal messages."""
    return message.SerializeToString(deterministic=True)


@given(PAGES, st.none() | st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None)
def test_the_three_paths_write_the_same(page, following):
    """Bytes that are moved, messages that are spliced, and points that are built of plain values."""
    moved, behind = pages.retagged(answer(page, following), lambda _: True)
    request = grpc.UpsertPoints.FromString(grpc.UpsertPoints(collection_name="c").SerializeToString() + moved.body)
    sent = [canonical(point) for point in request.points]
    spliced = [canonical(grpc.PointStruct.FromString(point)) for point in pages.unchanged(page)]
    assert sent == spliced == [canonical(built(point)) for point in page]
    assert all(point.HasField("vectors") for point in request.points)
    assert [canonical(grpc.PointStruct.FromString(point)) for point in moved] == sent
    assert behind == (None if following is None else grpc.PointId(num=following).SerializeToString())


@given(PAGES, IDS, st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_a_page_ends_before_a_border_and_is_cut_into_requests(page, border, limit):
    """All points before the border, each once and in order; no part is larger than it must be."""
    moved, behind = pages.retagged(
        answer(page, 7), lambda one: records.order_key(one) < records.order_key(border)
    )
    wanted = [point for point in page if records.order_key(records.point_id(point)) < records.order_key(border)]
    assert [records.point_id(grpc.PointStruct.FromString(one)) for one in moved] == list(map(records.point_id, wanted))
    assert (behind is None) == (len(wanted) < len(page))
    parts = list(moved.batches(limit)) if moved else []
    assert b"".join(part.body for part in parts) == moved.body
    assert all(len(part) == 1 or len(part.body) <= limit for part in parts)
    assert [one for part in parts for one in part] == list(moved)
    halves = [moved[: len(moved) // 2], moved[len(moved) // 2 :]]
    assert [one for half in halves for one in half] == list(moved)


@given(PAGES)
@settings(max_examples=25, deadline=None)
def test_a_cursor_is_written_once(page):
    """A scroll begins with the id that it is given; each request knows its last id."""
    moved, _ = pages.retagged(answer(page), lambda _: True)
    first = records.point_id(page[0]) if page else None
    for ready in (moved, pages.unchanged(page)):
        found = list(pages.in_batches(ready, first))
        ids = [records.point_id(grpc.PointStruct.FromString(one)) for part in found for one in part.points]
        assert ids == list(map(records.point_id, page[1:]))
        assert [part.last for part in found] == [
            records.point_id(grpc.PointStruct.FromString(part.points[-1])) for part in found
        ]
        assert sum(len(part.points) for part in pages.in_batches(ready, None)) == len(page)


FIELDS = {
    "of a point": wire.field(2, b"\x0a\x02\x08\x01\x4a\x00"),
    "of a point, a number": wire.field(2, b"\x0a\x02\x08\x01\x30\x07"),
    "shard key": wire.field(2, b"\x0a\x02\x08\x01" + wire.field(5, b"\x0a\x01k")),
    "of the answer": wire.field(2, b"\x0a\x02\x08\x01") + wire.field(9, b"x"),
    "between points": wire.field(2, b"\x0a\x02\x08\x01") + wire.field(9, b"") + wire.field(2, b"\x0a\x02\x08\x02"),
    "an id of a new kind": wire.field(2, b"\x0a\x02\x18\x01"),
    "cut off": wire.field(2, b"\x0a\x02\x08\x01")[:-1],
    "cut off in a length": b"\x12\x80",
    "a point without a byte": wire.field(2, b""),
    "a point of one byte": wire.field(2, b"\x0a"),
    "a field longer than its point": wire.field(2, b"\x0a\x02\x08\x01\x12\x20\x00"),
}


@pytest.mark.parametrize("raw", FIELDS.values(), ids=FIELDS.keys())
def test_a_field_that_is_not_known_is_no_page_to_move(raw):
    """Else a server's news would go into another field of the request, or get lost."""
    with pytest.raises(pages.ForeignError):
        pages.retagged(raw, lambda _: True)


@given(PAGES)
@settings(max_examples=40, deadline=None)
def test_a_canonical_page_has_keys_and_the_bytes_that_digests_are_made_of(page):
    """Whichever way it was made; so equal bytes are equal digests."""
    message = grpc.ScrollResponse.FromString(answer(page, 3))
    made, other = pages.canonical(message), pages.of_messages(page)
    assert made.body == other.body
    assert list(made.records) == [canonical(point) for point in page]
    assert made.keys == b"".join(records.order_key(records.point_id(point)) for point in page)
    key = b"k" * 32
    for record, point in zip(made.records, page, strict=True):
        assert records.digest_of_bytes(key)(record) == records.digest_under(key)(point)
        assert records.same(pages.stored_of(record), point)


@given(PAGES, PAGES)
@settings(max_examples=25, deadline=None)
def test_pages_are_equal_where_their_points_are(one, other):
    """Bit by bit: what differs in the last bit of a vector differs."""
    alike = len(one) == len(other) and all(map(records.same, one, other))
    assert (pages.of_messages(one).body == pages.of_messages(other).body) is alike


def test_bits_are_compared_not_numbers():
    """0 is not -0, and NaN is itself."""
    rows = [np.array([value, 1.0], np.float32) for value in (0.0, -0.0, np.nan, np.nan)]
    zero, minus, one, other = (pages.of_messages([stored(1, {}, {"v": row})]).body for row in rows)
    assert zero != minus
    assert one == other


def test_what_a_newer_server_adds_to_an_answer_is_no_point():
    """An unknown field of the answer is not in the page, one of a point is in its bytes."""
    point = stored(1, {"a": 1}, {"v": [1.0]})
    raw = answer([point]) + wire.field(9, b"news")
    assert pages.canonical(grpc.ScrollResponse.FromString(raw)).body == pages.of_messages([point]).body
    more = grpc.RetrievedPoint.FromString(point.SerializeToString() + wire.field(9, b"news"))
    assert pages.of_messages([more]).body != pages.of_messages([point]).body


def test_an_id_of_a_new_kind_is_left_to_messages():
    """A text that is not a canonical UUID has the key that its message has."""
    odd = grpc.RetrievedPoint(id=grpc.PointId(uuid="12345678-1234-1234-1234-1234567890AB"))
    assert pages.of_messages([odd]).keys == records.order_key(odd.id.uuid)


@given(st.lists(st.floats(width=64), max_size=3), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_long_answers_are_looked_through_as_short_ones(doubles, before, behind):
    """For doubles that may be integers that gRPC has no place for, wherever they are."""
    point = stored(1, {str(place): str(one) for place, one in enumerate(doubles)}, {})
    for place, double in enumerate(doubles):
        point.payload[f"d{place}"].double_value = double
    raw = b"\x09" * before + point.SerializeToString() + b"\x09\x11" * behind
    assert exact._may_hold_large(np.frombuffer(raw, np.uint8)) is exact.may_hold_large(raw)


@pytest.mark.parametrize("double", [2.0**63, 2.0**64, 1.5 * 2.0**63])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_large_double_is_found_in_a_long_answer(double, shift):
    """At even and odd places, up to the very end."""
    body = exact.value_of(double).SerializeToString()
    raw = bytes(2**17 + shift) + bytes((len(body),)) + body
    assert exact.may_hold_large(raw)
    assert not exact.may_hold_large(raw[:-1])
