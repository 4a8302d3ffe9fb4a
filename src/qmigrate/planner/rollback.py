"""The way back: generations flip to their parents, in-place work is reversed, the rest needs a downgrade(). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qmigrate.errors import PlanError, QmigrateError, RefusedError
from qmigrate.model.plan import Closing, CollectionPlan, GoLive, InPlace, Job, OpRef, Plan, RecordLoss, Step
from qmigrate.model.schema import Change, CollectionSchema, changed
from qmigrate.model.state import Applied, CollectionState, Generation, World
from qmigrate.planner.members import Position, newest, refs_of
from qmigrate.planner.plain_names import refuse_to_uncover
from qmigrate.planner.replaced import refuse_closed, unrecorded
from qmigrate.planner.segment import fold, kept, segment
from qmigrate.revisions.file import Revision
from qmigrate.revisions.graph import Revisions
from qmigrate.text import counted, quote


@dataclass(slots=True)
class _Walk:
    """A collection on its way back: newest revision first."""

    state: CollectionState
    physical: str | None
    number: int
    live: CollectionSchema | None
    hides: bool
    steps: list[Step] = field(default_factory=list)
    closes: list[Closing] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    in_place: list[Applied] = field(default_factory=list)


def plan_rollback(
    world: World,
    revisions: Revisions,
    keep: frozenset[str],
    *,
    only: Iterable[str] | None = None,
    writes: str = "refuse",
    closed: bool = False,
) -> Plan:
    """Undo every applied revision that is not in `keep`.

    Args:
        keep: ids of the target and all its ancestors; empty for base.
        only: restrict the work to these logical names.
        writes: ``refuse | carry | discard | now``.
        closed: go back also to where no upgrade goes on, since files that were squashed are gone.

    Raises:
        RefusedError: something can't be undone; names revision and reason.
    """
    chosen = frozenset(only) if only is not None else None
    plans, runs = [], {}
    for name, state in sorted(world.collections.items()):
        if not state.managed or (chosen is not None and name not in chosen):
            continue
        entries = [entry for entry in reversed(state.applied) if entry.revision not in keep]
        if entries and state.held:
            raise RefusedError(
                f"the next generation of {name} is built and held, on top of what would be undone",
                hint=f"first qmigrate cutover {quote(name)}, or qmigrate abort {quote(name)}",
            )
        if entries:
            plans.append(_collection(world, revisions, state, entries, writes))
            runs[name] = max(entry.run or 0 for entry in entries)
            # Behind what can't be undone at all: this one may be agreed to.
            if not closed:
                refuse_closed(state, keep, revisions)
    return Plan(
        verb="rollback",
        target=newest(revisions, keep),
        collections=_in_order(plans, runs),
        checksums={revision.id: revision.checksum for revision in revisions.order() if revision.problem is None},
    )


def _collection(
    world: World, revisions: Revisions, state: CollectionState, entries: list[Applied], writes: str
) -> CollectionPlan:
    for entry in entries:
        if entry.strategy == "adopt":
            raise _adopted(state, entry)
    if state.lost:
        return _of_lost(revisions, state, entries)
    live = state.live.schema if state.live else None
    walk = _Walk(state, state.physical, state.next_number, live, state.hides)
    for group in _groups(entries):
        if group[0].stayed:
            walk.in_place.append(group[0])
        elif len(group) < len(_fused(state, group[0])):
            _part_of_group(world, revisions, walk, group)
        else:
            _flip(world, revisions, walk, group, writes)
    _reverse(world, revisions, walk)
    oldest = entries[-1].revision
    return CollectionPlan(
        job=Job(state.name, state.basis(), tuple(walk.steps), unrecorded(walk.closes, state, revisions)),
        lines=tuple(walk.lines),
        reasons=tuple(walk.reasons),
        points=state.live.points if state.live else None,
        way_back=f"qmigrate upgrade {quote(entries[0].revision)} applies {oldest} and later again",
    )


def _of_lost(revisions: Revisions, state: CollectionState, entries: list[Applied]) -> CollectionPlan:
    """What was applied to a collection whose loss is recorded: nothing is there to change, so the record alone goes.

    Raises:
        RefusedError: a drop lies in between: what that has left would serve, and what came after it is lost.
    """
    name, gone = state.name, state.generations[-1].physical
    dropped = [entry.revision for entry in entries if entry.strategy == "drop"]
    if dropped:
        raise RefusedError(
            f"no collection has had the name {name} since its loss was recorded, and revision {dropped[0]}, to be "
            "undone, dropped the one before",
            hint=f"restore a snapshot: qmigrate snapshot list {quote(name)}; --only leaves {name} out",
        )
    walk = _Walk(state, None, state.next_number, None, hides=False)
    walk.steps.append(RecordLoss(gone, "nothing has the name"))
    for entry in entries:
        _close(walk, entry)
        walk.lines.append(f"{entry.revision}  only the record: the name is unused since its loss was recorded")
    again = f"qmigrate upgrade {quote(entries[0].revision)} recreates it, without points"
    job = Job(name, state.basis(), tuple(walk.steps), unrecorded(walk.closes, state, revisions))
    return CollectionPlan(job=job, lines=tuple(walk.lines), reasons=(), points=None, way_back=again)


def _adopted(state: CollectionState, entry: Applied) -> RefusedError:
    """Nothing lies before an adoption."""
    return RefusedError(
        f"revision {entry.revision} was not applied to {state.name} but found there by adopt or stamp, so what was "
        "before it is not known: a rollback can't go below it",
        hint=f"name {entry.revision} or a later revision, or with --only other collections than {state.name}; "
        f"qmigrate history {quote(state.name)} shows what was applied",
    )


def _groups(entries: list[Applied]) -> list[list[Applied]]:
    """Revisions that went live in the same rebuild, together; newest first, as they are given."""
    groups: list[list[Applied]] = []
    for entry in entries:
        if groups and groups[-1][-1].fused_with(entry):
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups


def _fused(state: CollectionState, entry: Applied) -> list[Applied]:
    """Every applied revision that went live in the same rebuild, oldest first."""
    return [other for other in state.applied if other.fused_with(entry)]


def _part_of_group(world: World, revisions: Revisions, walk: _Walk, group: list[Applied]) -> None:
    """Some of the revisions that went live together: each by its downgrade(), or not at all."""
    missing = [entry.revision for entry in group if revisions.downgrade_operations(entry.revision) is None]
    if missing:
        together = ", ".join(entry.revision for entry in _fused(walk.state, group[0]))
        targets = _quick_targets(walk.state)
        name = walk.state.name
        ways = [f"qmigrate rollback {quote(target)} --only {quote(name)} takes milliseconds" for target in targets]
        if not ways and group[0].strategy == "create":
            ways = [f"qmigrate rollback base --only {quote(name)} removes the name"]
        ways.append(f"or {_write_downgrade(missing)}")
        raise RefusedError(
            f"revisions {together} of {walk.state.name} went live together, so {', '.join(missing)} can't be "
            "undone alone",
            hint="\n".join(ways),
            facts={"collection": walk.state.name, "fused": together.split(", "), "targets": targets},
        )
    _reverse(world, revisions, walk)
    for entry in group:
        _downgrade(world, revisions, walk, entry)


def _quick_targets(state: CollectionState) -> list[str]:
    """Revisions that a re-point of the alias alone leads back to, nearest first."""
    targets: list[str] = []
    applied = state.applied_revisions()
    walk = _Walk(state, state.physical, state.next_number, None, state.hides)
    for group in _groups([entry for entry in reversed(state.applied) if not entry.stayed]):
        before = _before(walk, group[-1]) if group[-1].rebuilt else None
        if before is None:
            break
        walk.physical = before.physical
        targets.append(applied[applied.index(group[-1].revision) - 1])
    return targets


def _flip(world: World, revisions: Revisions, walk: _Walk, group: list[Applied], writes: str) -> None:
    """Back over a rebuild, a creation or a drop: the name moves to the generation that served before.

    Args:
        group: all revisions of the rebuild, newest first.
    """
    entry = group[-1]
    before = _before(walk, entry)
    # A name that began with a restore is removed with all that came with it, like one that was created.
    made = entry.strategy == "create" or (entry.strategy == "restore" and entry == walk.state.applied[0])
    if before is None and entry.rebuilt and not made:
        # What was changed in place since is on the generation that stays.
        _reverse(world, revisions, walk)
        for one in group:
            _downgrade(world, revisions, walk, one)
        return
    target = before.physical if before else None
    if target is None:
        _refuse_to_unname(walk.state, entry, writes)
        refuse_to_uncover(Position(walk.state.name, None, None, walk.physical, 0, hides=walk.hides))
    place = "shadow" if target == walk.state.name else "alias"
    aliases = _names(entry, walk.state)
    unread = _unread(revisions, walk, group, writes if target is not None else "discard")
    refs = tuple(ref for one in reversed(group) for ref in _refs(revisions, one, walk.state.name) if not unread)
    # Without the code nothing can be carried, as between points of different times: only counted.
    apart = entry.strategy == "restore" or (unread and target is not None)
    way = GoLive(
        refs,
        walk.physical,
        target,
        aliases,
        back=True,
        writes=writes,
        place=place,
        apart=apart,
        earlier=names_before([*walk.in_place, *group]),
    )
    walk.steps.append(way)
    # In-place changes of the generation that is left need no undo: it is kept as it is until gc.
    for covered in [*walk.in_place, *group]:
        _close(walk, covered)
    walk.in_place = []
    named = ", ".join(one.revision for one in group)
    walk.lines.append(f"{named}  back to {target or 'no collection'}")
    given = {alias: led for alias, led in way.earlier.items() if led}
    walk.lines += [f"{named}  give alias {alias} back to {led}" for alias, led in sorted(given.items())]
    walk.reasons.append(f"{named}  alias re-point, milliseconds; writes since: {writes}")
    walk.physical, walk.live = target, before.schema if before else None
    walk.hides = walk.hides and place != "shadow"


def _unread(revisions: Revisions, walk: _Walk, group: Sequence[Applied], writes: str) -> bool:
    """Whether the name goes back without the code of a revision, whose file must not be run.

    Raises:
        QmigrateError: what was written since is to be carried back, which needs that code.
    """
    problem = next((one for entry in group if (one := _problem(revisions, entry)) is not None), None)
    if problem is None:
        return False
    if writes in ("carry", "now"):
        ways = f"or go back without what was written since: qmigrate rollback --only {quote(walk.state.name)} "
        raise type(problem)(
            f"what was written to {walk.state.name} since can't be brought along: {problem.message}",
            hint="\n".join(filter(None, (problem.hint, f"{ways}--discard-writes"))),
            facts=problem.facts,
        )
    walk.reasons.append(f"{group[0].revision}  nothing can be carried back: {problem.message}")
    return True


def _problem(revisions: Revisions, entry: Applied) -> QmigrateError | None:
    return revisions.get(entry.revision).problem


def _refuse_to_unname(state: CollectionState, entry: Applied, writes: str) -> None:
    """Taking a creation back takes the name from its points: refused at once, before any newer revision goes back."""
    points = state.live.points if state.live else 0
    if points and writes not in ("discard", "now"):
        raise RefusedError(
            f"revision {entry.revision} created {state.name}: undoing it removes the name of {counted(points, 'point')}"
            "; they stay in their generation until gc",
            hint=f"qmigrate rollback … --only {quote(state.name)} --discard-writes does it",
        )


def _before(walk: _Walk, entry: Applied) -> Generation | None:
    """The generation that served before this revision, the oldest of its rebuild, while it is kept."""
    rows = walk.state.generations
    if entry.strategy == "create":
        return None
    earlier = walk.state.applied_revisions()[: walk.state.applied_revisions().index(entry.revision)]
    if entry.strategy == "drop":
        kept = _left_by_drop(walk.state, entry, earlier)
        if not kept:
            raise RefusedError(
                f"revision {entry.revision} dropped {walk.state.name}, and no generation of it is kept any more",
                hint="restore a snapshot: qmigrate snapshot list",
            )
        return kept[-1]
    current = next((row for row in rows if row.physical == walk.physical), None)
    parent = current.parent if current else None
    # A parent that has other revisions (this generation was made by a downgrade) is not a way back over this one.
    return next(
        (row for row in rows if row.number == parent and row.state == "retired" and row.revisions == earlier), None
    )


def _left_by_drop(state: CollectionState, entry: Applied, earlier: tuple[str, ...]) -> list[Generation]:
    """The generation that a drop has left, where it is kept; others may be at the same revisions, as after a reset."""
    kept = [row for row in state.generations if row.state == "retired" and row.revisions == earlier]
    served = state.generation(entry.left)
    if served is None:
        return kept
    if served.physical == state.name and served.state == "gone":
        # The plain collection made room first: an identical one was dropped.
        return [row for row in kept if row.parent == served.number]
    return [row for row in kept if row.physical == served.physical]


def _names(entry: Applied, state: CollectionState) -> tuple[str, ...]:
    """The names that move: the logical one first, and all that a drop has taken."""
    further = entry.prior.aliases if entry.prior else (state.live.schema.aliases if state.live else ())
    dropped = entry.names if entry.strategy == "drop" else ()
    return tuple(dict.fromkeys((state.name, *further, *dropped)))


def names_before(entries: Iterable[Applied]) -> dict[str, str | None]:
    """Where further names led before the oldest of these revisions, which are given newest first."""
    found: dict[str, str | None] = {}
    for entry in entries:
        found.update(entry.earlier)
    return found


def _in_order(plans: Sequence[CollectionPlan], runs: Mapping[str, int]) -> tuple[CollectionPlan, ...]:
    """By name; but first those that share a further name, what was applied last first: it goes back step by step.

    Args:
        runs: collection -> the newest run that is undone.
    """
    named = Counter(name for plan in plans for name in plan.job.names())
    shared = {plan.job.collection: any(named[name] > 1 for name in plan.job.names()) for plan in plans}

    def place(plan: CollectionPlan) -> tuple[bool, int]:
        name = plan.job.collection
        return (not shared[name], -runs[name] if shared[name] else 0)

    return tuple(sorted(plans, key=place))


def _refs(revisions: Revisions, entry: Applied, name: str) -> tuple[OpRef, ...]:
    found = refs_of(revisions.get(entry.revision), name, exists=entry.prior is not None)
    return tuple(ref for ref, _ in found)


def _reverse(world: World, revisions: Revisions, walk: _Walk) -> None:
    """Undo in-place work on the generation that stays: downgrade() where the file has one, else the derived inverse."""
    undo: list[Change] = []
    covered: list[Applied] = []
    for entry in walk.in_place:
        if revisions.downgrade_operations(entry.revision) is not None:
            _undo(walk, undo, covered)
            undo, covered = [], []
            _downgrade(world, revisions, walk, entry)
            continue
        _refuse_code(revisions, walk, entry)
        made = [Change.from_json(change) for change in reversed(entry.changes)]
        made = [change for change in made if kept(change, world.capabilities)]
        for change in made:
            _refuse_lossy(revisions, walk, entry, change)
        inverse = [change.reverse() for change in made]
        undo += inverse
        covered.append(entry)
        stays = "the points stay as they are" if entry.strategy == "edit" else "nothing to change"
        walk.lines.append(f"{entry.revision}  " + ("; ".join(c.describe() for c in inverse) or stays))
        how = "only the record" if entry.strategy == "edit" else "the derived inverse, on the live collection"
        walk.reasons.append(f"{entry.revision}  {how}")
    _undo(walk, undo, covered)
    walk.in_place = []


def _undo(walk: _Walk, undo: list[Change], covered: list[Applied]) -> None:
    """One step for the collected inverse changes of several revisions."""
    if not covered:
        return
    walk.steps.append(InPlace((), str(walk.physical), tuple(undo), "the derived inverse"))
    walk.live = changed(walk.live, undo) if walk.live is not None else None
    for entry in covered:
        _close(walk, entry)


def _refuse_lossy(revisions: Revisions, walk: _Walk, entry: Applied, change: Change) -> None:
    if change.undoable():
        return
    declared = revisions.get(entry.revision).irreversible
    why = declared or (
        "what was dropped is gone" if change.kind.endswith("drop") else "a server setting can't be unset once it is set"
    )
    raise RefusedError(
        f"revision {entry.revision} can't be undone on {walk.state.name} in place: {change.describe()}: {why}",
        hint=_write_downgrade([entry.revision], " that sets what should be there instead"),
    )


def _refuse_code(revisions: Revisions, walk: _Walk, entry: Applied) -> None:
    """A data fix that can't be undone by itself later: going back over it would only seem to undo it."""
    if entry.strategy != "edit" or walk.state.declared is None:
        return
    problem = _problem(revisions, entry)
    if problem is not None:
        raise problem
    for _, operation in refs_of(revisions.get(entry.revision), walk.state.name, exists=True):
        why = operation.irreversible_reason(walk.state.declared)
        if why:
            raise RefusedError(
                f"revision {entry.revision} can't be undone on {walk.state.name}: {why}",
                hint=_write_downgrade([entry.revision], " that undoes it, or returns [] where nothing is to be undone"),
            )


