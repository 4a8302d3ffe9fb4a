"""Runs as streams of events: the ledger is read once for all who listen to a run here. It keeps nothing that is lost.

What a listener has seen, the id of an event says: a console that was started again, or another one, goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from qmigrate.commands.runs import Run, RunFigures, Watch, described, figures_of
from qmigrate.errors import QmigrateError
from qmigrate.settings.load import Settings
from qmigrate.text import to_plain

#: Listeners at a time, of all runs; seconds after which one more may try again.
MOST, RETRY = 100, 10
#: Seconds between two readings of a run that moves, of one that doesn't, and while the ledger doesn't answer.
FASTEST, SLOWEST, TROUBLED = 1.0, 10.0, 30.0
_GROWTH = 1.5
#: Seconds after which a listener hears that it is still connected, so that no proxy takes the stream for dead.
ALIVE = 15.0
#: Seconds after which a stream ends, so that who listens is asked again who they are; a browser connects by itself.
LONGEST = 3600.0
#: Milliseconds after which a browser connects again.
_AGAIN = 2000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """A run as it was seen.

    Attributes:
        state: a digest of everything but what only time changes.
    """

    run: Run
    figures: RunFigures
    state: str

    @property
    def id(self) -> str:
        """Of the events that tell of it: the newest sample, and the state."""
        return f"{self.run.last_sample}-{self.state}"

    @classmethod
    def of(cls, run: Run, figures: RunFigures) -> View:
        """With its digest."""
        plain = to_plain(run)
        for name in ("as_of", "heartbeat_seconds"):
            plain.pop(name)
        plain["summary"].pop("seconds")
        for one in plain["stages"]:
            one.pop("seconds")
        said = json.dumps(plain, sort_keys=True, default=str)
        return cls(run, figures, hashlib.sha256(said.encode()).hexdigest()[:12])


#: What is sent of a view, to a listener who has seen the samples up to a number.
Tell = Callable[[View, int], list[str]]


def as_json(view: View, seen: int) -> list[str]:
    """Events for programs: ``run``, and ``samples`` where there are new ones."""
    fresh = [to_plain(one) for one in view.figures.samples if one.number > seen]
    run = {name: value for name, value in to_plain(view.run).items() if name != "conflicts"}
    told = [event(json.dumps(run, ensure_ascii=False), "run", view.id)]
    if fresh:
        # Before the state, whose id says that they were seen.
        told.insert(0, event(json.dumps(fresh, ensure_ascii=False), "samples"))
    return told


def event(data: str, name: str | None = None, identifier: str | None = None) -> str:
    """One event of a stream."""
    lines = [f"id: {identifier}"] if identifier else []
    lines += [f"event: {name}"] if name else []
    # Whatever ends a line in the data would end the field.
    lines += [f"data: {line}" for line in data.splitlines() or [""]]
    return "\n".join(lines) + "\n\n"


@dataclass(slots=True)
class _Seen:
    """What is known of a run by all who listen to it.

    Attributes:
        version: counts what was published.
        view: the newest; None before the first.
        trouble: why the ledger could not be read, or None.
        ended: whether nothing more comes.
        news: set once something is published.
        left: set once none listens any more.
    """

    listeners: int = 0
    version: int = 0
    view: View | None = None
    trouble: str | None = None
    ended: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self) -> None:
        """Wake all that wait."""
        self.version += 1
        old, self.news = self.news, asyncio.Event()
        old.set()

    async def later_than(self, version: int, seconds: float) -> None:
        """Wait until something later was published, but no longer than that many seconds."""
        if self.version == version and not self.ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.news.wait(), seconds)


class Streams:
    """The streams of one application.

    Args:
        settings: of qmigrate.
    """

    def __init__(self, settings: Settings) -> None:
        self._watched = _Watched(settings)
        # Each loop has its own: what waits in one can't be woken from another.
        self._seen: dict[tuple[asyncio.AbstractEventLoop, int], _Seen] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        #: Listeners now, and readings of the ledger that were made for them, to check the bounds.
        self.listening = self.looks = 0

    def stop(self) -> None:
        """End every stream: the server is shutting down, and waits for them. Called in the loop of the server."""
        self._stopped = True
        for (loop, _), seen in list(self._seen.items()):
            seen.ended = True
            loop.call_soon_threadsafe(seen.left.set)
            loop.call_soon_threadsafe(seen.publish)

    async def answer(self, request: Request, number: int, tell: Tell) -> Response:
        """The stream of a run; 204 for who has seen all of one that is over, which ends a browser's connecting again.

        Raises:
            UnknownNameError: there is no run of this number.
            HTTPException: 503: too many listen already.
        """
        if self.listening >= MOST or self._stopped:
            raise HTTPException(
                503, f"{self.listening} listen to runs here already, and no more may", {"Retry-After": str(RETRY)}
            )
        # Before the first wait: of many who ask at once, each is counted by the next.
        self.listening += 1
        place = _Place(self)
        try:
            first = await asyncio.to_thread(self._watched.look, number)
            last = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or ""
            if first.run.is_over and last == first.id:
                place.leave()
                return Response(status_code=204)
        except BaseException:
            place.leave()
            raise
        return _Stream(place, self._told(request, number, last, tell))

    async def _told(self, request: Request, number: int, last: str, tell: Tell) -> AsyncIterator[str]:
        """What one listener gets."""
        until = time.monotonic() + LONGEST
        async with _Joined(self, number) as seen:
            yield f"retry: {_AGAIN}\n\n"
            version, spoken = -1, time.monotonic()
            while not (self._stopped or await request.is_disconnected()) and time.monotonic() < until:
                view, version, ended = seen.view, seen.version, seen.ended
                if view is not None and view.id != last:
                    for one in tell(view, _sample_of(last)):
                        yield one
                    last, spoken = view.id, time.monotonic()
                elif time.monotonic() - spoken >= ALIVE:
                    yield f": {seen.trouble or 'alive'}\n\n"
                    spoken = time.monotonic()
                if ended:
                    break
                await seen.later_than(version, min(ALIVE, _PATIENCE))
            if seen.view is not None and seen.view.run.is_over:
                yield event("", "end", seen.view.id)

    async def _poll(self, number: int, seen: _Seen) -> None:
        """Read a run until it is over, or none listens any more: seldom where nothing moves."""
        pause = FASTEST
        stack = ExitStack()
        try:
            stack.enter_context(self._watched.used())
            while not (seen.ended or seen.left.is_set()):
                try:
                    view = await asyncio.to_thread(self._watched.look, number)
                    self.looks += 1
                    moved = seen.view is None or view.id != seen.view.id
                    pause = FASTEST if moved else min(SLOWEST, pause * _GROWTH)
                    seen.view, seen.trouble, seen.ended = view, None, view.run.is_over
                    if moved or seen.ended:
                        seen.publish()
                except QmigrateError as error:
                    seen.trouble = " ".join(error.message.split())
                    pause = min(TROUBLED, pause * _GROWTH)
                if not seen.ended:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(seen.left.wait(), pause)
        except Exception as error:
            _log.error("run %s can't be watched: %s", number, error, exc_info=error)
        finally:
            seen.ended = True
            seen.publish()
            await asyncio.to_thread(stack.close)


#: Seconds between two looks whether a listener is still there.
_PATIENCE = 2.0


class _Joined:
    """What is known of a run, while the block runs: the first listener begins to look, the last one ends it."""

    def __init__(self, streams: Streams, number: int) -> None:
        self._streams, self._key = streams, (asyncio.get_running_loop(), number)

    async def __aenter__(self) -> _Seen:
        known = self._streams._seen
        seen = known.get(self._key)
        if seen is None or seen.ended:
            seen = known[self._key] = _Seen()
            # A loop alone doesn't keep a task from the garbage collector.
            task = asyncio.create_task(self._streams._poll(self._key[1], seen))
            self._streams._tasks.add(task)
            task.add_done_callback(self._streams._tasks.discard)
        seen.listeners += 1
        self._mine = seen
        return seen

    async def __aexit__(self, *_: object) -> None:
        seen, known = self._mine, self._streams._seen
        seen.listeners -= 1
        if seen.listeners:
            return
        if known.get(self._key) is seen:
            del known[self._key]
        # It ends by itself: a look that is under way has the connection until it is over.
        seen.left.set()


class _Place:
    """One of the places of those who listen, left once."""

    def __init__(self, streams: Streams) -> None:
        self._streams: Streams | None = streams

    def leave(self) -> None:
        """It is free again."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams.listening -= 1


