"""A small embedding server in the test process: OpenAI's and TEI's dialects, and every answer a test asks for."""

from __future__ import annotations

import base64
import json
import struct
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def vector(text: str) -> list[float]:
    """A vector that tells texts apart."""
    return [float(len(text)), float(sum(text.encode()) % 97) + 1.0, 2.0]


class EmbeddingServer:
    """Answers on a free port of this host until it is closed.

    Attributes:
        script: answers to give before the usual ones: (status, headers, body).
        seen: (path, headers, body) of each request.
        limit: this many requests are answered as usual; later ones are asked to come back.
        bad: texts for which a request is answered 400.
        model: what it has; with `renames` OpenAI's answers name that one too, whatever was asked for.
        reads: tokens of a text, as it reports them.
        together: requests that are kept until this many of them are under way.
    """

    def __init__(self) -> None:
        self.script: deque[tuple[int, dict[str, str], str]] = deque()
        self.seen: list[tuple[str, dict[str, str], dict]] = []
        self.limit: int | None = None
        self.bad: set[str] = set()
        self.model = "tiny"
        self.reads = 512
        self.renames = False
        self.most = 0
        self.together = threading.Barrier(1)
        self._under_way = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def _answer(self, body: dict) -> None:
                status, headers, text = outer.answer(self.path, dict(self.headers), body)
                data = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, headers: dict[str, str], body: dict) -> tuple[int, dict[str, str], str]:
        """The next scripted answer, else what such a server says."""
        with self._lock:
            self.seen.append((path, headers, body))
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            scripted = self.script.popleft() if self.script else None
            if self.limit is not None and len(self.seen) > self.limit:
                scripted = (503, {"retry-after": "0"}, "busy")
        self.together.wait(10)
        with self._lock:
            self._under_way -= 1
        return scripted if scripted is not None else self._usual(path, body)

    def _usual(self, path: str, body: dict) -> tuple[int, dict[str, str], str]:
        if path == "/info":
            return 200, {}, json.dumps({"model_id": self.model, "model_sha": "abc", "model_dtype": "float32", "version": "1.8", "max_input_length": self.reads})
        texts = body.get("input") or body.get("inputs")
        if self.bad & set(texts):
            return 400, {}, json.dumps({"error": {"message": "input is too long"}})
        if path == "/tokenize":
            # A token per word, and one at each end.
            return 200, {}, json.dumps([[{"id": place} for place in range(len(text.split()) + 2)] for text in texts])
        made = [vector(text) for text in texts]
        if path == "/embed":
            return 200, {}, json.dumps(made)
        if body["encoding_format"] == "base64":
            made = [base64.b64encode(struct.pack("<3f", *row)).decode() for row in made]
        # Out of order, as the contract allows.
        data = [{"index": place, "embedding": row} for place, row in enumerate(made)][::-1]
        return 200, {}, json.dumps({"data": data, "model": self.model if self.renames else body["model"]})
