"""The way forward: which revisions are pending for which collection, and the steps that apply them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qmigrate.errors import PlanError, RefusedError
from qmigrate.model.plan import REBUILDS, Closing, CollectionPlan, Job, OpRef, Plan, Step
from qmigrate.model.state import CollectionState, World
from qmigrate.observe import check_ownership
from qmigrate.operations.base import Operation
from qmigrate.planner.members import before_birth, made_by_glob, refs_of
from qmigrate.planner.plain import describe
from qmigrate.planner.position import Position
from qmigrate.planner.segment import Segment, closing, fold
from qmigrate.planner.unknown import notice
from qmigrate.revisions import Revision, Revisions


@dataclass(slots=True)
class _Draft:
    """A collection's plan while it grows."""

    state: CollectionState
    position: Position
    steps: list[Step] = field(default_factory=list)
    closes: list[Closing] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    incompatible: list[str] = field(default_factory=list)
    copies: int = 0
    skip: frozenset[str] = frozenset()
    wanted: bool = False
    ensured: bool = False


def plan_upgrade(
    world: World,
    revisions: Revisions,
    wanted: frozenset[str],
    *,
    only: Iterable[str] | None = None,
    plain: str = "shadow",
    create: frozenset[str] = frozenset(),
) -> Plan:
    """Everything that is pending up to a target.

    Args:
        wanted: ids of the target and all its ancestors.
        only: restrict the work to these logical names.
        plain: how a plain name may become an alias; see :func:`qmigrate.planner.plain.way_of`.
        create: names that a glob may create; by itself it creates nothing.

    Raises:
        PlanError: an operation can't be done; names revision, file and operation.
        RefusedError: it names a collection that is not under management.
    """
    drafts = {name: _draft(state, plain, revisions, create) for name, state in world.collections.items()}
    notes: list[str] = []
    for revision in revisions.order():
        if revision.id in wanted:
            _apply_revision(world, drafts, (revision, revisions), notes, frozenset(only) if only is not None else None)
    chosen = [draft for draft in drafts.values() if draft.steps or draft.closes]
    if world.capabilities.local and chosen:
        notes.append("local mode: payload indexes and server settings are declared, not enforced; no snapshots")
    heads = tuple(sorted(wanted - {parent for one in revisions.order() if one.id in wanted for parent in one.down}))
    return Plan(
        verb="upgrade",
        target=heads,
        collections=tuple(_finished(draft) for draft in chosen),
        notes=tuple(notes),
        checksums={revision.id: revision.checksum for revision in revisions.order()},
    )


def pending(world: World, revisions: Revisions, wanted: frozenset[str], name: str) -> tuple[str, ...]:
    """Revisions up to the target that name a collection which exists, and that it hasn't got."""
    state = world.collections[name]
    applied = set(state.applied_revisions())
    exists = bool(applied)
    skip = applied | before_birth(state, revisions)
    found = []
    for revision in revisions.order():
        refs = refs_of(revision, name, exists=exists)
        if revision.id not in wanted or revision.id in skip or not refs:
            continue
        exists = exists or any(one.creates and (state.managed or not one.is_glob) for _, one in refs)
        if exists:
            found.append(revision.id)
    return tuple(found)


def _apply_revision(
    world: World,
    drafts: dict[str, _Draft],
    place: tuple[Revision, Revisions],
    notes: list[str],
    only: frozenset[str] | None,
) -> None:
    revision, revisions = place
    for name in _named(revision, drafts):
        if only is not None and name not in only:
            continue
        absent = CollectionState(name=name, kind="absent", managed=False)
        draft = drafts.setdefault(name, _draft(absent, "shadow", revisions, frozenset()))
        refs = refs_of(revision, name, exists=draft.position.declared is not None)
        if not refs or revision.id in draft.skip:
            continue
        if _belongs(world, draft, revision, [operation for _, operation in refs], notes):
            _extend(world, draft, revision, refs)
    _warn_of_empty_globs(revision, drafts, notes)


def _named(revision: Revision, drafts: dict[str, _Draft]) -> list[str]:
    """Logical names that the revision speaks of: exact ones always, known ones by glob."""
    names = {operation.pattern for operation in revision.operations if not operation.is_glob}
    for name in drafts:
        if any(operation.matches(name) for operation in revision.operations):
            names.add(name)
    return sorted(names)


