"""Paths into payloads: what stands there, what a change of it is, and how a server and local mode are asked for it."""

from __future__ import annotations

import pytest

from qmigrate.model.payload_path import BLOCKED, covers, drop, picked, placed, put, roots, spelled, value_at
from qmigrate.ports import PayloadEdit
from qmigrate.store.server.payloads import requests

PAYLOAD = {"a": {"b": {"c": 1, "n": None}, "l": [1]}, "t": "text", "n": None, "a.b": "literal"}
#: Path, the value there, and whether it counts as there.
VALUES = [
    ("t", "text", True),
    ("n", None, True),
    ("x", None, False),
    ("a.b.c", 1, True),
    ("a.b.n", None, True),
    ("a.x.c", None, False),
    ("n.x", None, False),
    ("t.x", BLOCKED, True),
    ("a.l.x", BLOCKED, True),
    ("a.l", [1], True),
]


@pytest.mark.parametrize(("path", "value", "there"), VALUES)
def test_the_value_at_a_path(path, value, there):
    """Nested values are found, null counts as there, and what is not an object on the way blocks."""
    assert value_at(PAYLOAD, path) == value
    assert (path in picked(PAYLOAD, [path])) == there


#: Payload, path, and the change that setting a value there makes: of the first object that is missing.
CHANGES = [
    ({}, "a", {"a": 7}),
    ({}, "a.b.c", {"a": {"b": {"c": 7}}}),
    ({"a": {}}, "a.b.c", {"a.b": {"c": 7}}),
    ({"a": {"b": {"x": 1}}}, "a.b.c", {"a.b.c": 7}),
    ({"a": None}, "a.b", {"a": {"b": 7}}),
]


@pytest.mark.parametrize(("payload", "path", "change"), CHANGES)
def test_a_change_is_as_small_as_it_can_be(payload, path, change):
    """Only what was not there is made, so that an undo removes exactly that."""
    changes: dict = {}
    assert placed(payload, path, 7, changes) == next(iter(change))
    assert changes == change
    assert covers(next(iter(change)), path)


def test_two_values_of_one_missing_object_are_one_change():
    """They don't overwrite each other."""
    changes: dict = {}
    for path in ("a.b", "a.c.d", "e"):
        placed({}, path, path, changes)
    assert changes == {"a": {"b": "a.b", "c": {"d": "a.c.d"}}, "e": "e"}
    assert roots(["a.b", "a.c.d", "e", "a"]) == ["a", "e"]
    assert not covers("a.b", "a.bc")


def test_put_and_drop_change_one_value():
    """Everything else stays; dropping what is not there, or lies behind a text, does nothing."""
    payload = {"a": {"b": 1, "c": 2}, "t": "text"}
    put(payload, "a.b", 7)
    put(payload, "x.y", 8)
    for path in ("a.c", "a.z", "t.z", "z"):
        drop(payload, path)
    assert payload == {"a": {"b": 7}, "t": "text", "x": {"y": 8}}


def test_a_server_is_asked_object_by_object():
    """Keys at the top in one operation, those of each object in one of their own, removals by path; odd keys in quotes."""
    edit = PayloadEdit([1, 2], {"t": 1, "a.b": 2, "a.c": 3, "größe.x.y": 4}, ["k", "a.d", "größe.z"])
    (request,) = requests("docs", [edit])
    assert request.wait
    sets = [one.set_payload for one in request.operations if one.HasField("set_payload")]
    assert [(one.key, sorted(one.payload)) for one in sets] == [("", ["t"]), ("a", ["b", "c"]), ('"größe".x', ["y"])]
    assert [one.HasField("key") for one in sets] == [False, True, True]
    (gone,) = [one.delete_payload for one in request.operations if one.HasField("delete_payload")]
    assert list(gone.keys) == ["k", "a.d", '"größe".z']
    assert all(len(one.points_selector.points.ids) == 2 for one in [*sets, gone])
    assert spelled("plain-key_1") == "plain-key_1"
