"""Payload numbers that gRPC has no place for, and payloads of many levels, in messages."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import grpc
from qdrant_client.conversions.conversion import json_to_value

from qmigrate.model.transform import PointTransform
from qmigrate.store import exact, records

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
UNCHANGED = PointTransform.identity(frozenset())


def point(payload, make=exact.value_of, number: int = 1):
    """A stored point."""
    made = grpc.RetrievedPoint(id=grpc.PointId(num=number))
    for key, value in payload.items():
        made.payload[key].CopyFrom(make(value))
    return made


def text(payload) -> str:
    """What distinguishes 1 from 1.0."""
    return json.dumps(payload, sort_keys=True)


@given(st.dictionaries(st.text(max_size=4), PLAIN, max_size=4))
@settings(max_examples=300, deadline=None)
def test_every_json_value_comes_back_with_its_type(payload):
    """From a point, from its bytes, and from the point that is written."""
    stored = point(payload)
    again = grpc.RetrievedPoint.FromString(stored.SerializeToString())
    written = records.make_ready(again, UNCHANGED, {})
    assert text(records.payload_of(again)) == text(records.rest_form(written)["payload"]) == text(payload)


@pytest.mark.parametrize("number", [2**63, 2**63 + 1, 2**64 - 1, 2**64, -(2**63) - 1, 10**400])
def test_an_integer_is_not_the_double_that_stands_for_it(number):
    """Digest, equality and comparison distinguish it from the double, and from its neighbour with the same double."""
    ours, neighbour = point({"n": [number]}), point({"n": [number + 1]})
    double = point({"n": [ours.payload["n"].list_value.values[0].double_value]})
    for other in (neighbour, double):
        assert not records.same(ours, other)
        assert records.digest_under(b"k")(ours) != records.digest_under(b"k")(other)
        wanted, seen = records.expected(ours, UNCHANGED, None), records.found(other, UNCHANGED)
        assert records.difference(wanted, seen, {}) == "the payload differs"
    assert exact.is_marked(records.make_ready(ours, UNCHANGED, {}))
    assert not exact.is_marked(records.make_ready(double, UNCHANGED, {}))


@pytest.mark.parametrize(
    ("arrived", "read", "settled"),
    [
        ({"n": 2.0**63}, {"n": 2**63}, {"n": 2**63}),
        ({"n": 2.0**64}, {"n": 2**64 - 1}, {"n": 2**64 - 1}),
        ({"a": [{"n": 2.0**63}, 1]}, {"a": [{"n": 2**63 + 7}, 1]}, {"a": [{"n": 2**63 + 7}, 1]}),
        ({"n": 2.0**63}, {"n": 2.0**63}, {"n": 2.0**63}),
        ({"n": 2.0**63, "m": 1.5}, {"n": "another", "m": 2}, {"n": 2.0**63, "m": 1.5}),
        ({"n": 2.0**63}, {}, {"n": 2.0**63}),
        ({"n": 2.0**62}, None, {"n": 2.0**62}),
        ({"n": 1e300, "m": -(2.0**63)}, None, {"n": 1e300, "m": -(2.0**63)}),
        ({"n": 2**63 - 1}, None, {"n": 2**63 - 1}),
    ],
)
def test_points_that_may_hold_such_an_integer_are_read_again(arrived, read, settled):
    """Only those; what isn't what it was any more stays as it came."""
    stored = point(arrived, json_to_value)
    asked = []
    page = exact.settled([stored, point({"x": 1}, number=2)], records.point_id, lambda ids: asked.append(ids) or {1: read})
    assert text(records.payload_of(page[0])) == text(settled)
    assert asked == ([[1]] if read is not None else [])


def test_what_a_server_sends_is_looked_through_as_a_whole():
    """A page without such a double is not checked point by point, and vectors don't count as payload."""
    plain = point({"f": 1.5, "n": 7, "t": "text"})
    plain.vectors.vector.dense.data.extend([float(2**63)] * 50)
    pages = [[plain], [plain, point({"deep": {"n": 2.0**63}}, number=2)]]
    answers = [grpc.ScrollResponse(result=page).SerializeToString() for page in pages]
    assert [exact.may_hold_large(answer) for answer in answers] == [False, True]


@pytest.mark.parametrize(
    ("wanted", "seen", "equal"),
    [
        (1.2345678901234567e-300, math.nextafter(1.2345678901234567e-300, 0), True),
        (-9.87e300, math.nextafter(-9.87e300, 0), True),
        (0.1, 0.1 + 1e-12, False),
        (1.0, -1.0, False),
        (5e-324, 0.0, True),
        (1.0, 1, False),
        (1e308, math.inf, False),
        (math.inf, math.inf, True),
        (3, 4, False),
        ("1.0", "1.00", False),
    ],
)
@pytest.mark.parametrize("place", [lambda it: it, lambda it: [0, it], lambda it: {"a": {"b": it}}], ids=["top", "list", "deep"])
def test_the_last_digits_of_a_double_are_no_difference(wanted, seen, equal, place):
    """A server that parses its own JSON may change them at every reading; anything more is a difference."""
    sides = [point({"n": place(value), "m": 1}) for value in (wanted, seen)]
    pure = records.expected(sides[0], UNCHANGED, None), records.found(sides[1], UNCHANGED)
    assert records.difference(*pure, {}) == (None if equal else "the payload differs")


@pytest.mark.parametrize("levels", [10, 33, 40, 120])
def test_a_payload_of_many_levels_can_be_read(levels):
    """As many as JSON readers take, although a message of the library ends at 100 of its own."""
    value: object = 2**63
    for _ in range(levels):
        value = {"a": value}
    stored = point({"n": value})
    again = grpc.RetrievedPoint.FromString(stored.SerializeToString())
    assert records.payload_of(again) == {"n": value}
    assert records.rest_form(records.make_ready(again, UNCHANGED, {}))["payload"] == {"n": value}


def test_a_text_that_looks_like_the_mark_is_a_text():
    """It makes a point look marked, which only costs time."""
    mark = exact._MARK.decode() + "7"
    stored = point({"t": mark, "d": 2.0**63, mark: 1})
    assert exact.is_marked(records.make_ready(stored, UNCHANGED, {}))
    assert records.payload_of(stored) == {"t": mark, "d": 2.0**63, mark: 1}


@pytest.mark.parametrize("made", [{1: "a", "1": "b"}, [{"deep": {True: 1, "True": 2}}], ({None: 1, "None": 2},)])
def test_two_keys_that_would_be_one_are_refused(made):
    """JSON has no keys but texts: one of the two values would be lost."""
    with pytest.raises(ValueError, match="two keys of an object would be"):
        exact.new_value(made)
    assert records.plain_value(exact.new_value({1: "a", 2: "b"})) == {"1": "a", "2": "b"}
