"""Operations on names: a further alias for a collection. It never touches the logical name itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.base import Key, Operation
from qmigrate.operations.checks import logical_name_problem


@dataclass(frozen=True, slots=True)
class SetAlias(Operation):
    """Give a collection a further name. It moves with the collection whenever a new generation goes live.

    Args:
        alias: the further name; if it is an alias of another collection, it is re-pointed. Where it led is recorded,
            and the way back gives it back, unless another client has moved it since.
        collection: the logical name of the collection; one name, no glob.
    """

    named_by: ClassVar[tuple[str, ...]] = ("collection", "alias")
    exact: ClassVar[bool] = True

    alias: str
    collection: str

    def label(self) -> str:
        """The arguments in the order of the constructor."""
        return f'SetAlias("{self.alias}", "{self.collection}")'

    def check_schema(self, schema: CollectionSchema) -> None:  # noqa: ARG002
        """See the base class."""
        problem = logical_name_problem(self.alias, "the alias")
        problem = problem or logical_name_problem(self.collection, "the collection")
        if self.alias == self.collection:
            problem = "a collection can't be an alias of itself"
        if problem:
            raise self.error(problem)

    def apply(self, schema: CollectionSchema | None) -> CollectionSchema | None:
        """See the base class."""
        return schema.with_(aliases=tuple(sorted({*schema.aliases, self.alias}))) if schema else None

    def describe(self) -> str:
        """See the base class."""
        return f"set alias {self.alias}"

    def touched(self) -> frozenset[Key]:
        """See the base class."""
        return frozenset({("alias", self.alias)})
