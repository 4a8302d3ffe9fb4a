"""Operations on one collection, folded and made into steps. It reads only values that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qmigrate.errors import PlanError
from qmigrate.model.facts.edits import Edit
from qmigrate.model.names import generation_name
from qmigrate.model.plan import Build, Closing, GoLive, InPlace, OpRef, Step, edit_step
from qmigrate.model.schema import Change, CollectionSchema, JsonObject, changes
from qmigrate.model.state import Capabilities
from qmigrate.model.transform import PointTransform
from qmigrate.operations.base import LIGHT, Operation, Strategy, check_contradictions
from qmigrate.planner.members import Position
from qmigrate.planner.plain_names import in_order, refuse_to_uncover, refuse_unknown, settled


@dataclass(frozen=True, slots=True)
class RevisionChange:
    """What one revision does to one collection; which steps do it is not decided yet.

    Attributes:
        revision: its id.
        checksum: of its file.
        where: revision and file, for messages.
        refs: its operations on the collection, in order; those that say what is so already are left out.
        before: recorded and live schema before it.
        after: recorded and live schema afterwards; None when the collection is dropped.
        transform: what happens to each point of the live schema before it.
        wish: the strongest of its operations.
        lines: one per operation, for people.
        incompatible: reader-incompatible changes, one line each.
        holds: whether an operation has ``cutover="hold"``.
        shows: what existing readers see otherwise, one line each.
        edits: of a revision of data fixes, what each does to the points, with what it is called.
    """

    revision: str
    checksum: str
    where: str
    refs: tuple[OpRef, ...]
    before: tuple[CollectionSchema | None, CollectionSchema | None]
    after: tuple[CollectionSchema | None, CollectionSchema | None]
    transform: PointTransform
    wish: Strategy
    lines: tuple[str, ...]
    incompatible: tuple[str, ...]
    holds: bool
    shows: tuple[str, ...] = ()
    edits: tuple[tuple[OpRef, JsonObject, str], ...] = ()

    @property
    def strategy(self) -> str:
        """How it would be done alone: ``create | drop | record | edit``, or its wish."""
        if self.edits:
            return "edit"
        if self.after[1] is None:
            return "record" if self.before[1] is None else "drop"
        return "create" if self.before[1] is None else self.wish.rank


@dataclass(frozen=True, slots=True)
class Segment:
    """What one or several revisions do to one collection in one go.

    Attributes:
        parts: the revisions, in order; the last step records them all.
        steps: in order.
        position: afterwards.
        reason: why this strategy.
        strategy: ``create | drop | copy | clone | in_place | edit | record``.
    """

    parts: tuple[RevisionChange, ...]
    steps: tuple[Step, ...]
    position: Position
    reason: str
    strategy: str

    @property
    def rebuilds(self) -> bool:
        """Whether another generation goes live, to which the one before it is the way back."""
        return self.strategy not in ("drop", "in_place", "edit", "record")


def fold(
    revision: tuple[str, str],
    before: Position,
    refs: Sequence[tuple[OpRef, Operation]],
    where: str,
    capabilities: Capabilities,
) -> RevisionChange:
    """Fold a revision's operations over a collection's recorded and live schema.

    Args:
        revision: id and checksum.
        before: where the collection stands; its two schemas are what counts.
        refs: the operations that match the collection, in order.
        where: revision and file, for messages.

    Raises:
        PlanError: an operation is misused, or two contradict; names revision and operation.
    """
    try:
        return _fold(revision, before, refs, (where, capabilities))
    except PlanError as error:
        raise PlanError(f"{where}: {error.message}", hint=error.hint, facts=error.facts) from error


def _fold(
    revision: tuple[str, str],
    before: Position,
    refs: Sequence[tuple[OpRef, Operation]],
    context: tuple[str, Capabilities],
) -> RevisionChange:
    where, capabilities = context
    operations = [operation for _, operation in refs]
    # First that each is well written: what compares them relies on it.
    for operation in operations:
        operation.check_words()
        operation.check_server(capabilities)
    check_contradictions(operations)
    edits = _edits(refs)
    declared, live = before.declared, before.live
    wish, incompatible = LIGHT, []
    transform = PointTransform.identity(live.vector_names() if live else frozenset())
    done: list[OpRef] = []
    for ref, operation in refs:
        operation.check(declared)
        if declared is not None and live is not None:
            if _is_true_already(operation, declared, live):
                trouble = operation.incompatible(declared)
                incompatible += [trouble] if trouble else []
                # It is not part of what happens to the points: they have it, and are carried as they are.
                done.append(ref)
                declared = operation.apply(declared)
                continue
            operation.check(live)
            chosen = operation.strategy(live, capabilities, before.points)
            wish = chosen if chosen.outranks(wish) else wish
            trouble = operation.incompatible(declared)
            if trouble:
                incompatible.append(trouble)
            transform = transform.then(operation.transform(live))
        declared, live = operation.apply(declared), operation.apply(live)
    if transform.rekeys and not transform.keeps_values():
        raise PlanError(
            "Rekey shares a revision with an operation that changes payloads or vectors: the result could not be "
            "proven, since neither the ids nor the values stay",
            hint="put Rekey into a revision of its own, before or after that change",
        )
    if len(done) == len(operations):
        wish = Strategy(LIGHT.rank, "already as declared: only recorded, nothing is changed")
    return RevisionChange(
        revision=revision[0],
        checksum=revision[1],
        where=where,
        refs=tuple(ref for ref, _ in refs if ref not in done),
        before=(before.declared, before.live),
        after=(declared, live),
        transform=transform,
        wish=wish,
        lines=tuple(operation.describe() for operation in operations),
        incompatible=tuple(incompatible),
        holds=any(operation.holds for operation in operations),
        shows=tuple(dict.fromkeys(said for operation in operations if (said := operation.shows()) is not None)),
        edits=edits,
    )


def _edits(refs: Sequence[tuple[OpRef, Operation]]) -> tuple[tuple[OpRef, JsonObject, str], ...]:
    """What the data fixes among the operations do to the points.

    Raises:
        PlanError: fixes and changes of the schema are mixed; what is half done could be neither continued nor undone.
    """
    found = []
    for ref, operation in refs:
        edit = operation.edit()
        if edit is not None:
            found.append((ref, edit, operation.describe()))
    if found and len(found) < len(refs):
        fix = next(operation for _, operation in refs if operation.edit() is not None)
        raise fix.error("a data fix is a step of its own", hint="put it into a revision of its own, after this one")
    return tuple(found)


def _is_true_already(operation: Operation, declared: CollectionSchema, live: CollectionSchema) -> bool:
    """Whether a user has made by hand what the operation declares: accepted drift, which leaves the collection alone.

    Only where no value has to be made or moved: a vector that is to be filled is never taken for filled.
    """
    after = operation.apply(declared)
    if after is None or operation.creates or getattr(operation, "wish", None) == "copy":
        return False
    transform = operation.transform(declared)
    moved = any(target != source for target, source in transform.vectors.items())
    if transform.payload or transform.filled or transform.converted or moved:
        return False
    wanted = {(change.kind.split(".")[0], change.name) for change in changes(declared, after)}
    missing = {(change.kind.split(".")[0], change.name) for change in changes(live, after)}
    return bool(wanted) and not wanted & missing


def segment(position: Position, parts: Sequence[RevisionChange]) -> Segment:
    """The steps that do these parts in one go, from where the collection stands.

    Raises:
        PlanError: it can't be done from there; names the revisions.
        RefusedError: it needs consent.
    """
    try:
        return _segment(position, parts)
    except PlanError as error:
        where = ", ".join(part.where for part in parts)
        raise PlanError(f"{where}: {error.message}", hint=error.hint, facts=error.facts) from error


def _segment(position: Position, parts: Sequence[RevisionChange]) -> Segment:
    live, ending = parts[0].before[1], parts[-1].after[1]
    refs = tuple(ref for part in parts for ref in part.refs)
    after = replace(position, declared=parts[-1].after[0], live=ending)
    if ending is None and live is None:
        return Segment(tuple(parts), (), after, LIGHT.reason, "record")
    if ending is None:
        steps, after = _drop(position, after, refs)
        return Segment(tuple(parts), steps, after, "the name is taken away; the generation is kept until gc", "drop")
    if live is None:
        new = "the collection is new"
        steps, after = _rebuild(position, after, refs, ("empty", new))
        return Segment(tuple(parts), steps, after, new, "create")
    if parts[0].edits:
        edits = tuple(
            edit_step((ref,), str(position.physical), edit, Edit.of(edit).reason or words)
            for ref, edit, words in parts[0].edits
        )
        return Segment(tuple(parts), edits, after, "data fix, on the live collection", "edit")
    wish = _strongest(live, parts)
    if wish.rank != LIGHT.rank:
        steps, after = _rebuild(position, after, refs, (wish.rank, wish.reason))
        last = steps[-1]
        if isinstance(last, GoLive) and any(part.holds for part in parts):
            steps = (*steps[:-1], replace(last, hold=True))
        return Segment(tuple(parts), steps, after, wish.reason, wish.rank)
    in_place = InPlace(refs, str(position.physical), changes(live, ending), wish.reason)
    return Segment(tuple(parts), (in_place,), after, wish.reason, LIGHT.rank)


def _strongest(live: CollectionSchema, parts: Sequence[RevisionChange]) -> Strategy:
    """The wish that counts for all parts together."""
    wish = parts[0].wish
    transform = parts[0].transform
    for part in parts[1:]:
        wish = part.wish if part.wish.outranks(wish) else wish
        transform = transform.then(part.transform)
    return not_beyond_schemas(wish, live, transform)


def not_beyond_schemas(wish: Strategy, live: CollectionSchema, transform: PointTransform) -> Strategy:
    """A clone is changed by the difference of two schemas: what that doesn't show has to be a copy.

    A vector that goes and comes back under the same name, in two operations, would keep its old values.
    """
    again = sorted(live.vector_names() & transform.values.keys())
    if wish.rank == "clone" and again:
        return Strategy("copy", f"{wish.reason}; not cloned by the server: vector {again[0] or '(unnamed)'} is emptied")
    return wish


def _drop(before: Position, after: Position, refs: tuple[OpRef, ...]) -> tuple[tuple[Step, ...], Position]:
    first, before = settled(before) if before.physical == before.name else ((), before)
    refuse_to_uncover(before)
    names = before.live.aliases if before.live is not None else ()
    gone = GoLive(refs, before.physical, None, (before.name, *names))
    return (*first, gone), replace(after, physical=None, number=before.number)


def _rebuild(
    before: Position, after: Position, refs: tuple[OpRef, ...], fill: tuple[str, str]
) -> tuple[tuple[Step, ...], Position]:
    assert after.live is not None  # noqa: S101  the caller looked
    first: tuple[Step, ...] = ()
    if before.physical == before.name and before.plain != "shadow":
        first, before = settled(before)
    target = generation_name(before.name, before.number)
    if fill[0] == "copy":
        refuse_unknown(before, fill[1])
    build = Build(
        ops=refs,
        source=before.physical,
        target=target,
        number=before.number,
        schema=after.live,
        fill=fill[0],
        reason=fill[1],
    )
    place = "shadow" if before.physical == before.name else "alias"
    golive = GoLive(refs, before.physical, target, (before.name, *after.live.aliases), place=place)
    position = replace(after, physical=target, number=before.number + 1, hides=before.hides or place == "shadow")
    return in_order(first, build, golive), position


def closings(parts: Sequence[RevisionChange], last_step: int, direction: str) -> list[Closing]:
    """The records that the revisions are applied once their last step is closed, one by one in order."""
    return [
        Closing(
            step=last_step,
            revision=part.revision,
            direction=direction,
            checksum=part.checksum,
            declared=part.after[0],
            prior=part.before[0],
        )
        for part in parts
    ]


def kept(change: Change, capabilities: Capabilities) -> bool:
    """Whether the store keeps it: local mode only declares most settings, so there is nothing to undo."""
    declared_only = change.kind == "vector.alter" or (change.kind == "config.set" and change.name != "metadata")
    return not (capabilities.local and declared_only)
