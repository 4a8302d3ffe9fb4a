"""f applied to points: payload functions, fillings, and the writes of the result. It doesn't choose the points."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qmigrate.embed.stream import Failure, embed_all
from qmigrate.engine.points.budget import Budget
from qmigrate.engine.points.checksums import Checksums
from qmigrate.engine.points.embed_input import embed_input
from qmigrate.engine.points.quarantine import DROPPED, KEPT, Failures, Quarantine
from qmigrate.engine.points.streams import Answer, Streams
from qmigrate.engine.work import Code, Work
from qmigrate.errors import DriftError, EmbedError, PlanError, VerificationError
from qmigrate.ledger import ANY_RANGE, Ledger, Quarantined
from qmigrate.model.facts.phases import Preflight
from qmigrate.model.names import EpochAlias
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import Payload, PointId, PointTransform
from qmigrate.operations.values import Compute, Embed
from qmigrate.ports import Embedder, PendingWrite, Ready, Store, Stored
from qmigrate.store import records
from qmigrate.text import quote

if TYPE_CHECKING:
    from qmigrate.settings.load import Settings

#: Points that are tried again at a time.
AGAIN = 256
#: A step of the grid of local mode (store/local/local.py): rounding goes half of it, in each of two rounds.
LOCAL_GRID = 2.0**-20
#: Datatypes that don't keep every value: see :func:`qmigrate.store.records.cut_off`.
NARROW = ("uint8", "float16")


@dataclass(slots=True)
class Made:
    """A page that went through f.

    Attributes:
        ready: points to write, in the order of the page.
        failed: what could not be filled, by point and vector.
        ids: of every point of the page, as they are in the target.
        dropped: those of them that are not to be there.
    """

    ready: list[Ready]
    failed: list[Quarantined]
    ids: list[PointId]
    dropped: list[PointId]


@dataclass(slots=True)
class Begun:
    """A page on its way through f: its vectors are being made.

    Attributes:
        read: the points as they were read; `page`: the same with their new ids.
        asked: vector -> the inputs, and what gives the vectors of those that are there.
    """

    read: Sequence[Stored]
    page: Sequence[Stored]
    payloads: list[Payload | None]
    asked: dict[str, tuple[list[Any], Callable[[], list[Any]]]]

    @property
    def is_there(self) -> bool:
        """Whether all of its vectors were made in the meantime, and are there."""
        answers = [answer for _, answer in self.asked.values()]
        return bool(answers) and all(isinstance(answer, Answer) and answer.is_there for answer in answers)


class TransformContext(Protocol):
    """What f is made of; a step's work is one."""

    @property
    def collection(self) -> str:
        """The logical name, for messages."""

    @property
    def store(self) -> Store:
        """Where the points are."""

    @property
    def code(self) -> Code:
        """The user's functions and embedders."""

    @property
    def settings(self) -> Settings:
        """Those of the collection."""


