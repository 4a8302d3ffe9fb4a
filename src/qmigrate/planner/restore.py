"""Restores: points of an earlier time become the next generation; and the way back from one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qmigrate.errors import DriftError, RefusedError
from qmigrate.model.names import generation_name
from qmigrate.model.origin import SNAPSHOT, Known, Origin
from qmigrate.model.plan import RESTORED, Build, Closing, CollectionPlan, GoLive, Job, Plan, Step
from qmigrate.model.schema import CollectionSchema
from qmigrate.model.state import Capabilities, CollectionState, Moment, World, moments_of
from qmigrate.observe import unmanaged
from qmigrate.planner.members import Position
from qmigrate.planner.plain_names import describe, in_order, settled
from qmigrate.planner.replaced import parts_of, unrecorded
from qmigrate.planner.rollback import names_before
from qmigrate.revisions.graph import Revisions
from qmigrate.text import counted, quote

#: Stands in the history where points came back that no revision was applied to.
NO_REVISION = "base"


def plan_restore(
    world: World, revisions: Revisions, state: CollectionState, origin: Origin, *, plain: str = "shadow"
) -> Plan:
    """Build the next generation of `state` from `origin` and go live with it; the live one is left unchanged.

    Args:
        state: of the name that gets the points; it may be absent.
        plain: how a plain name may become an alias: see :func:`qmigrate.planner.plain_names.way_of`.

    Raises:
        RefusedError: it can't be restored there; names why and what to do.
        DriftError: a revision that would count as applied again has another file now.
    """
    _refuse_unmanaged(world, state)
    _refuse_held(state)
    if origin.kind == SNAPSHOT:
        _refuse_snapshot(world.capabilities, origin)
    known, notes = _revisions(revisions, state, origin)
    live = state.live.schema if state.live else None
    before = Position(state.name, state.declared, live, state.physical, state.next_number, state.hides, plain)
    first: tuple[Step, ...] = ()
    if before.physical == state.name and plain != "shadow":
        first, before = settled(before)
    target = generation_name(state.name, before.number)
    reason = f"the points of {_when(origin)} come back beside what serves now"
    build = Build(
        (), before.physical, target, before.number, origin.schema, "restore", reason, origin=origin.to_json()
    )
    aliases = (state.name, *(live.aliases if live else ()))
    place = "shadow" if before.physical == state.name else "alias"
    golive = GoLive((), before.physical, target, aliases, place=place, apart=True)
    steps = in_order(first, build, golive)
    closes = unrecorded(_closings(state, known, origin.declared, len(steps) - 1), state, revisions)
    item = CollectionPlan(
        job=Job(state.name, state.basis(), steps, closes),
        lines=_lines(state, origin, known),
        reasons=(reason, *describe(state, list(steps))),
        points=origin.points,
        bytes=origin.size,
        way_back=_way_back(state, before.physical),
    )
    used = {one.revision: one.checksum for one in known}
    return Plan("restore", tuple(one.revision for one in known[-1:]), (item,), tuple(notes), used)


def plan_undo(
    state: CollectionState, moments: Sequence[Moment], revisions: Revisions, *, writes: str = "refuse"
) -> Plan:
    """Back to the generation that served before the last restore.

    Args:
        moments: the collection's history.
        revisions: the graph, for what is recorded of squashed ones.
        writes: ``refuse`` when anything was written since, or ``discard``.

    Raises:
        RefusedError: what serves now was not restored, or the generation before is not kept any more.
    """
    _refuse_held(state)
    if not was_restored(moments, state.physical):
        raise RefusedError(
            f"what serves {state.name} now was not restored, so there is no restore to undo",
            hint=f"qmigrate rollback --only {quote(state.name)} undoes a revision; qmigrate history shows what was "
            "done",
        )
    parent = state.parent()
    if parent is None:
        raise RefusedError(
            f"the generation that served {state.name} before the restore is not kept any more",
            hint="restore a later snapshot: qmigrate snapshot list",
        )
    there = moments_of(moments, state.generations, parent.physical)
    known = tuple(Known(*entry) for entry in there[-1].applied) if there else ()
    live = state.live.schema if state.live else CollectionSchema()
    place = "shadow" if parent.physical == state.name else "alias"
    names = (state.name, *live.aliases)
    # Going back undoes what was applied since, and with that the names that it has taken.
    earlier = names_before(reversed(state.applied[_in_common(state, known) :]))
    golive = GoLive(
        (), state.physical, parent.physical, names, back=True, writes=writes, place=place, apart=True, earlier=earlier
    )
    closes = unrecorded(_closings(state, known, parent.schema, 0), state, revisions)
    item = CollectionPlan(
        job=Job(state.name, state.basis(), (golive,), closes),
        lines=(f"back to {parent.physical}, which served before the restore{_at(known)}",),
        reasons=(f"alias re-point, milliseconds; writes since: {writes}",),
        points=state.live.points if state.live else None,
        way_back=f"restore the snapshot again; what serves now stays in {state.physical} until gc",
    )
    used = {one.revision: one.checksum for one in known}
    return Plan("restore", tuple(one.revision for one in known[-1:]), (item,), (), used)


def was_restored(moments: Sequence[Moment], physical: str | None) -> bool:
    """Whether a generation was made by a restore."""
    return any(
        (moment.physical, moment.direction, moment.strategy) == (physical, RESTORED, "restore") for moment in moments
    )


def _refuse_unmanaged(world: World, state: CollectionState) -> None:
    if state.kind != "absent" and not state.in_hand:
        why = "exists and is not under management, so nothing is restored over it"
        raise unmanaged(world.ledger_id, state, why, more="; or restore under another name: --into NAME")


def _refuse_held(state: CollectionState) -> None:
    if state.held:
        raise RefusedError(
            f"the next generation of {state.name} is built and waits for its cut-over",
            hint=f"first cut over to it (qmigrate cutover {quote(state.name)}) or remove it (qmigrate abort "
            f"{quote(state.name)})",
        )


def _refuse_snapshot(capabilities: Capabilities, origin: Origin) -> None:
    """A server accepts these, and points are missing."""
    if origin.custom_sharding:
        raise RefusedError(
            f"{origin.physical} uses custom sharding: a server recovers its snapshot under a new name without any "
            "shard, restores nothing and reports success",
            hint="recover it by hand into a collection with the same shard keys, made in the same order",
        )
    if capabilities.peers != 1:
        others = f"the other {capabilities.peers - 1} out" if capabilities.peers else "others out, if there are any"
        raise RefusedError(
            f"the snapshot {origin.name} holds the shards of one node only; recovering it leaves the points of "
            f"{others}, without an error",
            hint="restore an archive instead (qmigrate snapshot create --archive makes one), or recover the snapshot "
            "of every node by hand",
        )


def _revisions(
    revisions: Revisions, state: CollectionState, origin: Origin
) -> tuple[tuple[Known, ...], list[str]]:
    """The revisions that the restored collection is recorded at, each with the checksum of its file; notes."""
    files = {revision.id: revision for revision in revisions.order()}
    unknown = [one.revision for one in origin.revisions if not revisions.knows(one.revision)]
    if unknown:
        if state.kind != "absent":
            raise RefusedError(
                f"{origin.name} was made at revision {origin.revisions[-1].revision}, and there is no file of "
                f"{', '.join(unknown)} here: {state.name} could not be recorded at it",
                hint="bring the revision files, or restore under another name: --into NAME",
            )
        what = f"revision {', '.join(unknown)} has no file here: {state.name} is recorded at no revision"
        return (), [what]
    current = state.applied_revisions()
    if current and not origin.revisions:
        raise RefusedError(
            f"{origin.name} was made when {origin.logical} was at no revision, and {state.name} is at {current[-1]}: "
            "every revision would count as pending again, the first one too",
            hint="restore it under another name: --into NAME",
        )
    named = [one for one in origin.revisions if state.name == origin.logical or _names(revisions, one.revision, state)]
    for position, one in enumerate(named):
        file = files.get(one.revision)
        if file is None:
            # Its file was removed, since another one replaces it: there is nothing to compare.
            continue
        shared = current[: position + 1] == tuple(known.revision for known in named[: position + 1])
        # What was applied, which a file may have been accepted for since; not another one of the same name.
        if one.checksum not in (file.checksum, state.applied[position].checksum if shared else None):
            raise DriftError(
                f"{origin.name} was made with another {file.path.name} (recorded {one.checksum[:12]}, now "
                f"{file.checksum[:12]}), so its points can't be recorded at revision {one.revision}",
                hint="restore the file as it was",
            )
    notes = []
    if len(named) < len(origin.revisions):
        notes.append(f"not every revision of {origin.logical} names {state.name}: those that don't are not recorded")
    return tuple(
        replace(one, checksum=files[one.revision].checksum) if one.revision in files else one for one in named
    ), notes


def _names(revisions: Revisions, revision: str, state: CollectionState) -> bool:
    whole = revisions.replacement(revision)
    if whole is not None and revisions.is_gone(revision):
        return revision in parts_of(whole, state.name, revisions)
    return any(operation.matches(state.name) for operation in revisions.get(revision).operations)


def _closings(
    state: CollectionState, known: Sequence[Known], declared: CollectionSchema, step: int
) -> tuple[Closing, ...]:
    """What is undone, what is applied again, and a row that records where the points came from."""
    same = _in_common(state, known)
    prior = state.declared
    made = []
    for entry in reversed(state.applied[same:]):
        made.append(Closing(step, entry.revision, "rollback", entry.checksum, entry.prior, prior))
        prior = entry.prior
    for one in known[same:]:
        after = one.declared or declared
        made.append(Closing(step, one.revision, "upgrade", one.checksum, after, prior))
        prior = after
    newest = known[-1] if known else Known(NO_REVISION, "")
    made.append(Closing(step, newest.revision, RESTORED, newest.checksum, declared, prior))
    return tuple(made)


def _in_common(state: CollectionState, known: Sequence[Known]) -> int:
    """How many of the applied revisions stay: the first ones, which both have."""
    pairs = zip(state.applied_revisions(), (one.revision for one in known), strict=False)
    return next(
        (place for place, pair in enumerate(pairs) if pair[0] != pair[1]), min(len(state.applied), len(known))
    )


def _lines(state: CollectionState, origin: Origin, known: Sequence[Known]) -> tuple[str, ...]:
    points = counted(origin.points, "point") if origin.points is not None else "its points (counted once recovered)"
    now = f"; {state.live.points:,} serve now" if state.live else ""
    lines = [f"restore {points} of {_when(origin)} from {origin.kind} {origin.name}{now}"]
    applied = state.applied_revisions()
    if applied and applied != tuple(one.revision for one in known):
        lines.append(f"recorded{_at(known)}, {state.name} is at {applied[-1]} now")
    if state.live:
        lines.append(f"what was written since is not in it; it stays in {state.physical}")
    return tuple(lines)


def _way_back(state: CollectionState, physical: str | None) -> str:
    if physical is None:
        return "the name is taken away again; the points stay in the generation until gc"
    return f"qmigrate snapshot restore {quote(state.name)} --undo, in milliseconds, while {physical} is kept"


def _at(known: Sequence[Known]) -> str:
    return f" at {known[-1].revision}" if known else " at no revision"


def _when(origin: Origin) -> str:
    return f"{origin.created_at:%Y-%m-%d %H:%M:%S} UTC" if origin.created_at else "an earlier time"
