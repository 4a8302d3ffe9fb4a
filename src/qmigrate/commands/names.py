"""The logical names that ``--only`` means: exact ones and globs, never one that doesn't exist. It opens nothing."""

from __future__ import annotations

from collections.abc import Iterable

from qmigrate.commands.session import Session
from qmigrate.ledger import Ledger
from qmigrate.model.patterns import met
from qmigrate.model.unknown import check_known, unknown
from qmigrate.observe import known_names
from qmigrate.revisions import Revisions


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
