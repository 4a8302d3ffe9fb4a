"""f applied to points: payload functions, fillings, and the writes of the result. It doesn't choose the points."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmigrate.embed.inputs import ImageName, read_input
from qmigrate.embed.stream import Failure, embed_all
from qmigrate.errors import DriftError, EmbedError, PlanError, VerificationError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Payload, PointId, PointTransform
from qmigrate.operations.values import Compute, Embed
from qmigrate.ports import PendingWrite, Ready, Stored
from qmigrate.steps.work import Work
from qmigrate.store import records

_MEND = "mend the function, then: qmigrate abort, and upgrade again"


@dataclass(slots=True)
class Made:
    """A page that went through f.

    Attributes:
        ready: points to write, in the order of the page.
        lacking: ids that stay without a filled vector, with the reason.
    """

    ready: list[Ready]
    lacking: list[tuple[PointId, str]]


class Maker:
    """f for one step: built once, used by several threads.

    Args:
        work: where the user's code and the embedders come from.
        transform: f, as declared.
        schema: of the collection that is written to.
    """

    def __init__(self, work: Work, transform: PointTransform, schema: CollectionSchema) -> None:
        self.transform = transform
        self.schema = schema
        self._work = work
        # A user's embedder or function may not be thread-safe, and a device takes one batch at a time anyway.
        self._lock = threading.Lock()

    def make(self, page: Sequence[Stored]) -> Made:
        """F of every point of a page.

        Raises:
            EmbedError: a point can't be filled and its operation says ``on_failure="stop"``.
            PlanError: a payload function fails, or returns what can't be stored.
            VerificationError: a point can't be given its new id.
        """
        if self.transform.rekeys:
            page = [self._renamed(stored) for stored in page]
        payloads = [self._payload(stored) for stored in page]
        values: list[dict[str, Any]] = [{} for _ in page]
        lacking: list[tuple[PointId, str]] = []
        for vector in self.transform.filled:
            self._fill(vector, page, payloads, values, lacking)
        ready = [
            self._ready(stored, value, payload) for stored, value, payload in zip(page, values, payloads, strict=True)
        ]
        return Made(ready, lacking)

    def expected(self, stored: Stored) -> records.Pure:
        """The pure part of f(stored), made again.

        Raises:
            PlanError: a payload function fails, or returns what can't be stored.
        """
        payload = self._payload(stored)
        try:
            return records.expected(stored, self.transform, payload)
        except (TypeError, ValueError) as error:
            raise self._unstorable(stored, payload, error) from error

    def vector_for(self, vector: str, stored: Stored) -> Any:
        """The value of one filled vector, made again; None when the point has no input for it."""
        values: list[dict[str, Any]] = [{}]
        self._fill(vector, [stored], [self._payload(stored)], values, [], keep=True)
        return values[0].get(vector)

    def tolerances(self) -> dict[str, records.Tolerance]:
        """Carried vectors that can't be compared bit by bit, with the tolerance of each.

        Local mode normalises a cosine vector at every write, so its last digit may change.
        """
        found = {}
        for name in self.transform.vectors:
            params = self.schema.vectors.get(name, {})
            renormalised = self._work.store.capabilities.local and params.get("distance") == "Cosine"
            if name in self.transform.converted or renormalised:
                found[name] = records.tolerance_of(params)
        return found

    def _renamed(self, stored: Stored) -> Stored:
        try:
            with self._lock:
                return records.with_id(stored, records.new_id(stored, self.transform))
        except ValueError as error:
            raise VerificationError(
                f"point {records.point_id(stored)} of {self._work.collection} {error}. The live collection was not "
                "touched",
                hint=f"mend the point and run again, or give it up: qmigrate abort {self._work.collection}",
            ) from error

    def _payload(self, stored: Stored) -> Payload | None:
        if self.transform.keeps_payload:
            return None
        try:
            with self._lock:
                return records.new_payload(stored, self.transform)
        except Exception as error:
            raise PlanError(
                f"the payload function {self._functions()} failed for point {records.point_id(stored)} of "
                f"{self._work.collection}: {type(error).__name__}: {error}",
                hint=_MEND,
            ) from error

    def _ready(self, stored: Stored, values: Mapping[str, Any], payload: Payload | None) -> Ready:
        try:
            return records.make_ready(stored, self.transform, values, payload)
        except (TypeError, ValueError) as error:
            raise self._unstorable(stored, payload, error) from error

    def _unstorable(self, stored: Stored, payload: Payload | None, error: Exception) -> Exception:
        """The error for a payload that is no JSON; what went wrong otherwise stays as it is."""
        if payload is None:
            return error
        return PlanError(
            f"what the payload function {self._functions()} returned for point {records.point_id(stored)} of "
            f"{self._work.collection} can't be stored as payload: {type(error).__name__}: {error}",
            hint=_MEND,
        )

    def _functions(self) -> str:
        return ", ".join(getattr(function, "__name__", "?") for function in self.transform.payload)

    def _fill(
        self,
        vector: str,
        page: Sequence[Stored],
        payloads: Sequence[Payload | None],
        values: list[dict[str, Any]],
        lacking: list[tuple[PointId, str]],
        keep: bool = False,
    ) -> None:
        filling = self.transform.values[vector]
        inputs = [
            self._input(filling, stored, payload) for stored, payload in zip(page, payloads, strict=True)
        ]
        present = [
            position for position, item in enumerate(inputs) if item is not None and not isinstance(item, Failure)
        ]
        made = self._values(filling, vector, [inputs[position] for position in present])
        reasons = dict.fromkeys(set(range(len(page))) - set(present), "its source field is missing, empty or not text")
        reasons.update({place: item.message for place, item in enumerate(inputs) if isinstance(item, Failure)})
        for position, value in zip(present, made, strict=True):
            if isinstance(value, Failure):
                reasons[position] = value.message
            else:
                values[position][vector] = value
        for position in sorted(reasons):
            self._lacks(filling, vector, page[position], reasons[position], lacking, keep)

    def _input(self, filling: Any, stored: Stored, payload: Payload | None) -> Any:
        if isinstance(filling, Embed):
            found = records.payload_of(stored) if payload is None else payload
            item = self._called(filling.spec, found) if callable(filling.spec) else read_input(found, filling.spec)
            return ImageName(item) if filling.image is not None and isinstance(item, str) else item
        return records.plain_point(stored, payload)

    def _called(self, function: Callable[[Payload], Any], payload: Payload) -> Any:
        """What a function of the revision takes from a payload; a failure where it raises or returns something else."""
        try:
            with self._lock:
                found = function(payload)
        except Exception as error:  # whatever the user's code raises is about this point
            said = f"{type(error).__name__}: {error}"
            return Failure(0, "read", f"{getattr(function, '__name__', '?')} failed for its payload: {said}")
        if found is None or (isinstance(found, str | bytes) and not found.strip()):
            return None
        if not isinstance(found, str | bytes):
            name = getattr(function, "__name__", "?")
            return Failure(0, "read", f"{name} returned {type(found).__name__} instead of a text or bytes")
        return found

    def _values(self, filling: Any, vector: str, items: list[Any]) -> list[Any]:
        if not items:
            return []
        size = self.schema.vectors.get(vector, {}).get("size")
        with self._lock:
            if isinstance(filling, Compute):
                return embed_all(_Computed(filling), items, size=size)
            return embed_all(self._work.code.embedder(filling.embedder), items, size=size)

    def _lacks(
        self,
        filling: Any,
        vector: str,
        stored: Stored,
        reason: str,
        lacking: list[tuple[PointId, str]],
        keep: bool,
    ) -> None:
        if keep or getattr(filling, "on_failure", "stop") == "keep_without_vector":
            lacking.append((records.point_id(stored), f"{vector}: {reason}"))
            return
        raise EmbedError(
            f"point {records.point_id(stored)} of {self._work.collection} can't be given vector {vector!r}: {reason}",
            hint='mend the point, or leave such points without the vector: on_failure="keep_without_vector"',
        )


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


def write(work: Work, alias: str, made: Made, physical: str) -> list[PendingWrite]:
    """Start writing a page through an own alias, and record what stays without a vector."""
    for identifier, reason in made.lacking:
        work.lease.quarantine(physical, identifier, "fill", "EmbedError", reason)
    return [work.store.upsert(alias, batch) for batch in records.batches(made.ready)]


def check_models(work: Work, transform: PointTransform, step: int) -> None:
    """One vector is never filled by two models: the embedders are those that the build began with.

    Args:
        step: position of the build whose preflight has recorded the fingerprints.

    Raises:
        DriftError: a configured embedder is another one now.
    """
    recorded = work.facts("preflight", step).get("embedders") or {}
    for vector, filling in fill_inputs(transform).items():
        if vector in recorded and work.code.embedder(filling.embedder).fingerprint() != recorded[vector]:
            raise DriftError(
                f"embedder {filling.embedder!r} is not the one that {work.collection} was begun with: "
                f"vector {vector!r} would be filled by two models",
                hint=f"restore it in qmigrate.yaml and run again, or start over: qmigrate abort {work.collection}",
            )


def fill_inputs(transform: PointTransform) -> Mapping[str, Embed]:
    """Filled vectors that are embedded, for checks of their source fields."""
    return {name: value for name, value in transform.values.items() if isinstance(value, Embed)}
