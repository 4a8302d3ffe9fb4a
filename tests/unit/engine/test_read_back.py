"""What a server shows of a new generation is compared with what was asked for; what it lists late is waited for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qmigrate.engine import rebuild
from qmigrate.errors import StoreError
from qmigrate.model.schema import CollectionSchema

WANTED = CollectionSchema({"a": {"size": 4, "distance": "Dot"}})
LISTED = WANTED.with_(indexes={"year": {"type": "integer"}})
OTHER = CollectionSchema({"a": {"size": 8, "distance": "Dot"}}, indexes={"year": {"type": "integer"}})


def looked(monkeypatch, *shown: CollectionSchema) -> int:
    """How often it was looked, where a server shows these, the last one again and again; time moves by hand."""
    clock, calls = [0.0], [0]

    def describe(_name):
        calls[0] += 1
        return SimpleNamespace(schema=shown[min(calls[0], len(shown)) - 1])

    monkeypatch.setattr(rebuild.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(rebuild.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    store = SimpleNamespace(describe=describe, capabilities=SimpleNamespace(local=False))
    work = SimpleNamespace(store=store, tick=lambda count, note: None)
    step = SimpleNamespace(target="docs__g0002", schema=WANTED)
    try:
        rebuild._read_back(step, work)
    except StoreError:
        return -calls[0]
    return calls[0]


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [((WANTED,), 1), ((LISTED, LISTED, WANTED), 3), ((OTHER, WANTED), -1)],
    ids=["at once", "listed late", "another vector"],
)
def test_a_dropped_index_may_be_listed_for_a_while(monkeypatch, shown, wanted):
    """It is looked for again; anything else that the server has not done is an error at once."""
    assert looked(monkeypatch, *shown) == wanted


def test_an_index_that_stays_is_an_error(monkeypatch):
    """After some seconds it isn't late, but there."""
    assert looked(monkeypatch, LISTED) < -10
