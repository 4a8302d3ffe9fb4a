"""The logical names that ``--only`` means: exact ones and globs, never one that doesn't exist. It opens nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from qmigrate.commands.session import Session
from qmigrate.errors import UsageError
from qmigrate.ledger import Ledger
from qmigrate.model.names import check_known, met, overlap, unknown
from qmigrate.observe import known_names
from qmigrate.operations.base import Operation
from qmigrate.operations.deletion import DeleteOrphans, DeletePoints
from qmigrate.revisions.graph import Revisions
from qmigrate.settings.load import Settings


def chosen_names(opened: Session, only: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names that the patterns of ``--only`` match, in Qdrant, in the ledger, or in a revision that creates them.

    Args:
        only: exact names and globs; None for no restriction.

    Returns:
        Names in the order of the patterns, each once; None for no restriction.

    Raises:
        UnknownNameError: a pattern matches nothing.
    """
    if only is None:
        return None
    known = _known(opened)
    found: list[str] = []
    for pattern in only:
        matching = met(pattern, known)
        if not matching:
            raise unknown("collection", pattern, known)
        found += matching
    return tuple(dict.fromkeys(found))


def named(opened: Session, patterns: Iterable[str]) -> tuple[str, ...]:
    """The names that the patterns mean in Qdrant and in the ledger.

    Raises:
        UnknownNameError: a pattern matches nothing.
    """
    known = known_names(opened.ledger, opened.store)
    check_known("collection", patterns := tuple(patterns), known)
    return tuple(dict.fromkeys(name for pattern in patterns for name in met(pattern, known)))


def check_recorded(ledger: Ledger, revisions: Revisions, collection: str | None) -> None:
    """The ledger has something about a name, or a revision creates it; Qdrant isn't asked.

    Raises:
        UnknownNameError: neither.
    """
    if collection is None:
        return
    known = {*ledger.collections(), *(run.job.collection for run in ledger.open_runs()), *_in_files(revisions)}
    if collection in known or ledger.history(collection, 1):
        return
    if all(row.collection != collection for row in ledger.deletions()):
        raise unknown("collection", collection, known, of=" in the ledger")


def _known(opened: Session) -> list[str]:
    return sorted({*known_names(opened.ledger, opened.store), *_in_files(opened.revisions)})


def _in_files(revisions: Revisions) -> set[str]:
    """Names that revisions speak of."""
    operations = (operation for revision in revisions.order() for operation in revision.operations)
    return {operation.pattern for operation in operations if not operation.is_glob}


#: Instead of a tenant: the points of all, on purpose.
ALL = "*"


Deletion = TypeVar("Deletion", bound=DeletePoints | DeleteOrphans)


def within(settings: Settings, operation: Deletion, tenant: str | int | None) -> Deletion:
    """A deletion bounded to one tenant, where a collection has several by ``fixes.tenants``.

    Args:
        tenant: the value of the collection's tenant field; None where the operation's own filter has it; ``*`` for
            the points of all.

    Raises:
        UsageError: no tenant is named, or there are none.
    """
    fields = fields_of(settings, operation.collection)
    if tenant == ALL:
        return operation
    if not fields:
        if tenant is None:
            return operation
        raise UsageError(
            f"--tenant {tenant}: no setting has the field by which points of {operation.collection} belong to tenants",
            hint=f"fixes.tenants in qmigrate.yaml: {{{operation.collection}: FIELD}}",
        )
    if tenant is None:
        missing = [field for field in fields if not _says(operation.filter, field)]
        if missing:
            raise UsageError(
                f"several tenants share {operation.collection} ({missing[0]}), and no tenant is named",
                hint=f"--tenant VALUE bounds it to one of them, --tenant '{ALL}' means all (tenant= in Python)",
            )
        return operation
    conditions: list[Any] = [{"key": field, "match": {"value": tenant}} for field in fields]
    return dataclasses.replace(
        operation, filter={"must": [*([operation.filter] if operation.filter else []), *conditions]}
    )


def bounded(
    settings: Settings, operations: Sequence[Operation], tenant: str | int | None
) -> tuple[Operation, ...]:
    """Data fixes with the deletions among them as :func:`within` has them; every way to do one comes through here.

    Raises:
        UsageError: as :func:`within`; or a tenant is named, and something else than deletions would be done for all.
    """
    others = [one for one in operations if not isinstance(one, DeletePoints | DeleteOrphans)]
    if others and tenant not in (None, ALL):
        raise UsageError(
            f"tenant {tenant!r} bounds deletions, and {others[0].label()} is not one: it would be done for all tenants",
            hint="do them one by one, and bound this one by its own filter or query",
        )
    return tuple(
        within(settings, one, tenant) if isinstance(one, DeletePoints | DeleteOrphans) else one for one in operations
    )


def fields_of(settings: Settings, collection: str) -> list[str]:
    """The tenant fields of a collection, or of any that a glob may mean."""
    tenants = settings.fixes.tenants
    if collection in tenants:
        return [tenants[collection]]
    return sorted({field for pattern, field in tenants.items() if overlap(pattern, collection)})


def _says(where: Any, field: str) -> bool:
    """Whether a filter demands one value of a field."""
    if not isinstance(where, Mapping):
        return False
    must = where.get("must") or []
    for condition in [must] if isinstance(must, Mapping) else must:
        if not isinstance(condition, Mapping):
            continue
        match = condition.get("match")
        if condition.get("key") == field and isinstance(match, Mapping) and match.get("value") is not None:
            return True
        if "must" in condition and _says(condition, field):
            return True
    return False
