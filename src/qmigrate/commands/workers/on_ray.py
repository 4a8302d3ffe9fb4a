"""Workers where Ray has room: an actor per worker, a call per range. It copies nothing, and sends no secret anywhere.

Ray decides where a worker runs and reports when one is gone; the ledger has how far a range is, and ``workers.pool``
what becomes of it. Workers read their own settings, and reach Qdrant and the ledger by themselves.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenacity import Retrying, stop_after_attempt

from qmigrate.commands.workers.local import LOOK, PATIENCE, SILENCE
from qmigrate.commands.workers.messages import error_from_dict, error_to_dict
from qmigrate.engine.workers.protocol import Order, Report, WorkerLostError
from qmigrate.errors import ConfigError, UnavailableError
from qmigrate.settings.load import Settings

#: Of ``rebuild.ray.address``: Ray is started on this machine, and ended with the run.
LOCAL = "local"
#: How often that is tried.
STARTS = 3
#: Seconds between two questions how far a worker is.
ASK_EVERY = 0.5


class RayWorkers:
    """Starts workers through Ray.

    Args:
        settings: of the collection.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wanted = settings.rebuild.ray
        self._ours = False
        self._lock = threading.Lock()
        self._aside = ExitStack()
        self._is_aside = False

    def check(self) -> None:
        """See ``engine.workers.protocol``."""
        _ray()
        if self._settings.qdrant.path is not None:
            raise ConfigError(
                "rebuild.engine: ray needs a Qdrant server: the folder of local mode belongs to one process",
                hint="set qdrant.url, or leave rebuild.engine out",
            )
        if self._settings.ledger.url.startswith("sqlite") and self._wanted.address != LOCAL:
            raise ConfigError(
                "rebuild.engine: ray needs a ledger that every machine reaches, and SQLite is a file on this one",
                hint="set ledger.url to PostgreSQL, or rebuild.ray.address: local for workers on this machine alone",
            )

    def places(self, embedders: Sequence[str]) -> Sequence[str | None]:  # noqa: ARG002  Ray chooses the devices
        """See ``engine.workers.protocol``: as many as are configured, else as many as the cluster has room for."""
        self.check()
        ray = self._connected()
        if self._wanted.workers is not None:
            return (None,) * self._wanted.workers
        has = ray.cluster_resources()
        needs = {"GPU": self._wanted.num_gpus, "CPU": self._wanted.num_cpus}
        room = [int(has.get(name, 0) / amount) for name, amount in needs.items() if amount]
        # With none now, one is asked for: a cluster that grows on demand sees the request.
        return (None,) * max(1, min(room, default=1))

    def start(self, order: Order, look: Callable[[], None]) -> RayWorker:
        """See ``engine.workers.protocol``."""
        ray = self._connected()
        self._keep_stdout()
        options = {"num_cpus": self._wanted.num_cpus, "num_gpus": self._wanted.num_gpus, "max_restarts": 0}
        # Besides doing ranges, it reports how far it is and receives that it is to stop.
        actor = ray.remote(**options, max_concurrency=order.workers + 2)(RemoteWorker).remote()
        hand = RayWorker(ray, actor, self._settings.qdrant.timeout + PATIENCE)
        try:
            hand.begin(order, str(self._settings.config or ""), look)
        except BaseException:
            hand.close()
            raise
        return hand

    def close(self) -> None:
        """See ``engine.workers.protocol``; a connection that was there before stays."""
        with self._lock:
            if self._ours:
                self._ours = False
                _ray().shutdown()
            self._is_aside = False
            self._aside.close()

    def _keep_stdout(self) -> None:
        """Ray prints on stdout that a worker died, whatever its settings, and only the result belongs there."""
        with self._lock:
            if self._ours and not self._is_aside:
                self._is_aside = True
                self._aside.enter_context(redirect_stdout(sys.stderr))

    def _connected(self) -> Any:
        ray = _ray()
        with self._lock:
            if not ray.is_initialized():
                self._connect(ray)
        return ray

    def _connect(self, ray: Any) -> None:
        address = self._wanted.address
        more: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
        if self._wanted.runtime_env:
            more["runtime_env"] = dict(self._wanted.runtime_env)
        before = signal.getsignal(signal.SIGTERM)
        # A busy machine may not have started Ray within the time that Ray itself allows for.
        stop = stop_after_attempt(STARTS if address == LOCAL else 1)
        tries = Retrying(stop=stop, before_sleep=lambda _: ray.shutdown(), reraise=True)
        try:
            tries(ray.init, address=address, log_to_driver=False, logging_level="ERROR", **more)
        except Exception as error:  # Ray raises whatever it met, down to a bare Exception
            raise UnavailableError(
                f"Ray can't be used ({address}): {type(error).__name__}: {error}",
                hint="run the same command again"
                if address == LOCAL
                else "set rebuild.ray.address or RAY_ADDRESS to a running cluster; local starts Ray on this machine",
            ) from error
        finally:
            # Ray installs a handler of its own; a stop at a checkpoint needs ours.
            if threading.current_thread() is threading.main_thread() and before is not None:
                signal.signal(signal.SIGTERM, before)
        self._ours = True


