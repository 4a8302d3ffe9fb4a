"""TLS in front of Qdrant: certificates, and gRPC that is encrypted otherwise than REST, or on another host."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from qdrant_client import grpc as messages

from qmigrate.errors import StoreError
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.connect import connect
from qmigrate.store.faults import TransientError
from qmigrate.store.server.points import Points

pytestmark = pytest.mark.timeout(60)


def certificate(folder: Path, name: str, days: int = 2) -> tuple[Path, Path]:
    """A key, and a self-signed certificate for a host."""
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    ask = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(made)]
    names = f"subjectAltName=DNS:{name}"
    subprocess.run(
        [*ask, "-days", str(days), "-subj", f"/CN={name}", "-addext", names], check=True, capture_output=True
    )
    return key, made


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Of localhost, and of another host."""
    folder = tmp_path_factory.mktemp("certificates")
    return {name: certificate(folder, name) for name in ("localhost", "other.example")}


class Quiet(BaseHTTPRequestHandler):
    """Answers nothing of Qdrant's."""

    def do_GET(self):
        """Not found."""
        self.send_error(404)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def rest():
    """Starts a web server, with TLS where a certificate is given; its port."""
    started = []

    def start(files: tuple[Path, Path] | None) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        server.handle_error = lambda *_: None
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(files[1], files[0])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((server, thread))
        return server.server_address[1]

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def rpc():
    """Starts a gRPC server without points, with TLS where a certificate is given; its port."""
    started = []

    def start(files: tuple[Path, Path] | None) -> int:
        server = grpc.server(futures.ThreadPoolExecutor(2))
        answers = {
            "Get": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: messages.GetResponse(),
                request_deserializer=messages.GetPoints.FromString,
                response_serializer=messages.GetResponse.SerializeToString,
            )
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("qdrant.Points", answers),))
        where = "127.0.0.1:0"
        if files is None:
            port = server.add_insecure_port(where)
        else:
            pair = (files[0].read_bytes(), files[1].read_bytes())
            port = server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
        server.start()
        started.append(server)
        return port

    yield start
    for server in started:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("shown", "trusted", "words"),
    [
        ("localhost", None, ("certificate is not trusted (self-signed certificate)", "qdrant.ca_cert")),
        ("other.example", "other.example", ("certificate is for another name", "qdrant.url")),
        (None, None, ("doesn't speak TLS", "http://")),
    ],
)
def test_a_handshake_that_fails_over_rest_says_why_at_once(certificates, rest, shown, trusted, words):
    """The certificate is named, not https; nothing is repeated, since nothing would change."""
    port = rest(certificates[shown] if shown else None)
    authority = str(certificates[trusted][1]) if trusted else None
    with pytest.raises(StoreError) as caught:
        connect(ConnectionSettings(url=f"https://localhost:{port}", ca_cert=authority))
    assert not isinstance(caught.value, TransientError)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("shown", "trusted", "words"),
    [
        ("localhost", None, ("certificate is not trusted", "qdrant.ca_cert")),
        ("other.example", "other.example", ("certificate is for another name", "qdrant.grpc_host")),
        (None, None, ("doesn't speak TLS", "qdrant.grpc_tls: false")),
    ],
)
def test_a_handshake_that_fails_over_grpc_says_why_at_once(certificates, rpc, shown, trusted, words):
    """A proxy with TLS for REST and none for gRPC, or another certificate there: the error names the setting."""
    port = rpc(certificates[shown] if shown else None)
    authority = str(certificates[trusted][1]) if trusted else None
    points = Points(ConnectionSettings(url="https://localhost", grpc_port=port, ca_cert=authority), lambda _: {}, lambda _, ids: {})
    with pytest.raises(StoreError) as caught:
        points.fetch_ids("c", [1])
    points.close()
    assert not isinstance(caught.value, TransientError)
    for word in words:
        assert word in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "encrypted", "more"),
    [
        ("https://elsewhere.invalid", False, {"grpc_tls": False}),
        ("http://elsewhere.invalid", True, {"grpc_tls": True}),
        ("https://elsewhere.invalid", True, {}),
        ("http://elsewhere.invalid", False, {}),
    ],
)
def test_grpc_may_be_elsewhere_and_encrypted_otherwise(certificates, rpc, url, encrypted, more):
    """Host and TLS of gRPC are settings of their own; without them they are those of the URL."""
    port = rpc(certificates["localhost"] if encrypted else None)
    authority = str(certificates["localhost"][1])
    settings = ConnectionSettings(url=url, grpc_host="localhost", grpc_port=port, ca_cert=authority, **more)
    points = Points(settings, lambda _: {}, lambda _, ids: {})
    assert points.fetch_ids("c", [1]) == set()
    points.close()


def test_a_web_server_is_not_taken_for_grpc(rest):
    """What answers HTTP/1.1 on the port of gRPC is reported as that, not waited for."""
    points = Points(ConnectionSettings(url="http://localhost", grpc_port=rest(None)), lambda _: {}, lambda _, ids: {})
    with pytest.raises(StoreError, match="doesn't speak gRPC") as caught:
        points.fetch_ids("c", [1])
    points.close()
    assert not isinstance(caught.value, TransientError)
    assert "qdrant.grpc_port" in str(caught.value.hint)


def test_the_command_line_says_it_once(rpc, tmp_path):
    """No line of gRPC's own log appears with the one error."""
    code = (
        "import sys\n"
        "from qmigrate.cli import app\nfrom qmigrate.cli.shell import with_shell\n"
        "@app.root.command('probe')\n"
        "@with_shell\n"
        "def probe(shell):\n"
        "    from qmigrate.store.address import ConnectionSettings\n"
        "    from qmigrate.store.server.points import Points\n"
        f"    settings = ConnectionSettings(url='https://localhost', grpc_port={rpc(None)})\n"
        "    Points(settings, lambda _: {}, lambda _, ids: {}).fetch_ids('c', [1])\n"
        "app.main(['probe'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 9
    assert [line[:6] for line in done.stderr.splitlines()] == ["error:", "  → qd"]