def _no_way_back(revision: Revision, name: str) -> str:
    """Why nothing leads back over a rebuild; of an inverse, what it is for, since it looks like a way back."""
    gone = "the previous generation is not kept any more, and it has no downgrade()"
    inverse = any(getattr(one, "inverse", None) is not None for one in revision.operations if one.matches(name))
    return f"{gone}; inverse= alone does not lead back: it brings along what was written" if inverse else gone


def _write_downgrade(revisions: Sequence[str], which: str = "") -> str:
    """The command that has to follow is part of it: a file that was applied and has changed stops every upgrade."""
    accept = "; ".join(f"qmigrate repair --accept {quote(one)} --reason WHY --changed-meaning" for one in revisions)
    return f"write a downgrade(){which} in {', '.join(revisions)}, and accept the changed file: {accept}"


def _downgrade(world: World, revisions: Revisions, walk: _Walk, entry: Applied) -> None:
    """Operations of downgrade(), planned like an upgrade's from where the collection stands."""
    revision = revisions.get(entry.revision)
    operations = revisions.downgrade_operations(entry.revision)
    if operations is None:
        raise RefusedError(
            f"revision {entry.revision} can't be undone on {walk.state.name}: "
            + (revision.irreversible or _no_way_back(revision, walk.state.name)),
            hint=f"{_write_downgrade([entry.revision])}\nor restore a snapshot: qmigrate snapshot list",
            # Where it stands by then, and how to get there: what lies in between may have a way back of its own.
            facts={
                "collection": walk.state.name,
                "generation": walk.physical,
                "first": f"qmigrate rollback {quote(entry.revision)} --only {quote(walk.state.name)}"
                if walk.steps
                else None,
            },
        )
    state = walk.state
    if walk.live is None or state.declared is None:
        raise PlanError(f"{state.name} has no live collection to undo revision {entry.revision} on")
    declared = walk.closes[-1].declared if walk.closes else state.declared
    serving = state.live
    position = Position(
        name=state.name,
        declared=declared,
        live=walk.live,
        physical=walk.physical,
        number=walk.number,
        hides=walk.hides,
        points=serving.points if serving else 0,
        unknown=serving.unknown if serving else (),
    )
    offset = len(revision.operations)
    refs = [
        (OpRef(entry.revision, offset + index), operation)
        for index, operation in enumerate(operations)
        if operation.matches(state.name)
    ]
    where = f"downgrade of {entry.revision} ({revision.path.name})"
    part = fold((entry.revision, entry.checksum), position, refs, where, world.capabilities)
    found = segment(position, [part])
    walk.steps += found.steps
    _close(walk, entry)
    walk.lines += [f"{entry.revision}  {line}" for line in part.lines]
    walk.reasons.append(f"{entry.revision}  downgrade(), {found.strategy}: {found.reason}")
    walk.physical, walk.number, walk.live = found.position.physical, found.position.number, found.position.live


def _close(walk: _Walk, entry: Applied) -> None:
    prior = walk.closes[-1].declared if walk.closes else walk.state.declared
    walk.closes.append(
        Closing(
            step=len(walk.steps) - 1,
            revision=entry.revision,
            direction="rollback",
            checksum=entry.checksum,
            declared=entry.prior,
            prior=prior,
        )
    )
