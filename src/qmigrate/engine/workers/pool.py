"""A fill by several processes: hands ranges to workers one by one, and continues where one dies. It copies nothing.

The ledger has the ranges and how far each is. This process has the lease, its heartbeat, the display, the stop signal
and the limit of the quarantine. Each worker writes through an alias of its own: a worker that is lost can't write any
more once that is gone, wherever it may still be running.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from qmigrate.embed.staged import Releasable
from qmigrate.engine.epoch_aliases import make
from qmigrate.engine.points.quarantine import Quarantine, points_of
from qmigrate.engine.points.ranges import in_parallel
from qmigrate.engine.points.streams import STAGES, shown
from qmigrate.engine.work import Work
from qmigrate.engine.workers.protocol import Order, Worker, WorkerLostError
from qmigrate.errors import QmigrateError, UnavailableError
from qmigrate.ledger import Range
from qmigrate.model.names import EpochAlias, own_alias
from qmigrate.model.plan import Build
from qmigrate.model.transform import PointTransform
from qmigrate.operations.values import Embed

#: Workers that may die with the same range before the run stops.
TRIES = 3


def embedders_of(transform: PointTransform) -> list[str]:
    """The embedders that a fill needs."""
    return sorted({one.embedder for one in transform.values.values() if isinstance(one, Embed)})


def places_of(work: Work, transform: PointTransform) -> Sequence[str | None]:
    """The devices of the workers that a fill is shared out to; empty where this process does it by itself."""
    embedders = embedders_of(transform)
    return work.hands.places(embedders) if work.hands is not None and embedders else ()


def copy_by_workers(
    work: Work,
    step: Build,
    transform: PointTransform,
    todo: Sequence[Range],
    places: Sequence[str | None],
    *,
    again: bool,
) -> dict[str, float]:
    """Copy ranges by one worker process per place; see ``fill.copy_ranges``.

    Args:
        again: an earlier process may have written points behind the cursors.

    Returns:
        How busy each stage was, on average over the workers.

    Raises:
        UnavailableError: workers kept dying.
        QmigrateError: as the first failing worker raised it.
    """
    _release_models(work, transform)
    work.delegated = True
    crew = _Copy(work, step, transform, places[: len(todo)], again)
    try:
        with work.code.turn.of(work, work.tick), work.showing(crew.stages):
            in_parallel(work, todo, crew.copy, crew.slots)
        crew.wait_until_late_writes_expire()
        return crew.stages()
    finally:
        crew.close()


def _release_models(work: Work, transform: PointTransform) -> None:
    """This process has tried the models, and needs none before the proof: a worker may need its memory."""
    for name in embedders_of(transform):
        embedder = work.code.embedder(name)
        if isinstance(embedder, Releasable):
            embedder.release()


@dataclass(slots=True)
class _Slot:
    device: str | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    hand: Worker | None = None
    alias: EpochAlias | None = None


class _Copy:
    def __init__(
        self, work: Work, step: Build, transform: PointTransform, devices: Sequence[str | None], again: bool
    ) -> None:
        self._work = work
        self._step = step
        self._filled = transform.filled
        self._again = again
        self._places = [_Slot(device) for device in devices]
        each = max(1, work.settings.rebuild.workers)
        self.slots = each * len(self._places)
        rate = work.settings.rebuild.max_rate
        self._each = (each, rate / len(self._places) if rate else None)
        # In turn, so that few ranges are spread over all workers.
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for place in self._places * each:
            self._free.put(place)
        self._lock = threading.Lock()
        self._aliases: list[EpochAlias] = []
        self._shown = 0
        self._quarantined = 0
        self._lost_at: float | None = None

    def copy(self, share: Range) -> None:
        """Have one range copied by a free worker."""
        again, why = self._again, ""
        for _ in range(TRIES):
            place = self._free.get()
            hand: Worker | None = None
            try:
                hand = self._hand(place)
                hand.copy(share.number, again=again, look=self._look)
                self._check_quarantine()
                return
            except WorkerLostError as lost:
                again, why = True, str(lost)
                self._lose(place, hand, why)
            finally:
                self._free.put(place)
        name = self._work.collection
        raise UnavailableError(
            f"{TRIES} workers in a row ended while they copied range {share.number} of {name}; the last one: {why}",
            hint="see its last output above, and check the memory of the machine and of the device; the same command "
            "continues from here",
        )

    def _hand(self, place: _Slot) -> Worker:
        with place.lock:
            if place.hand is None:
                place.alias = self._new_alias()
                work, (workers, rate) = self._work, self._each
                order = Order(
                    ledger=work.ledger_id,
                    collection=work.collection,
                    run=work.run,
                    step=work.step,
                    epoch=work.lease.epoch,
                    alias=place.alias,
                    device=place.device,
                    workers=workers,
                    rate=rate,
                )
                assert work.hands is not None  # noqa: S101  there were places
                place.hand = work.hands.start(order, self._look)
            return place.hand

    def _new_alias(self) -> EpochAlias:
        with self._lock:
            alias = own_alias(self._step.target, self._work.lease.epoch, len(self._aliases))
            self._aliases.append(alias)
        make(self._work, [alias], self._step.target)
        return alias

    def _lose(self, place: _Slot, hand: Worker | None, why: str) -> None:
        """A worker is gone: nothing that it still sends may arrive, and the next one starts in its place."""
        with place.lock:
            if place.hand is not hand:
                return
            place.hand = None
            if hand is not None:
                hand.close()
            if place.alias is not None:
                self._work.store.drop_alias(place.alias)
        where = f" on {place.device}" if place.device else ""
        work = self._work
        work.progress.say(f"{work.collection}: a worker{where} has ended ({why}); another one continues")
        with self._lock:
            self._lost_at = time.monotonic()
            self._shown = sum(one.report().points for one in self._hands())
        done = sum(share.points for share in work.lease.ledger.ranges(work.run, work.step))
        work.progress.begin(work.collection, "fill", points_of(work), done)

    def _hands(self) -> list[Worker]:
        return [hand for place in self._places if (hand := place.hand) is not None]

    def _look(self) -> None:
        """Show how far all are; check the stop signal and the lease."""
        reports = [hand.report() for hand in self._hands()]
        with self._lock:
            points = sum(report.points for report in reports)
            fresh, self._shown = max(0, points - self._shown), max(points, self._shown)
            grown = sum(report.quarantined for report in reports)
            news, self._quarantined = grown > self._quarantined, max(grown, self._quarantined)
        if news:
            self._check_quarantine()
        stages = self.stages()
        self._work.tick(fresh, shown(stages) if fresh and stages else "")

    def _check_quarantine(self) -> None:
        """No worker sees what failed in another one.

        Raises:
            QuarantineError: too many failed.
        """
        if self._quarantined:
            Quarantine(self._work, self._step.target, self._filled).check()

    def stages(self) -> dict[str, float]:
        """How busy each stage is, on average over the workers that have reported it."""
        said = [report.stages for hand in self._hands() if (report := hand.report()).stages]
        found = {name: [one[name] for one in said if name in one] for name in STAGES}
        return {name: round(sum(shares) / len(shares), 3) for name, shares in found.items() if shares}

    def wait_until_late_writes_expire(self) -> None:
        """Wait until nothing can arrive any more that a lost worker had sent before its alias went."""
        if self._lost_at is None:
            return
        until = self._lost_at + self._work.store.request_timeout
        while (left := until - time.monotonic()) > 0:
            self._work.tick()
            time.sleep(min(0.1, left))

    def close(self) -> None:
        """End every worker at a checkpoint, and take their aliases away."""
        threads = [threading.Thread(target=hand.close, daemon=True) for hand in self._hands()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for alias in self._aliases:
            # An alias that is left here goes with the generation's others, or when the run is resumed.
            with suppress(QmigrateError):
                self._work.store.drop_alias(alias)
        assert self._work.hands is not None  # noqa: S101  there were places
        self._work.hands.close()
