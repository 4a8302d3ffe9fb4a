"""What the revisions alone declare: the schema of a name at any revision, without a ledger or a server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qmigrate.errors import PlanError
from qmigrate.model.schema import CollectionSchema
from qmigrate.operations.base import Operation
from qmigrate.revisions import Revision, Revisions


def created_names(revisions: Revisions, wanted: frozenset[str]) -> list[str]:
    """Names that these revisions create, sorted."""
    creating = (operation for _, operation in _operations(revisions, wanted) if operation.creates)
    return sorted({operation.pattern for operation in creating if not operation.is_glob})


def declared_at(revisions: Revisions, wanted: frozenset[str], name: str) -> CollectionSchema | None:
    """The recorded schema of a name once these revisions are applied, as the planner would fold it.

    Args:
        wanted: ids of the target and all its ancestors.

    Raises:
        PlanError: an operation can't be done; names revision and file.
    """
    schema: CollectionSchema | None = None
    for revision, operation in _operations(revisions, wanted):
        if not operation.matches(name) or (schema is None and not operation.creates):
            continue
        try:
            operation.check(schema)
        except PlanError as error:
            where = f"revision {revision.id} ({revision.path.name})"
            raise PlanError(f"{where}: {error.message}", hint=error.hint) from error
        schema = operation.apply(schema)
    return schema


def naming(revisions: Revisions, wanted: Iterable[str], name: str) -> Iterator[tuple[Revision, tuple[Operation, ...]]]:
    """Revisions that name a collection, parents first, with their operations on it."""
    chosen = frozenset(wanted)
    for revision in revisions.order():
        matching = tuple(operation for operation in revision.operations if operation.matches(name))
        if revision.id in chosen and matching:
            yield revision, matching


def _operations(revisions: Revisions, wanted: frozenset[str]) -> Iterator[tuple[Revision, Operation]]:
    for revision in revisions.order():
        if revision.id in wanted:
            for operation in revision.operations:
                yield revision, operation
