"""Operations on the points themselves: a function over every payload. It changes no vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import PayloadFunction, PointTransform
from qmigrate.operations.base import Key, Operation
from qmigrate.operations.values import function_name


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
