"""What a phase gets to work with, and nothing more. It makes no decision and no request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from qmigrate.model.facts.phases import F, Facts
from qmigrate.model.facts.stored import changed, learned, loaded
from qmigrate.model.plan import Build, Job, OpRef
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import CollectionState, Generation
from qmigrate.model.transform import PointTransform
from qmigrate.ports import Embedder, Progress, Store

if TYPE_CHECKING:
    from qmigrate.engine.workers.protocol import WorkerPool
    from qmigrate.ledger import Lease
    from qmigrate.operations.base import Operation
    from qmigrate.settings.load import Settings

F_co = TypeVar("F_co", bound=Facts, covariant=True)
T = TypeVar("T")


class Tick(Protocol):
    """The one call that long work makes: display, journal, lease deadline and stop signal."""

    def __call__(self, count: int = 0, note: str = "") -> None:
        """`count` more points are done.

        Raises:
            StoppedError: a signal asked for a stop; everything acknowledged is checkpointed.
            LeaseHeldError: less than one request timeout of the lease is left.
        """


class Watchdog(Protocol):
    """The helper process that lifts a freeze when this process dies: see :mod:`qmigrate.engine.golive`."""

    def finish_gap(self, pairs: Sequence[tuple[str, str]]) -> None:
        """From now on the source may be gone: then it renames these aliases instead of lifting anything."""

    def release(self) -> None:
        """It is not needed any more."""


@dataclass(slots=True)
class Frozen:
    """A freeze that is in force.

    Attributes:
        source: the physical name that refuses writes.
        watch: the helper process.
        delta: reach of one barrier.
        began: when, as `time.monotonic`.
        quiet_at: when its tokens were taken last, as `time.monotonic`; nothing passes for a while from then on.
    """

    source: str
    watch: Watchdog
    delta: int
    began: float
    quiet_at: float = 0.0


def _no_tick(count: int = 0, note: str = "") -> None:
    """Before a run begins nothing is counted."""


class OneAtATime:
    """The user's functions and models work for one collection at a time: they may not bear more.

    The threads of that collection share it, and each may take it several times.
    """

    def __init__(self) -> None:
        self._bell = threading.Condition()
        self._owner: object = None
        self._depth = 0

    @contextmanager
    def of(self, owner: object, tick: Tick | None = None) -> Iterator[None]:
        """While the block runs it is the owner's; see :meth:`take`."""
        self.take(owner, tick)
        try:
            yield
        finally:
            self.give()

    def take(self, owner: object, tick: Tick | None = None) -> None:
        """Wait until it is free, or the owner's already; `tick` is called while waiting."""
        while True:
            with self._bell:
                if self._owner in (None, owner):
                    self._owner = owner
                    self._depth += 1
                    return
                self._bell.wait(0.2)
            if tick is not None:
                tick()

    def give(self) -> None:
        """Give it back, once for each time it was taken."""
        with self._bell:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._bell.notify_all()


@dataclass(frozen=True, slots=True)
class Said:
    """An operation whose file has changed.

    Attributes:
        then: what it said; None where that isn't recorded.
        now: what it says; None where the file has no such operation any more.
    """

    then: JsonObject | None
    now: JsonObject | None

    def describe(self) -> str:
        """Both in words."""
        if self.then is None:
            return "what it said is not recorded"
        now = self.now["says"] if self.now is not None else "nothing"
        return f"{self.then['says']} → {now}" if now != self.then["says"] else f"{now}, in another way"


class Code(Protocol):
    """The user's code behind references: operations of revision files, embedders of the settings."""

    @property
    def turn(self) -> OneAtATime:
        """Whose code and models are at work."""

    def operation(self, ref: OpRef) -> Operation:
        """The operation that a reference names."""

    def said(self, ref: OpRef, checksum: str) -> Said | None:
        """What an operation said in the file of a checksum, where it says something else now; else None."""

    def embedder(self, name: str) -> Embedder:
        """The embedder configured under `name`, loaded once.

        Raises:
            EmbedError: unknown, or can't be loaded.
        """


