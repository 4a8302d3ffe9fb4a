"""Items to vectors while others read and write: threads open, one builds batches, one runs the model, one delivers.

A submitting thread waits when too much is in flight, in items or in bytes. Nothing raises through it but what ends it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from qmigrate.embed.inputs import ImageName
from qmigrate.embed.staged import Prepared, StagedEmbedder, Underway, out_of_memory
from qmigrate.embed.stream import Failure, Vectors, attempt, checked, same_vector, vectors_of
from qmigrate.embed.vectors import Vector
from qmigrate.errors import EmbedError, QmigrateError
from qmigrate.ports import Embedder

#: Texts that one thread takes at a time: a call of a tokenizer has its price.
TEXTS_AT_ONCE = 32
#: Batches whose items are sorted by length together.
WINDOW = 50


@dataclass(slots=True)
class Job:
    """One input on its way; equal inputs are one job.

    Attributes:
        key: equal for equal inputs; None for one that nothing is equal to.
        places: who waits for it: a ticket, and the place in it.
    """

    item: Any
    key: Any
    places: list[tuple[Any, int]]
    prepared: Prepared | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs of one kind; `collated` is None where they could not be put together."""

    jobs: Sequence[Job]
    collated: Any


class Stages:
    """The steps of one embedder; one that isn't staged has a model only."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._staged = embedder if isinstance(embedder, StagedEmbedder) else None

    @property
    def threads(self) -> int:
        """How many open items; 0 where the model doesn't show it."""
        return self._staged.threads if self._staged is not None else 0

    @property
    def most_weight(self) -> int | None:
        """Of one batch; None for no limit."""
        return self._staged.max_weight if self._staged is not None else None

    @property
    def names(self) -> tuple[str, ...]:
        """The stages whose time is counted."""
        return ("decode", "build", "model") if self.threads else ("build", "model")

    def width(self, name: str) -> int:
        """Threads of a stage."""
        return self.threads if name == "decode" else 1

    def portion(self, first: Any, there: int) -> int:
        """How many items a thread takes: texts by the dozen, as long as the others have some; images one by one."""
        if isinstance(first, ImageName) or not isinstance(first, str):
            return 1
        return max(1, min(TEXTS_AT_ONCE, there // max(self.threads, 1)))

    def window(self, ready: Sequence[Job], cap: int, most: int) -> int:
        """How many items are worth waiting for: a batch, or many where lengths differ, `most` of them."""
        uneven = any(job.prepared is not None and job.prepared.weight > 1 for job in ready[:1])
        return max(cap, min(cap * WINDOW, most)) if uneven else cap

    def as_it_is(self, item: Any) -> Prepared:
        """An item of an embedder that opens by itself."""
        return Prepared(item, 0, 1, len(item) if isinstance(item, str | bytes) else 0)

    def prepared(self, items: Sequence[Any]) -> list[Any]:
        """Items, opened."""
        assert self._staged is not None  # noqa: S101  only its threads come here
        return self._staged.prepare(items)

    def collated(self, jobs: Sequence[Job]) -> Any:
        """A batch, put together."""
        values = [job.prepared for job in jobs if job.prepared is not None]
        return self._staged.collate(values) if self._staged is not None else [one.value for one in values]

    def is_short(self, error: BaseException) -> bool:
        """Whether memory was too short for a batch."""
        return out_of_memory(error)

    def encoded(self, batch: Batch, part: Sequence[Job]) -> Any:
        """The vectors of a batch, or of a part of it, which is put together again."""
        whole = len(part) == len(batch.jobs) and batch.collated is not None
        collated = batch.collated if whole else self.collated(part)
        if self._staged is None:
            return self._embedder.embed(collated)
        first = part[0].prepared
        return self._staged.encode(first.kind if first is not None else 0, collated)


def chosen(
    ready: Sequence[Job], most: int, weight: int | None, *, keep: bool
) -> tuple[list[list[Job]], list[Job]]:
    """Batches of one kind and about one length, and what is left.

    Args:
        most: items of one batch.
        weight: of one batch, padded to its longest; None for no limit.
        keep: leave a batch that is not full for what still comes.
    """
    def order(job: Job) -> tuple[int, int]:
        return (job.prepared.kind, job.prepared.weight) if job.prepared is not None else (0, 0)

    groups: list[list[Job]] = []
    for job in sorted(ready, key=order):
        kind, length = order(job)
        last = groups[-1] if groups else None
        fits = last is not None and len(last) < most and order(last[0])[0] == kind
        # Ascending, so this one is what the batch would be padded to.
        if last is not None and fits and (weight is None or (len(last) + 1) * length <= weight):
            last.append(job)
        else:
            groups.append([job])
    rest: list[Job] = []
    if keep and len(groups) > 1 and len(groups[-1]) < most:
        rest = groups.pop()
    return groups, rest


#: What is under way at most: items from submission to their vector, and bytes of opened items.
MOST_ITEMS = 8192
MOST_BYTES = 512 * 2**20
#: Bytes of vectors that are kept for equal inputs; a multivector of a long text has a hundred times those of a dense
#: one.
KEPT_BYTES = 128 * 2**20
#: Batches that wait for the device, and those that the device is at or that wait to be delivered.
AHEAD = 2
LAUNCHED = 2
#: Items that are taken under one hold of the lock: the thread of the device needs it, too.
PORTION = 64
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


@dataclass(frozen=True, slots=True)
class _Window:
    """What batches of at most `cap` items are cut from; `coming`: whether more is on its way."""

    jobs: list[Job]
    cap: int
    coming: bool


@dataclass(frozen=True, slots=True)
class _Launched:
    """A batch that was passed to the device, between which moments of the thread that did it."""

    jobs: Sequence[Job]
    made: Any
    began: float
    ended: float


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
        # One lock, and a condition for each kind of waiter: no thread is woken for another one's event.
        lock = threading.Lock()
        self._state = lock
        self._room, self._there, self._to_open, self._to_build, self._for_device, self._to_deliver = self._bells = [
            threading.Condition(lock) for _ in range(6)
        ]
        self._waiting: deque[Job] = deque()
        self._ready: list[Job] = []
        self._batches: deque[Batch] = deque()
        self._launched: deque[_Launched] = deque()
        self._flying: dict[Any, Job] = {}
        self._recent: OrderedDict[Any, Vector | Failure] = OrderedDict()
        self._opening = self._jobs = self._held = self._submitting = self._kept = 0
        self._error: BaseException | None = None
        self._closed = False
        self._busy = dict.fromkeys(self._stages.names, 0.0)
        self._began = time.monotonic()
        #: The most that was ever in flight, to check that the bounds hold.
        self.peak_items = self.peak_bytes = 0
        work = [self._open] * self._stages.threads + [self._build, self._run, self._deliver]
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
        keyed = [(item, same_vector(item)) for item in items]
        self._submits(1)
        try:
            place = 0
            while place < len(keyed):
                taken = self._taken(ticket, place, keyed[place : place + PORTION])
                place += taken
                if not taken:
                    tick()
        finally:
            self._submits(-1)
        return ticket

    def _submits(self, change: int) -> None:
        """A thread begins or ends to submit: while any does, a batch that is not full may wait."""
        with self._state:
            self._submitting += change
            self._wake_builder()

    def _taken(self, ticket: Ticket, first: int, keyed: Sequence[tuple[Any, Any]]) -> int:
        """How many of these were taken; none after waiting for room in vain."""
        with self._state:
            self._raise()
            taken = 0
            while taken < len(keyed) and self._take(ticket, first + taken, *keyed[taken]):
                taken += 1
            self._to_open.notify(len(self._waiting))
            self._wake_builder()
            if not taken:
                self._room.wait(LOOK_UP)
            return taken

    def _take(self, ticket: Ticket, place: int, item: Any, key: Any) -> bool:
        """Whether there is room for it; the lock is held."""
        if key is not None and key in self._recent:
            self._recent.move_to_end(key)
            _hand_over(ticket, place, self._recent[key])
            return True
        if key is not None and key in self._flying:
            self._flying[key].places.append((ticket, place))
            return True
        if self._jobs >= self._most_items:
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
        return True

    def wait_for(self, ticket: Ticket, tick: Tick) -> list[Any]:
        """See :meth:`Ticket.result`."""
        while True:
            with self._state:
                if not ticket.missing:
                    return list(ticket.results)
                self._raise()
                self._there.wait(LOOK_UP)
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
            self._waiting.clear()
            self._end()
        until = time.monotonic() + END_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise QmigrateError("the embedding pipeline was closed")

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever ends one thread ends all, and is raised where a thread waits."""
        try:
            work()
        except BaseException as error:
            with self._state:
                self._error = self._error or error
                self._end()

    def _end(self) -> None:
        """All threads wake to see that it is over; the lock is held."""
        self._closed = True
        for bell in self._bells:
            bell.notify_all()

    def _wake_builder(self) -> None:
        if self._buildable():
            self._to_build.notify()

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
                self._wake_builder()

    def _next_to_open(self) -> list[Job]:
        """Some items, or none when it is over."""
        with self._state:
            while not self._closed and (not self._waiting or self._is_full()):
                self._to_open.wait()
            if self._closed:
                return []
            count = self._stages.portion(self._waiting[0].item, len(self._waiting))
            jobs = [self._waiting.popleft() for _ in range(count)]
            self._opening += len(jobs)
            return jobs

    def _is_full(self) -> bool:
        return self._held >= self._most_bytes

    def _build(self) -> None:
        while (ready := self._next_to_build()) is not None:
            # Sorting takes a while, in which no thread should wait for the lock.
            groups, rest = chosen(ready.jobs, ready.cap, self._stages.most_weight, keep=ready.coming)
            if rest:
                with self._state:
                    self._ready[:0] = rest
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
                        self._to_build.wait()
                    if self._closed:
                        return
                    self._batches.append(Batch(jobs, collated))
                    self._for_device.notify()

    def _next_to_build(self) -> _Window | None:
        """What batches are cut from: once a window is full, once nothing else comes, or once no more may be held."""
        with self._state:
            while not self._closed and not self._buildable():
                self._to_build.wait()
            if self._closed:
                return None
            ready = _Window(self._ready, self._cap, self._coming())
            self._ready = []
            return ready

    def _buildable(self) -> bool:
        if not self._ready:
            return False
        # Half of what may be under way, so that the next window fills while the device is at this one; none is waited
        # for where nothing lies before the device.
        most = self._most_items // 2 if self._batches else self._cap
        window = self._stages.window(self._ready, self._cap, most)
        return len(self._ready) >= window or not self._coming()

    def _coming(self) -> bool:
        full = self._is_full() or self._jobs >= self._most_items
        return bool(self._waiting or self._opening or self._submitting) and not full

    def _run(self) -> None:
        """Keep the device busy: what else there is to do about a batch is done by others."""
        while (batch := self._next_to_run()) is not None:
            began = time.monotonic()
            encode = partial(self._stages.encoded, batch)
            tried = attempt(encode, batch.jobs)
            made = tried.made if tried.failure is None else vectors_of(encode, batch.jobs, self._size, tried)
            with self._state:
                self._launched.append(_Launched(batch.jobs, made, began, time.monotonic()))
                self._to_deliver.notify()

    def _next_to_run(self) -> Batch | None:
        with self._state:
            while not self._closed and not (self._batches and len(self._launched) < LAUNCHED):
                self._for_device.wait()
            if self._closed:
                return None
            self._to_build.notify()
            return self._batches.popleft()

    def _deliver(self) -> None:
        free = 0.0
        while (one := self._next_to_deliver()) is not None:
            made, ended = one.made, one.ended
            if isinstance(made, Underway):
                made = made.result()
                ended = time.monotonic()
            vectors = made if isinstance(made, Vectors) else checked(made, len(one.jobs), self._size)
            with self._state:
                # The device is at one batch after the other, also where two were passed to it.
                self._busy["model"] += ended - max(one.began, free)
                free = ended
                self._launched.popleft()
                self._for_device.notify()
                # What did not fit into memory once is not tried again.
                self._cap = min(self._cap, vectors.fits or self._cap)
                was_full = self._is_full()
                for job, result in zip(one.jobs, vectors.results, strict=True):
                    self._held -= job.prepared.size if job.prepared is not None else 0
                    self._finish(job, result)
                if was_full:
                    self._to_open.notify_all()
                self._wake_builder()

    def _next_to_deliver(self) -> _Launched | None:
        """The oldest batch; it keeps its place until it is delivered."""
        with self._state:
            while not self._closed and not self._launched:
                self._to_deliver.wait()
            return None if self._closed else self._launched[0]

    def _finish(self, job: Job, result: Vector | Failure) -> None:
        """Give a result to every thread that waits for it; the lock is held."""
        self._jobs -= 1
        job.prepared = None
        if job.key is not None:
            self._flying.pop(job.key, None)
            self._recent[job.key] = result
            self._kept += _bytes_of(result)
            while len(self._recent) > self._most_items or (self._kept > KEPT_BYTES and len(self._recent) > 1):
                self._kept -= _bytes_of(self._recent.popitem(last=False)[1])
        self._room.notify_all()
        for ticket, place in job.places:
            if _hand_over(ticket, place, result):
                self._there.notify_all()


def _bytes_of(result: Vector | Failure) -> int:
    """About how much memory a vector takes; the lists of a sparse one have objects of Python."""
    if isinstance(result, dict):
        return 80 * len(result["indices"])
    return int(getattr(result, "nbytes", 0))


def _hand_over(ticket: Ticket, place: int, result: Vector | Failure) -> bool:
    """Whether it was the last one that the ticket has waited for."""
    if isinstance(result, Failure):
        result = Failure(place, result.stage, result.message)
    ticket.results[place] = result
    ticket.missing -= 1
    return not ticket.missing
