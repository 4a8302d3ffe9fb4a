"""A holder that stands still, or is cut off, right before one of its requests, while others continue. No tests here.

The requests are those that the store's protocol calls a *Write*: a method that is added there counts too; with a server,
each single request of such a method counts, as it leaves for the network. The holder runs in a thread of this process;
its lease is not renewed in that time, as that of a stopped process isn't.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from typing import Any

import grpc
from sqlalchemy import select
from tests.harness import Deployment, contents

from qmigrate.commands import session
from qmigrate.engine import epoch_aliases
from qmigrate.engine.golive import plain_names
from qmigrate.engine.retire import retire
from qmigrate.errors import LedgerError, QmigrateError
from qmigrate.ledger import Lease, Ledger, tables, unlock
from qmigrate.ledger.database import Database
from qmigrate.model.names import is_own_alias
from qmigrate.ports import Store
from qmigrate.store.faults import SlowError

#: Every method of a store that sends a request which changes something.
WRITES = tuple(
    name for name, found in vars(Store).items() if re.match(r"\*Write[^*]*\*", getattr(found, "__doc__", "") or "")
)
#: What a paused thread waits for at most, in seconds.
PATIENCE = 60.0


#: What becomes of a holder before a request. *paused*: it stands still, then everything continues. *lost* and *late*: it
#: has no connection to the server and to SQL; that request is never answered, and never arrives (lost), or does so when
#: the others have acted (late); then it has connections again. *gone*: it gives up while it has none, and what it had
#: sent last arrives when it has ended.
PAUSED, LOST, LATE, GONE = MODES = ("paused", "lost", "late", "gone")
#: It gives up, and nothing that it sends arrives any more: what the end is compared with.
DEAD = "dead"


class Gate:
    """Counts requests; does something to the one with a number, and to every later one, until it is opened.

    Args:
        number: of the request, from 0 on; None for none.
        mode: one of :data:`MODES`, or :data:`DEAD`.
    """

    def __init__(self, number: int | None = None, mode: str = PAUSED) -> None:
        self.number = number
        self.mode = mode
        self.passed: list[str] = []
        self.reached = threading.Event()
        self.open = threading.Event()
        self.unanswered = False
        self._flying: Callable[[], object] | None = None
        self._lock = threading.Lock()

    @property
    def cut(self) -> bool:
        """Whether nothing passes any more, and nothing is answered."""
        return self.mode in (GONE, DEAD) and self._flying is not None

    def send(self, label: str, request: Callable[[], Any], unanswered: Callable[[], Any]) -> Any:
        """Have a request made, or what comes instead of its answer.

        Args:
            unanswered: raises what a request without an answer raises, or returns what will.
        """
        with self._lock:
            number = len(self.passed)
            self.passed.append(label)
            stops = self.number is not None and number >= self.number and not self.open.is_set()
            self.unanswered = self.unanswered or (stops and self.mode != PAUSED)
            if stops and self._flying is None:
                self._flying = request
        if not stops:
            return request()
        if self.mode in (GONE, DEAD):
            return unanswered()
        self.reached.set()
        assert self.open.wait(PATIENCE), "the holder was forgotten"
        if self.mode == PAUSED:
            return request()
        if self.mode == LATE and number == self.number:
            self.land()
        return unanswered()

    def land(self) -> None:
        """What was sent last arrives; no process sees the answer."""
        assert self._flying is not None
        with suppress(QmigrateError, grpc.RpcError):
            found = self._flying()
            # A write that was only begun.
            for ending in ("wait", "result"):
                getattr(found, ending, lambda: None)()


def no_answer() -> SlowError:
    """What a request that ran into its time limit ends with."""
    return SlowError("Qdrant gave no answer within 1 s")


def _raise() -> None:
    raise no_answer()


class Unanswered:
    """A write that was begun, and will not be answered."""

    def wait(self) -> None:
        _raise()


class Gated:
    """A store that another one stands behind, which it never closes."""

    def __init__(self, store: Any, gate: Gate | None) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        gate = self._gate
        if gate is None or not callable(found):
            return found
        if name not in WRITES:
            if gate.cut:
                _raise()
            return found
        unanswered = Unanswered if name == "upsert" else _raise

        def gated(*args: Any, **kwargs: Any) -> Any:
            return gate.send(name, lambda: found(*args, **kwargs), unanswered)

        return gated

    def all_answered(self) -> bool:
        """As a store knows it of itself: not once a request had no answer."""
        return not (self._gate is not None and self._gate.unanswered) and self._store.all_answered()

    def close(self) -> None:
        """Others still use it."""


class _NoAnswer(grpc.RpcError):  # type: ignore[misc]
    """A gRPC request that ran into its time limit."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.DEADLINE_EXCEEDED

    def details(self) -> str:
        return "Deadline Exceeded"