def _belongs(
    world: World, draft: _Draft, revision: Revision, operations: list[Operation], notes: list[str]
) -> bool:
    """Whether the revision applies to the collection as it stands; refuses what isn't under management."""
    name, exact = draft.state.name, any(not operation.is_glob for operation in operations)
    makers = [operation for operation in operations if operation.creates]
    if draft.position.declared is not None:
        return True
    if makers and not all(operation.is_glob for operation in makers):
        if draft.state.kind != "absent":
            # Another ledger's collection is no candidate for adopt: say so first.
            check_ownership(world, name)
            raise _unmanaged(draft.state, revision, creating=True)
        return True
    if makers and draft.state.kind == "absent" and (draft.state.managed or draft.wanted):
        return True
    exact = exact and not draft.ensured
    if draft.state.kind != "absent" and not draft.state.managed:
        if exact:
            check_ownership(world, name)
            raise _unmanaged(draft.state, revision, creating=False)
        note = f"{name} matches revision {revision.id}, but is not under management: it is left alone"
        note += f" (qmigrate adopt {name})" if makers else ""
        if note not in notes:
            notes.append(note)
        return False
    if exact and not draft.state.managed:
        raise PlanError(
            f"revision {revision.id} ({revision.path.name}) names {name}, which no earlier revision creates",
            hint=f"create it in an earlier revision: op.CreateCollection({name!r}, …)",
        )
    return False


def _extend(world: World, draft: _Draft, revision: Revision, refs: list[tuple[OpRef, Operation]]) -> None:
    prior = draft.position
    segment = fold(prior, refs, f"revision {revision.id} ({revision.path.name})", world.capabilities)
    draft.position = segment.position
    draft.steps += segment.steps
    draft.closes.append(
        closing(segment, prior, (revision.id, revision.checksum), len(draft.steps) - 1, "upgrade")
    )
    _describe(draft, revision, segment)


def _describe(draft: _Draft, revision: Revision, segment: Segment) -> None:
    draft.lines += [f"{revision.id}  {line}" for line in segment.lines]
    draft.reasons.append(f"{revision.id}  {segment.strategy}: {segment.reason}")
    draft.incompatible += [f"{revision.id}  {line}" for line in segment.incompatible]
    draft.copies += segment.strategy in REBUILDS
    if segment.strategy == "clone":
        draft.reasons += [f"{revision.id}  {line}" for line in notice(draft.position)]


def _draft(state: CollectionState, plain: str, revisions: Revisions, create: frozenset[str]) -> _Draft:
    managed = state.managed and state.declared is not None
    return _Draft(
        state=state,
        skip=before_birth(state, revisions) | set(state.applied_revisions()),
        wanted=state.name in create,
        ensured=made_by_glob(revisions, state.name),
        position=Position(
            name=state.name,
            declared=state.declared if managed else None,
            live=state.live.schema if managed and state.live else None,
            physical=state.physical if managed else None,
            number=state.next_number,
            hides=state.hides,
            plain=plain,
            points=state.live.points if managed and state.live else 0,
            unknown=state.live.unknown if managed and state.live else (),
        ),
    )


def _finished(draft: _Draft) -> CollectionPlan:
    state = draft.state
    job = Job(collection=state.name, basis=state.basis(), steps=tuple(draft.steps), closes=tuple(draft.closes))
    points = state.live.points if state.live and draft.copies else None
    size = points * _bytes_per_point(state) * draft.copies if points is not None else None
    return CollectionPlan(
        job=job,
        lines=tuple(draft.lines),
        reasons=(*draft.reasons, *describe(state, draft.steps)),
        points=points,
        bytes=size,
        incompatible=tuple(draft.incompatible),
        way_back=_way_back(draft),
    )


def _bytes_per_point(state: CollectionState) -> int:
    """Vectors as float32 and a guess of 200 bytes for id and payload: an estimate for people, used for nothing else."""
    vectors = state.live.schema.vectors if state.live else {}
    return 200 + sum(4 * int(params.get("size", 0)) for params in vectors.values())


def _way_back(draft: _Draft) -> str:
    before = draft.state.applied_revisions()
    if not before:
        return "the name is taken away again; the points stay in the generation until gc"
    if draft.copies:
        return f"to {before[-1]} in milliseconds, while {draft.state.physical} is kept"
    return f"to {before[-1]} by the reverse changes"


def _unmanaged(state: CollectionState, revision: Revision, *, creating: bool) -> PlanError | RefusedError:
    what = "a plain collection" if state.kind == "plain" else f"an alias of {state.physical}"
    if creating:
        return PlanError(
            f"revision {revision.id} ({revision.path.name}) creates {state.name}, but {state.name} exists already: "
            f"{what} that is not under management",
            hint=f"take it over instead of creating it: qmigrate adopt {state.name}",
        )
    return RefusedError(
        f"revision {revision.id} ({revision.path.name}) changes {state.name}, which is {what} and not under management",
        hint=f"a plain-named collection has to be taken over first: qmigrate adopt {state.name}",
    )


def _warn_of_empty_globs(revision: Revision, drafts: dict[str, _Draft], notes: list[str]) -> None:
    for operation in revision.operations:
        if operation.is_glob and not any(operation.matches(name) for name in drafts):
            none = f"revision {revision.id}: no collection matches {operation.pattern!r}"
            notes.append(none + ("; qmigrate.ensure creates them" if operation.creates else ""))
