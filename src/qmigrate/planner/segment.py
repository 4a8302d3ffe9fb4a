"""One revision's operations on one collection, folded into steps. It reads only values that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qmigrate.errors import PlanError
from qmigrate.model.names import generation_name
from qmigrate.model.plan import REBUILDS, Build, Closing, GoLive, InPlace, OpRef, Step
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.state import Capabilities
from qmigrate.model.transform import PointTransform
from qmigrate.operations.base import LIGHT, Operation, Strategy, check_contradictions
from qmigrate.planner.plain import refuse_to_uncover, settled
from qmigrate.planner.position import Position
from qmigrate.planner.unknown import refuse_unknown


@dataclass(frozen=True, slots=True)
class Segment:
    """What one revision does to one collection.

    Attributes:
        steps: in order; the last one records the revision.
        position: afterwards.
        lines: one per operation, for people.
        reason: why this strategy.
        strategy: ``create | drop | copy | clone | in_place | record``.
        incompatible: reader-incompatible changes, one line each.
    """

    steps: tuple[Step, ...]
    position: Position
    lines: tuple[str, ...]
    reason: str
    strategy: str
    incompatible: tuple[str, ...]


def fold(
    position: Position, refs: Sequence[tuple[OpRef, Operation]], where: str, capabilities: Capabilities
) -> Segment:
    """Fold a revision's operations over a collection's recorded and live schema and choose the strategy.

    Args:
        refs: the operations that match the collection, in order.
        where: revision and file, for messages.

    Raises:
        PlanError: an operation is misused, or two contradict; names revision and operation.
    """
    try:
        return _fold(position, refs, capabilities)
    except PlanError as error:
        raise PlanError(f"{where}: {error.message}", hint=error.hint, facts=error.facts) from error


def _fold(position: Position, refs: Sequence[tuple[OpRef, Operation]], capabilities: Capabilities) -> Segment:
    operations = [operation for _, operation in refs]
    check_contradictions(operations)
    declared, live = position.declared, position.live
    wish, incompatible = LIGHT, []
    transform = PointTransform.identity(live.vector_names()) if live is not None else None
    for operation in operations:
        operation.check(declared)
        if declared is not None and live is not None:
            operation.check(live)
            chosen = operation.strategy(live, capabilities, position.points)
            wish = chosen if chosen.outranks(wish) else wish
            transform = transform.then(operation.transform(live)) if transform is not None else None
            trouble = operation.incompatible(declared)
            if trouble:
                incompatible.append(trouble)
        declared, live = operation.apply(declared), operation.apply(live)
    lines = tuple(operation.describe() for operation in operations)
    after = replace(position, declared=declared, live=live)
    wish = not_beyond_schemas(wish, position.live, transform)
    steps, strategy, after = _steps(position, after, tuple(ref for ref, _ in refs), wish)
    return Segment(steps, after, lines, _reason(strategy, wish.reason), strategy, tuple(incompatible))


def not_beyond_schemas(wish: Strategy, live: CollectionSchema | None, transform: PointTransform | None) -> Strategy:
    """A clone is changed by the difference of two schemas: what that doesn't show has to be a copy.

    A vector that goes and comes back under the same name, in two operations, would keep its old values.
    """
    if wish.rank != "clone" or live is None or transform is None:
        return wish
    again = sorted(live.vector_names() & transform.values.keys())
    if again:
        return Strategy("copy", f"{wish.reason}; not cloned by the server: vector {again[0] or '(unnamed)'} is emptied")
    return wish


def _steps(
    before: Position, after: Position, refs: tuple[OpRef, ...], wish: Strategy
) -> tuple[tuple[Step, ...], str, Position]:
    if after.live is None:
        if before.live is None:
            return (), "record", after
        first, before = settled(before) if before.physical == before.name else ((), before)
        refuse_to_uncover(before)
        names = before.live.aliases if before.live is not None else ()
        gone = GoLive(refs, before.physical, None, (before.name, *names))
        return (*first, gone), "drop", replace(after, physical=None, number=before.number)
    if before.live is None or wish.rank in REBUILDS:
        return _rebuild(before, after, refs, wish)
    found = changes(before.live, after.live)
    physical = str(before.physical)
    return (InPlace(refs, physical, found, wish.reason),), "in_place", after


def _rebuild(
    before: Position, after: Position, refs: tuple[OpRef, ...], wish: Strategy
) -> tuple[tuple[Step, ...], str, Position]:
    assert after.live is not None  # noqa: S101  the caller looked
    first: tuple[Step, ...] = ()
    if before.physical == before.name and before.plain != "shadow":
        first, before = settled(before)
    target = generation_name(before.name, before.number)
    new = before.live is None
    if not new and wish.rank == "copy":
        refuse_unknown(before, wish.reason)
    fill = "empty" if new else wish.rank
    build = Build(
        ops=refs,
        source=before.physical,
        target=target,
        number=before.number,
        schema=after.live,
        fill=fill,
        reason=wish.reason,
    )
    place = "shadow" if before.physical == before.name else "alias"
    golive = GoLive(refs, before.physical, target, (before.name, *after.live.aliases), place=place)
    position = replace(after, physical=target, number=before.number + 1, hides=before.hides or place == "shadow")
    return (*first, build, golive), "create" if new else fill, position


def _reason(strategy: str, reason: str) -> str:
    if strategy == "create":
        return "the collection is new"
    if strategy == "drop":
        return "the name is taken away; the generation is kept until gc"
    return reason


def closing(segment: Segment, prior: Position, revision: tuple[str, str], last_step: int, direction: str) -> Closing:
    """The record that the revision (id, checksum) is applied once the segment's last step is closed."""
    return Closing(
        step=last_step,
        revision=revision[0],
        direction=direction,
        checksum=revision[1],
        declared=segment.position.declared,
        prior=prior.declared,
    )


def kept(change: Change, capabilities: Capabilities) -> bool:
    """Whether the store keeps it: local mode only declares most settings, so there is nothing to take back."""
    declared_only = change.kind == "vector.alter" or (change.kind == "config.set" and change.name != "metadata")
    return not (capabilities.local and declared_only)
