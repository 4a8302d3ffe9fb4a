"""Whether a service is ready: every part asked at once, within a bounded time. It changes nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qmigrate.commands.expect import Expectation
from qmigrate.commands.readiness import Look, Parts
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import QmigrateError
from qmigrate.health.report import Report, judged, part, skipped
from qmigrate.health.slot import Answer, Slot
from qmigrate.settings.load import Settings

#: Seconds that one request of the check of the collections may take: no caller waits for it.
LOOK_TIMEOUT = 10.0
SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Slots and their futures, and how long to wait for them together."""

    futures: Mapping[str, Future[Answer]]
    seconds: float


class Probe:
    """The readiness of one service. Make one per process; it is safe to use from several threads and tasks.

    Args:
        settings: those of qmigrate; by default read from `config`. Their section ``health:`` decides what is asked.
        config: the settings file; by default ``qmigrate.yaml``, or the file that ``QMIGRATE_CONFIG`` names.
        service: the service's name in the report.
        client: the application's own ``QdrantClient``; needed in local mode, where its folder can be open only once.
        expects: what the application declares of its collections: not ready until they are so.
        collections: logical names or globs to check; empty for all that are under management. A name that nothing
            has is not served; a glob may mean none.
        checks: further parts: name -> a plain function that raises when the part isn't well; called in a thread.
        clock: monotonic.

    Raises:
        ConfigError: the settings can't be read.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        config: str | Path | None = None,
        service: str = "qmigrate",
        client: object | None = None,
        expects: Sequence[Expectation] = (),
        collections: str | Sequence[str] = (),
        checks: Mapping[str, Callable[[], object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        known = settings or Settings.load(config=config)
        wanted = known.health
        self.service = service
        self._wanted = wanted
        self._clock = clock
        self._expects = tuple(dict.fromkeys(one.collection for one in expects))
        _import_clients(known)
        near = Parts(known, wanted.timeout, client)
        # Who asks for the first time has to connect, which takes longer than asking on.
        cold = Parts(known, max(wanted.first, wanted.timeout), client, _folder=near._folder)
        only = (collections,) if isinstance(collections, str) else tuple(collections)
        far = Parts(known, max(LOOK_TIMEOUT, wanted.timeout), client, expects, only, _folder=near._folder)

        def ask_qdrant() -> None:
            (near if self._has_answered("qdrant") else cold).qdrant()

        functions: dict[str, tuple[bool, Callable[[], Any]]] = {
            "qdrant": (wanted.qdrant, ask_qdrant),
            "ledger": (wanted.ledger, near.ledger),
            # Only a check shows whether what the application declares is there.
            SCHEMA: (wanted.schema or bool(expects), far.look),
        }
        for name in known.embedders:
            functions[f"embedder {name}"] = (wanted.embedders, partial(near.embedder, name))
        for name, further in wanted.checks.items():
            functions[name] = (True, partial(near.check, name, further))
        for name, check in (checks or {}).items():
            functions[name] = (True, check)
        self._slots = {
            # The store repeats by itself what may pass.
            name: Slot(
                name,
                ask,
                retries=0 if ask in (ask_qdrant, far.look) else wanted.retries,
                cache=wanted.cache,
                clock=clock,
            )
            for name, (enabled, ask) in functions.items()
            if enabled
        }
        self._first: tuple[int, float] | None = None
        self._left_out = tuple(name for name, (enabled, _) in functions.items() if not enabled)

    def check(self) -> Report:
        """Ask every part, and wait for the answers: at most the time of all tries together."""
        asked = self._ask()
        wait(asked.futures.values(), timeout=asked.seconds)
        return self._report(asked)

    async def acheck(self) -> Report:
        """The same for asyncio: nothing blocks the event loop."""
        asked = self._ask()
        if asked.futures:
            waiting = [asyncio.wrap_future(future) for future in asked.futures.values()]
            await asyncio.wait(waiting, timeout=asked.seconds)
        return self._report(asked)

    def _ask(self) -> _Asked:
        futures = {name: slot.ask() for name, slot in self._slots.items()}
        return _Asked(futures, max(self._wanted.timeout * (self._wanted.retries + 1), self._still_cold()))

    def _still_cold(self) -> float:
        """How much longer than usual to wait, in seconds: only until every part has answered once, or should have."""
        if all(map(self._has_answered, self._slots)):
            return 0.0
        if self._first is None or self._first[0] != os.getpid():
            # A server that forks its workers: this one has asked nothing yet.
            self._first = os.getpid(), self._clock()
        return self._first[1] + self._wanted.first - self._clock()

    def _has_answered(self, name: str) -> bool:
        return self._slots[name].last is not None

    def _report(self, asked: _Asked) -> Report:
        deps: dict[str, Mapping[str, Any]] = {name: skipped() for name in self._left_out}
        look: Look | None = None
        age = 0.0
        for name, future in asked.futures.items():
            answer = future.result() if future.done() else None
            if name == SCHEMA:
                # A look may take long: until it is there, the one before counts, as old as it is.
                answer = answer or self._slots[name].last
                if answer is None:
                    deps[name] = {**skipped(), "enabled": True}
                    continue
                if answer.value is not None:
                    look, age = answer.value, self._clock() - answer.at
            deps[name] = part(answer, asked.seconds)
        order = [*self._slots, *self._left_out]
        deps = dict(sorted(deps.items(), key=lambda one: order.index(one[0])))
        return judged(
            self.service, deps, look, age, require=self._wanted.require, expects=self._expects
        )


def _import_clients(settings: Settings) -> None:
    """Now, and not within the first probe: it takes longer than a probe may. Nothing is connected."""
    # What is wrong with the database the probe will report.
    with suppress(QmigrateError, ImportError), opened_ledger(settings) as ledger:
        ledger.database.load_driver()
    if settings.qdrant.path is not None:
        import qmigrate.store.local.local
    else:
        import qmigrate.store.server.server  # noqa: F401
