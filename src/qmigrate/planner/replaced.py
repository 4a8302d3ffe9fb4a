"""Revisions that others replace: which of the two a collection goes by, and what is left of them for it. Pure.

A squashed revision stands for several earlier ones. A collection that has none of them gets the squashed one. One that
has all of them is where it leads: it is only recorded as passed. One in between continues with the earlier ones as long
as their files are there, and has passed it then. What was squashed may be squashed again: then the earlier ones are the
squashed revision, or all that it stands for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from qmigrate.errors import RefusedError
from qmigrate.model.names import fits
from qmigrate.model.plan import APPLYING, ASIDE, Closing
from qmigrate.model.state import CollectionState
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.revisions.in_git import restore_command
from qmigrate.text import quote


@dataclass(frozen=True, slots=True)
class Replaced:
    """What squashed revisions mean for one collection.

    Attributes:
        skip: ids that are not to be applied to it: of a squashed revision and the earlier ones always the one or the
            others.
        passed: squashed revisions where it has, or is about to get, all of the earlier ones.
        lost: squashed revision -> those of the earlier ones that it hasn't got, and that have no file any more.
    """

    skip: frozenset[str] = frozenset()
    passed: tuple[Revision, ...] = ()
    lost: tuple[tuple[Revision, tuple[str, ...]], ...] = ()


def replaced(
    revisions: Revisions,
    name: str,
    applied: Collection[str],
    wanted: Collection[str],
    never: Collection[str] = frozenset(),
) -> Replaced:
    """What squashed revisions mean for a collection.

    Args:
        name: the logical name.
        applied: ids of what is applied to it.
        wanted: ids that are to be applied: a squashed revision that isn't among them replaces nothing yet.
        never: ids that are not about it, since they are older than it.
    """
    skip: set[str] = set()
    passed: list[Revision] = []
    lost: list[tuple[Revision, tuple[str, ...]]] = []
    has = having(revisions, name, applied)
    for one in revisions.squashed():
        begun = not set(applied).isdisjoint(one.replaces)
        if one.id in applied or not begun:
            skip.update(one.replaces if one.id in applied or one.id in wanted else {one.id})
            continue
        skip.add(one.id)
        missing = tuple(
            old
            for old in single_parts(one, name, revisions)
            if old not in has and (old not in never or revisions.is_gone(old))
        )
        gone = tuple(old for old in missing if revisions.is_gone(old))
        if gone and one.id in wanted:
            lost.append((one, gone))
        elif one.id in wanted:
            passed.append(one)
    return Replaced(frozenset(skip), tuple(passed), tuple(lost))


def having(revisions: Revisions, name: str, applied: Collection[str]) -> frozenset[str]:
    """What a collection has by what is applied: also what a squashed revision stands for, and one all of which it has.

    Args:
        name: the logical name.
        applied: ids of what is applied to it.
    """
    squashed = revisions.squashed(gone=True)
    found = set(applied).union(*(one.replaces for one in squashed if one.id in applied))
    for one in squashed:
        parts = parts_of(one, name, revisions)
        if parts and found.issuperset(parts):
            found.add(one.id)
    return frozenset(found)


def single_parts(squashed: Revision, name: str, revisions: Revisions) -> tuple[str, ...]:
    """The parts for a collection without those that stand for others of them."""
    parts = parts_of(squashed, name, revisions)
    inner = dict(squashed.squashed)
    return tuple(old for old in parts if set(parts).isdisjoint(inner.get(old, ())))


def parts_of(squashed: Revision, name: str, revisions: Revisions) -> tuple[str, ...]:
    """Those of the replaced revisions that are about a collection."""
    if revisions.is_gone(squashed.id):
        whole = revisions.replacement(squashed.id)
        outer = parts_of(whole, name, revisions) if whole is not None else ()
        return tuple(old for old in outer if old in squashed.replaces)
    said = dict(squashed.replaces_for)
    if not said:
        about = any(one.matches(name) for one in squashed.operations)
        return tuple(old for old in squashed.replaces if _is_about(revisions.get(old), name, gone=about))
    if name in said:
        # A glob that makes collections has nothing for one that was there before.
        return said[name]
    for one in squashed.operations:
        # What it was made by decides: what came before that was never about it.
        if one.creates and one.matches(name) and one.pattern in said:
            return said[one.pattern]
    found = {old for pattern, ids in said.items() if fits(name, pattern) for old in ids}
    return tuple(old for old in squashed.replaces if old in found)


def ends_with(squashed: Revision, revision: str, name: str, revisions: Revisions) -> bool:
    """Whether a collection that got this revision last has all of the squashed one."""
    parts = (parts_of(squashed, name, revisions), single_parts(squashed, name, revisions))
    return any(revision == ids[-1] for ids in parts if ids)


def _is_about(old: Revision, name: str, *, gone: bool) -> bool:
    return gone if old.problem is not None else any(one.matches(name) for one in old.operations)


def bring_back(squashed: Revision, revisions: Revisions) -> str:
    """The command for the files that were removed, all of them, since a part of them is refused."""
    return restore_command(squashed, [old for old in squashed.replaces if revisions.is_gone(old)])


def refuse_closed(state: CollectionState, keep: Collection[str], revisions: Revisions) -> None:
    """Stop before a rollback into the middle of what was squashed, where the files that lead on from there are gone.

    Args:
        keep: ids that stay applied.

    Raises:
        RefusedError: so it is, and it isn't there already; names what to do first.
    """
    wanted = frozenset(one.id for one in revisions.order())
    before, applied = (
        replaced(revisions, state.name, ids, wanted).lost
        for ids in (state.applied_revisions(), [one for one in state.applied_revisions() if one in keep])
    )
    there = {one.id for one, _ in before}
    for one, gone in applied:
        if one.id in there:
            continue
        have = [old for old in one.replaces if old in keep and old in state.applied_revisions()]
        raise RefusedError(
            f"{state.name} would have {', '.join(have)} of what revision {one.id} replaces, and not {', '.join(gone)}: "
            "their files were removed from the folder, so no upgrade could go on from there",
            hint=f"bring the files back first: {bring_back(one, revisions)}\n"
            "or go back all the same, and bring them back before the next upgrade: "
            f"qmigrate rollback … --only {quote(state.name)} --without-files",
            facts={"collection": state.name, "revision": one.id, "missing": list(gone)},
        )


def refuse_lost(state: CollectionState, found: Replaced, revisions: Revisions) -> None:
    """Stop where a collection is in the middle of what was squashed, and can't be continued.

    Raises:
        RefusedError: so it is; names what is missing.
    """
    for one, gone in found.lost:
        have = [old for old in one.replaces if old in state.applied_revisions()]
        raise RefusedError(
            f"{state.name} has {', '.join(have)} of what revision {one.id} replaces, and not {', '.join(gone)}, which "
            f"was removed from the folder: it can neither continue nor begin with {one.id}",
            hint=f"bring the files back that it replaces: {bring_back(one, revisions)}\n"
            f"then qmigrate upgrade, and remove them again once qmigrate show {quote(one.id)} says that they may go",
            facts={
                "collection": state.name,
                "revision": one.id,
                "missing": list(gone),
                "next": f"qmigrate show {quote(one.id)}",
            },
        )


def standing_ids(revisions: Revisions, name: str, ids: Collection[str]) -> frozenset[str]:
    """Ids with a squashed revision in place of what it replaces, where that is all of it or has no file any more."""
    found = set(ids)
    for one in revisions.squashed():
        if one.id not in found:
            parts = parts_of(one, name, revisions)
            if not parts or not all(map(revisions.is_gone, parts)) or not having(revisions, name, found) >= {*parts}:
                continue
            found.add(one.id)
        found.difference_update(one.replaces)
    return frozenset(found)


def unrecorded(closes: Sequence[Closing], state: CollectionState, revisions: Revisions) -> tuple[Closing, ...]:
    """What a job records, and that a collection is not past a squashed revision any more, a part of which is undone.

    Else an application that expects the squashed one would begin to work on a part of it.

    Args:
        closes: what it records without that.
    """
    found = list(closes)
    known = {one.id: one for one in revisions.squashed(gone=True)}
    for passed in sorted(state.passed):
        one = known.get(passed)
        # Where its file is gone, or was never in this checkout, any revision that is undone may be a part of it.
        parts = one.replaces if one is not None else None
        undone = (at for at, row in enumerate(found) if row.direction not in APPLYING | ASIDE)
        place = next((at for at in undone if parts is None or found[at].revision in parts), None)
        if place is not None:
            row, checksum = found[place], one.checksum if one is not None else ""
            # Before that, so that what is recorded last is where the collection stands.
            found.insert(place, Closing(row.step, passed, "unstamp", checksum, row.prior, row.prior))
    return tuple(found)


def stands_at(state: CollectionState, revisions: Revisions | None) -> str | None:
    """Where a collection is, for people: see :func:`newest_of`.

    Args:
        revisions: None where there are no files.
    """
    return newest_of(state.name, state.applied_revisions(), state.passed, revisions)


def newest_of(
    name: str, applied: Sequence[str], passed: Collection[str], revisions: Revisions | None
) -> str | None:
    """The newest revision of a collection: the squashed one where it is recorded as passed, or all that is left.

    Args:
        applied: ids, oldest first.
        passed: squashed revisions that are recorded as passed.
        revisions: None where there are no files.
    """
    newest = applied[-1] if applied else None
    if revisions is None or newest is None:
        return newest
    has = having(revisions, name, applied)
    for one in reversed(revisions.squashed()):
        if newest in one.replaces and (one.id in passed or revisions.is_gone(newest)) and one.id in has:
            return one.id
    return newest
