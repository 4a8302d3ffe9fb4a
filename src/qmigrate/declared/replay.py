"""What all revisions together make of each collection, and what fills its vectors. It asks no server and no ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.transform import Filling
from qmigrate.operations.base import Operation
from qmigrate.planner.members import chain
from qmigrate.revisions.graph import Revisions


@dataclass(frozen=True, slots=True)
class Replayed:
    """One collection after every revision.

    Attributes:
        schema: as the revisions leave it.
        filled: vector -> what has filled it last; nothing for one that was there from the beginning.
    """

    schema: CollectionSchema
    filled: Mapping[str, Filling] = field(default_factory=dict)

    def after(self, operation: Operation) -> Replayed | None:
        """The same after one more operation; None where that drops it."""
        schema = operation.apply(self.schema)
        if schema is None:
            return None
        return Replayed(schema, _filled(self, operation, schema))


def replay(revisions: Revisions, name: str) -> Replayed | None:
    """A collection, or what a glob creates, after every revision; None where none creates it, or one drops it."""
    wanted = frozenset(one.id for one in revisions.order())
    found: Replayed | None = None
    for link in chain(revisions, name, wanted):
        for _, operation in link.refs:
            found = (found or Replayed(CollectionSchema())).after(operation)
    return found


def created(revisions: Revisions) -> tuple[str, ...]:
    """Names and globs that some revision creates, sorted."""
    made = {one.pattern for each in revisions.order() for one in each.operations if one.creates}
    return tuple(sorted(made))


def _filled(before: Replayed, operation: Operation, after: CollectionSchema) -> dict[str, Filling]:
    try:
        carried = operation.transform(before.schema).vectors
    except PlanError:
        # One that can't be planned: the lint reports it.
        carried = {name: name for name in before.filled}
    found = {to: before.filled[source] for to, source in carried.items() if source in before.filled}
    found.update(operation.filled())
    return {name: value for name, value in found.items() if name in after.vector_names()}
