"""Where images come from: paths, bytes, base64 and URLs; what is fetched, and what never is."""

from __future__ import annotations

import base64
import io
import ipaddress
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from qdrant_client import grpc
from tests.harness import CREATE, Deployment

from qmigrate.commands import upgrade
from qmigrate.embed import load
from qmigrate.embed.sources import Bounds, Fetcher, ImageSources, as_a_model_sees_it, is_public, with_picture
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import EmbedError


def picture(form="PNG", seed=1, **options):
    """The bytes of a small colourful file."""
    values = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, size=(12, 9, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form, **options)
    return buffer.getvalue()


class Images(BaseHTTPRequestHandler):
    """An image server with every bad habit; `seen` has the hosts that it was asked for."""

    seen: ClassVar[list[tuple[str, str]]] = []
    tries = 0

    def do_GET(self):
        Images.seen.append((self.headers["Host"], self.path))
        port = self.server.server_address[1]
        if self.path.startswith("/to/"):
            self._head(302, location=self.path.removeprefix("/to/").replace("PORT", str(port)))
        elif self.path == "/loop":
            self._head(302, location="/loop")
        elif self.path == "/none":
            self._head(404)
        elif self.path == "/busy" and Images.tries < 2:
            Images.tries += 1
            self._head(503, **{"retry-after": "0"})
        elif self.path == "/busy-for-long":
            self._head(429, **{"retry-after": "3600"})
        elif self.path == "/large":
            self._head(200, **{"content-length": "5000000"})
        elif self.path == "/endless":
            self._head(200)
            try:
                while True:
                    self.wfile.write(b"x" * 4096)
            except OSError:
                pass
        else:
            data = picture()
            self._head(200, **{"content-length": str(len(data))})
            self.wfile.write(data)

    def _head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture(scope="module")
def port():
    """The port of the image server on this host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Images)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def names(monkeypatch):
    """Names that resolve as a test needs them, and nothing else does."""
    table = {"good.example": ["127.0.0.1"], "inside.example": ["10.0.0.7"], "mixed.example": ["93.184.216.34", "127.0.0.1"]}
    real = socket.getaddrinfo

    def resolve(host, *rest, **more):
        host = host.decode() if isinstance(host, bytes) else host
        if host in table:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, rest[0])) for address in table[host]]
        if host.replace(".", "").isdigit() or ":" in host:
            return real(host, *rest, **more)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def fetcher(hosts=("*.example",), networks=("127.0.0.0/8",), **more):
    """A fetcher that may ask this host, by these names."""
    return Fetcher("embedder 'l14'", Bounds(hosts, tuple(map(ipaddress.ip_network, networks)), **more))


def test_an_allowed_url_is_fetched_by_its_name(port, names):
    """The checked address is asked for the name; a busy server is asked again; a redirect within bounds is followed."""
    Images.seen.clear()
    Images.tries = 0
    one = fetcher()
    for path in ("/a.png", "/busy", "/to/http://good.example:PORT/b.png", "/to//c.png"):
        assert one.fetch(f"http://good.example:{port}{path}") == picture()
    assert {host for host, _ in Images.seen} == {f"good.example:{port}"}
    assert [path for _, path in Images.seen].count("/busy") == 3


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("http://good.example:PORT/a.png", {"hosts": ()}, "may not fetch from good.example"),
        ("http://good.example:PORT/a.png", {"hosts": ("other.example",)}, "may not fetch from good.example"),
        ("http://good.example.evil/a.png", {}, "may not fetch from good.example.evil"),
        ("http://good.example:PORT/a.png", {"networks": ()}, "is 127.0.0.1, which is not a public address"),
        ("http://inside.example/a.png", {}, "is 10.0.0.7, which is not a public address"),
        ("http://mixed.example/a.png", {"networks": ()}, "is 127.0.0.1, which is not a public address"),
        ("http://169.254.169.254/latest/meta-data", {"hosts": ("*",)}, "not a public address"),
        ("http://[::ffff:10.0.0.1]/a.png", {"hosts": ("*",)}, "not a public address"),
        ("http://good.example:PORT/to/http://inside.example/", {}, "inside.example is 10.0.0.7"),
        ("http://good.example:PORT/to/http://elsewhere.org/", {}, "may not fetch from elsewhere.org"),
        ("http://good.example:PORT/to/file:///etc/passwd", {}, "only http and https"),
        ("http://good.example:PORT/loop", {}, "more than 5 times"),
        ("http://good.example:PORT/none", {}, "answered 404"),
        ("http://good.example:PORT/busy-for-long", {}, "429, and is not ready in time"),
        ("http://good.example:PORT/large", {"size": 4_999_999}, "5,000,000 bytes; at most 4,999,999"),
        ("http://good.example:PORT/endless", {"size": 100_000}, "more than the 100,000 bytes"),
        ("http://good.example:PORT/a.png", {"seconds": 1e-9}, "did not arrive within"),
        ("http://user:secret@good.example:99999/a.png", {}, "user:***@good.example"),
    ],
)
def test_what_is_out_of_bounds_is_refused(port, names, url, more, said):
    """Hosts, addresses after resolution, each redirect, size and time: every bound holds, and no password is shown."""
    with pytest.raises(EmbedError) as caught:
        fetcher(**more).fetch(url.replace("PORT", str(port)))
    assert said in caught.value.message
    assert "secret" not in caught.value.message


def test_a_name_that_is_unknown_is_a_failure_of_that_image(names, monkeypatch):
    """It is looked up again, since resolvers fail for moments, and then named."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with pytest.raises(EmbedError, match=r"gone\.example can't be resolved"):
        fetcher().fetch("http://gone.example/a.png")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH to make a certificate with")
