"""Which operations of a revision are about a collection, and the schema that revisions have recorded for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from qmigrate.model.plan import OpRef
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import CollectionState
from qmigrate.operations.base import Operation
from qmigrate.planner.replaced import standing_ids
from qmigrate.revisions.graph import Revision, Revisions

Refs = list[tuple[OpRef, Operation]]


@dataclass(frozen=True, slots=True)
class Link:
    """A revision that is about a collection, with the recorded schema before and after it."""

    revision: Revision
    refs: tuple[tuple[OpRef, Operation], ...]
    before: CollectionSchema | None
    after: CollectionSchema | None


def refs_of(revision: Revision, name: str, *, exists: bool) -> Refs:
    """The operations about a collection, in order; a glob creates only what is not there.

    Args:
        revision: whose operations.
        name: the logical name.
        exists: whether the collection is there before the first of them.
    """
    found: Refs = []
    for position, operation in enumerate(revision.operations):
        if not operation.matches(name) or (operation.creates and operation.is_glob and exists):
            continue
        exists = (exists or operation.creates) and not operation.drops
        found.append((OpRef(revision.id, position), operation))
    return found


def naming(revisions: Revisions, ids: Collection[str], name: str) -> Iterator[tuple[Revision, tuple[Operation, ...]]]:
    """Those of these revisions that are about a collection, parents first, with their operations on it."""
    for revision in revisions.order():
        matching = tuple(operation for operation in revision.operations if operation.matches(name))
        if revision.id in ids and matching:
            yield revision, matching


def newest(revisions: Revisions, ids: Collection[str]) -> tuple[str, ...]:
    """Those of these revisions that none of them follows, sorted: files, and others only where there are no files."""
    found = [revisions.get(one) for one in ids if revisions.knows(one)]
    named = [one for one in found if not one.inline] or found
    return tuple(sorted(revisions.tips([one.id for one in named])))


def before_birth(state: CollectionState, revisions: Revisions) -> frozenset[str]:
    """Revisions older than the one that made or adopted the collection: they were never about it.

    Of one that was dropped and recreated, the newest of those that made it counts.
    """
    applied = state.applied_revisions()
    # What is dropped now is older than what recreates it.
    again = [place for place, entry in enumerate(state.applied[:-1], 1) if entry.strategy == "drop"]
    birth = applied[again[-1] if again else 0] if applied else None
    if birth is None or not revisions.knows(birth):
        return frozenset()
    return revisions.ancestors(birth) - set(applied)


def made_by_glob(revisions: Revisions, name: str) -> bool:
    """Whether ``qmigrate.ensure`` would create a collection of this name."""
    return any(
        operation.creates and operation.is_glob and operation.matches(name)
        for revision in revisions.order()
        for operation in revision.operations
    )


def untouched(
    revisions: Revisions, name: str, newest: str | None, wanted: Collection[str]
) -> tuple[str, ...]:
    """Revisions that come after the newest one of a collection, and have nothing for it.

    Args:
        newest: where it is; None where nothing is applied to it.
        wanted: ids that count.
    """
    known = [
        one
        for one in revisions.order()
        if one.id == newest or (one.id in wanted and not one.inline and revisions.replacement(one.id) is None)
    ]
    place = next((at for at, one in enumerate(known) if one.id == newest), None)
    later = known[place + 1 :] if place is not None else []
    return tuple(one.id for one in later if not any(each.matches(name) for each in one.operations))


def chain(revisions: Revisions, name: str, wanted: Collection[str]) -> tuple[Link, ...]:
    """The life of a collection as the files declare it, from the revision that creates it.

    A squashed revision stands for what it replaces, where it is among those that count.

    Args:
        revisions: the graph.
        name: the logical name.
        wanted: ids that count: a revision and its ancestors.
    """
    links: list[Link] = []
    schema: CollectionSchema | None = None
    standing = standing_ids(revisions, name, wanted)
    for revision in revisions.order():
        if revision.id not in standing:
            continue
        refs = refs_of(revision, name, exists=schema is not None)
        if not refs or (schema is None and not any(operation.creates for _, operation in refs)):
            continue
        before = schema
        for _, operation in refs:
            schema = operation.apply(schema)
        links.append(Link(revision, tuple(refs), before, schema))
    return tuple(links)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a collection stands while its revisions are folded, one after the other.

    Attributes:
        declared: the recorded schema; None while it doesn't exist.
        live: what the serving generation has, or will have; None likewise.
        physical: its physical name.
        number: the next free generation number.
        hides: the alias hides a plain collection of its name.
        plain: how a plain name may become an alias: ``shadow | gap | refuse``.
        points: of the serving generation, approximately.
        unknown: settings of it that this version doesn't know, as paths.
    """

    name: str
    declared: CollectionSchema | None
    live: CollectionSchema | None
    physical: str | None
    number: int
    hides: bool = False
    plain: str = "shadow"
    points: int = 0
    unknown: tuple[str, ...] = ()
