"""Further names of a collection: one that belongs to somebody else is never taken away from there. It only reads."""

from __future__ import annotations

from collections.abc import Iterable

from qmigrate.errors import RefusedError
from qmigrate.ledger import Ledger
from qmigrate.model.plan import GoLive, InPlace, Step
from qmigrate.model.words import quote
from qmigrate.ports import Store


def refuse_taken(store: Store, ledger: Ledger, ledger_id: str, collection: str, aliases: Iterable[str]) -> None:
    """Stop before an alias is pointed to a collection that another one is reached by.

    Whoever reads and writes by it would find other points there, and nothing would tell.

    Args:
        ledger_id: identity of the ledger; empty while it has none.
        collection: that the further names are for.
        aliases: the names; those that nothing has, and further ones of this ledger's own collections, may be given.

    Raises:
        RefusedError: one is the logical name of a collection, or leads to a collection of another ledger.
    """
    known, views = store.aliases(), ledger.collections()
    for alias in aliases:
        if alias == collection:
            continue
        view = views.get(alias)
        if view is not None and view.physical is not None:
            raise RefusedError(
                f"{alias} is the name of a collection under management, which {view.physical} serves: as a further "
                f"name of {collection} it would be taken away from there",
                hint=f"give another alias; or take that name away first, in a revision of its own: "
                f"op.DropCollection({alias!r})",
            )
        if alias not in known:
            continue
        found = store.describe(alias)
        owner = ((found.seal if found else None) or {}).get("ledger")
        if owner not in (None, ledger_id):
            raise RefusedError(
                f"{alias} leads to {known[alias]}, which is under management of another ledger ({owner}): as a further "
                f"name of {collection} it would be taken away from there",
                hint=f"give another alias; who runs that application may drop {quote(alias)} first",
            )


def names_of(step: Step) -> tuple[str, ...]:
    """The further names that a step gives."""
    if isinstance(step, GoLive):
        return () if step.back or step.target is None else step.aliases
    added = step.changes if isinstance(step, InPlace) else ()
    return tuple(change.name for change in added if change.kind == "alias.add")