@dataclass(slots=True)
class Work:
    """Everything one phase needs.

    Attributes:
        state: what was known of the collection when the job was planned or resumed.
        ledger_id: for seals.
        run: id of the run in the ledger.
        step: position of the step in the job.
        learned: what phases have learned, by (step, phase), as the journal has it; :meth:`facts` reads it.
        frozen: the freeze that is in force, or None.
        on_failure: what is to be undone when the run ends in an error, last first.
        consent: position of the held go-live whose cut-over was asked for, or None.
        hands: who starts worker processes; None where this process does all by itself.
        begun_only: whether a clean-up of another caller is finished: it deletes no more than what has begun to go.
        delegated: whether worker processes have sent requests for this run, which this process doesn't see.
        kept: what phases have kept for later ones of this process, by its type; a resumed run has none of it.
        late_until: until when a request of an earlier holder may land, as `time.monotonic`.
        busy: how busy each stage of the fill is since it began, 0 to 1, while one is under way; else None.
        looking: whether nothing is run but the first phase of a step, for a plan: what it would wait for, it doesn't.
        left_behind: whether that one has left aliases, and so was at work; the wait is announced then.
    """

    collection: str
    store: Store
    lease: Lease
    code: Code
    settings: Settings
    progress: Progress
    state: CollectionState
    job: Job
    ledger_id: str
    run: int = 0
    step: int = 0
    tick: Tick = _no_tick
    learned: dict[tuple[int, str], JsonObject] = field(default_factory=dict)
    phase: str = ""
    snapshot: bool = True
    tool: str = ""
    frozen: Frozen | None = None
    on_failure: list[Callable[[Work], None]] = field(default_factory=list)
    consent: int | None = None
    hands: WorkerPool | None = None
    begun_only: bool = False
    delegated: bool = False
    kept: dict[type[Any], Any] = field(default_factory=dict)
    late_until: float = 0.0
    busy: Callable[[], Mapping[str, float]] | None = None
    left_behind: bool = False
    looking: bool = False

    def facts(self, of: type[F], step: int | None = None) -> F:
        """What a phase of this step (or of `step`) has learned; defaults where nothing."""
        return loaded(of, self.learned.get((self.step if step is None else step, of.phase), {}))

    @contextmanager
    def showing(self, busy: Callable[[], Mapping[str, float]]) -> Iterator[None]:
        """While the block runs, `busy` tells how busy each stage of the fill is."""
        self.busy = busy
        try:
            yield
        finally:
            self.busy = None

    def recall(self, of: type[T]) -> T | None:
        """What a phase of this process has kept of this type; None where it has not."""
        return self.kept.get(of)

    def note(self, facts: Facts) -> None:
        """Journal facts in the middle of the running phase: before work that can't be recognised afterwards.

        What differs from what is known already is written: ``work.note(replace(work.facts(Swap), moved=True))``.

        Raises:
            ValueError: they are those of another phase.
        """
        if facts.phase not in ("", self.phase):
            raise ValueError(f"facts of {facts.phase}, noted in {self.phase}")
        row = self.learned.setdefault((self.step, self.phase), {})
        fresh = changed(facts, row)
        row.update(fresh)
        self.lease.journal(self.run, self.step, self.phase, "running", fresh)

    def learn(self, facts: Facts | None) -> JsonObject:
        """Keep what the running phase has returned; what of it is to be journaled."""
        found = learned(facts) if facts is not None else {}
        self.learned.setdefault((self.step, self.phase), {}).update(found)
        return found

    def generation(self, physical: str | None) -> Generation | None:
        """The ledger's row of a physical name as it is now: earlier steps of the job may have changed it."""
        rows = self.lease.ledger.generations(self.collection)
        return next((row for row in rows if row.physical == physical), None)

    def build_step(self) -> int:
        """Position of the build that made what this step goes live with, or the one that it is; -1 where there is none.

        Steps of other builds may come between the two.
        """
        target = self.job.steps[self.step].target if self.step < len(self.job.steps) else None
        for position in range(min(self.step, len(self.job.steps) - 1), -1, -1):
            step = self.job.steps[position]
            if isinstance(step, Build) and step.target == target:
                return position
        return -1

    def operations(self, refs: Sequence[OpRef]) -> tuple[Operation, ...]:
        """The operations behind references, in order."""
        return tuple(self.code.operation(ref) for ref in refs)


def transform_of(operations: Sequence[Operation], schema: CollectionSchema) -> PointTransform:
    """f: what all `operations` together do to a point of a collection of `schema`."""
    transform = PointTransform.identity(schema.vector_names())
    current: CollectionSchema | None = schema
    for operation in operations:
        if current is None:
            break
        transform = transform.then(operation.transform(current))
        current = operation.apply(current)
    return transform


@dataclass(frozen=True, slots=True)
class Phase(Generic[F_co]):
    """One item of a step's checklist.

    Attributes:
        facts: what it learns.
        run: the work; may be repeated safely.
        volatile: a ``done`` of an earlier lease epoch doesn't count: it is done again on resume.
        waits: whether it only waits or refuses, so that an error in it leaves the run held, not failed.
        early: whether it may begin while a request of an earlier holder can still land: it waits for the end of that
            itself, where it has to.
        pausable: whether it may stand still for as long as a person wants: no user and no client waits for it.
    """

    facts: type[F_co]
    run: Callable[[Any, Work], F_co | None]
    volatile: bool = False
    waits: bool = False
    early: bool = False
    pausable: bool = False

    @property
    def name(self) -> str:
        """As the journal has it."""
        return self.facts.phase
