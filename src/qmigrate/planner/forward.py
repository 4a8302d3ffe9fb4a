"""The way forward: which revisions are pending for which collection, and the steps that apply them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from qmigrate.errors import PlanError, RefusedError
from qmigrate.model import names as patterns
from qmigrate.model.facts.edits import Telling
from qmigrate.model.facts.stored import loaded
from qmigrate.model.plan import (
    SQUASHED,
    Closing,
    CollectionPlan,
    GoLive,
    InPlace,
    Job,
    OpRef,
    Plan,
    RunCode,
    Step,
    WriteRows,
)
from qmigrate.model.schema import CollectionSchema, JsonObject
from qmigrate.model.state import CollectionState, World
from qmigrate.model.transform import PointTransform
from qmigrate.observe import check_ownership
from qmigrate.operations.base import Operation
from qmigrate.operations.values import Compute, Embed
from qmigrate.planner.members import Position, before_birth, made_by_glob, newest, refs_of
from qmigrate.planner.plain_names import describe, notice
from qmigrate.planner.replaced import Replaced, refuse_lost, replaced
from qmigrate.planner.segment import RevisionChange, Segment, closings, fold, segment
from qmigrate.revisions.graph import Revision, Revisions
from qmigrate.text import counted, did_you_mean, quote

#: Moves of the name, and data fixes, which change points on purpose: each is a segment of its own.
_ALONE = ("drop", "record", "edit")


def segments(parts: Sequence[RevisionChange], *, fuse: bool = True) -> list[tuple[RevisionChange, ...]]:
    """Consecutive parts that are done in one go.

    A run between two barriers is one segment when anything in it needs a rebuild: the light changes ride along.
    Without a rebuild each revision is done by itself, on the live collection.

    Args:
        fuse: False keeps every revision by itself.
    """
    found: list[tuple[RevisionChange, ...]] = []
    for run in _runs(parts):
        if fuse and any(part.strategy != "in_place" for part in run):
            found.append(tuple(run))
        else:
            found += [(part,) for part in run]
    return found


def _runs(parts: Sequence[RevisionChange]) -> list[list[RevisionChange]]:
    """The parts, split at the barriers."""
    runs: list[list[RevisionChange]] = []
    so_far: PointTransform | None = None
    for part in parts:
        alone = part.strategy in _ALONE or (bool(runs) and runs[-1][-1].strategy in _ALONE)
        if not runs or alone or part.strategy == "create" or (so_far is not None and barrier(so_far, part.transform)):
            runs.append([])
            # Nothing happens to points that don't exist: a new collection is made in its final shape.
            so_far = None if part.strategy == "create" else part.transform
        elif so_far is not None:
            so_far = so_far.then(part.transform)
        runs[-1].append(part)
    return runs


def barrier(so_far: PointTransform, later: PointTransform) -> bool:
    """Whether `later`, done in one go with what comes before it, would see other points than after it."""
    if (so_far.rekeys and not later.is_identity()) or (later.rekeys and not so_far.is_identity()):
        # The proof finds a point's counterpart by its new id alone, so nothing else may change in the same copy.
        return True
    if _reads_points(later) and not _keeps_points(so_far):
        # The user's functions would get the vectors of the old generation; and a vector that was filled has seen the
        # earlier payload, but a fused fill would see the one that a later function makes.
        return True
    # Stored in one form and then in another: rounded or normalised once is not the same as twice.
    formed = so_far.converted | frozenset(so_far.filled)
    return any(later.vectors[target] in formed for target in later.converted)


def _reads_points(transform: PointTransform) -> bool:
    """Whether a function of the user gets complete points."""
    return bool(transform.payload) or any(isinstance(value, Compute) for value in transform.values.values())


def _keeps_points(transform: PointTransform) -> bool:
    """Whether the vectors of every point stay what they are, whatever becomes of its payload."""
    carried = all(target == source for target, source in transform.vectors.items())
    return carried and not (transform.drops or transform.filled or transform.converted)


def write_back_steps(found: Segment) -> tuple[WriteRows, ...]:
    """The step that updates it; none where no point is embedded, or no write-back is declared."""
    last = found.steps[-1] if found.steps else None
    if found.strategy != "copy" or not isinstance(last, GoLive) or last.target is None:
        return ()
    transform = found.parts[0].transform
    for part in found.parts[1:]:
        transform = transform.then(part.transform)
    statements = tuple(
        _statement(found.parts, vector, value)
        for vector, value in sorted(transform.values.items())
        if isinstance(value, Embed) and value.write_back is not None
    )
    return (WriteRows(last.target, statements),) if statements else ()


def _statement(parts: tuple[RevisionChange, ...], vector: str, value: Embed) -> JsonObject:
    wanted = value.write_back
    assert wanted is not None  # noqa: S101  the caller looked
    said_by = [part.revision for part in parts if any(one is value for one in part.transform.values.values())]
    return wanted.said(vector, said_by[-1] if said_by else parts[-1].revision)


def words(steps: tuple[WriteRows, ...]) -> list[str]:
    """What happens then, for people."""
    return [
        f"then: {one.database} is updated for each point that got {one.vector or '(unnamed)'}, at least once"
        for step in steps
        for one in (loaded(Telling, said) for said in step.statements)
    ]


@dataclass(slots=True)
class _Draft:
    """A collection's plan while it grows."""

    state: CollectionState
    position: Position
    parts: list[RevisionChange] = field(default_factory=list)
    skip: frozenset[str] = frozenset()
    replaced: Replaced = field(default_factory=Replaced)
    wanted: bool = False
    ensured: bool = False

    @property
    def schemas(self) -> tuple[CollectionSchema | None, CollectionSchema | None]:
        """The recorded and the live schema after what was folded so far."""
        return self.parts[-1].after if self.parts else (self.position.declared, self.position.live)

    @property
    def is_free(self) -> bool:
        """Whether nothing has the name when the next revision comes: an earlier pending one may have dropped it."""
        return self.schemas[0] is None and (self.state.kind == "absent" or bool(self.parts))