class Maker:
    """f for one step: built once, used by several threads.

    Args:
        work: where the user's code and the embedders come from.
        transform: f, as declared.
        schema: of the collection that is written to.
        target: its physical name, of a step's work; None where nothing is written, as in a trial, or not by a build.
    """

    def __init__(
        self, work: TransformContext, transform: PointTransform, schema: CollectionSchema, target: str | None = None
    ) -> None:
        self.transform = transform
        self.schema = schema
        self._work = work
        # A user's embedder or function may not be thread-safe, and a device takes one batch at a time anyway.
        self._lock = threading.Lock()
        self._streams: Streams | None = None
        self._checksums = Checksums(work)
        self.on_failure = {name: self._on_failure(transform.values[name]) for name in transform.filled}
        self.quarantine: Quarantine | None = None
        if target is not None:
            assert isinstance(work, Work)  # noqa: S101  only a step's work builds
            self.quarantine = Quarantine(work, target, transform.filled)
        #: Target vectors of which every value is checked: see :meth:`check_values`.
        self._narrow = [name for name, params in schema.vectors.items() if params.get("datatype") in NARROW]
        #: What may be spent; None for no limit.
        self.budget: Budget | None = None
        self._check_drop()

    @contextmanager
    def streaming(self) -> Iterator[Streams]:
        """While the block runs, embedders work in parallel to the threads that call :meth:`begin`."""
        assert isinstance(self._work, Work)  # noqa: S101  only a step's work reads so much
        with Streams(self._work) as self._streams:
            try:
                yield self._streams
            finally:
                self._streams = None

    def make(self, page: Sequence[Stored]) -> Made:
        """F of every point of a page.

        Raises:
            EmbedError: a point can't be filled and its operation has ``on_failure="stop"``.
            PlanError: a payload function fails, or returns what can't be stored.
            VerificationError: a point can't be given its new id.
        """
        return self.finish(self.begin(page))

    def begin(self, read: Sequence[Stored]) -> Begun:
        """Start with a page; see :meth:`make` for errors."""
        page = [self.renamed(stored) for stored in read] if self.transform.rekeys else read
        self.check_values(page)
        payloads = [self._payload(stored) for stored in page]
        asked = {vector: self._ask(vector, page, payloads) for vector in self.transform.filled}
        return Begun(read, page, payloads, asked)

    def narrowing(self) -> frozenset[str]:
        """Datatypes that don't keep every value, of the vectors that values are carried into."""
        narrow = (name for name in self._narrow if name in self.transform.converted)
        return frozenset(self.schema.vectors[name]["datatype"] for name in narrow)

    def check_values(self, page: Sequence[Stored]) -> None:
        """See that no carried value is cut off by the datatype of its target.

        Raises:
            PlanError: one would be; names the point.
        """
        for name in self._narrow:
            if name not in self.transform.converted:
                continue
            for stored in page:
                message = records.vector_messages(stored).get(self.transform.vectors[name])
                if message is not None:
                    self._check_kept(name, stored, records.array_of(message))

    def _check_kept(self, vector: str, stored: Stored, value: Any) -> None:
        if vector not in self._narrow or isinstance(value, Mapping):
            return
        scale = self.transform.scaled.get(vector)
        if scale is None:
            lost = records.cut_off(np.asarray(value), self.schema.vectors[vector])
        else:
            lost = records.scaled_off(np.asarray(value), scale)
        if lost is not None:
            raise PlanError(
                f"vector {vector!r} of point {records.point_id(stored)} of {self._work.collection} would get the value "
                f"{lost.value:g}: {lost.why}. The live collection was not touched",
                hint=f"{lost.hint}; {self._abort_first()}",
            )

    def finish(self, begun: Begun) -> Made:
        """Wait for the vectors of a page; see :meth:`make` for errors."""
        values, failures = self._answers(begun)
        # Who is who is only asked where a point may fail.
        ids = [records.point_id(stored) for stored in begun.page] if begun.asked else []
        ready = [one for place, one in enumerate(self._made(begun, values)) if place not in failures.dropped]
        return Made(ready, failures.rows, ids, [ids[place] for place in sorted(failures.dropped)])

    def _answers(self, begun: Begun) -> tuple[list[dict[str, Any]], Failures]:
        """The vectors of each point of a page, and what could not be made."""
        digest = self.quarantine.digest if self.quarantine is not None else None
        failures = Failures(self._work.collection, begun.page, begun.read, self.on_failure, digest)
        values: list[dict[str, Any]] = [{} for _ in begun.page]
        for vector, (inputs, answer) in begun.asked.items():
            for place, value in enumerate(_answered(inputs, answer())):
                if isinstance(value, Failure):
                    failures.add(place, vector, value.stage, value.message, inputs[place])
                else:
                    self._check_kept(vector, begun.page[place], value)
                    values[place][vector] = value
        return values, failures

    def _made(self, begun: Begun, values: Sequence[Mapping[str, Any]]) -> Iterator[Ready]:
        for stored, found, payload in zip(begun.page, values, begun.payloads, strict=True):
            yield self._ready(stored, found, payload)

    def left_out(self, read: Sequence[Stored]) -> list[Ready]:
        """F of points that are dropped, each with those of its vectors that can be made: see :meth:`make` for errors.

        Where only one is recomputed, that is the one that can't.
        """
        if len(self.transform.filled) == 1:
            return [self._ready(stored, {}, self._payload(stored)) for stored in read]
        begun = self.begin(read)
        return list(self._made(begun, self._answers(begun)[0]))

    def expected(self, stored: Stored) -> records.Pure:
        """The pure part of f(stored), computed again.

        Raises:
            PlanError: a payload function fails, or returns what can't be stored.
        """
        payload = self._payload(stored)
        try:
            return records.expected(stored, self.transform, payload)
        except (TypeError, ValueError) as error:
            raise self._unstorable(stored, payload, error) from error

    def vector_for(self, vector: str, stored: Stored) -> Any:
        """The value of one filled vector, computed again; None when the point has no input for it, or a bad one."""
        inputs, answer = self._ask(vector, [stored], [self._payload(stored)], beside=False)
        value = _answered(inputs, answer())[0]
        return None if isinstance(value, Failure) else value

    def tolerances(self) -> dict[str, records.Tolerance]:
        """Carried vectors that can't be compared bit by bit, with the tolerance of each.

        Local mode normalises a cosine vector at every write, and rounds it to a grid, so its last digits may change.
        """
        found, local = {}, self._work.store.capabilities.local
        for name in self.transform.vectors:
            params = self.schema.vectors.get(name, {})
            renormalised = local and params.get("distance") == "Cosine"
            if name in self.transform.converted or renormalised:
                found[name] = records.tolerance_of(params, grid=LOCAL_GRID if renormalised else 0.0)
        return found

    def renamed(self, stored: Stored) -> Stored:
        """The point under its new id.

        Raises:
            VerificationError: it can't be given one.
        """
        try:
            with self._alone():
                return records.with_id(stored, records.new_id(stored, self.transform))
        except ValueError as error:
            raise VerificationError(
                f"point {records.point_id(stored)} of {self._work.collection} {error}. The live collection was not "
                "touched",
                hint=f"repair the point and run again, or end the run: qmigrate abort {quote(self._work.collection)}",
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While the block runs, no other code of the user's does: of this collection or of another one."""
        with self._work.code.turn.of(self._work, self._tick), self._lock:
            yield

    def _tick(self, count: int = 0, note: str = "") -> None:
        """Hear of stops and limits while another collection has the turn; a trial has nothing to hear of."""
        if isinstance(self._work, Work):
            self._work.tick(count, note)

    def _payload(self, stored: Stored) -> Payload | None:
        if self.transform.keeps_payload:
            return None
        with self._alone():
            try:
                return records.new_payload(stored, self.transform)
            except Exception as error:
                raise PlanError(
                    f"the payload function {self._functions()} failed for point {records.point_id(stored)} of "
                    f"{self._work.collection}: {type(error).__name__}: {error}",
                    hint=self._repair(),
                ) from error

    def _ready(self, stored: Stored, values: Mapping[str, Any], payload: Payload | None) -> Ready:
        try:
            return records.make_ready(stored, self.transform, values, payload)
        except (TypeError, ValueError) as error:
            raise self._unstorable(stored, payload, error) from error

    def _unstorable(self, stored: Stored, payload: Payload | None, error: Exception) -> Exception:
        """The error for a payload that is not JSON; what went wrong otherwise stays as it is."""
        if payload is None:
            return error
        return PlanError(
            f"what the payload function {self._functions()} returned for point {records.point_id(stored)} of "
            f"{self._work.collection} can't be stored as payload: {type(error).__name__}: {error}",
            hint=self._repair(),
        )

    def _repair(self) -> str:
        return f"repair the function, then: qmigrate upgrade; {self._abort_first()}"

    def _abort_first(self) -> str:
        return f"if a run is unfinished, qmigrate abort {quote(self._work.collection)} first"

    def _functions(self) -> str:
        return ", ".join(getattr(function, "__name__", "?") for function in self.transform.payload)

    def _on_failure(self, filling: Any) -> str:
        if not isinstance(filling, Embed):
            return "stop"
        return filling.on_failure or self._work.settings.rebuild.on_failure

    def _check_drop(self) -> None:
        if self.transform.rekeys and "drop" in self.on_failure.values():
            raise PlanError(
                f"{self._work.collection}: points get other ids, and on_failure=\"drop\" leaves some out in the same "
                "rebuild: the proof could not tell them apart",
                hint='use on_failure="keep_without_vector", or a revision of its own',
            )

    def _ask(
        self, vector: str, page: Sequence[Stored], payloads: Sequence[Payload | None], *, beside: bool = True
    ) -> tuple[list[Any], Callable[[], list[Any]]]:
        """The inputs of a vector, and what gives the vectors of those that are there."""
        filling = self.transform.values[vector]
        inputs = [self._input(filling, stored, payload) for stored, payload in zip(page, payloads, strict=True)]
        if isinstance(filling, Embed) and filling.checksum is not None:
            ids = [records.point_id(stored) for stored in page]
            inputs = self._checksums.checked(filling, ids, lambda at: _payload_at(page, payloads, at), inputs)
        present = [item for item in inputs if item is not None and not isinstance(item, Failure)]
        size = self.schema.vectors.get(vector, {}).get("size")
        if self.budget is not None and isinstance(filling, Embed):
            self.budget.take(filling.embedder, present)
        if beside and self._streams is not None and isinstance(filling, Embed):
            return inputs, self._streams.ask(filling.embedder, size, present)
        return inputs, lambda: self._values(filling, present, size)

    def _input(self, filling: Any, stored: Stored, payload: Payload | None) -> Any:
        if isinstance(filling, Embed):
            found = records.payload_of(stored) if payload is None else payload
            return embed_input(filling, found, self._alone)
        return records.plain_point(stored, payload)

    def _values(self, filling: Any, items: list[Any], size: int | None) -> list[Any]:
        if not items:
            return []
        with self._alone():
            if isinstance(filling, Compute):
                return embed_all(_Computed(filling), items, size=size)
            return embed_all(self._work.code.embedder(filling.embedder), items, size=size)


def _payload_at(page: Sequence[Stored], payloads: Sequence[Payload | None], place: int) -> Payload:
    made = payloads[place]
    return records.payload_of(page[place]) if made is None else made


def _answered(inputs: Sequence[Any], made: Sequence[Any]) -> list[Any]:
    """A vector or a failure per input: what was made, and why there was nothing to be made of."""
    vectors = iter(made)
    nothing = Failure(0, "read", "its source field is missing, empty or not text")
    return [nothing if item is None else item if isinstance(item, Failure) else next(vectors) for item in inputs]


class _Computed:
    """A user's function in the place of an embedder."""

    size = None
    max_batch = 256

    def __init__(self, filling: Compute) -> None:
        self._function = filling.function

    def fingerprint(self) -> dict[str, Any]:
        """The name of the function; its code is guarded by the revision's checksum."""
        return {"type": "compute", "function": getattr(self._function, "__qualname__", repr(self._function))}

    def embed(self, items: Sequence[Any]) -> list[Any]:
        """One call per point."""
        made = []
        for item in items:
            try:
                made.append(self._function(item))
            except Exception as error:
                name = self.fingerprint()["function"]
                raise EmbedError(f"{name} failed for point {item.id}: {type(error).__name__}: {error}") from error
        return made


def write(work: Work, alias: EpochAlias, maker: Maker, made: Made) -> list[PendingWrite]:
    """Record what could not be filled, then start writing a page through an own alias."""
    if maker.quarantine is not None:
        maker.quarantine.record(made.ids, made.failed)
    return send(work, alias, made)


def send(work: Work, alias: EpochAlias, made: Made) -> list[PendingWrite]:
    """Start writing a page; what is dropped is not left there from an earlier time either."""
    if made.dropped:
        work.store.delete(alias, made.dropped)
    sent = []
    for batch in records.batches(made.ready):
        sent.append(work.store.upsert(alias, batch))
    return sent


def try_again(work: Work, source: str, alias: EpochAlias, maker: Maker, base: str) -> None:
    """Make those points again that could not be embedded so far.

    Args:
        base: name of the base, which is not valid for them from here on.

    Raises:
        QuarantineError: still too many.
    """
    assert maker.quarantine is not None  # noqa: S101  the caller looked
    ids = [*maker.quarantine.ids(KEPT), *maker.quarantine.ids(DROPPED)]
    for start in range(0, len(ids), AGAIN):
        part = ids[start : start + AGAIN]
        work.lease.mark_dirty(base, ANY_RANGE, [records.order_key(one) for one in part])
        for pending in write(work, alias, maker, maker.make(work.store.fetch(source, part))):
            pending.wait()
        work.tick()
    maker.quarantine.check()


def check_models(work: Work, transform: PointTransform, step: int) -> None:
    """One vector is never filled by two models: the embedders are those that the build began with.

    Args:
        step: position of the build whose preflight has recorded the fingerprints.

    Raises:
        DriftError: a configured embedder is another one now.
    """
    recorded = work.facts(Preflight, step).embedders or {}
    for vector, filling in fill_inputs(transform).items():
        if vector in recorded and not is_model(work.code.embedder(filling.embedder), recorded[vector]):
            raise DriftError(
                f"embedder {filling.embedder!r} is not the one that {work.collection} was started with: "
                f"vector {vector!r} would be filled by two models",
                hint=f"restore it in qmigrate.yaml and run again, or start over: qmigrate abort "
                f"{quote(work.collection)}",
            )


def check_recorded(ledger: Ledger, collection: str, code: Code, fillings: Mapping[str, Embed]) -> None:
    """The same for what is filled in the generation that serves: by the models that its vectors were filled by.

    Args:
        fillings: vector, as it is called there -> what fills it. One that no model is recorded for is not checked.

    Raises:
        DriftError: a configured embedder is another one than the recorded one.
    """
    view = ledger.view(collection)
    recorded = view.embedders if view is not None else {}
    for vector, filling in fillings.items():
        if vector in recorded and not is_model(code.embedder(filling.embedder), recorded[vector]):
            raise DriftError(
                f"embedder {filling.embedder!r} is not the model that has filled vector {vector!r} of {collection}: "
                "it would be filled by two models",
                hint="qmigrate check shows what differs: restore it in qmigrate.yaml; or refill the vector with the "
                "current model first, in a revision: op.Reembed(…)",
            )


def is_model(embedder: Embedder, recorded: JsonObject) -> bool:
    """Whether an embedder has a recorded fingerprint, as SQL keeps it: tuples are lists there."""
    now, then = (json.loads(json.dumps(one)) for one in (embedder.fingerprint(), recorded))
    return bool(now == then)


def fill_inputs(transform: PointTransform) -> Mapping[str, Embed]:
    """Filled vectors that are embedded, for checks of their source fields."""
    return {name: value for name, value in transform.values.items() if isinstance(value, Embed)}
