"""Payload keys set or deleted on purpose, for all points or for those of a filter; as data fixes. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from qmigrate.model import payload_path
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import PayloadFunction, PointTransform
from qmigrate.operations.base import Key, Operation, assign, plain
from qmigrate.operations.data import KEY, DataFix
from qmigrate.operations.values import function_name

_INT64 = 2**63


class PayloadWrite(DataFix):
    """What setting and deleting keys have in common: which points, and how many of them."""

    __slots__ = ()

    collection: str
    filter: Any
    max_share: float | None
    reason: str

    def check_schema(self, schema: CollectionSchema) -> None:
        """Payloads have no schema."""

    def edit_of(self, values: JsonObject, removed: Sequence[str]) -> JsonObject:
        """The edit: what the keys become, and for which points."""
        return {
            "kind": "assign",
            "undo": "undo",
            "values": values,
            "removed": list(removed),
            "filter": self.filter,
            "max_share": self.max_share,
            "reason": self.reason or None,
        }

    def check_points(self, keys: object) -> None:
        """Checks what selects the points, and that the keys are keys.

        Raises:
            PlanError: names what is wrong.
        """
        Operation.check_words(self)
        names = list(keys) if isinstance(keys, Mapping | list | tuple) else []
        if not names:
            raise self.error("no payload key is named")
        odd = [name for name in names if not isinstance(name, str) or not KEY.fullmatch(name)]
        if odd:
            raise self.error(
                f"{odd[0]!r} is not a top-level payload key", hint="for keys inside an object: op.TransformPoints"
            )
        if self.filter is not None and not isinstance(self.filter, Mapping):
            raise self.error(f"the filter must be an object, not {self.filter!r:.60}")
        if self.filter is not None and not payload_path.has_conditions(self.filter):
            raise self.error("the filter has no condition", hint="leave it out to select every point")
        problem = payload_path.problem(self.filter or {}) or self.share_problem(self.max_share)
        if problem:
            raise self.error(problem)

    def points_in_words(self) -> str:
        """Which points, for people."""
        return "of every point" if self.filter is None else f"where {json.dumps(self.filter, ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class SetPayload(PayloadWrite):
    """Set payload keys to the same values for every point, or for those that a filter selects; other keys stay.

    Done again it changes nothing more. What each point had before is written down first, so that it can be undone.

    Args:
        collection: logical name or glob.
        payload: key -> value, plain JSON. A value replaces the complete one that is there.
        filter: of Qdrant: ``models.Filter``, or the same as JSON; asked again right before each write. None for every
            point.
        max_share: the largest share of the points that may change; None for ``fixes.max_share`` of the settings.
        reason: for the record.
    """

    collection: str
    payload: Mapping[str, Any]
    filter: Any = None
    max_share: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """Payload and filter become plain JSON."""
        if isinstance(self.payload, Mapping):
            assign(self, payload=plain(self.payload, f"{self.label()}: payload", keep_none=True))
        if self.filter is not None:
            assign(self, filter=plain(self.filter, f"{self.label()}: filter", keep_none=True))

    def check_words(self) -> None:
        """See the base class."""
        if not isinstance(self.payload, Mapping):
            raise self.error(f"the payload must be an object, not {self.payload!r:.60}")
        self.check_points(self.payload)
        for key, value in self.payload.items():
            if value is None:
                raise self.error(
                    f"{key} is null, which means no more than an absent key", hint="op.DeletePayload removes keys"
                )
            problem = _inexact(value)
            if problem:
                raise self.error(f"{key} contains {problem}")

    def edit(self) -> JsonObject:
        """See the base class."""
        return self.edit_of(dict(self.payload), ())

    def describe(self) -> str:
        """See the base class."""
        return f"set payload {', '.join(self.payload)} {self.points_in_words()}"

    def touched(self) -> frozenset[Key]:
        """The same key for the same points twice is a slip."""
        return frozenset(("payload", name, self.points_in_words()) for name in self.payload)


@dataclass(frozen=True, slots=True)
class DeletePayload(PayloadWrite):
    """Delete payload keys of every point, or of those that a filter selects; other keys stay.

    Done again it changes nothing more. What each point had before is written down first, so that it can be undone.

    Args:
        collection: logical name or glob.
        keys: names at the top of the payload.
        filter: of Qdrant: ``models.Filter``, or the same as JSON; asked again right before each write. None for every
            point.
        max_share: the largest share of the points that may change; None for ``fixes.max_share`` of the settings.
        reason: for the record.
    """

    collection: str
    keys: Sequence[str]
    filter: Any = None
    max_share: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """One name means a list of it, and a filter becomes plain JSON."""
        if isinstance(self.keys, str):
            assign(self, keys=[self.keys])
        elif isinstance(self.keys, tuple):
            assign(self, keys=list(self.keys))
        if self.filter is not None:
            assign(self, filter=plain(self.filter, f"{self.label()}: filter", keep_none=True))

    def check_words(self) -> None:
        """See the base class."""
        self.check_points(self.keys)

    def edit(self) -> JsonObject:
        """See the base class."""
        return self.edit_of({}, tuple(dict.fromkeys(self.keys)))

    def describe(self) -> str:
        """See the base class."""
        return f"delete payload {', '.join(self.keys)} {self.points_in_words()}"

    def touched(self) -> frozenset[Key]:
        """The same key for the same points twice is a slip."""
        return frozenset(("payload", name, self.points_in_words()) for name in self.keys)


def _inexact(value: Any) -> str | None:
    """What a payload can't keep as it is, in words; None where it keeps everything."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for found in map(_inexact, value) if found), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}, which is not JSON"
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return f"{value}, which doesn't fit into a signed 64-bit integer"
    return None


@dataclass(frozen=True, slots=True)
class TransformPoints(Operation):
    """Give every point the payload that a function returns; points are copied next to the live collection.

    Args:
        collection: logical name or glob.
        function: gets a :class:`~qmigrate.model.transform.Point` and returns the new payload as a dict. It
            must give the same for the same point, and may be called more than once.
        inverse: the same for going back; without one, writes made since can't be carried back.
    """

    rewrites_payload: ClassVar[bool] = True

    collection: str
    function: PayloadFunction
    inverse: PayloadFunction | None = None

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: ARG002
        """See the base class."""
        if not callable(self.function):
            raise self.error(f"expected a function of a point, got {self.function!r}")
        if self.inverse is not None and not callable(self.inverse):
            raise self.error(f"inverse must be a function of a point or None, not {self.inverse!r}")

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """Payloads have no schema but their indexes, and those have operations of their own."""
        return schema

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        return PointTransform(
            vectors={name: name for name in sorted(schema.vector_names())},
            payload=(self.function,),
            inverse=(self.inverse,) if self.inverse is not None else None,
        )

    def describe(self) -> str:
        """See the base class."""
        back = f", back with {function_name(self.inverse)}" if self.inverse is not None else ""
        return f"transform every payload with {function_name(self.function)}{back}"

    def touched(self) -> frozenset[Key]:
        """Several may follow each other; the same function twice is a slip."""
        return frozenset({("payload with", self.function)})
