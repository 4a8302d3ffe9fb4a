"""The embedders of one fill, at work in parallel to the threads that read and write. It touches no points."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qmigrate.embed.pipeline import Pipeline, Ticket

if TYPE_CHECKING:
    from qmigrate.engine.work import Work


#: The stages of a fill, in the order of the work.
STAGES = ("read", "decode", "build", "model", "write")


@dataclass(frozen=True, slots=True)
class Answer:
    """The vectors and failures of some items, in order, once they are there; calling it waits for them."""

    ticket: Ticket | None
    tick: Callable[[], None]

    def __call__(self) -> list[Any]:
        """Wait for them."""
        return self.ticket.result(self.tick) if self.ticket is not None else []

    @property
    def is_there(self) -> bool:
        """Whether calling it would not wait."""
        return self.ticket is None or not self.ticket.missing


class Streams:
    """A pipeline per embedder and size, made when it is first asked for.

    Args:
        work: where the embedders come from; its tick is called while a thread waits.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._pipelines: dict[tuple[str, int | None], Pipeline] = {}
        self._has_turn = False

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for pipeline in self._pipelines.values():
                pipeline.close()
        finally:
            if self._has_turn:
                self._has_turn = False
                self._work.code.turn.give()

    @property
    def used(self) -> bool:
        """Whether anything was asked for."""
        return bool(self._pipelines)

    def ask(self, embedder: str, size: int | None, items: Sequence[Any]) -> Answer:
        """Begin with items; waits while too much is under way.

        Returns:
            What waits for their vectors and failures.
        """
        if not items:
            return Answer(None, self._work.tick)
        with self._lock:
            key = (embedder, size)
            if not self._has_turn:
                # Until all is embedded: a device takes one batch at a time anyway.
                self._work.code.turn.take(self._work, self._work.tick)
                self._has_turn = True
            if key not in self._pipelines:
                self._pipelines[key] = Pipeline(self._work.code.embedder(embedder), size)
            pipeline = self._pipelines[key]
        return Answer(pipeline.submit(items, self._work.tick), self._work.tick)

    def shares(self) -> dict[str, float]:
        """How busy each stage was, 0 to 1; of several embedders the busiest."""
        found: dict[str, float] = {}
        for pipeline in list(self._pipelines.values()):
            for name, share in pipeline.shares().items():
                found[name] = max(found.get(name, 0.0), share)
        return found


class Shares:
    """How busy the stages of a fill are, those of the embedders and its own reading and writing. Threads share it.

    Args:
        streams: the embedders at work.
        workers: threads that read and write.
    """

    def __init__(self, streams: Streams, workers: int) -> None:
        self._streams = streams
        self._workers = max(1, workers)
        self._lock = threading.Lock()
        self._seconds = {"read": 0.0, "write": 0.0}
        self._began = time.monotonic()

    def add(self, stage: str, began: float) -> None:
        """A thread was in ``read`` or ``write`` since `began`."""
        with self._lock:
            self._seconds[stage] += time.monotonic() - began

    def now(self) -> dict[str, float]:
        """Share of its time that each stage was busy until now, 0 to 1, in the order of the work."""
        whole = max(time.monotonic() - self._began, 1e-9) * self._workers
        with self._lock:
            own = {name: min(1.0, seconds / whole) for name, seconds in self._seconds.items()}
        found = {**self._streams.shares(), **own}
        return {name: round(found[name], 3) for name in STAGES if name in found}

    def note(self) -> str:
        """For the progress line; nothing where nothing is embedded."""
        return shown(self.now()) if self._streams.used else ""


def shown(shares: Mapping[str, float]) -> str:
    """``decode 93 %, model 41 %, limited by: decode``: the stages that matter, in the order of the work."""
    named = [f"{name} {share:.0%}".replace("%", " %") for name, share in shares.items() if share >= 0.005]
    return ", ".join([*named, f"limited by: {limit(shares)}"])


def limit(shares: Mapping[str, float]) -> str:
    """The stage that was busiest."""
    return max(shares, key=lambda name: shares[name], default="")
