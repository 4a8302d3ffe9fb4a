"""The server of the API: where it listens, and until when. What it serves, the application decides."""

from __future__ import annotations

import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from qmigrate.console.access import Access
from qmigrate.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

#: Seconds that requests have to end in once a signal came; a deletion stops at a checkpoint, and is resumed later.
_GRACE = 30


def check_address(host: str, access: Access) -> None:
    """Refuse to be reached from elsewhere by callers who could not be known.

    Raises:
        ConfigError: the address is not this machine's own, and neither tokens nor a proxy are configured.
    """
    if access.is_open and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, and no tokens are configured: every client there could delete "
            "points",
            hint="name tokens under console.tokens in qmigrate.yaml, or listen on 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, so that an address which is taken is known before anything is said.

    Raises:
        ConfigError: nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
            made.listen(128)
        except OSError as error:
            raise ConfigError(
                f"nothing can listen on {host}:{port}: {error.strerror or error}", hint="another one: --port N"
            ) from None
        yield made


def shown(listening: socket.socket) -> str:
    """The URL of a socket that listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def config_of(app: FastAPI) -> uvicorn.Config:
    """How it is served."""
    import uvicorn

    # Its log of requests would hold the token of a link. By itself it would take a client of this machine for whom a
    # header names: for the proxy that users are believed from, or for another one at each wrong token.
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )


def run(app: FastAPI, listening: socket.socket) -> None:
    """Serve until a signal comes."""
    config = config_of(app)
    # It ends by the signal itself, once it has shut down: that is what was asked for.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _server(config, app).run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _server(config: uvicorn.Config, app: FastAPI) -> uvicorn.Server:
    """A server that ends the streams of events before it waits for its connections to end: they never would."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.streams.stop()
            await super().shutdown(sockets)

    return Server(config)
