"""A node that gives no answer: what only reads works without it and names it, what writes doesn't begin."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.conftest_qdrant import free_port
from tests.scenarios.cli import call

from qmigrate.commands import status
from qmigrate.errors import StoreError
from qmigrate.settings.load import Settings
from qmigrate.store import ConnectionSettings, connect
from qmigrate.store.server import nodes
from qmigrate.store.server.examine import Examiner

ANSWERS = {
    "/": {"title": "qdrant - vector search engine", "version": "1.19.0"},
    "/cluster": {"result": {"status": "enabled", "peer_id": 1, "peers": {"1": {"uri": "a"}, "2": {"uri": "b"}}, "raft_info": {"leader": 1}}},
    "/collections": {"result": {"collections": []}},
    "/aliases": {"result": {"aliases": []}},
    "/telemetry": {"result": {"collections": {"collections": [{"id": "half__g0001", "config": {
        "params": {"vectors": {"size": 8, "distance": "Cosine"}, "shard_number": 2},
        "hnsw_config": {"m": 16}, "optimizer_config": {}, "wal_config": {}, "metadata": {"qmigrate": {"ledger": "L"}},
    }}]}}},
}


class Node(BaseHTTPRequestHandler):
    """As much of one node of two as opening a store asks for."""

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        known = ANSWERS.get(path, {"status": {"error": "Service internal error: no active replica of shard 1"}})
        body = json.dumps(known).encode()
        self.send_response(200 if path in ANSWERS else 500)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def up() -> Iterator[str]:
    """Address of the node that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Node)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("asked", ["up", "down"])
def test_what_only_reads_goes_on_with_the_nodes_that_answer(up, asked):
    """Also where the one of qdrant.url is down; several nodes stay several, so nothing is hidden."""
    down = f"http://127.0.0.1:{free_port()}"
    settings = ConnectionSettings(url=up if asked == "up" else down, nodes=(up, down), timeout=0.2)
    store = connect(settings, partial=True)
    try:
        able = store.capabilities
        assert store.physical_names() == ()
        assert store.aliases_of_nodes() == ({},)
        assert [down.removeprefix("http://") in line for line in able.silent] == [True]
        assert (able.several, able.barrier, able.nodes) == (True, False, 2)
    finally:
        store.close()


def test_a_collection_with_shards_on_a_node_that_is_down_keeps_its_settings(up):
    """Its seal and settings are on every node; why the rest is missing is reported, and nothing of it is compared."""
    down = f"http://127.0.0.1:{free_port()}"
    store = connect(ConnectionSettings(url=up, nodes=(up, down), timeout=0.2), partial=True)
    try:
        found = store.describe("half__g0001")
        assert found is not None
        assert (found.seal, found.schema.config["hnsw_config"], found.schema.config["shard_number"]) == ({"ledger": "L"}, {"m": 16}, 2)
        assert "no active replica" in str(found.unread)
        with pytest.raises(StoreError, match="no active replica"):
            store.describe("unknown")
    finally:
        store.close()


def test_what_writes_needs_every_node_and_names_the_one_that_is_down(up):
    """The hint is about qdrant.nodes, not about qdrant.url, which answers."""
    down = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(StoreError, match="can't be reached") as refused:
        connect(ConnectionSettings(url=up, nodes=(up, down), timeout=0.2))
    assert down.removeprefix("http://") in refused.value.message
    assert "qdrant.nodes in qmigrate.yaml lists" in str(refused.value.hint)
    with pytest.raises(StoreError) as refused:
        connect(ConnectionSettings(url=down, nodes=(up, down), timeout=0.2))
    assert "qdrant.url" in str(refused.value.hint)


def test_where_no_node_answers_the_asked_one_is_named():
    """Nothing can be read."""
    down = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    with pytest.raises(StoreError) as refused:
        connect(ConnectionSettings(url=down[0], nodes=tuple(down), timeout=0.2), partial=True)
    assert down[0].removeprefix("http://") in refused.value.message


@pytest.fixture
def paused() -> Iterator[str]:
    """Address of a node that takes connections and answers nothing, as a process that is stopped does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("asked", ["up", "paused"])
def test_what_writes_does_not_wait_the_time_of_a_migration_for_a_node(up, paused, asked, monkeypatch):
    """All that give no answer are named at once with why they are needed, though a request may take ten minutes."""
    monkeypatch.setattr(nodes, "NEEDED", 0.2)
    down = f"http://127.0.0.1:{free_port()}"
    url = up if asked == "up" else paused
    with pytest.raises(StoreError) as refused:
        connect(ConnectionSettings(url=url, nodes=(up, paused, down), timeout=600))
    message = refused.value.message
    assert [one.removeprefix("http://") in message for one in (paused, down, up)] == [True, True, False]
    assert "every node" in message
    assert ("qdrant.url" if asked == "paused" else "qdrant.nodes") in str(refused.value.hint)


def with_nodes(tmp_path, url: str, *listed: str) -> Path:
    """A project on these nodes; its settings file."""
    (tmp_path / "qdrant_migrations" / "versions").mkdir(parents=True)
    config = tmp_path / "qmigrate.yaml"
    config.write_text(
        f"qdrant: {{url: '{url}', nodes: {list(listed)}, timeout: 600}}\n"
        f"ledger: {{url: 'sqlite:///{tmp_path}/ledger.db'}}\nscripts: qdrant_migrations\n"
    )
    return config


@pytest.mark.timeout(60)
@pytest.mark.parametrize("listed", [True, False], ids=["one of several", "the only one"])
def test_wait_names_the_node_that_it_waits_for(up, paused, listed, tmp_path):
    """While it waits, once, and when it gives up; it doesn't wait longer than it may for one answer."""
    config = with_nodes(tmp_path, up, up, paused) if listed else with_nodes(tmp_path, paused)
    said = call(tmp_path, "wait", "--timeout", "1s", "--config", str(config))
    assert said.code == 9
    lines = [line for line in said.err.splitlines() if "waiting for qdrant: Qdrant at" in line]
    assert [(paused.removeprefix("http://") in line, up.removeprefix("http://") in line) for line in lines] == [
        (True, False),
        (True, False),
    ]
    assert "after 1 s still waiting for qdrant" in lines[-1]


@pytest.mark.parametrize("asked", ["up", "down"])
def test_an_examiner_takes_a_node_that_is_down_for_watched(up, asked):
    """It is named in the settings, so no hint asks to name it there."""
    down = f"http://127.0.0.1:{free_port()}"
    examiner = Examiner(ConnectionSettings(url=up if asked == "up" else down, nodes=(up, down), timeout=0.2))
    try:
        assert sorted(node.problem is None for node in examiner.nodes()) == [False, True]
        assert [peer.watched for peer in examiner.cluster().peers] == [True, True]
        assert set(examiner.stored()) == {"half__g0001"}
    finally:
        examiner.close()


def test_status_names_the_node_that_gives_no_answer(up, tmp_path, caplog):
    """In its notes and in the log; its exit code stays."""
    down = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "qdrant_migrations" / "versions").mkdir(parents=True)
    config = tmp_path / "qmigrate.yaml"
    config.write_text(
        f"qdrant: {{url: '{up}', nodes: ['{up}', '{down}'], timeout: 0.2}}\n"
        f"ledger: {{url: 'sqlite:///{tmp_path}/ledger.db'}}\nscripts: qdrant_migrations\n"
    )
    settings = Settings.load(config=config)
    found = status.status(settings)
    assert any(down.removeprefix("http://") in note for note in found.notes)
    assert down.removeprefix("http://") in caplog.text
    # What was applied is in the ledger alone.
    assert status.history(settings).rows == ()
