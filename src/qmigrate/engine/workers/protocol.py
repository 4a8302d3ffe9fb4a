"""The seam to worker processes: what a fill asks of them and sends them. Protocols and values only; it starts none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qmigrate.model.names import EpochAlias


class WorkerLostError(Exception):
    """A worker has ended without an answer, or can't be reached any more; the text has what is known."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker needs to join a run. There is no secret in it: a worker has its own settings.

    Attributes:
        ledger: its identity: a worker that reads other settings must not write into another one.
        collection: the logical name.
        run: id of the run in the ledger.
        step: position of the step in its job.
        epoch: of the lease that the run is held by.
        alias: what this worker alone writes through; once it is gone the worker can't do harm.
        device: that its models are put on; None for what the embedders say.
        workers: ranges that it copies at the same time.
        rate: most points per second of this worker; None for no limit.
    """

    ledger: str
    collection: str
    run: int
    step: int
    epoch: int
    alias: EpochAlias
    device: str | None
    workers: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """How far a worker is.

    Attributes:
        points: that it has written since it began.
        quarantined: points in the quarantine, as it sees it.
        stages: how busy each of its stages was, 0 to 1.
    """

    points: int = 0
    quarantined: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)


class Worker(Protocol):
    """One worker process; threads share it."""

    def copy(self, number: int, *, again: bool, look: Callable[[], None]) -> None:
        """Have one range copied, and wait for it.

        Args:
            number: of the range in the ledger, which has the rest.
            again: an earlier process may have written points behind the cursor.
            look: called now and then while waiting; what it raises ends the wait.

        Raises:
            LostError: the worker has ended; the range is where the ledger has it.
            QmigrateError: as it was raised in the worker.
        """

    def report(self) -> Report:
        """The last word of it."""

    def close(self) -> None:
        """Let it stop at a checkpoint, wait for it, and end it if need be; may be called twice."""


class WorkerPool(Protocol):
    """Who starts workers."""

    def check(self) -> None:
        """Whether the settings allow for it; starts nothing.

        Raises:
            ConfigError: workers could not reach the ledger or Qdrant, or what starts them is not installed.
        """

    def places(self, embedders: Sequence[str]) -> Sequence[str | None]:
        """The device of each worker, None for what the embedders say; empty where this process does the work."""

    def start(self, order: Order, look: Callable[[], None]) -> Worker:
        """One worker, ready for ranges.

        Args:
            look: as in :meth:`Hand.copy`.

        Raises:
            LostError: it ended before it was ready.
            QmigrateError: as it was raised in the worker.
        """

    def close(self) -> None:
        """Every worker is closed: end what was there for them all. May be called twice, and :meth:`start` again."""