def test_a_certificate_is_that_of_the_name_not_of_the_address(names, tmp_path, monkeypatch):
    """Over https the checked address is asked, and has to prove that it is the host of the URL, whatever came before."""
    names["other.example"] = ["127.0.0.1"]
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k.pem", "-out", "c.pem", "-days", "2"]
    subject = ["-subj", "/CN=good.example", "-addext", "subjectAltName=DNS:good.example"]
    subprocess.run([*made, *subject], cwd=tmp_path, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Images)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # a client that turns away is what is tested
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        bounds = Bounds(("*.example",), (ipaddress.ip_network("127.0.0.0/8"),))
        one = Fetcher("embedder 'l14'", bounds, ssl.create_default_context(cafile=str(tmp_path / "c.pem")))
        port = server.server_address[1]
        assert one.fetch(f"https://good.example:{port}/a.png") == picture()
        for fetcher_, host in ((one, "other.example"), (Fetcher("embedder 'l14'", bounds), "good.example")):
            with pytest.raises(EmbedError, match="CERTIFICATE_VERIFY_FAILED"):
                fetcher_.fetch(f"https://{host}:{port}/a.png")
        with pytest.raises(EmbedError, match="redirected from https to http"):
            one.fetch(f"https://good.example:{port}/to/http://good.example/")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        *[(one, False) for one in ("10.1.2.3", "100.64.0.1", "224.0.0.1", "::1", "fe80::1", "fd00::1")],
        *[(one, False) for one in ("::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "198.18.0.1")],
        # A network's own NAT64, translated and compatible IPv4, also where what they lead to would be public.
        *[(one, False) for one in ("64:ff9b:1::a00:1", "64:ff9b:1:ffff::808:808", "64:ff9b:2::1")],
        *[(one, False) for one in ("::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "::127.0.0.1", "::8.8.8.8")],
        # Of one site, of documents, of no owner yet; a tunnel to a private address behind a public prefix.
        *[(one, False) for one in ("fec0::1", "5f00::1", "4000::1", "3fff::1", "100::1", "ff0e::1", "192.88.99.1")],
        *[(one, False) for one in ("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1")],
        ("2606:4700::5efe:8.8.8.8", True),
    ],
)
def test_addresses_inside_addresses_are_seen(address, public):
    """Mapped, translated and tunnelled addresses are what they lead to."""
    assert is_public(ipaddress.ip_address(address)) is public


def test_base64_data_urls_and_bytes_have_the_vector_of_the_file(tmp_path, port, names):
    """One picture, however it comes; a text is a path unless the settings say base64."""
    data = picture()
    (tmp_path / "a.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    by_path = load("p", {"type": "pixels", "image_roots": [str(tmp_path)]})
    one = load("p", {"type": "pixels", "image_base64": True, "image_hosts": ["good.example"], "image_networks": ["127.0.0.0/8"]})
    url = f"http://good.example:{port}/a.png"
    folded = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    rows = one.embed([text, folded, f"data:image/png;base64,{text}", data, url])
    assert (rows == by_path.embed(["a.png"])).all()
    for item, said in [("data:,abc", "not a data URL"), ("###", "not base64"), (text[:41], "not base64"), ("AAAA", "decoded")]:
        with pytest.raises(EmbedError, match=said):
            one.embed([item])
    small = load("p", {"type": "pixels", "image_base64": True, "image_max_bytes": 50})
    for item in (text, data):
        with pytest.raises(EmbedError, match="too large"):
            small.embed([item])
    with pytest.raises(EmbedError, match="a list of networks"):
        load("p", {"type": "pixels", "image_networks": ["here"]})


def seen(image, form="PNG", **more):
    """A picture as a model's preprocessing gets it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    turn = more.get("exif") is not None and more["exif"].get(0x9999) == 1
    return with_picture(buffer, "it", lambda one: as_a_model_sees_it(one, "it", exif_transpose=turn))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_common_modes_are_left_to_the_model(mode):
    """Grey, palette, transparent and print pictures arrive as Pillow opens them: the model's own conversion follows."""
    source = Image.open(io.BytesIO(picture())).convert(mode)
    found = seen(source, "TIFF")
    assert (found.mode, found.size) == (mode, source.size)
    assert found.convert("RGB").tobytes() == source.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_pictures_are_refused(mode):
    """More than 8 bits per channel would become mostly white without a word."""
    with pytest.raises(EmbedError, match="more than 8 bits per channel"):
        seen(Image.new(mode, (9, 9), 1200), "TIFF")


def test_animations_give_their_first_frame_and_photographs_are_not_turned():
    """As open + preprocess does in the application; `exif_transpose` is for those who turn."""
    red, blue = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    assert seen(red, "GIF", save_all=True, append_images=[blue]).convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert seen(red, "JPEG", exif=exif).size == (6, 4)
    exif[0x9999] = 1
    assert seen(red, "JPEG", exif=exif).size == (4, 6)


@pytest.mark.parametrize(
    "data",
    [
        picture("JPEG")[:-40],
        picture("PNG")[:100],
        b"",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_what_is_no_whole_picture_is_refused(data):
    """Truncated and empty files, and formats that would start another program, are failures of that item."""
    with pytest.raises(EmbedError, match="can't be decoded"):
        with_picture(io.BytesIO(data), "it", lambda one: as_a_model_sees_it(one, "it"))


def test_one_bad_picture_costs_no_other_its_vector():
    """A failure is a value in the place of its item."""
    found = embed_all(load("p", {"type": "pixels", "size": 16}), [picture(seed=1), b"no", picture(seed=2)], size=16)
    assert [isinstance(one, Failure) for one in found] == [False, True, False]


BY_FUNCTION = """
def words(payload):
    if payload["n"] == 2:
        raise KeyError("no words")
    return f"{{payload['kind']}}: {{payload['text']}}" if payload["n"] else None

def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE),
                         values=Embed("words", text=words, on_failure="keep_without_vector"))]
"""


def test_a_function_of_the_revision_gives_the_text(tmp_path):
    """Embed(text=function): what it returns is embedded; None and an exception leave the point without, and listed."""
    local = Deployment(tmp_path, {"path": str(tmp_path / "qdrant")}, f"sqlite:///{tmp_path}/ledger.db")
    local.revise("0001", CREATE)
    upgrade.upgrade(local.settings(), "0001")
    local.load(5)
    local.revise("0002", BY_FUNCTION)
    upgrade.upgrade(local.settings())
    found = {payload["n"]: (payload, vectors) for payload, vectors in local.contents().values()}
    assert {number for number, (_, vectors) in found.items() if "b" not in vectors} == {0, 2}
    wanted = load("words", {"type": "hashing", "size": 16}).embed(["odd: the text number 3"])[0]
    assert np.allclose(np.asarray(found[3][1]["b"], np.float32), wanted, atol=1e-5)


def test_sources_may_be_shared_by_threads(tmp_path):
    """The fetcher is made once, by the first caller."""
    from qmigrate.embed.options import Options

    sources = ImageSources(Options("p", {"image_roots": [str(tmp_path)], "image_hosts": []}))
    failed = []

    def ask():
        try:
            sources.read("http://good.example/a.png")
        except EmbedError as error:
            failed.append(error.message)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(failed) == 8
    assert set(failed) == {"image http://good.example/a.png: embedder 'p' may not fetch from good.example"}


SIGNED = "https://good.example/a.png?width=3&X-Amz-Signature=hush&sig=hush&Signature=hush&token=hush#hush=1&sig=hush"


@pytest.mark.parametrize("kind", ["bad host", "bad picture", "path", "data", "base64"])
def test_no_message_about_an_image_holds_its_signature(kind, tmp_path, monkeypatch):
    """What opens a presigned URL is in no message, whatever is wrong with the image."""
    from qmigrate.embed.options import Options

    hosts = ["good.example"] if kind == "bad picture" else []
    options = {"image_roots": [str(tmp_path)], "image_hosts": hosts}
    sources = ImageSources(Options("p", options | ({"image_base64": True} if kind == "base64" else {})))
    item = {"path": SIGNED.removeprefix("https://"), "data": f"data:x?sig=hush&{SIGNED}"}.get(kind, SIGNED)
    if kind == "base64":
        item = "x?sig=hush"
    monkeypatch.setattr(Fetcher, "fetch", (lambda _, url: b"no picture") if hosts else Fetcher.fetch)
    with pytest.raises(EmbedError) as caught:
        with_picture(*sources.read(item), lambda image: image.load())
    assert "hush" not in caught.value.message.replace("#hush", "")
    assert "sig=***" in caught.value.message or kind == "bad host"


def test_no_error_holds_a_signature_that_it_quotes():
    """An error that repeats the text of a library, and its hint, hold no secret of a URL."""
    error = EmbedError(f"the server said: {SIGNED}", hint=f"open {SIGNED}")
    assert "=hush" not in f"{error} {error.message} {error.hint}"
    assert "width=3" in error.message


def test_what_the_ledger_keeps_of_a_point_holds_no_signature():
    """Reason and input of a point in quarantine are masked before they are recorded."""
    from qmigrate.engine.points.quarantine import Failures, shortened

    page = [grpc.RetrievedPoint(id=grpc.PointId(num=1))]
    rows = Failures("c", page, page, {"v": "keep_without_vector"}, None)
    rows.add(0, "v", "read", f"httpx.ReadError: {SIGNED}", SIGNED)
    (row,) = rows.rows
    assert "=hush" not in f"{row.reason} {row.source}"
    assert shortened(SIGNED) == row.source


def test_the_log_of_a_request_holds_no_signature(port, names, caplog):
    """The client logs every URL that it asks, also into the log of an application."""
    fetcher = Fetcher("embedder 'p'", Bounds(("good.example",), (ipaddress.ip_network("127.0.0.0/8"),)))
    with caplog.at_level("INFO", logger="httpx"):
        fetcher.fetch(f"http://good.example:{port}/none.png?width=3&X-Amz-Signature=hush&sig=hush")
    assert "width=3&X-Amz-Signature=***&sig=***" in caplog.text
    assert "hush" not in caplog.text
