"""What a worker process does, however it was started: join the run, and copy the ranges that it is given.

It takes no lease, plans nothing, and makes no collection and no alias.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from qmigrate.commands.session import Session, UserCode, session
from qmigrate.embed import on_device
from qmigrate.engine.build.copy import copying
from qmigrate.engine.rebuild import maker_of
from qmigrate.engine.work import Work
from qmigrate.engine.workers.protocol import Order, Report
from qmigrate.errors import ConfigError, LeaseHeldError, StoppedError
from qmigrate.ledger import JoinedLease, join
from qmigrate.model.plan import Build
from qmigrate.model.state import OpenRun
from qmigrate.observe import observe
from qmigrate.planner.guard import check_open_run
from qmigrate.settings.load import Settings
from qmigrate.version import __version__

#: Of the holder's time to live: with less left, nothing more is sent. The holder itself stops earlier.
_LEAST = 0.25


class JoinedWorker:
    """A worker that has joined a run; threads share it.

    Args:
        settings: its own, read where it runs.
        order: which run, and through which alias.

    Raises:
        ConfigError: its settings lead to another ledger, or to another Qdrant.
        LeaseHeldError: no process holds that run any more.
        DriftError: its revision files or its models are not those that the run was begun with.
    """

    def __init__(self, settings: Settings, order: Order) -> None:
        self._order = order
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._points = 0
        self._looked = 0.0
        with ExitStack() as stack:
            opened = stack.enter_context(session(settings, writes=False))
            _check_same(opened, order)
            ttl = settings.limits.lease_ttl
            self._lease = stack.enter_context(join(opened.ledger, order.collection, order.epoch, ttl=ttl))
            found = opened.ledger.open_run(order.collection)
            if found is None or found.id != order.run:
                raise LeaseHeldError(f"run {order.run} of {order.collection} is over")
            check_open_run(opened.files(), found)
            self._work = self._joined(opened, settings, found)
            step = found.job.steps[order.step]
            assert isinstance(step, Build)  # noqa: S101  nothing else is shared out
            self._maker = maker_of(step, self._work)
            self._copying = stack.enter_context(
                copying(self._work, step, self._maker, order.alias, workers=order.workers, rate=order.rate)
            )
            self._stack = stack.pop_all()

    def _joined(self, opened: Session, settings: Settings, found: OpenRun) -> Work:
        order = self._order
        mine = settings.for_collection(order.collection)
        if order.device is not None:
            embedders = {name: on_device(config, order.device) for name, config in mine.embedders.items()}
            mine = replace(mine, embedders=embedders)
        return Work(
            collection=order.collection,
            store=opened.store,
            lease=self._lease,
            code=UserCode(opened, mine),
            settings=mine,
            progress=opened.progress,
            state=observe(opened.ledger, opened.store, only=[order.collection]).collections[order.collection],
            job=found.job,
            ledger_id=opened.ledger_id,
            run=found.id,
            step=order.step,
            tick=self._tick,
            learned={(record.step, record.phase): dict(record.facts) for record in found.records},
            phase="fill",
            tool=__version__,
        )

    def copy(self, number: int, *, again: bool) -> None:
        """Copy one range from its cursor on, as the ledger has it."""
        share = self._lease.own_range(self._order.run, self._order.step, number)
        if not share.done:
            self._copying.copy(share, again=again)

    def report(self) -> Report:
        """How far it is."""
        known = self._maker.quarantine
        return Report(self._points, 0 if known is None else len(known), self._copying.stages())

    def stop(self) -> None:
        """Ranges end at their next checkpoint."""
        self._stopping.set()

    def close(self) -> None:
        """End the models, and close every connection."""
        self._stack.close()

    def _tick(self, count: int = 0, note: str = "") -> None:  # noqa: ARG002  see ``engine.work.Tick``
        if self._stopping.is_set():
            raise StoppedError("stopped at a checkpoint, as asked", signal_number=signal.SIGTERM)
        with self._lock:
            self._points += count
            now = time.monotonic()
            if now - self._looked < 0.2:
                return
            self._looked = now
        self._check_lease(self._lease)

    def _check_lease(self, lease: JoinedLease) -> None:
        limits = self._work.settings.limits
        if lease.remaining() <= min(self._work.store.request_timeout, limits.lease_ttl * _LEAST):
            raise LeaseHeldError(
                f"the process that holds the lease of {self._order.collection} is gone; stopped before doing harm",
                hint="run the same command again: it continues from here",
            )


def _check_same(opened: Session, order: Order) -> None:
    """A worker that has settings of its own is where the holder is.

    Raises:
        ConfigError: it isn't.
    """
    where = str(opened.settings.config or "the environment")
    if opened.ledger_id != order.ledger:
        raise ConfigError(
            f"the settings of a worker ({where} on its machine) lead to another ledger: {opened.ledger.url_label}",
            hint="give the workers the same qmigrate.yaml and environment as the process that runs the upgrade",
        )
    if order.alias not in opened.store.aliases():
        raise ConfigError(
            f"the settings of a worker ({where} on its machine) lead to another Qdrant: {order.alias} is not at "
            f"{opened.settings.qdrant.label}",
            hint="give the workers the same qmigrate.yaml and environment as the process that runs the upgrade",
        )
