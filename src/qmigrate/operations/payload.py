"""Payload keys set or deleted on purpose, for all points or for those of a filter; as data fixes. No I/O."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

from qmigrate.model import payload_path
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.transform import Payload, PayloadFunction, PointTransform
from qmigrate.operations.base import Key, Operation, assign, plain
from qmigrate.operations.client_types import Filter
from qmigrate.operations.data import KEY, DataFix
from qmigrate.operations.values import function_name

_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class PayloadWrite(DataFix):
    """A fix that says of each point what some keys of its payload should be: here is the rest that it needs.

    Args:
        collection: logical name or glob.
        filter: of Qdrant: ``models.Filter``, or the same as JSON; asked again right before each write. None for every
            point.
        max_share: the largest share of the points that may change; None for ``fixes.max_share`` of the settings.
        reason: for the record.
    """

    collection: str
    _: KW_ONLY
    filter: Filter | None = None
    max_share: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """A filter becomes plain JSON."""
        if self.filter is not None:
            assign(self, filter=plain(self.filter, f"{self.label()}: filter", keep_none=True))

    @abstractmethod
    def payload_keys(self) -> Sequence[str]:
        """Keys at the top of a payload: it reads and writes no others."""

    @abstractmethod
    def after(self, payload: Payload) -> Mapping[str, Any]:
        """What these keys should be in a point; one that is left out is removed.

        It must give the same for the same payload, also for what it has made of one.

        Args:
            payload: what the point has under these keys, and maybe more.
        """

    def check_words(self) -> None:
        """What selects the points, and that the keys are keys."""
        Operation.check_words(self)
        keys: object = self.payload_keys()
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

    def arguments(self) -> JsonObject:
        """Those of its own, as plain JSON: with them a stored job makes it again."""
        own = [one.name for one in fields(self) if one.name not in _COMMON]
        return {name: plain(getattr(self, name), f"{self.label()}: {name}", keep_none=True) for name in own}

    def edit(self) -> JsonObject:
        """See the base class."""
        return self.edit_of("payload", operation=type(self).__name__, arguments=self.arguments())

    def edit_of(self, kind: str, **said: Any) -> JsonObject:
        """An edit of a kind: which points, how many of them, and what is said of their keys."""
        points = {"filter": self.filter, "max_share": self.max_share, "reason": self.reason or None}
        return {"kind": kind, "undo": "undo", **said, **points}

    def in_words(self) -> str:
        """Its name as words: ``set payload``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self).__name__).lower()

    def points_in_words(self) -> str:
        """Which points, for people."""
        return "of every point" if self.filter is None else f"where {json.dumps(self.filter, ensure_ascii=False)}"

    def describe(self) -> str:
        """See the base class."""
        return f"{self.in_words()} {', '.join(self.payload_keys())} {self.points_in_words()}"

    def touched(self) -> frozenset[Key]:
        """The same key for the same points twice is a slip."""
        return frozenset(("payload", name, self.points_in_words()) for name in self.payload_keys())


_COMMON = frozenset(one.name for one in fields(PayloadWrite))


@dataclass(frozen=True, slots=True, init=False)
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

    payload: Mapping[str, Any]

    def __init__(
        self,
        collection: str,
        payload: Mapping[str, Any],
        filter: Filter | None = None,  # noqa: A002  its name in revisions
        max_share: float | None = None,
        reason: str = "",
    ) -> None:
        PayloadWrite.__init__(self, collection, filter=filter, max_share=max_share, reason=reason)
        given = plain(payload, f"{self.label()}: payload", keep_none=True) if isinstance(payload, Mapping) else payload
        assign(self, payload=given)

    def payload_keys(self) -> Sequence[str]:
        """Those that it sets."""
        return list(self.payload)

    def after(self, payload: Payload) -> Mapping[str, Any]:  # noqa: ARG002  the same for every point
        """What it sets."""
        return self.payload

    def check_words(self) -> None:
        """See the base class."""
        if not isinstance(self.payload, Mapping):
            raise self.error(f"the payload must be an object, not {self.payload!r:.60}")
        PayloadWrite.check_words(self)
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
        return self.edit_of("assign", values=dict(self.payload), removed=[])


@dataclass(frozen=True, slots=True, init=False)
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

    keys: Sequence[str]

    def __init__(
        self,
        collection: str,
        keys: Sequence[str],
        filter: Filter | None = None,  # noqa: A002  its name in revisions
        max_share: float | None = None,
        reason: str = "",
    ) -> None:
        PayloadWrite.__init__(self, collection, filter=filter, max_share=max_share, reason=reason)
        assign(self, keys=[keys] if isinstance(keys, str) else list(keys) if isinstance(keys, tuple) else keys)

    def payload_keys(self) -> Sequence[str]:
        """Those that it deletes."""
        return self.keys

    def after(self, payload: Payload) -> Mapping[str, Any]:  # noqa: ARG002  the same for every point
        """None of them."""
        return {}

    def edit(self) -> JsonObject:
        """See the base class."""
        return self.edit_of("assign", values={}, removed=list(dict.fromkeys(self.keys)))


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


class PayloadChange(Operation):
    """A new payload for every point, by functions: the points are copied next to the live collection."""

    __slots__ = ()

    rewrites_payload: ClassVar[bool] = True

    @abstractmethod
    def functions(self) -> tuple[PayloadFunction, PayloadFunction | None]:
        """What makes the new payload of a point, and what restores the old one: see ``PointTransform.rewriting``."""

    def transform(self, schema: CollectionSchema) -> PointTransform:
        """See the base class."""
        return PointTransform.identity(schema.vector_names()).rewriting(*self.functions())

    def shows(self) -> str | None:
        """See the base class; what the function leaves of a key is not known before it ran."""
        return "see another payload once it goes live: a key that it renames or takes away is missing for them"


@dataclass(frozen=True, slots=True)
class TransformPoints(PayloadChange):
    """Give every point the payload that a function returns; points are copied next to the live collection.

    Args:
        collection: logical name or glob.
        function: gets a :class:`~qmigrate.model.transform.Point` and returns the new payload as a dict. It
            must give the same for the same point, and may be called more than once.
        inverse: the same for going back: with it, a rollback to the kept generation brings along what was written
            since. Once that generation is gone, only a ``downgrade()`` leads back.
    """

    collection: str
    function: PayloadFunction
    inverse: PayloadFunction | None = None

    def check_words(self) -> None:
        """See the base class."""
        Operation.check_words(self)
        if not callable(self.function):
            raise self.error(f"expected a function of a point, got {self.function!r}")
        if self.inverse is not None and not callable(self.inverse):
            raise self.error(f"inverse must be a function of a point or None, not {self.inverse!r}")

    def functions(self) -> tuple[PayloadFunction, PayloadFunction | None]:
        """See the base class."""
        return self.function, self.inverse

    def describe(self) -> str:
        """See the base class."""
        back = f", back with {function_name(self.inverse)}" if self.inverse is not None else ""
        return f"transform every payload with {function_name(self.function)}{back}"

    def touched(self) -> frozenset[Key]:
        """Several may follow each other; the same function twice is a slip."""
        return frozenset({("payload with", self.function)})
