"""Keys, addresses and folders that are wrong: one readable error, and never the key in it."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from tests.conftest_qdrant import free_port
from tests.harness import by_hand

from qmigrate.errors import ConfigError, LeaseHeldError, QmigrateError, ServerTooOldError, StoreError
from qmigrate.model.schema import CollectionSchema
from qmigrate.store import ConnectionSettings, connect
from qmigrate.store.faults import is_unclear
from qmigrate.store.server import collections
from qmigrate.store.server.rest import Rest

KEY, READ_KEY = "the-secret-key-of-the-server", "the-read-only-key-of-it"
KEYS = {"QDRANT__SERVICE__API_KEY": KEY, "QDRANT__SERVICE__READ_ONLY_API_KEY": READ_KEY}
SCHEMA = CollectionSchema(vectors={"a": {"size": 4, "distance": "Dot"}})


def texts(error: QmigrateError) -> str:
    """Everything of an error that could be printed, and of its causes."""
    parts, current = [], error
    while current is not None:
        parts += [repr(current), str(current), str(getattr(current, "hint", ""))]
        current = current.__cause__ or current.__context__
    return " ".join(parts)


@pytest.mark.server
def test_keys_are_told_apart_and_never_shown(qdrant_with, fresh_name):
    """No key, a wrong key and a read-only key each give their own error; the right one works; none is printed."""
    server = qdrant_with(KEYS)
    for wrong in (None, "a-wrong-key"):
        with pytest.raises(StoreError, match="key is missing or wrong") as caught:
            connect(server.settings(api_key=wrong))
        assert KEY not in texts(caught.value)
        assert wrong is None or wrong not in texts(caught.value)
    full = connect(server.settings(api_key=KEY))
    full.create_collection(fresh_name, SCHEMA, seal=None)
    reader = connect(server.settings(api_key=READ_KEY))
    try:
        assert reader.count(fresh_name) == 0
        for call in (
            lambda: reader.write_seal(fresh_name, {"x": 1}),
            lambda: reader.delete(fresh_name, [1]),
            lambda: reader.upsert(fresh_name, []).wait(),
            lambda: reader.create_alias(f"{fresh_name}_alias", fresh_name),
        ):
            with pytest.raises(StoreError, match="read-only") as caught:
                call()
            assert READ_KEY not in texts(caught.value)
        assert KEY not in repr(server.settings(api_key=KEY))
    finally:
        reader.close()
        full.close()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{port}", "http://no-such-host.invalid:6333", "https://127.0.0.1:{port}"],
    ids=["refused", "no such host", "refused with tls"],
)
def test_a_server_that_is_not_there_is_told_with_its_address(url):
    """The message names the address; the exit code is that of an unavailable store."""
    settings = ConnectionSettings(url=url.format(port=free_port()), api_key=KEY, timeout=2.0)
    with pytest.raises(StoreError, match="can't be reached") as caught:
        connect(settings)
    assert settings.url.split("//")[1] in caught.value.message
    assert caught.value.exit_code == 9
    assert KEY not in texts(caught.value)


@pytest.mark.server
def test_a_closed_grpc_port_is_told_when_points_are_asked_for(qdrant_server):
    """Administration works, points don't: the hint names the setting."""
    opened = connect(qdrant_server.settings(grpc_port=free_port(), timeout=1.0))
    try:
        with pytest.raises(StoreError, match="can't be reached") as caught:
            opened.fetch("whatever", [1])
        assert "grpc_port" in caught.value.hint
    finally:
        opened.close()


@pytest.mark.server
def test_https_to_a_plain_server_is_told(qdrant_server):
    """The hint names the scheme."""
    with pytest.raises(StoreError, match="doesn't speak TLS") as caught:
        connect(qdrant_server.settings(url=qdrant_server.url.replace("http:", "https:"), timeout=2.0))
    assert "http://" in caught.value.hint