def plan_upgrade(
    world: World,
    revisions: Revisions,
    wanted: frozenset[str],
    *,
    only: Iterable[str] | None = None,
    plain: str = "shadow",
    create: frozenset[str] = frozenset(),
    fuse: bool = True,
    fuse_by_name: Mapping[str, bool] | None = None,
) -> Plan:
    """Everything that is pending up to a target.

    Args:
        wanted: ids of the target and all its ancestors.
        only: restrict the work to these logical names.
        plain: how a plain name may become an alias; see :func:`qmigrate.planner.plain_names.way_of`.
        create: names that a glob may create; by itself it creates nothing.
        fuse: whether the pending revisions of a collection copy its data once.
        fuse_by_name: the same for single logical names.

    Raises:
        PlanError: an operation can't be done; names revision, file and operation.
        RefusedError: it names a collection that is not under management, or takes the name from points that were given
            another one elsewhere.
    """
    place = revisions, wanted
    drafts = {name: _draft(world, state, plain, place, create) for name, state in world.collections.items()}
    named = frozenset(only) if only is not None else None
    held = tuple(name for name, state in sorted(world.collections.items()) if state.held and _among(name, named))
    notes = [_held_note(world, revisions, wanted, name) for name in held]
    for revision in revisions.order():
        if revision.id in wanted:
            _apply_revision(world, drafts, (revision, *place), notes, named)
    chosen = [draft for draft in drafts.values() if draft.parts or _to_record(draft, named, revisions)]
    for draft in chosen:
        _refuse_renamed(world, draft, revisions)
    fused = {draft.state.name: (fuse_by_name or {}).get(draft.state.name, fuse) for draft in chosen}
    if world.capabilities.local and chosen:
        notes.append("local mode: payload indexes and server settings are declared, not enforced; no snapshots")
    notes += dict.fromkeys(_met_notes(revisions, chosen))
    heads = newest(revisions, wanted)
    return Plan(
        verb="upgrade",
        target=heads,
        collections=tuple(_finished(draft, revisions, fuse=fused[draft.state.name]) for draft in chosen),
        notes=tuple(notes),
        checksums={revision.id: revision.checksum for revision in revisions.order()},
        held=held,
    )


def pending(world: World, revisions: Revisions, wanted: frozenset[str], name: str) -> tuple[str, ...]:
    """Revisions up to the target that name a collection which exists, and that it hasn't got."""
    state = world.collections[name]
    applied = set(state.applied_revisions())
    exists = bool(applied) and not state.taken_away
    older = before_birth(state, revisions)
    seen = replaced(revisions, name, applied, wanted, older)
    skip = applied | older | seen.skip
    found = [old for _, gone in seen.lost for old in gone] if exists else []
    for revision in revisions.order():
        refs = refs_of(revision, name, exists=exists)
        if revision.id not in wanted or revision.id in skip or not refs:
            continue
        made = exists or any(one.creates and (state.managed or not one.is_glob) for _, one in refs)
        if made:
            found.append(revision.id)
            # What drops it leaves nothing that later ones could be about, unless they recreate it.
            exists = not any(one.drops for one in [one for _, one in refs if one.creates or one.drops][-1:])
    return tuple(found)