class _Stream(StreamingResponse):
    """A stream that leaves its place however it ends, also where not a word of it was sent."""

    def __init__(self, place: _Place, told: AsyncIterator[str]) -> None:
        super().__init__(told, media_type="text/event-stream", headers=HEADERS)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.leave()


class _Watched:
    """The ledger, read by one connection for all runs that are listened to: many runs take none from who migrates."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._users = 0
        self._open: tuple[Watch, ExitStack] | None = None

    @contextmanager
    def used(self) -> Iterator[None]:
        """While a block runs, the connection is kept."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def look(self, number: int) -> View:
        """A run as it is now; called in a thread, one after the other.

        Raises:
            UnknownNameError: there is no run of this number.
        """
        with self._lock:
            if self._open is None:
                stack = ExitStack()
                self._open = stack.enter_context(Watch.opened(self._settings)), stack
            watch = self._open[0]
            try:
                found = watch.look(number)
            finally:
                self._close_unused()
        return View.of(described(found, watch.beat), figures_of(found))

    def _close_unused(self) -> None:
        if self._users == 0 and self._open is not None:
            (_, stack), self._open = self._open, None
            stack.close()


def _sample_of(identifier: str) -> int:
    """The newest sample that a listener has seen, as the id of its last event says; 0 where it has seen none."""
    head = identifier.partition("-")[0]
    return int(head) if head.isascii() and head.isdecimal() and len(head) < 16 else 0


def plain(figures: RunFigures) -> dict[str, Any]:
    """Figures as columns, for plots: a list of times, and for each figure a list of as many values."""
    samples = figures.samples
    names = sorted({name for one in samples for name in one.busy})
    return {
        "run": figures.run,
        "pause": figures.pause,
        "number": [one.number for one in samples],
        "at": [one.at for one in samples],
        "phase": [one.phase for one in samples],
        "rate": [one.rate for one in samples],
        "busy": {name: [one.busy.get(name) for one in samples] for name in names},
        "queue": [one.queue for one in samples],
        "memory": [one.memory for one in samples],
    }