#: What a POST that only reads ends with.
READS = ("/count", "/query", "/scroll", "/facet", "/points", "/query/batch", "/search", "/search/batch")


def wired(store: Any, gate: Gate) -> Any:
    """A server's store whose single requests pass a gate, retries too: those that change something are counted."""
    for node in store._nodes.everyone():
        node.send = _sender(node, node.send, gate)
    points = store._points
    start, writing = points.start, {id(points._upsert), *(id(vars(points._writes)[name]) for name in WRITING)}

    def started(method: Any, request: Any, **given: Any) -> Any:
        if id(method) not in writing:
            return _unanswered() if gate.cut else start(method, request, **given)
        return gate.send("points", lambda: start(method, request, **given), _unanswered)

    points.start = started
    return store


#: gRPC methods that change points.
WRITING = ("Delete", "Upsert", "UpdateVectors", "UpdateBatch", "SetPayload", "DeletePayload", "OverwritePayload")


def _unanswered() -> Any:
    future: Future[Any] = Future()
    future.set_exception(_NoAnswer())
    return future


def _sender(node: Any, send: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    def raises() -> None:
        node.answers.failed(no_answer())
        _raise()

    def gated(method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        if method == "GET" or (method == "POST" and path.endswith(READS)):
            return raises() if gate.cut else send(method, path, *args, **kwargs)
        return gate.send(f"{method} {path}", lambda: send(method, path, *args, **kwargs), raises)

    return gated


class World:
    """What is around one holder: the server and the ledger as they are, and others that act meanwhile.

    Attributes:
        mode: one of :data:`MODES`.
        store: one of the test's own.
        error: what the holder ended with.
        held: whether it had the lease when it stood still.
        epoch: of that lease.
    """

    def __init__(self, made: Deployment, mode: str) -> None:
        self.made = made
        self.mode = mode
        self.store = made.store()
        self.error: BaseException | None = None
        self.held = False
        self.epoch = 0
        self.settings = made.settings()

    def start(self) -> bool:
        """Run the holder until it stands still, has given up, or is over; whether it has not come to its end."""
        raise NotImplementedError

    def wake(self) -> None:
        """Have it continue, to its end."""
        raise NotImplementedError

    @property
    def requests(self) -> list[str]:
        """What it has sent so far, or wanted to."""
        raise NotImplementedError

    def expire(self) -> None:
        """The next process finds the lease expired."""
        ledger = Ledger.open(self.made.ledger_url)
        # Between two leases it holds none: then it only comes later than the others.
        self.held = unlock(ledger, self.made.name, "test")
        ledger.close()
        self.epoch = self.state()["epoch"]

    def other(self, work: Callable[[Any], object]) -> QmigrateError | None:
        """Another holder; what it refused, if anything."""
        try:
            work(self.settings)
        except QmigrateError as error:
            return error
        return None

    def state(self) -> dict[str, Any]:
        """All that the store and the ledger hold of this deployment."""
        ledger = Ledger.open(self.made.ledger_url)
        try:
            rows = {row.physical: row.state for row in ledger.generations(self.made.name)}
            runs = {run.id: run.state for run in ledger.runs(self.made.name)}
            epoch = next((lease.epoch for lease in ledger.leases() if lease.name == self.made.name), 0)
        finally:
            ledger.close()
        mine = [name for name in self.store.physical_names() if name.startswith(self.made.name)]
        described = {name: self.store.describe(name) for name in mine}
        return {
            "aliases": {one: at for one, at in self.store.aliases().items() if one.startswith(self.made.name)},
            "epoch": epoch,
            "rows": rows,
            "runs": runs,
            "seals": {name: found.seal for name, found in described.items()},
            "schemas": {name: found.schema.with_(aliases=()).to_json() for name, found in described.items()},
            "points": {name: contents(self.store, name) for name in mine},
            "snapshots": {name: len(self.store.list_snapshots(name)) for name in mine},
            "ledger": self.ledger(),
            "application": self.application(),
        }

    def went_on(self) -> bool:
        """Whether another holder has resumed what this one had begun, or has ended it."""
        runs, ledger = tables.runs, Ledger.open(self.made.ledger_url)
        mine = (runs.c.collection == self.made.name, runs.c.state == "running", runs.c.epoch == self.epoch)
        try:
            with ledger.database.reading() as connection:
                return connection.execute(select(runs.c.id).where(*mine)).first() is None
        finally:
            ledger.close()

    def ledger(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of the ledger, but for leases and for when a row was touched last."""
        ledger = Ledger.open(self.made.ledger_url)
        try:
            with ledger.database.reading() as connection:
                return {
                    table.name: sorted(
                        (
                            {name: value for name, value in row.items() if name not in ("updated_at", "heartbeat_at")}
                            for row in connection.execute(select(table)).mappings()
                        ),
                        key=str,
                    )
                    for table in tables.metadata.sorted_tables
                    if table is not tables.leases
                }
        finally:
            ledger.close()

    def application(self) -> list[tuple[Any, ...]]:
        """What the application's own table has."""
        with closing(sqlite3.connect(self.made.root.parent / "app.db")) as connection:
            return sorted(connection.execute("SELECT id, text, kind, marked FROM docs"))

    def own_aliases(self) -> list[str]:
        """Aliases of lease holders that are there."""
        return [one for one, at in self.state()["aliases"].items() if is_own_alias(one, at)]


class Paused(World):
    """One holder that is paused or cut off, with the world around it.

    Args:
        made: the deployment.
        monkeypatch: puts the gate between the product and its store.
        work: what the holder runs.
        number: how many requests it may send before that; None lets it through.
        mode: one of :data:`MODES`.
    """

    def __init__(
        self,
        made: Deployment,
        monkeypatch: Any,
        work: Callable[[Any], object],
        number: int | None,
        mode: str = PAUSED,
    ) -> None:
        super().__init__(made, mode)
        self.gate = Gate(number, mode)
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._databases: list[Database] = []
        self._closing: list[Callable[[], None]] = []
        monkeypatch.setattr(session, "connect", self._connect)
        monkeypatch.setattr(session, "Ledger", self)
        monkeypatch.setattr(Lease, "_beat", lambda _self: None)
        # How long a holder tries again that has no connection.
        for module, limit in ((plain_names, "LIMIT"), (epoch_aliases, "READ_BACK"), (retire, "READ_BACK")):
            monkeypatch.setattr(module, limit, 0.3)
        for way in ("reading", "writing"):
            monkeypatch.setattr(Database, way, self._unless_cut(getattr(Database, way)))

    def open(self, *args: Any, **kwargs: Any) -> Ledger:
        """A ledger, as :meth:`Ledger.open` opens it; that of the holder can be cut off."""
        ledger = Ledger.open(*args, **kwargs)
        if threading.current_thread() is self._thread:
            self._databases.append(ledger.database)
        return ledger

    def _connect(self, _settings: object, **_more: object) -> Any:
        if threading.current_thread() is not self._thread:
            return Gated(self.store, None)
        if self.local:
            return Gated(self.store, self.gate)
        store = self.made.store()
        # What it has sent last may arrive when the holder has ended.
        self._closing.append(store.close)
        store.close = lambda: None  # type: ignore[method-assign]
        return wired(store, self.gate)

    @property
    def requests(self) -> list[str]:
        """What it has sent so far, or wanted to."""
        return self.gate.passed

    def close(self) -> None:
        """Let it come to its end, and close every connection."""
        if self._thread.is_alive():
            self.wake()
        for close in (*self._closing, self.store.close):
            close()

    @property
    def local(self) -> bool:
        """Whether the store is a folder, which only one can have open."""
        return "path" in self.made.qdrant

    def _unless_cut(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def transaction(database: Any, *args: Any, **kwargs: Any) -> Any:
            if self.gate.cut and database in self._databases:
                raise LedgerError("the database can't be reached")
            return original(database, *args, **kwargs)

        return transaction

    def _run(self, work: Callable[[Any], object]) -> None:
        try:
            work(self.settings)
        except BaseException as error:
            self.error = error
        finally:
            self.gate.reached.set()

    def start(self) -> bool:
        """Run it until it stands still, has given up, or is over; whether it has not come to its end.

        The next process finds its lease expired.
        """
        self._thread.start()
        assert self.gate.reached.wait(PATIENCE)
        paused = self.gate.cut or (self._thread.is_alive() and self.gate.number is not None)
        if paused:
            self.expire()
        return paused

    def wake(self) -> None:
        """Resume it, to its end, or have arrive what it had sent before; what is dead stays so."""
        if self.mode in (GONE, DEAD):
            self._thread.join(PATIENCE)
        if self.mode == GONE and self.gate.cut and not self.gate.open.is_set():
            self.gate.land()
        self.gate.open.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def paused(
    made: Deployment, monkeypatch: Any, work: Callable[[Any], object], number: int | None, mode: str = PAUSED
) -> Any:
    """See :class:`Paused`; at the end it is woken, whatever happened."""
    with monkeypatch.context() as patch:
        holder = Paused(made, patch, work, number, mode)
        try:
            yield holder
        finally:
            holder.close()