def to_create(world: World, revisions: Revisions) -> dict[str, tuple[str, ...]]:
    """Collections that don't exist yet and that a revision would create -> every revision that names them."""
    found: dict[str, list[str]] = {}
    for revision in revisions.standing():
        for operation in revision.operations:
            if operation.creates and not operation.is_glob and operation.pattern not in world.collections:
                found.setdefault(operation.pattern, [])
        for name, entries in found.items():
            if any(operation.matches(name) for operation in revision.operations):
                entries.append(revision.id)
    return {name: tuple(entries) for name, entries in sorted(found.items())}


def _apply_revision(
    world: World,
    drafts: dict[str, _Draft],
    place: tuple[Revision, Revisions, frozenset[str]],
    notes: list[str],
    only: frozenset[str] | None,
) -> None:
    revision, revisions, wanted = place
    for name in _named(revision, drafts):
        if not _among(name, only):
            continue
        absent = CollectionState(name=name, kind="absent", managed=False)
        draft = drafts.setdefault(name, _draft(world, absent, "shadow", (revisions, wanted), frozenset()))
        refs = refs_of(revision, name, exists=draft.schemas[0] is not None)
        if not refs or revision.id in draft.skip or draft.state.held:
            continue
        refuse_lost(draft.state, draft.replaced, revisions)
        if _belongs(world, draft, revision, [operation for _, operation in refs], notes):
            _extend(world, draft, revision, refs)
    _warn_of_empty_globs(revision, drafts, notes)


def _to_record(draft: _Draft, only: frozenset[str] | None, revisions: Revisions) -> tuple[Revision, ...]:
    """Squashed revisions that it has passed, and that are not recorded for it yet.

    Raises:
        RefusedError: it is in the middle of one, and the files are gone.
    """
    state = draft.state
    if not _among(state.name, only) or state.held or state.open_run is not None or draft.schemas[1] is None:
        return ()
    refuse_lost(state, draft.replaced, revisions)
    return tuple(one for one in draft.replaced.passed if one.id not in state.passed)


def _among(name: str, only: frozenset[str] | None) -> bool:
    return only is None or name in only


def _held_note(world: World, revisions: Revisions, wanted: frozenset[str], name: str) -> str:
    """What waits for its cut-over, and which revisions wait behind it."""
    run = world.collections[name].open_run
    assert run is not None  # noqa: S101  the caller looked
    own = {closing.revision for closing in run.job.closes}
    behind = [one for one in pending(world, revisions, wanted, name) if one not in own]
    position = run.waiting()
    target = run.job.steps[position].target if position is not None else None
    later = f"; {', '.join(behind)} can only come after it" if behind else ""
    return f"{name} is built and held as {target}: qmigrate cutover {quote(name)} goes live with it{later}"


def _named(revision: Revision, drafts: dict[str, _Draft]) -> list[str]:
    """Logical names that the revision is about: exact ones always, known ones by glob."""
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
    if draft.schemas[0] is not None:
        return True
    if makers and not all(operation.is_glob for operation in makers):
        if not draft.is_free:
            # Another ledger's collection is not a candidate for adopt: report that first.
            check_ownership(world, name)
            raise _unmanaged(draft.state, revision, creating=True)
        return True
    if makers and draft.is_free and (draft.state.managed or draft.wanted):
        return True
    exact = exact and not draft.ensured
    # What was dropped or lost and is there again was made by another client.
    again = draft.state.taken_away and draft.state.open_run is None
    if draft.state.kind != "absent" and (again or not draft.state.managed):
        if exact:
            check_ownership(world, name)
            raise _unmanaged(draft.state, revision, creating=False)
        note = f"{name} matches revision {revision.id}, but is not under management: it is left alone"
        if world.is_foreign(name):
            note = f"{name} matches revision {revision.id}, but belongs to another ledger: it is left alone"
        elif makers:
            note += f" (qmigrate adopt {quote(name)})"
        if note not in notes:
            notes.append(note)
        return False
    if exact and not draft.state.managed:
        there = [one.name for one in world.collections.values() if one.managed]
        raise PlanError(
            f"revision {revision.id} ({revision.path.name}) names {name}, which no earlier revision creates"
            + did_you_mean(name, there),
            hint=f"create it in an earlier revision: op.CreateCollection({name!r}, …)",
        )
    return False


