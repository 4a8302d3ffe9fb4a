"""Revisions that wait for the SQL schema: which of them matter, and how far the others can go. Pure."""

from __future__ import annotations

from collections.abc import Collection

from qmigrate.model.state import World
from qmigrate.planner.forward import pending, to_create
from qmigrate.revisions import Revisions


def required(world: World, revisions: Revisions, wanted: frozenset[str]) -> dict[str, str]:
    """Revision -> the SQL revision that must be applied first, for those that any collection still needs."""
    found = {one.id: one.requires_sql for one in revisions.order() if one.requires_sql and one.id in wanted}
    if not found:
        return {}
    needed = {one for name in world.collections for one in pending(world, revisions, wanted, name)}
    needed |= {one for entries in to_create(world, revisions).values() for one in entries}
    return {revision: sql for revision, sql in found.items() if revision in needed}


def reachable(revisions: Revisions, wanted: frozenset[str], waiting: Collection[str]) -> frozenset[str]:
    """What can be applied now: a revision that waits stops everything that comes after it."""
    stopped = set(waiting)
    return frozenset(one for one in wanted if one not in stopped and stopped.isdisjoint(revisions.ancestors(one)))
