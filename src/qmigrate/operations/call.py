"""The user's own code as an operation: a function that is called once the revision is reached. It calls none itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.operations.base import Key, Operation, Strategy
from qmigrate.operations.data import DataFix
from qmigrate.operations.values import function_name


@dataclass(frozen=True, slots=True)
class Calling:
    """What a called function gets.

    Attributes:
        collection: the logical name.
        alias: the name to send requests to, for reading and writing: it leads to the live collection for as long as
            this run may write, so that nothing of a run that lost its lease arrives later. It is gone afterwards.
        key: what the call is recorded by: the same each time it is called again.
        client: has the methods of ``qdrant_client.QdrantClient``, for this Qdrant; it is closed afterwards.
        tick: to be called now and then in long work: it stops there when a signal asked for it, or the lease is lost.
    """

    collection: str
    alias: str
    key: str
    client: Any
    tick: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Call(DataFix):
    """Call a function of your own for a collection, as a step of the upgrade.

    It must be idempotent: a run that was interrupted in the middle of it calls it again, from its beginning.
    Qmigrate can't see what it does, so nothing is counted in advance, proven, or undone.

    Args:
        collection: logical name or glob: it is called for each collection.
        function: gets a :class:`Calling`, and returns None or a plain JSON object for the record.
        key: what the call is recorded by, and what the function can pass to other systems so that they do it once; by
            default the function's name.
        reason: for the record.
    """

    named_by: ClassVar[tuple[str, ...]] = ("collection", "name")

    collection: str
    function: Callable[[Calling], JsonObject | None]
    key: str | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What it is recorded by."""
        return self.key or function_name(self.function)

    def check_words(self) -> None:
        """See the base class."""
        Operation.check_words(self)
        if not callable(self.function):
            raise self.error(f"expected a function, got {self.function!r:.60}")
        if self.key is not None and (not isinstance(self.key, str) or not self.key.strip()):
            raise self.error(f"key must be a string, not {self.key!r:.60}")
        if self.key is None and not self.name.isidentifier():
            raise self.error(f"{self.name} is not a name that it can be recorded under", hint='key="…"')

    def edit(self) -> JsonObject:
        """See the base class."""
        called = function_name(self.function)
        return {"kind": "call", "undo": None, "function": called, "key": self.name, "reason": self.reason or None}

    def strategy(self, schema: CollectionSchema, capabilities: Any, points: int = 0) -> Strategy:  # noqa: ARG002
        """On the live collection, whatever it does there."""
        return Strategy("in_place", "your own code, on the live collection")

    def irreversible_reason(self, schema: CollectionSchema) -> str | None:  # noqa: ARG002
        """Only its author knows."""
        return f"what {function_name(self.function)} has done is not known to qmigrate"

    def describe(self) -> str:
        """See the base class."""
        called = function_name(self.function)
        return f"call {called}" + (f" (key {self.key})" if self.key not in (None, called) else "")

    def touched(self) -> frozenset[Key]:
        """The same call twice is a slip."""
        return frozenset({("call", self.name)})
