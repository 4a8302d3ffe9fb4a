"""A holder in a process of its own is stopped (SIGSTOP), or loses its network to Qdrant and to PostgreSQL.

Nothing of it is replaced: its heartbeat, its retries and its time limits are those of the product. What is sent into the
network that is cut is lost, or arrives when others have acted.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from tests.conftest_postgres import fresh_database
from tests.faults.judged import Ends, judge
from tests.faults.pause import DEAD, LATE, LOST, PAUSED
from tests.faults.proxy import Proxy
from tests.faults.separate import Separate, separate
from tests.faults.stride import thinned
from tests.faults.test_matrix import CASES
from tests.faults.verbs import moved, prepare

#: Verb and what others do: every verb that deletes or moves names, in pairs that differ.
PAIRS = {
    "upgrade, copied": "abort",
    "upgrade, in place": "resume",
    "cutover": "abort",
    "rollback": "resume",
    "abort, held": "resume",
    "gc": "rollback",
    "restore": "resume",
    "fix delete": "abort",
    "fix erase": "resume",
    "fix reset": "abort and resume",
}


class World:
    """Deployments on a server with ledgers in PostgreSQL."""

    def __init__(self, server, postgres_url, folder) -> None:
        self._qdrant = {"url": server.url, "grpc_port": server.grpc_port, "timeout": 1}
        self._postgres = postgres_url
        self._folder = folder
        self._made = itertools.count()

    @contextmanager
    def holder(self, verb: str, number: int | None, mode: str) -> Iterator[Separate]:
        """One that runs a verb."""
        with fresh_database(self._postgres) as url:
            folder = self._folder / f"{next(self._made)}"
            made = moved(prepare(folder, self._qdrant, CASES[f"{verb}; {PAIRS[verb]}"], ledger_url=url))
            with separate(made, verb, number, mode) as holder:
                yield holder

    def requests(self, verb: str) -> list[str]:
        """What a holder sends that nothing disturbs."""
        with self.holder(verb, None, PAUSED) as holder:
            assert not holder.start()
            assert holder.error is None
            return holder.requests

    def look(self, verb: str, number: int, mode: str) -> None:
        """One that stands still, or is cut off."""
        where = f"{mode} before request {number} of {verb}"
        ends = Ends(lambda number: self.holder(verb, number, DEAD), CASES[f"{verb}; {PAIRS[verb]}"], {})
        with self.holder(verb, number, mode) as holder:
            assert judge(holder, ends, number, where), f"not {where}"


def is_unfenced(label: str) -> bool:
    """Whether a request of a server makes or deletes a collection or a snapshot: no alias of a lease epoch can guard it."""
    method, _, path = label.partition(" ")
    parts = path.strip("/").split("/")
    return "snapshots" in parts or (method in ("PUT", "DELETE") and len(parts) == 2)


def chosen(requests: Sequence[str]) -> list[int]:
    """Some of the requests of a server: what no alias guards, what comes right behind it, and a few of the others."""
    unfenced = [number for number, label in enumerate(requests) if is_unfenced(label)]
    behind = [number + 1 for number in unfenced if number + 1 < len(requests)]
    return sorted({*unfenced[:1], *unfenced[-1:], *behind[:1], *thinned(range(len(requests)))[1:3]})


@pytest.fixture
def world(qdrant_server, postgres_url, tmp_path) -> World:
    """See :class:`World`."""
    return World(qdrant_server, postgres_url, tmp_path)


@pytest.mark.nightly
@pytest.mark.server
@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [PAUSED, LOST, LATE])
@pytest.mark.parametrize("verb", PAIRS)
def test_a_process_that_comes_back_changes_nothing(world, verb, mode):
    """Before what no alias guards, and at some other requests."""
    for number in chosen(world.requests(verb)):
        world.look(verb, number, mode)


@pytest.mark.server
@pytest.mark.postgres
@pytest.mark.nightly
@pytest.mark.parametrize("mode", [PAUSED, LATE])
def test_a_process_that_comes_back_to_a_rollback_collects_nothing(world, mode):
    """Stopped, or cut off, before a generation is deleted; meanwhile a rollback makes that one serve, or is refused."""
    requests = world.requests("gc")
    (number,) = [place for place, label in enumerate(requests) if is_unfenced(label)]
    world.look("gc", number, mode)


@pytest.fixture
def echo():
    """A proxy before a service that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while piece := client.recv(100):
                client.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    proxy = Proxy(int(listener.getsockname()[1]))
    yield proxy
    proxy.close()
    listener.close()


@pytest.mark.parametrize("late", [True, False])
def test_a_network_that_is_cut_holds_what_was_sent(echo, late):
    """Nothing arrives while it is cut; then what was sent does, or its connection is closed, and new ones work."""
    with socket.create_connection(("127.0.0.1", echo.port)) as client:
        client.settimeout(10)
        client.sendall(b"1")
        assert client.recv(1) == b"1"
        echo.cut()
        client.sendall(b"2")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        echo.heal(late=late)
        assert client.recv(1) == (b"2" if late else b"")
    with socket.create_connection(("127.0.0.1", echo.port)) as client:
        client.settimeout(10)
        client.sendall(b"3")
        assert client.recv(1) == b"3"
