"""A holder that is paused right before one of its requests, while others continue, and is then resumed. No tests here.

The requests are those that the store's protocol calls a *Write*: a method that is added there is paused too. The holder
runs in a thread of this process; its lease is not renewed in that time, as that of a stopped process isn't.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from tests.harness import Deployment, contents

from qmigrate.commands import session
from qmigrate.errors import QmigrateError
from qmigrate.ledger import Lease, Ledger, unlock
from qmigrate.model.names import is_own_alias
from qmigrate.ports import Store

#: Every method of a store that sends a request which changes something.
WRITES = tuple(
    name for name, found in vars(Store).items() if re.match(r"\*Write[^*]*\*", getattr(found, "__doc__", "") or "")
)
#: What a paused thread waits for at most, in seconds.
PATIENCE = 60.0


class Gate:
    """Counts requests, and stops the one with a number, and every later one, until it is opened."""

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.passed: list[str] = []
        self.reached = threading.Event()
        self.open = threading.Event()
        self._lock = threading.Lock()

    def pass_(self, label: str) -> None:
        with self._lock:
            self.passed.append(label)
            stops = self.number is not None and len(self.passed) > self.number
        if stops and not self.open.is_set():
            self.reached.set()
            assert self.open.wait(PATIENCE), "the paused holder was forgotten"


class Gated:
    """A store that another one stands behind, which it never closes."""

    def __init__(self, store: Any, gate: Gate | None) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if self._gate is None or name not in WRITES:
            return found

        def gated(*args: Any, **kwargs: Any) -> Any:
            self._gate.pass_(name)
            return found(*args, **kwargs)

        return gated

    def close(self) -> None:
        """Others still use it."""


class Paused:
    """One holder that is paused, with the world around it.

    Args:
        made: the deployment.
        monkeypatch: puts the gate between the product and its store.
        work: what the holder runs.
        number: how many requests it may send before it is paused; None lets it through.
    """

    def __init__(self, made: Deployment, monkeypatch: Any, work: Callable[[Any], object], number: int | None) -> None:
        self.made = made
        self.gate = Gate(number)
        self.store = made.store()
        self.error: BaseException | None = None
        self.epoch = 0
        self.held = False
        self._settings = made.settings()
        self._thread = threading.Thread(target=self._run, args=(work,))
        monkeypatch.setattr(session, "connect", self._connect)
        monkeypatch.setattr(Lease, "_beat", lambda _self: None)

    def _connect(self, _settings: object, **_more: object) -> Gated:
        return Gated(self.store, self.gate if threading.current_thread() is self._thread else None)

    def _run(self, work: Callable[[Any], object]) -> None:
        try:
            work(self._settings)
        except BaseException as error:
            self.error = error
        finally:
            self.gate.reached.set()

    def start(self) -> bool:
        """Run it until it is paused or over; whether it is paused. The next process finds its lease expired."""
        self._thread.start()
        assert self.gate.reached.wait(PATIENCE)
        paused = self._thread.is_alive() and not self.gate.open.is_set() and self.gate.number is not None
        if paused:
            ledger = Ledger.open(self.made.ledger_url)
            # Between two leases it holds none: then it only comes later than the others.
            self.held = unlock(ledger, self.made.name, "test")
            ledger.close()
            self.epoch = self.state()["epoch"]
        return paused

    def other(self, work: Callable[[Any], object]) -> QmigrateError | None:
        """Another holder; what it refused, if anything."""
        try:
            work(self._settings)
        except QmigrateError as error:
            return error
        return None

    def wake(self) -> None:
        """Resume it, to its end."""
        self.gate.open.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

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
        }

    def own_aliases(self) -> list[str]:
        """Aliases of lease holders that are there."""
        return [one for one, at in self.state()["aliases"].items() if is_own_alias(one, at)]


@contextmanager
def paused(made: Deployment, monkeypatch: Any, work: Callable[[Any], object], number: int | None) -> Any:
    """See :class:`Paused`; at the end it is woken, whatever happened."""
    with monkeypatch.context() as patch:
        holder = Paused(made, patch, work, number)
        try:
            yield holder
        finally:
            if holder._thread.is_alive():
                holder.wake()
            holder.store.close()
