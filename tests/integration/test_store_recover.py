"""Recovering a snapshot under another name, past the engine: what the server does, and how it answers if it doesn't."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from tests.harness import contents, make_point, write

from qmigrate.errors import StoreError
from qmigrate.model.schema import CollectionSchema
from qmigrate.ports import RECOVER_LOCATIONS, Snapshot
from qmigrate.store import ConnectionSettings, connect
from qmigrate.store.server.snapshots import USUAL_FOLDER, Recoveries

SCHEMA = CollectionSchema(
    vectors={"a": {"size": 8, "distance": "Cosine"}},
    indexes={"kind": {"type": "keyword"}},
    config={"hnsw_config": {"m": 24}, "metadata": {"team": "x"}},
)


def nothing() -> None:
    """No tick is needed."""


@pytest.fixture
def made(server_store, fresh_name):
    """A sealed collection of twenty points, and a snapshot of it."""
    source = f"{fresh_name}__g0001"
    server_store.create_collection(source, SCHEMA, seal={"ledger": "mine"})
    server_store.complete_collection(source, SCHEMA, defer_index=False)
    write(server_store, source, [make_point(number, uuid_id=number % 2 == 0) for number in range(20)])
    return source, server_store.create_snapshot(source)


@pytest.mark.server
@pytest.mark.parametrize("location", RECOVER_LOCATIONS)
def test_everything_comes_along_but_the_aliases(server_store, fresh_name, made, location):
    """Points, settings, payload indexes and the seal are in the clone, each way; aliases stay where they were."""
    source, snapshot = made
    server_store.create_alias(f"{fresh_name}_alias", source)
    target = f"{fresh_name}__g0002"
    ticks = []
    found = server_store.recover_snapshot(target, source, snapshot, location, lambda: ticks.append(1))
    assert (found.state, found.reason) == ("done", "")
    assert bool(ticks) == (location == "upload")
    live, old = server_store.describe(target), server_store.describe(source)
    assert live.schema == old.schema.with_(aliases=())
    assert (live.seal, live.inactive) == ({"ledger": "mine"}, ())
    assert contents(server_store, target) == contents(server_store, source)
    assert server_store.recovering(target) is False
    # What was uploaded stays with the server, as a snapshot of what was made of it.
    kept = [one.name for one in server_store.list_snapshots(target)]
    assert kept == ([snapshot.name] if location == "upload" else [])


@pytest.mark.server
@pytest.mark.parametrize("location", RECOVER_LOCATIONS)
def test_a_damaged_snapshot_is_refused_and_leaves_nothing(server_store, fresh_name, made, location):
    """Another checksum than the snapshot's: answered, over, and no collection."""
    source, snapshot = made
    target = f"{fresh_name}__g0002"
    found = server_store.recover_snapshot(target, source, replace(snapshot, checksum="0" * 64), location, nothing)
    assert found.state == "refused"
    assert "checksum" in found.reason.lower()
    assert server_store.describe(target) is None


@pytest.mark.server
@pytest.mark.parametrize("location", RECOVER_LOCATIONS)
def test_a_snapshot_that_is_gone_is_refused(server_store, fresh_name, made, location):
    """Its name is in the reason, or that it is not there."""
    source, snapshot = made
    server_store.delete_snapshot(source, snapshot.name)
    target = f"{fresh_name}__g0002"
    found = server_store.recover_snapshot(target, source, snapshot, location, nothing)
    assert found.state == "refused"
    assert found.reason
    assert server_store.describe(target) is None


@pytest.mark.server
def test_the_server_names_its_snapshots_folder(server_store, fresh_name, made):
    """Asked to read elsewhere it refuses, names where it reads, and nothing comes of it."""
    target = f"{fresh_name}__g0002"
    folder = Recoveries(server_store._main, server_store._settings, (1, 18, 3))._folder(target)
    assert folder.endswith("/snapshots")
    assert server_store.describe(target) is None
    older = Recoveries(server_store._main, server_store._settings, (1, 17, 0))
    assert older._folder(target) == USUAL_FOLDER


@pytest.mark.server
def test_a_disk_has_a_size(server_store):
    """In bytes, of the server's disk in total."""
    size = server_store.disk_size()
    assert size is None or size > 10**8


@pytest.mark.server
@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (500, {"status": {"error": "No space left on device"}, "time": 0.1}, "refused"),
        (500, "<html>bad</html>", "unclear"),
        (502, "bad gateway", "unclear"),
        (504, {"status": {"error": "timeout"}}, "unclear"),
        (403, {"status": {"error": "Forbidden: recovery from remote URLs is disabled"}}, "refused"),
        (429, {"status": {"error": "too many"}}, "refused"),
        (202, {"result": None, "status": "accepted"}, "unclear"),
        (200, {"result": False, "status": "ok"}, "unclear"),
        (200, {"result": True, "status": "ok"}, "done"),
    ],
)
def test_an_answer_is_told_from_none(server_store, monkeypatch, status, body, state):
    """Only an answer of Qdrant itself counts; a proxy may answer for a server that is still at it."""
    answer = httpx.Response(status, json=body) if isinstance(body, dict) else httpx.Response(status, text=body)
    answer.request = httpx.Request("PUT", "http://here/")
    monkeypatch.setattr(server_store._main._client, "request", lambda *_args, **_kwargs: answer)
    snapshot = Snapshot("s.snapshot", 1, None)
    assert server_store.recover_snapshot("x__g0002", "x__g0001", snapshot, "url", nothing).state == state


@pytest.mark.server
@pytest.mark.parametrize(
    ("error", "state"), [(httpx.ReadTimeout("slow"), "unclear"), (httpx.ReadError("reset"), "unclear")]
)
def test_no_answer_is_unclear(server_store, monkeypatch, error, state):
    """The request may be at work in the server."""

    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(server_store._main._client, "request", fail)
    snapshot = Snapshot("s.snapshot", 1, None)
    assert server_store.recover_snapshot("x__g0002", "x__g0001", snapshot, "file", nothing).state == state


@pytest.mark.server
def test_a_server_that_is_away_is_an_error(qdrant_server):
    """Nothing was sent, so there is nothing to be in doubt about."""
    store = connect(qdrant_server.settings())
    away = store._main._client
    store._main._client = httpx.Client(base_url="http://127.0.0.1:1", timeout=1)
    with pytest.raises(StoreError, match="can't be reached"):
        store.recover_snapshot("x__g0002", "x__g0001", Snapshot("s", 1, None), "url", nothing)
    store._main._client.close()
    store._main._client = away
    store.close()


@pytest.mark.server
def test_an_address_with_a_password_is_not_handed_on(qdrant_server, fresh_name):
    """The server would write the address it fetches from into its log."""
    url = qdrant_server.url.replace("http://", "http://me:hidden@")
    store = connect(replace(qdrant_server.settings(), url=url))
    found = store.recover_snapshot(f"{fresh_name}__g0002", "x__g0001", Snapshot("s", 1, None), "url", nothing)
    assert found.state == "refused"
    assert "hidden" not in found.reason
    store.close()


def test_local_mode_has_none(tmp_path):
    """It reports that, and never works on a recovery."""
    store = connect(ConnectionSettings(path=str(tmp_path / "qdrant")))
    with pytest.raises(StoreError, match="local mode has none"):
        store.recover_snapshot("b", "a", Snapshot("s", 1, None), "url", nothing)
    assert store.recovering("b") is False
    assert store.disk_size() is None
    store.close()