JSON = "application/json"
OLD = '{"title": "qdrant - vector search engine", "version": "1.15.5"}'


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with the server's ``said``: status, content type, body."""

    def do_GET(self):
        status, kind, body = self.server.said
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def web():
    """A small web server that is not Qdrant."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ((404, "text/html", "<h1>nothing here</h1>"), StoreError, "is not Qdrant"),
        ((200, "text/html", "<h1>welcome</h1>"), StoreError, "is not Qdrant"),
        ((200, JSON, '{"name": "elasticsearch", "version": {"number": "8.1"}}'), StoreError, "is not Qdrant"),
        ((200, JSON, '["qdrant"]'), StoreError, "is not Qdrant"),
        ((302, "text/html", "moved"), StoreError, "302"),
        ((200, JSON, OLD), ServerTooOldError, "1.15.5"),
    ],
    ids=["404", "html", "other json", "a list", "redirect", "too old"],
)
def test_what_is_not_a_usable_qdrant_is_told(web, said, error, words):
    """A web page, another product, a redirect and an old server are named as what they are, exit code 9."""
    web.said = said
    with pytest.raises(error, match=words) as caught:
        connect(ConnectionSettings(url=f"http://127.0.0.1:{web.server_port}", api_key=KEY, timeout=2.0))
    assert caught.value.exit_code == 9
    assert KEY not in texts(caught.value)


@pytest.mark.server
def test_the_oldest_node_counts(web, qdrant_server):
    """Every node is asked for its version, and the oldest one decides."""
    web.said = (200, "application/json", '{"title": "qdrant - vector search engine", "version": "1.9.0"}')
    with pytest.raises(ServerTooOldError, match=r"1\.9\.0"):
        connect(qdrant_server.settings(nodes=(qdrant_server.url, f"http://127.0.0.1:{web.server_port}")))


@pytest.mark.parametrize(
    "settings",
    [
        ConnectionSettings(),
        ConnectionSettings(url="http://localhost:6333", path="somewhere"),
        ConnectionSettings(url="localhost:6333"),
        ConnectionSettings(url="grpc://localhost:6334"),
        ConnectionSettings(url="http://localhost:6333", nodes=("other",)),
        ConnectionSettings(url="https://localhost:6333", ca_cert="/nowhere/ca.pem"),
    ],
    ids=["nothing", "both", "no scheme", "grpc scheme", "a node without scheme", "unreadable certificate"],
)
def test_settings_that_can_not_work_are_errors_of_the_settings(settings):
    """Found before anything is sent."""
    with pytest.raises(ConfigError):
        connect(settings)


def test_a_new_local_folder_is_private_and_keeps_its_data(tmp_path, fresh_name):
    """It is made with rights for its owner only; a second opening finds what the first wrote."""
    folder = tmp_path / "deep" / "qdrant"
    first = connect(ConnectionSettings(path=str(folder)))
    first.create_collection(fresh_name, SCHEMA, seal={"g": 1})
    first.create_alias(f"{fresh_name}_alias", fresh_name)
    first.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    second = connect(ConnectionSettings(path=str(folder)))
    try:
        assert second.describe(f"{fresh_name}_alias").seal == {"g": 1}
        assert second.capabilities.local
        assert second.request_timeout == 0
    finally:
        second.close()


def test_a_local_folder_in_use_is_a_held_lease(tmp_path):
    """Exit code 6, in the same process and from another one, and free again afterwards."""
    settings = ConnectionSettings(path=str(tmp_path / "qdrant"))
    first = connect(settings)
    try:
        with pytest.raises(LeaseHeldError, match="in use") as caught:
            connect(settings)
        assert caught.value.exit_code == 6
        program = (
            "import sys\n"
            "from qmigrate.store import ConnectionSettings, connect\n"
            "from qmigrate.errors import LeaseHeldError\n"
            "try:\n    connect(ConnectionSettings(path=sys.argv[1]))\n"
            "except LeaseHeldError as error:\n    sys.exit(error.exit_code)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(settings.path)], check=False)
        assert done.returncode == 6
    finally:
        first.close()
    connect(settings).close()


def test_local_mode_says_that_it_has_no_snapshots(fresh_name):
    """Making one is an error with the exit code of an unavailable store; the list is empty."""
    opened = connect(ConnectionSettings(path=":memory:"))
    try:
        opened.create_collection(fresh_name, SCHEMA, seal=None)
        assert opened.list_snapshots(fresh_name) == []
        with pytest.raises(StoreError, match="local mode has none") as caught:
            opened.create_snapshot(fresh_name)
        assert caught.value.exit_code == 9
        assert not opened.capabilities.snapshots
    finally:
        opened.close()


def test_importing_the_package_loads_no_client():
    """The client library is loaded by connect, not by the import."""
    program = "import sys, qmigrate.store; sys.exit('qdrant_client' in sys.modules or 'grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Broken(BaseHTTPRequestHandler):
    """Answers every request with the server's ``said``, and keeps which there were."""

    def do_DELETE(self):
        self.server.seen.append(f"{self.command} {self.path}")
        self.send_response(self.server.said)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(("said", "unclear"), [(503, True), (502, True), (403, False), (400, False)])
def test_a_deletion_is_sent_once(said, unclear):
    """Whatever the answer is, the store repeats no deletion: its caller looks first, and asks for another permit."""
    server = HTTPServer(("127.0.0.1", 0), Broken)
    server.said, server.seen = said, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    node = Rest(url, ConnectionSettings(url=url, timeout=5))
    try:
        with pytest.raises(StoreError) as caught:
            collections.drop(node, by_hand("notes__g0001"))
    finally:
        node.close()
        server.shutdown()
        thread.join()
        server.server_close()
    assert server.seen == ["DELETE /collections/notes__g0001"]
    assert is_unclear(caught.value) == unclear


def test_a_deletion_takes_no_longer_than_its_permit_says():
    """The parts of one request have timeouts of their own; together they stay within what the lease must outlive."""
    node = Rest("http://127.0.0.1:1", ConnectionSettings(url="http://127.0.0.1:1", timeout=8))
    parts = node.bounded.as_dict()
    node.close()
    # A TLS handshake is a second part with the timeout of the connection.
    assert sum(parts.values()) + parts["connect"] <= node.longest
