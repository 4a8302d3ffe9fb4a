"""What is still to be done for a revision as the ledger alone shows it, without reading Qdrant. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Applied, Capabilities, CollectionState, World
from qmigrate.planner.forward import pending
from qmigrate.revisions import Revisions

_UNKNOWN = Capabilities(
    local=False, version=(0, 0, 0), label="", snapshots=False, payload_indexes=False, vector_names=False, barrier=False
)


def unfinished(
    applied: Mapping[str, tuple[Applied, ...]],
    revisions: Revisions,
    wanted: frozenset[str],
    away: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Logical name -> the revisions that it hasn't got, of a target and everything before it.

    A collection that a revision names and that the ledger doesn't know counts as unfinished; a glob is about the
    collections that are in the ledger.

    Args:
        applied: per logical name, as the ledger has it.
        wanted: ids of the target and all its ancestors.
        away: logical names that no collection has any more: only what recreates one is about it.
    """
    known = {name: entries for name, entries in applied.items() if entries}
    world = World(
        ledger_id="",
        capabilities=_UNKNOWN,
        collections={
            name: CollectionState(
                name=name,
                kind="alias",
                managed=True,
                applied=entries,
                declared=None if name in away else CollectionSchema(),
            )
            for name, entries in known.items()
        },
    )
    found = {name: list(pending(world, revisions, wanted, name)) for name in known}
    for revision in revisions.order():
        names = {operation.pattern for operation in revision.operations if not operation.is_glob}
        for name in sorted(names - known.keys()):
            if revision.id in wanted:
                found.setdefault(name, []).append(revision.id)
    return {name: tuple(entries) for name, entries in sorted(found.items()) if entries}
