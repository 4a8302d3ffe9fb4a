"""The logical names that ``--only`` means: exact ones and globs, never one that nothing knows. It opens nothing."""

from __future__ import annotations

from collections.abc import Iterable

from qmigrate.commands.session import Session
from qmigrate.errors import UsageError
from qmigrate.model.patterns import met
from qmigrate.observe import known_names
from qmigrate.settings_read import meant

#: Known names that a message lists.
_LISTED = 8


def chosen_names(opened: Session, only: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names that the patterns of ``--only`` match, in Qdrant, in the ledger, or in a revision that creates them.

    Args:
        only: exact names and globs; None for no restriction.

    Returns:
        Names in the order of the patterns, each once; None for no restriction.

    Raises:
        UsageError: a pattern matches nothing; says what is known.
    """
    if only is None:
        return None
    known = _known(opened)
    found: list[str] = []
    for pattern in only:
        matching = met(pattern, known)
        if not matching:
            more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
            names = f"known: {', '.join(known[:_LISTED])}{more}" if known else "nothing is known yet"
            raise UsageError(
                f"--only {pattern}: no collection and no revision has such a name{meant(pattern, known)}", hint=names
            )
        found += matching
    return tuple(dict.fromkeys(found))


def named(opened: Session, patterns: Iterable[str]) -> tuple[str, ...]:
    """The names that the patterns mean; one that means nothing stays as it is, for the verb's own message."""
    known = known_names(opened.ledger, opened.store)
    found = [name for pattern in patterns for name in met(pattern, known) or [pattern]]
    return tuple(dict.fromkeys(found))


def _known(opened: Session) -> list[str]:
    named = {
        operation.pattern
        for revision in opened.revisions.order()
        for operation in revision.operations
        if not operation.is_glob
    }
    return sorted({*known_names(opened.ledger, opened.store), *named})
