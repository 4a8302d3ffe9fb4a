"""A network between a process and a service that can be cut: nothing is refused then, and nothing arrives. No tests here."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

#: Bytes that are passed on at once.
_PIECE = 65536


class Proxy:
    """Passes connections on to a port of this host.

    Args:
        port: of the service.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._passes = threading.Event()
        self._passes.set()
        self._network = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing arrives, in either direction; who connects gets no answer."""
        self._passes.clear()

    def heal(self, *, late: bool) -> None:
        """What is sent arrives again.

        Args:
            late: so does what was sent before; else it is lost, with the connections that it was sent on.
        """
        if not late:
            self._network += 1
        self._passes.set()

    def close(self) -> None:
        """End everything."""
        self._listener.close()
        self.heal(late=False)
        for one in self._open:
            _close(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, self._network), daemon=True).start()

    def _serve(self, client: socket.socket, network: int) -> None:
        self._passes.wait()
        if network != self._network:
            _close(client)
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._open += [client, server]
        threading.Thread(target=self._pass_on, args=(client, server, network), daemon=True).start()
        self._pass_on(server, client, network)

    def _pass_on(self, source: socket.socket, target: socket.socket, network: int) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                self._passes.wait()
                if network != self._network:
                    break
                target.sendall(piece)
        _close(source)
        _close(target)


def _close(one: socket.socket) -> None:
    # Shut down first: another thread may be reading from it.
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