def _extend(world: World, draft: _Draft, revision: Revision, refs: list[tuple[OpRef, Operation]]) -> None:
    where = f"revision {revision.id} ({revision.path.name})"
    declared, live = draft.schemas
    before = replace(draft.position, declared=declared, live=live)
    draft.parts.append(fold((revision.id, revision.checksum), before, refs, where, world.capabilities))


def _draft(
    world: World, state: CollectionState, plain: str, place: tuple[Revisions, frozenset[str]], create: frozenset[str]
) -> _Draft:
    managed = state.managed and state.declared is not None
    live = state.live.schema if managed and state.live else None
    if live is not None and state.declared is not None and world.capabilities.local:
        # Local mode reports no payload index, and has those that rank texts: another generation gets them, too.
        live = live.with_(indexes=state.declared.indexes)
    revisions, wanted = place
    applied, older = state.applied_revisions(), before_birth(state, revisions)
    seen = replaced(revisions, state.name, applied, wanted, older)
    return _Draft(
        state=state,
        replaced=seen,
        skip=older | seen.skip | set(applied),
        wanted=state.name in create,
        ensured=made_by_glob(revisions, state.name),
        position=Position(
            name=state.name,
            declared=state.declared if managed else None,
            live=live,
            physical=state.physical if managed else None,
            number=state.next_number,
            hides=state.hides,
            plain=plain,
            points=state.live.points if managed and state.live else 0,
            unknown=state.live.unknown if managed and state.live else (),
        ),
    )


def _finished(draft: _Draft, revisions: Revisions, *, fuse: bool) -> CollectionPlan:
    state = draft.state
    steps: list[Step] = []
    closes: list[Closing] = []
    position, done = draft.position, []
    for parts in segments(draft.parts, fuse=fuse):
        found = segment(position, parts)
        position = found.position
        steps += found.steps
        closes += closings(parts, len(steps) - 1, "upgrade")
        # Behind what records the revisions: they are applied whatever becomes of it.
        steps += write_back_steps(found)
        done.append(found)
    passed = _to_record(draft, None, revisions)
    if passed:
        steps, closes = _recorded(passed, position, steps, closes)
    copies = sum(found.rebuilds and found.strategy != "create" for found in done)
    points = state.live.points if state.live and copies else None
    each = bytes_per_point(state.live.schema if state.live else None)
    return CollectionPlan(
        job=Job(collection=state.name, basis=state.basis(), steps=tuple(steps), closes=tuple(closes)),
        lines=(
            *(f"{part.revision}  {line}" for part in draft.parts for line in part.lines),
            *(
                f"{one.id}  only recorded: it replaces {', '.join(one.replaces)}, which {state.name} has"
                for one in passed
            ),
        ),
        reasons=(*(line for found in done for line in _reasons(found)), *describe(state, steps)),
        points=points,
        bytes=points * each * copies if points is not None else None,
        incompatible=tuple(f"{part.revision}  {line}" for part in draft.parts for line in part.incompatible),
        shows=tuple(f"{part.revision}  {line}" for part in draft.parts for line in part.shows),
        way_back=_way_back(draft, done) if done else "nothing is changed, so nothing has to be undone",
        holds=any(isinstance(step, GoLive) and step.hold for step in steps),
    )


def _recorded(
    passed: Sequence[Revision], position: Position, steps: list[Step], closes: list[Closing]
) -> tuple[list[Step], list[Closing]]:
    """The steps and records with those of squashed revisions that it has passed: with its last change, or alone."""
    reason = "its revisions were squashed: only recorded, nothing is changed"
    if not closes:
        steps = [*steps, InPlace((), str(position.physical), (), reason)]
    step = closes[-1].step if closes else len(steps) - 1
    declared = position.declared
    rows = (Closing(step, one.id, SQUASHED, one.checksum, declared, declared) for one in passed)
    # Before the newest one, which is where it stands then.
    return steps, [*closes[:-1], *rows, *closes[-1:]]


def _refuse_renamed(world: World, draft: _Draft, revisions: Revisions) -> None:
    """Stop before points lose their name where a revision records that they got another one.

    ``adopt NAME --alias OTHER`` writes such a revision, and records it for the deployment that it is called in. In any
    other one it would leave the points behind and serve an empty collection.

    Raises:
        RefusedError: so it would.
    """
    name, live = draft.state.name, draft.state.live
    if live is None or not live.points:
        return
    for part in draft.parts:
        if part.strategy != "drop" or part.before[0] is None:
            continue
        revision = revisions.get(part.revision)
        for one in revision.operations:
            there = world.collections.get(one.pattern)
            if one.pattern == name or not one.creates or one.is_glob or (there is not None and there.live is not None):
                continue
            made = one.apply(None)
            if made is not None and (made.vectors, made.sparse) == (part.before[0].vectors, part.before[0].sparse):
                raise RefusedError(
                    f"{part.where} drops {name}, which has {counted(live.points, 'point')}, and creates {one.pattern} "
                    "with the same vectors, which would begin empty",
                    hint=f"where the points are to be served as {one.pattern}: qmigrate adopt {quote(name)} --alias "
                    f"{quote(one.pattern)}; where they are not: drop {name} in a revision of its own",
                )


