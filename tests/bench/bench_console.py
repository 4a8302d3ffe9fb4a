"""How long the first page of the console takes from a ledger with many rows: as a browser gets it, over HTTP.

The rows are copies of what real runs have left: each collection has its history, its runs and its audit, all long.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from tests.bench.servers import Server
from tests.harness import CREATE, Deployment
from tests.scenarios.long_ledger import multiplied

from qmigrate import fix, op
from qmigrate.commands import upgrade
from qmigrate.console import create_app
from qmigrate.console.access import Access
from qmigrate.console.server import config_of, listen

ADD = """
def upgrade():
    return [op.AddVector("{name}", "b", VectorParams(size=16, distance=Distance.COSINE), values=Embed("words", text="text"))]
"""


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The application on a port of this machine."""
    with listen("127.0.0.1", 0) as socket:
        server = uvicorn.Server(config_of(app))
        server.install_signal_handlers = lambda: None
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def timed(client: httpx.Client, path: str, rounds: int) -> tuple[list[float], float]:
    """Milliseconds of each request, and of the processor for each; the first is left out: it imports what it needs."""
    found = []
    client.get(path)
    busy = time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        found.append((time.perf_counter() - began) * 1000)
    return found, (time.process_time() - busy) * 1000 / rounds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pages", nargs="*", default=["/", "/?count=1", "/collections", "/collections/{name}", "/runs", "/audit", "/plan"])
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-console-"))
    with contextlib.closing(_Closing(Server())) as held:
        server = held.server
        config = {"url": server.url, "grpc_port": server.grpc_port}
        made = Deployment(folder / "project", config, f"sqlite:///{folder}/ledger.db", name="docs")
        made.revise("0001", CREATE)
        upgrade.upgrade(made.settings())
        made.load(1000)
        made.revise("0002", ADD)
        upgrade.upgrade(made.settings())
        fix.run(op.SetPayload("docs", {"seen": True}, max_share=1.0), settings=made.settings())
        access = Access.of(made.settings())
        app = create_app(made.settings(), access=access)
        with served(app) as url:
            caller = access.log_in(_nobody(), access.link_token("bench", "operator"))[1]
            headers = {"Accept": "text/html", "Cookie": f"__Host-qmigrate={caller}"}
            with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
                few, busy = timed(client, "/", asked.rounds)
                rows = multiplied(made, asked.rows)
                print(f"first page with few rows {statistics.median(few):.0f} ms, processor {busy:.0f} ms; with {rows:,}:")
                for page in asked.pages:
                    found, busy = timed(client, page.format(name=made.name), asked.rounds)
                    middle, fastest = statistics.median(found), min(found)
                    print(f"{page:22} median {middle:5.0f} ms   fastest {fastest:5.0f} ms   processor {busy:5.0f} ms")
    return 0


class _Closing:
    def __init__(self, server: Server) -> None:
        self.server, self.close = server, server.stop


def _nobody():
    from starlette.requests import Request

    return Request({"type": "http", "client": ("127.0.0.1", 1), "headers": []})


if __name__ == "__main__":
    sys.exit(main())
