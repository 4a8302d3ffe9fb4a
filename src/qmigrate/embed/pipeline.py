"""Items to vectors while others are read and written: threads open, one builds batches, one runs the model.

Whoever submits waits when too much is under way, in items or in bytes. Nothing raises through it but what ends it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from qmigrate.embed.stages import Batch, Job, Stages, chosen
from qmigrate.embed.stream import Failure, same_vector, vectors_of
from qmigrate.embed.vectors import Vector
from qmigrate.errors import EmbedError, QmigrateError
from qmigrate.ports import Embedder

#: What is under way at most: items from submission to their vector, and bytes of opened items.
MOST_ITEMS = 8192
MOST_BYTES = 512 * 2**20
#: Batches that wait for the device.
AHEAD = 2
#: Seconds after which a waiting caller looks up.
LOOK_UP = 0.1
#: Seconds in which threads have to end; one that is in a request or a model by then is left behind.
END_WITHIN = 30.0

Tick = Callable[[], None]


class Ticket:
    """The vectors of one submission, once they are there."""

    def __init__(self, pipeline: Pipeline, count: int) -> None:
        self._pipeline = pipeline
        self.results: list[Vector | Failure | None] = [None] * count
        self.missing = count

    def result(self, tick: Tick) -> list[Any]:
        """A vector or a failure per item, in order; `tick` is called while it waits, and may raise.

        Raises:
            Exception: what has ended the pipeline.
        """
        return self._pipeline.wait_for(self, tick)


class Pipeline:
    """One embedder, filled from several threads.

    Args:
        embedder: staged ones are opened apart from their model.
        size: wanted length of a vector; None accepts any.
        items: most of them under way.
        held: most bytes of opened items; a single larger one passes alone.
    """

    def __init__(
        self, embedder: Embedder, size: int | None, *, items: int = MOST_ITEMS, held: int = MOST_BYTES
    ) -> None:
        self._stages = Stages(embedder)
        self._size = size
        self._most_items, self._most_bytes = items, held
        self._cap = max(1, embedder.max_batch)
        self._state = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._ready: list[Job] = []
        self._batches: deque[Batch] = deque()
        self._flying: dict[Any, Job] = {}
        self._recent: OrderedDict[Any, Vector | Failure] = OrderedDict()
        self._opening = self._jobs = self._held = self._submitting = 0
        self._error: BaseException | None = None
        self._closed = False
        self._busy = dict.fromkeys(self._stages.names, 0.0)
        self._began = time.monotonic()
        #: The most that was ever under way, for whoever wants to know that the bounds hold.
        self.peak_items = self.peak_bytes = 0
        work = [self._open] * self._stages.threads + [self._build, self._run]
        self._threads = [
            threading.Thread(target=self._guarded, args=(one,), name=f"embed {one.__name__[1:]}", daemon=True)
            for one in work
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, items: Sequence[Any], tick: Tick) -> Ticket:
        """Begin with items; waits while too much is under way.

        Equal items that are under way or were lately are embedded once.
        """
        ticket = Ticket(self, len(items))
        self._submits(1)
        try:
            for place, item in enumerate(items):
                key = same_vector(item)
                while not self._taken(ticket, place, item, key):
                    tick()
        finally:
            self._submits(-1)
        return ticket

    def _submits(self, change: int) -> None:
        """Somebody begins or ends to submit: while anybody does, a batch that is not full may wait."""
        with self._state:
            self._submitting += change
            self._state.notify_all()

    def _taken(self, ticket: Ticket, place: int, item: Any, key: Any) -> bool:
        with self._state:
            self._raise()
            if key is not None and key in self._recent:
                self._recent.move_to_end(key)
                _deliver(ticket, place, self._recent[key])
                self._state.notify_all()
                return True
            if key is not None and key in self._flying:
                self._flying[key].places.append((ticket, place))
                return True
            if self._jobs >= self._most_items:
                self._state.wait(LOOK_UP)
                return False
            job = Job(item, key, [(ticket, place)])
            if key is not None:
                self._flying[key] = job
            self._jobs += 1
            self.peak_items = max(self.peak_items, self._jobs)
            if self._stages.threads:
                self._waiting.append(job)
            else:
                job.prepared = self._stages.as_it_is(item)
                self._ready.append(job)
            self._state.notify_all()
            return True

    def wait_for(self, ticket: Ticket, tick: Tick) -> list[Any]:
        """See :meth:`Ticket.result`."""
        while True:
            with self._state:
                if not ticket.missing:
                    return list(ticket.results)
                self._raise()
                self._state.wait(LOOK_UP)
            tick()

    def shares(self) -> dict[str, float]:
        """How busy each stage was until now, 0 to 1: of its threads, on average."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        with self._state:
            return {
                name: min(1.0, busy / seconds / self._stages.width(name)) for name, busy in sorted(self._busy.items())
            }

    def close(self) -> None:
        """End every thread; what is not embedded yet is forgotten."""
        with self._state:
            self._closed = True
            self._waiting.clear()
            self._state.notify_all()
        until = time.monotonic() + END_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise QmigrateError("the embedding pipeline was closed")

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever ends one thread ends all, and is raised where somebody waits."""
        try:
            work()
        except BaseException as error:
            with self._state:
                self._error = self._error or error
                self._closed = True
                self._state.notify_all()

    def _open(self) -> None:
        while jobs := self._next_to_open():
            began = time.monotonic()
            made = self._stages.prepared([job.item for job in jobs])
            with self._state:
                self._busy["decode"] += time.monotonic() - began
                self._opening -= len(jobs)
                for job, one in zip(jobs, made, strict=True):
                    if isinstance(one, EmbedError):
                        self._finish(job, Failure(0, "read", one.message))
                    else:
                        job.prepared = one
                        self._held += one.size
                        self.peak_bytes = max(self.peak_bytes, self._held)
                        self._ready.append(job)
                self._state.notify_all()

    def _next_to_open(self) -> list[Job]:
        """Some items, or none when it is over."""
        with self._state:
            while not self._closed and (not self._waiting or self._is_full()):
                self._state.wait()
            if self._closed:
                return []
            count = self._stages.portion(self._waiting[0].item, len(self._waiting))
            jobs = [self._waiting.popleft() for _ in range(count)]
            self._opening += len(jobs)
            return jobs

    def _is_full(self) -> bool:
        return self._held >= self._most_bytes

    def _build(self) -> None:
        while groups := self._next_to_build():
            for jobs in groups:
                began = time.monotonic()
                try:
                    collated = self._stages.collated(jobs)
                except Exception as error:
                    # Where it is too large already here, the device's thread makes smaller ones.
                    if not self._stages.is_short(error):
                        raise
                    collated = None
                with self._state:
                    self._busy["build"] += time.monotonic() - began
                    while not self._closed and len(self._batches) >= AHEAD:
                        self._state.wait()
                    if self._closed:
                        return
                    self._batches.append(Batch(jobs, collated))
                    self._state.notify_all()

    def _next_to_build(self) -> list[list[Job]]:
        """Batches of what is ready: once a window is full, once nothing else comes, or once no more may be held."""
        with self._state:
            while not self._closed:
                full = self._is_full() or self._jobs >= self._most_items
                coming = bool(self._waiting or self._opening or self._submitting) and not full
                if self._ready and (not coming or len(self._ready) >= self._stages.window(self._ready, self._cap)):
                    groups, rest = chosen(self._ready, self._cap, self._stages.most_weight, keep=coming)
                    self._ready = rest
                    return groups
                self._state.wait()
            return []

    def _run(self) -> None:
        while True:
            with self._state:
                while not self._closed and not self._batches:
                    self._state.wait()
                if self._closed:
                    return
                batch = self._batches.popleft()
                self._state.notify_all()
            began = time.monotonic()
            made = vectors_of(partial(self._stages.encoded, batch), batch.jobs, self._size)
            with self._state:
                self._busy["model"] += time.monotonic() - began
                # What did not fit into memory once is not tried again.
                self._cap = min(self._cap, made.fits or self._cap)
                for job, result in zip(batch.jobs, made.results, strict=True):
                    self._held -= job.prepared.size if job.prepared is not None else 0
                    self._finish(job, result)
                self._state.notify_all()

    def _finish(self, job: Job, result: Vector | Failure) -> None:
        """Hand a result to everybody who waits for it; the lock is held."""
        self._jobs -= 1
        job.prepared = None
        if job.key is not None:
            self._flying.pop(job.key, None)
            self._recent[job.key] = result
            if len(self._recent) > self._most_items:
                self._recent.popitem(last=False)
        for ticket, place in job.places:
            _deliver(ticket, place, result)


def _deliver(ticket: Ticket, place: int, result: Vector | Failure) -> None:
    if isinstance(result, Failure):
        result = Failure(place, result.stage, result.message)
    ticket.results[place] = result
    ticket.missing -= 1
