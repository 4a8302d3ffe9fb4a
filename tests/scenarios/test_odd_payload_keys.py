"""Payload keys with signs that mean something in a path, or nothing there: every reading asks for the key itself."""

from __future__ import annotations

import json

import pytest
from tests.harness import CREATE, write

from qmigrate import op
from qmigrate.commands import fix, upgrade
from qmigrate.model.transform import Point

KEYS = ("a/b", "#x", "a$b", "ü", "日本", "a+b", "a*", "x-y")
#: Of revisions, which name fields by any text.
FIELDS = (*KEYS, "a b", "a.b", "a[0]", "l[]")
REKEY = """
import uuid
from qmigrate import Uuid5


def upgrade():
    return [op.Rekey("{name}", Uuid5(uuid.NAMESPACE_URL, TEMPLATE), cutover="immediate")]
"""
EMBED = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text=FIELD))]
"""


def load(made, keys: tuple[str, ...]) -> None:
    """Two points that have all of these keys, and for those with dots what they would lead to as a path."""
    made.revise("0001", CREATE)
    upgrade.upgrade(made.settings())
    store = made.store()
    payloads = [{**{key: f"{key} {number}" for key in keys}, "a": {"b": "of a path"}} for number in (1, 2)]
    write(store, made.name, [Point(one, payload, {"a": [1.0] * 8}) for one, payload in enumerate(payloads, start=1)])
    store.close()


def test_odd_keys_can_be_set_deleted_and_taken_back(deployment):
    """Each is set and deleted by itself, no other one changes, and both can be undone."""
    load(deployment, KEYS)
    before = deployment.contents()
    for key in KEYS:
        put = op.SetPayload(deployment.name, {key: "new"}, max_share=1)
        for change in (put, op.DeletePayload(deployment.name, [key], max_share=1)):
            (done,) = fix.fix(deployment.settings(), change).done
            found = [payload for payload, _ in deployment.contents().values()]
            expected = {"new"} if change is put else {None}
            assert {payload.get(key) for payload in found} == expected
            others = [{name: value for name, value in payload.items() if name != key} for payload in found]
            assert others == [{name: value for name, value in one.items() if name != key} for one, _ in before.values()]
            fix.undo(deployment.settings(), done.log)
            assert deployment.contents() == before


@pytest.mark.parametrize("field", FIELDS)
def test_ids_can_be_made_of_odd_keys(deployment, field):
    """What is checked in advance is what the ids are made of: the key of this very name."""
    load(deployment, FIELDS)
    template = "{{" + field + "}}"
    deployment.revise("0002", REKEY.replace("TEMPLATE", json.dumps(template, ensure_ascii=False)))
    upgrade.upgrade(deployment.settings())
    found = deployment.contents()
    assert len(found) == 2
    assert all(isinstance(identifier, str) for identifier in found)


@pytest.mark.parametrize("field", FIELDS)
def test_odd_keys_can_be_embedded(deployment, field):
    """A key whose own name has dots or brackets is not missed."""
    load(deployment, FIELDS)
    store = deployment.store()
    write(store, deployment.name, [Point(3, {field: "alone"}, {"a": [1.0] * 8})])
    store.close()
    deployment.revise("0002", EMBED.replace("FIELD", json.dumps(field, ensure_ascii=False)))
    upgrade.upgrade(deployment.settings())
    assert all("b" in vectors for _, vectors in deployment.contents().values())