class RayWorker:
    """An actor; see ``engine.workers.protocol.Worker``."""

    def __init__(self, ray: Any, actor: Any, patience: float) -> None:
        self._ray = ray
        self._actor = actor
        self._patience = patience
        self._lock = threading.Lock()
        self._asked: Any = None
        self._asked_at = 0.0
        self._begun = False
        self._report = Report()

    def begin(self, order: Order, config: str, look: Callable[[], None]) -> None:
        """Wait until it has room and is ready."""
        # How long a cluster takes to have room does not count; from then on it answers.
        self._outcome(self._actor.begin.remote(asdict(order), config), look)
        self._begun = True

    def copy(self, number: int, *, again: bool, look: Callable[[], None]) -> None:
        """See ``engine.workers.protocol``."""
        self._outcome(self._actor.copy.remote(number, again), look)

    def report(self) -> Report:
        """See ``engine.workers.protocol``."""
        with self._lock:
            if self._asked is None and time.monotonic() - self._asked_at >= ASK_EVERY:
                self._asked, self._asked_at = self._actor.report.remote(), time.monotonic()
            elif self._asked is not None and self._ray.wait([self._asked], timeout=0)[0]:
                with suppress(self._ray.exceptions.RayError):
                    self._report = Report(**self._ray.get(self._asked))
                self._asked = None
            return self._report

    def close(self) -> None:
        """See ``engine.workers.protocol``."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.close.remote(), timeout=self._patience)
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor)

    def _outcome(self, answer: Any, look: Callable[[], None]) -> None:
        while not self._ray.wait([answer], timeout=LOOK)[0]:
            look()
            if self._is_silent():
                with suppress(self._ray.exceptions.RayError, ValueError):
                    self._ray.kill(self._actor)
                raise WorkerLostError(f"killed: no message for {SILENCE:g} s")
        try:
            words = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            raise WorkerLostError(str(error).strip().splitlines()[0]) from error
        if words is not None:
            raise error_from_dict(words)

    def _is_silent(self) -> bool:
        """Whether it was asked how far it is, long ago, and has not answered."""
        self.report()
        with self._lock:
            return self._begun and self._asked is not None and time.monotonic() - self._asked_at > SILENCE


class RemoteWorker:
    """What runs where Ray puts it. Its threads copy one range each."""

    def __init__(self) -> None:
        self._body: Any = None
        self._idle = threading.Condition()
        self._busy = 0

    def begin(self, order: dict[str, Any], config: str) -> dict[str, Any] | None:
        """Join the run.

        Args:
            config: the settings file of the process that holds the lease, used where the environment names none and it
                is there.

        Returns:
            What went wrong, or None.
        """
        from qmigrate.commands.workers.worker import JoinedWorker

        try:
            named = os.environ.get("QMIGRATE_CONFIG") or (config if Path(config).is_file() else None)
            self._body = JoinedWorker(Settings.load(config=named), Order(**order))
        except BaseException as error:
            return error_to_dict(error)
        return None

    def copy(self, number: int, again: bool) -> dict[str, Any] | None:
        """Copy a range; what went wrong, or None."""
        with self._idle:
            self._busy += 1
        try:
            self._body.copy(number, again=again)
        except BaseException as error:
            return error_to_dict(error)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()
        return None

    def report(self) -> dict[str, Any]:
        """How far it is."""
        return asdict(Report() if self._body is None else self._body.report())

    def close(self) -> None:
        """Stop at a checkpoint, and close everything."""
        if self._body is not None:
            self._body.stop()
            with self._idle:
                self._idle.wait_for(lambda: not self._busy)
            self._body.close()


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "rebuild.engine: ray needs the package ray, which is not installed",
            hint="pip install 'qdrant-migrations[ray]'",
        ) from error
