"""Payload integers of 2^63 and more, and payloads of many levels, on every way that a point can go."""

from __future__ import annotations

import json
import random

import pytest
from qdrant_client import grpc
from tests.harness import CREATE, make_point

from qmigrate import fix as program
from qmigrate import op
from qmigrate.commands import fix, upgrade, verify
from qmigrate.commands import rollback as back
from qmigrate.errors import RefusedError, VerificationError
from qmigrate.store import exact, records
from qmigrate.store.local import local

POINTS = 20
#: Neighbours have one double; the last two are doubles, and stay doubles.
LARGE = {"top": 2**63, "deep": [{"n": 2**63 + 1}, 2**64 - 1], "least": -(2**63), "double": 2.0**63, "round": 1e19}
#: A double, and what a parser in a hurry makes of it.
WRITTEN, STORED = 1.2345678901234567e-300, 1.234567890123457e-300
SHIFT = """
def shifted(point):
    return {{**point.payload, "top": point.payload["top"] + 1}} if "top" in point.payload else point.payload


def unshifted(point):
    return {{**point.payload, "top": point.payload["top"] - 1}} if "top" in point.payload else point.payload


def upgrade():
    return [op.TransformPoints("{name}", shifted, inverse=unshifted)]
"""
WIDER = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=2, distance=Distance.DOT), values=Compute(first))]


def first(point):
    return point.vectors["a"][:2]
"""


def nested(levels: int, value: object = 1) -> object:
    """A value inside this many objects."""
    for _ in range(levels):
        value = {"a": value}
    return value


def put(made, identifier: int, payload: dict) -> None:
    """Write a point exactly as an application does over REST."""
    point = grpc.PointStruct(id=grpc.PointId(num=identifier))
    for key, value in payload.items():
        point.payload[key].CopyFrom(exact.value_of(value))
    point.vectors.vectors.vectors["a"].MergeFromString(records.vector_wire([1.5] * 8))
    store = made.store()
    store.upsert(made.name, [point.SerializeToString()]).wait()
    store.close()


def payload(made, identifier: int = 5, name: str | None = None) -> str | None:
    """What the store itself returns of a payload; JSON distinguishes 1 from 1.0."""
    store = made.store()
    found = store.payloads(name or made.name, [identifier])
    store.close()
    return text(found[identifier]) if identifier in found else None


def text(plain: object) -> str:
    """JSON with its keys in order."""
    return json.dumps(plain, sort_keys=True)


@pytest.fixture
def made(deployment):
    """A loaded collection whose point 5 has such integers."""
    deployment.revise("0001", CREATE)
    upgrade.upgrade(deployment.settings())
    deployment.load(POINTS, uuids=False)
    put(deployment, 5, LARGE)
    assert payload(deployment) == text(LARGE)
    return deployment


def test_a_copy_carries_large_integers(made):
    """A rebuild that copies points has them exactly, and so has the way back with what was written since."""
    made.revise("0002", WIDER)
    upgrade.upgrade(made.settings())
    assert payload(made) == text(LARGE)
    put(made, 6, {"n": 2**63 + 3})
    back.rollback(made.settings(), "0001", writes="carry")
    assert payload(made) == text(LARGE)
    assert payload(made, 6) == text({"n": 2**63 + 3})


def test_a_function_gets_and_returns_large_integers(made):
    """They are integers to it, what it returns is stored as it is, and the inverse brings it back."""
    made.revise("0002", SHIFT)
    upgrade.upgrade(made.settings())
    assert payload(made) == text({**LARGE, "top": LARGE["top"] + 1})
    put(made, 7, {"top": 2**63 + 9})
    back.rollback(made.settings(), "0001", writes="carry")
    assert payload(made, 7) == text({"top": 2**63 + 8})


def test_a_payload_that_is_set_over_large_integers_comes_back_by_undo(made):
    """What was there is written down exactly, and a value is not a reason to refuse a fix."""
    before = payload(made)
    done = program.run(op.SetPayload(made.name, {"top": 1, "deep": 2}, max_share=1), settings=made.settings())
    assert payload(made) != before
    program.undo(done.done[0].log, settings=made.settings())
    assert payload(made) == before


def test_another_integer_with_the_same_double_is_a_write(made):
    """A rollback counts it, and two collections that differ in it differ."""
    made.revise("0002", WIDER)
    upgrade.upgrade(made.settings())
    put(made, 5, {**LARGE, "top": LARGE["top"] + 1})
    with pytest.raises(RefusedError, match="1 point changed"):
        back.rollback(made.settings(), "0001")
    with pytest.raises(VerificationError, match="5 the payload differs"):
        verify.verify(made.settings(), f"{made.name}__g0001", made.name)


@pytest.mark.parametrize("value", [LARGE, nested(40), nested(40, [2**64 - 1])], ids=["large", "nested", "both"])
def test_a_deleted_point_comes_back_as_it_was(made, value):
    """Whatever its payload holds: the file of the deletion has it, and the undo writes it; again changes nothing."""
    before = {"value": value}
    put(made, 5, before)
    (done,) = fix.fix(made.settings(), op.DeletePoints(made.name, ids=[5], reason="r")).done
    assert payload(made) is None
    (undone,) = fix.undo(made.settings(), done.log).done
    assert (undone.changed, undone.verified) == (1, 1)
    assert payload(made) == text(before)


def test_a_nested_payload_is_copied_and_taken_back(made):
    """40 levels pass a rebuild and its way back."""
    put(made, 5, {"value": nested(40)})
    made.revise("0002", WIDER)
    upgrade.upgrade(made.settings())
    put(made, 6, {"value": nested(40, [2**63])})
    back.rollback(made.settings(), "0001", writes="carry")
    assert payload(made) == text({"value": nested(40)})
    assert payload(made, 6) == text({"value": nested(40, [2**63])})


def test_a_double_whose_last_digit_a_store_changes_blocks_nothing(made, monkeypatch):
    """What is read is not quite what was written, each time: it is proven all the same, and so is the way back.

    A server changes every tenth double of common size and every third of extreme ones; local mode is made to change one.
    """
    doubles = random.Random(7)
    many = [doubles.uniform(-9, 9) * 10.0 ** doubles.randint(-305, 305) for _ in range(300)]
    put(made, 5, {"n": WRITTEN, "many": many})
    struct_of = local._struct_of

    def stored(point):
        found = struct_of(point)
        found.payload = {key: STORED if value == WRITTEN else value for key, value in found.payload.items()}
        return found

    # On a server it is the server that does it.
    monkeypatch.setattr(local, "_struct_of", stored)
    made.revise("0002", WIDER)
    upgrade.upgrade(made.settings())
    assert json.loads(payload(made) or "")["n"] in (WRITTEN, STORED)
    assert payload(made, 2) == text(make_point(1).payload)
    put(made, 6, {"n": 0.1, "many": many})
    back.rollback(made.settings(), "0001", writes="carry")
    assert json.loads(payload(made, 6) or "")["n"] == 0.1
