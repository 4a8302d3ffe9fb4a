"""What a filter compares fields with, wherever it stands, and whether the payloads hold values of that type."""

from __future__ import annotations

import pytest
from tests.harness import write

from qmigrate.commands.value_types import asked, misfits
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Point


def match(key: str, **how) -> dict:
    """A condition."""
    return {"key": key, "match": how}


#: An edit, and the lines that name its values.
ASKED = [
    ({"kind": "delete", "filter": {"must": match("a", value=90)}}, ["a: number 90"]),
    ({"kind": "delete", "filter": {"must": [match("a", value="90")], "must_not": [match("b", value=True)]}}, ['a: text "90"', "b: boolean true"]),
    ({"kind": "delete", "filter": {"should": [match("a", any=[1, 2, 3, 4])]}}, ["a: numbers 1, 2, 3 and 1 more"]),
    ({"kind": "delete", "filter": {"must": [match("a", **{"except": ["x", "y"]})]}}, ['a: texts "x", "y"']),
    ({"kind": "delete", "filter": {"min_should": {"conditions": [match("a", text="x")], "min_count": 1}}}, ['a: text "x"']),
    ({"kind": "delete", "filter": {"must": [{"nested": {"key": "list", "filter": {"must": [match("n", value=1)]}}}]}}, ["list[].n: number 1"]),
    ({"kind": "delete", "filter": {"must": [{"should": [{"must_not": [match("deep", value=1)]}]}]}}, ["deep: number 1"]),
    ({"kind": "delete", "filter": {"must": [{"has_id": [1]}, {"is_empty": {"key": "a"}}, {"key": "a", "range": {"lt": 3}}]}}, []),
    ({"kind": "delete", "prefix": ["path", "/a"]}, ['path: text "/a"']),
    ({"kind": "delete", "sql": {"database": "app", "sql": "", "key": "id", "parameters": {"s": 12, "t": "12"}}}, [":s: number 12", ':t: text "12"']),
    ({"kind": "sync", "sql": "SELECT 1", "parameters": {"s": 12}}, [":s: number 12"]),
    ({"ids": [1]}, []),
]


@pytest.mark.parametrize(("edit", "lines"), ASKED, ids=lambda one: str(one)[:50])
def test_every_value_is_named_with_its_type(edit, lines):
    """Values in every kind of clause are found, also nested ones, and parameters of a query."""
    assert list(asked(edit)) == lines


PAYLOADS = [{"text": "90", "mixed": 1, "list": [{"n": "1"}], "flag": True, "none": None}, {"text": "x", "mixed": "a"}]
#: An edit, and the note on the types; nothing where they fit.
MISFITS = [
    (match("text", value=90), ["`text` holds texts, and is compared with the number 90: a text is written '\"90\"'"]),
    (match("text", value="90"), []),
    (match("mixed", value=True), ["`mixed` holds numbers and texts, and is compared with the boolean true"]),
    (match("mixed", any=[1, 2]), []),
    (match("flag", value="true"), ['`flag` holds booleans, and is compared with the text "true": it is written json:true']),
    (match("mixed", value="--5"), []),
    ({"nested": {"key": "list", "filter": {"must": [match("n", value=1)]}}}, ["`list[].n` holds texts, and is compared with the number 1: a text is written '\"1\"'"]),
    (match("absent", value=1), ["`absent` is in none of the 2 points that were checked"]),
    (match("none", value=1), ["`none` is in none of the 2 points that were checked"]),
]


@pytest.fixture
def collection(deployment):
    """An empty collection on each store."""
    store = deployment.store()
    try:
        schema = CollectionSchema({"a": {"size": 2, "distance": "Dot"}})
        store.create_collection(deployment.name, schema, seal=None)
        yield store, deployment.name
    finally:
        store.close()


def test_values_of_another_type_are_said(collection):
    """What the payloads hold decides, under must and must_not; a field with several types takes each of them."""
    store, name = collection
    assert misfits(store, name, {"kind": "delete", "filter": {"must": [match("text", value=90)]}}) == ()
    write(store, name, [Point(number, payload, {"a": [1.0, 2.0]}) for number, payload in enumerate(PAYLOADS, 1)])
    for condition, lines in MISFITS:
        for clause in ("must", "must_not"):
            assert list(misfits(store, name, {"kind": "delete", "filter": {clause: [condition]}})) == lines, condition


def test_numbers_that_are_texts_are_told_apart_from_words(collection):
    """A text that is not a number gets no advice to write one."""
    store, name = collection
    write(store, name, [Point(1, {"n": 5}, {"a": [1.0, 2.0]})])
    for value, advice in (("5", ": the number is written 5, without quotes"), ("--5", ""), ("²", ""), ("five", "")):
        (line,) = misfits(store, name, {"kind": "delete", "filter": {"must": [match("n", value=value)]}})
        assert line.endswith(f'the text "{value}"{advice}')