def _reasons(found: Segment) -> list[str]:
    """Why this strategy, and what to know about it; fused revisions are named together."""
    names = ", ".join(part.revision for part in found.parts)
    how = found.strategy
    if len(found.parts) > 1:
        how = "created in its final shape" if how == "create" else f"in one {how}"
    more = notice(found.position) if found.strategy == "clone" else ()
    more = (*more, *words(write_back_steps(found)))
    return [f"{names}  {how}: {found.reason}", *(f"{names}  {line}" for line in more)]


def bytes_per_point(schema: CollectionSchema | None) -> int:
    """The same where a schema may not be known."""
    return (schema or CollectionSchema()).bytes_per_point()


def _way_back(draft: _Draft, done: list[Segment]) -> str:
    """The revisions that a rollback can go to, the nearest first, and how."""
    applied = [*draft.state.applied_revisions(), *(part.revision for part in draft.parts)]
    if not draft.state.applied_revisions() and len(done) == 1:
        return "the name is taken away again; the points stay in the generation until gc"
    rebuilt = [(found, getattr(found.steps[-1], "source", None)) for found in reversed(done) if found.rebuilds]
    rebuilt = [(found, source) for found, source in rebuilt if source is not None]
    if not rebuilt:
        before = draft.state.applied_revisions()
        calls = any(isinstance(step, RunCode) for found in done for step in found.steps)
        if before and calls:
            return f"to {before[-1]} by the downgrade() of the revision, where it has one; else it stays"
        if before and all(found.strategy == "edit" for found in done):
            return (
                f"to {before[-1]} in the record; the points by qmigrate fix undo, with the number that upgrade shows"
            )
        return f"to {before[-1]} by the reverse changes" if before else "to base: the name is taken away again"
    targets = [applied[applied.index(found.parts[0].revision) - 1] for found, _ in rebuilt]
    kept = ", ".join(str(source) for _, source in rebuilt)
    fused = [part.revision for found, _ in rebuilt for part in found.parts[:-1]]
    together = f"; not to {', '.join(sorted(fused, key=applied.index))} alone" if fused else ""
    verb = "is" if len(rebuilt) == 1 else "are"
    return f"to {' or '.join(targets)} in milliseconds, while {kept} {verb} kept{together}"


def _unmanaged(state: CollectionState, revision: Revision, *, creating: bool) -> PlanError | RefusedError:
    what = "a plain collection" if state.kind == "plain" else f"an alias of {state.physical}"
    if creating:
        return PlanError(
            f"revision {revision.id} ({revision.path.name}) creates {state.name}, but {state.name} exists already: "
            f"{what} that is not under management",
            hint=f"take it over instead of creating it: qmigrate adopt {quote(state.name)}",
        )
    return RefusedError(
        f"revision {revision.id} ({revision.path.name}) changes {state.name}, which is {what} and not under management",
        hint=f"a plain-named collection has to be taken over first: qmigrate adopt {quote(state.name)}",
    )


def _warn_of_empty_globs(revision: Revision, drafts: dict[str, _Draft], notes: list[str]) -> None:
    for operation in revision.operations:
        if operation.is_glob and not any(operation.matches(name) for name in drafts):
            none = f"revision {revision.id}: no collection matches {operation.pattern!r}"
            notes.append(none + ("; qmigrate.ensure creates them" if operation.creates else ""))


def _met_notes(revisions: Revisions, chosen: Sequence[_Draft]) -> Iterator[str]:
    """What the globs of pending revisions mean here, for the reviewer of the plan."""
    planned = {name: {part.revision for part in draft.parts} for draft in chosen for name in [draft.state.name]}
    for revision in revisions.order():
        names = sorted(name for name, parts in planned.items() if revision.id in parts)
        for operation in revision.operations:
            found = [name for name in names if operation.matches(name)] if operation.is_glob else []
            if found:
                yield f"revision {revision.id}: {patterns.words(operation.pattern, found)}"
