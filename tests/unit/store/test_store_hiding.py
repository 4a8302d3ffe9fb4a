"""Whether an alias may hide a collection is tried once for many names, and again when anything may have changed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qmigrate.errors import StoreError
from qmigrate.store.server import hiding
from qmigrate.store.server.server import ServerStore


class Node:
    """A server that reports a version."""

    def __init__(self) -> None:
        self.version = "1.19.0"

    def send(self, method: str, path: str):
        assert (method, path) == ("GET", "/")
        return SimpleNamespace(json=lambda: {"version": self.version})


@pytest.fixture
def tried(monkeypatch):
    """How often it was tried; what it finds, and the time, are set by hand."""
    state = SimpleNamespace(times=0, found=True, now=100.0, node=Node())

    def probe(nodes, timeout):
        state.times += 1
        return state.found

    monkeypatch.setattr(hiding, "probe", probe)
    monkeypatch.setattr(hiding.time, "monotonic", lambda: state.now)
    return state


@pytest.mark.parametrize(("meanwhile", "times"), [
    (lambda state: None, 1),
    (lambda state: setattr(state, "now", state.now + hiding.HOLDS), 2),
    (lambda state: setattr(state.node, "version", "1.20.0"), 2),
])
def test_what_was_allowed_is_allowed_still(tried, meanwhile, times):
    """For a minute, by the same version."""
    hides, nodes = hiding.Hides(), SimpleNamespace(everyone=lambda: (tried.node,))
    assert hides.look(nodes, 1.0)
    meanwhile(tried)
    assert hides.look(nodes, 1.0)
    assert tried.times == times


def test_a_refusal_is_never_kept(tried):
    """Each time it is tried, until it is allowed."""
    hides, nodes = hiding.Hides(), SimpleNamespace(everyone=lambda: (tried.node,))
    for found, times in ((False, 1), (False, 2), (True, 3), (True, 3)):
        tried.found = found
        assert (hides.look(nodes, 1.0), tried.times) == (found, times)


@pytest.mark.parametrize(("cluster", "hides"), [
    ({"status": "disabled"}, True),
    ({"status": "enabled", "peers": {"1": {}}}, True),
    ({"status": "enabled", "peers": {"1": {}, "2": {}}}, False),
    (StoreError("denied"), False),
])
def test_a_node_that_has_joined_since_the_connection_was_made_counts(cluster, hides):
    """A build takes hours: nodes are counted again before a name hides a collection."""

    def get(path):
        assert path == "/cluster"
        if isinstance(cluster, StoreError):
            raise cluster
        return cluster

    store = ServerStore.__new__(ServerStore)
    store._capabilities = SimpleNamespace(may_be_several=False)
    store._settings, store._nodes, store._main = SimpleNamespace(timeout=1.0), None, SimpleNamespace(get=get)
    store._hides = SimpleNamespace(look=lambda nodes, timeout: True)
    assert store.hides_collections() is hides
