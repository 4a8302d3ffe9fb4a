"""Whether the source of a build still is what it was built from: a change since would be lost. It only reads."""

from __future__ import annotations

from collections.abc import Sequence

from qmigrate.engine.build.shadow import HELD_BACK
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.work import Work, transform_of
from qmigrate.errors import DriftError, PlanError
from qmigrate.model.facts.phases import Preflight
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import CollectionSchema, changes
from qmigrate.model.state import LiveCollection
from qmigrate.operations.base import Operation
from qmigrate.text import quote

#: What applications note about a collection; a server adds nothing to it by itself.
METADATA = "metadata"


def check_built(step: Build, work: Work) -> None:
    """Check that no other client has changed the source of a copy or a clone while it was made.

    Raises:
        DriftError: an index, a vector or a setting is another one.
    """
    known = _described(work)
    if step.source is None or step.fill not in ("copy", "clone") or known is None:
        return
    source = work.store.describe(reach(work, step.source))
    if source is not None:
        # A freeze sets the limits of writes, and can't unset them all afterwards.
        _compare(step, known, source.schema, work, but=f"set setting {HELD_BACK}")


def check_planned(step: Build, found: CollectionSchema, work: Work) -> None:
    """See that what was planned takes along all that the source has by now: hours or days may lie between the two.

    Where an earlier step of the job has made the source, or changed it, a plan doesn't know all that a server shows of
    it: then only what would be lost as a whole is looked for.

    Args:
        found: the schema of the source, as the preflight has found it.

    Raises:
        DriftError: an index, a vector or a setting is another one than the plan has seen.
    """
    if step.source is None or step.fill not in ("copy", "clone"):
        return
    source, operations = found, work.operations(step.ops)
    if any(earlier.target == step.source for earlier in work.job.steps[: work.step]):
        lost = _left_behind(step, source, operations)
    else:
        try:
            planned, now = _reported(work, step.schema), _reported(work, _after(source, operations))
            lost = _differences(planned, now)
        except PlanError as error:
            lost = [error.message]
    if lost:
        raise DriftError(
            f"{step.source} was changed since it was planned how {step.target} is made of it, and {step.target} would "
            f"lose that: {'; '.join(lost)}",
            hint="the same command again plans from what is there now; where the run stays unfinished, "
            f"{over(work)}",
        )


def _reported(work: Work, schema: CollectionSchema) -> CollectionSchema:
    """A schema without what the store doesn't report: the payload indexes of local mode are only planned."""
    return schema.with_(indexes={}) if work.store.capabilities.local else schema


def _left_behind(step: Build, source: CollectionSchema, operations: Sequence[Operation]) -> list[str]:
    """Indexes, vectors and metadata of the source that the target won't have, though no operation takes them away."""
    touched = {key for operation in operations for key in operation.touched()}
    meant, seen = (one.config.get(METADATA) or {} for one in (step.schema, source))
    noted = meant != seen and not any(key[:2] == ("setting", METADATA) for key in touched)
    indexes = source.indexes.keys() - step.schema.indexes.keys() - {key[-1] for key in touched if len(key) > 1}
    vectors = transform_of(operations, source).vectors.keys() - step.schema.vector_names()
    named = (("payload index", sorted(indexes)), ("vector", sorted(vectors)))
    found = [f"add {what} {name}" for what, names in named for name in names]
    return [*found, f"set setting {METADATA}"] if noted else found


def check_golive(step: GoLive, work: Work) -> None:
    """The same for the build that goes live with this step."""
    build = work.job.steps[work.build_step()] if work.build_step() >= 0 else None
    if isinstance(build, Build) and build.source == step.source:
        check_built(build, work)


def check_waited(build: Build, source: LiveCollection, work: Work) -> None:
    """The same for a build that has waited for its cut-over.

    Raises:
        DriftError: an index, a vector or a setting is another one.
    """
    known = _described(work)
    if known is not None:
        _compare(build, known, source.schema, work)
        return
    # Built by an earlier version: the same operations on the source of today must lead to what was built.
    try:
        expected = _after(source.schema, work.operations(build.ops))
    except PlanError as error:
        raise _changed(build, error.message, work) from error
    _compare(build, build.schema, expected, work)


def _after(schema: CollectionSchema, operations: Sequence[Operation]) -> CollectionSchema:
    """A schema behind operations.

    Raises:
        PlanError: they can't be done from there.
    """
    for operation in operations:
        operation.check(schema)
        schema = operation.apply(schema) or schema
    return schema


def _described(work: Work) -> CollectionSchema | None:
    """The source as the preflight of this very run has found it; None in a run that an earlier version began.

    Not what the plan has of it: that has neither what a server sets by itself, nor that local mode keeps no index,
    where an earlier step of the job has made the source or changed it.
    """
    return work.facts(Preflight, work.build_step()).source


def _compare(
    build: Build, before: CollectionSchema, after: CollectionSchema, work: Work, *, but: str | None = None
) -> None:
    """See that two schemas are the same, whatever their aliases are; the change `but` is none."""
    found = [one for one in _differences(before, after) if one != but]
    if found:
        raise _changed(build, "; ".join(found), work)


def _differences(before: CollectionSchema, after: CollectionSchema) -> list[str]:
    """What differs between two schemas apart from their aliases, in words."""
    one, other = before.with_(aliases=()), after.with_(aliases=())
    # What was removed from the source shows only from the other side.
    seen = (*changes(one, other), *(change.reverse() for change in changes(other, one)))
    return list(dict.fromkeys(change.describe() for change in seen))


def over(work: Work) -> str:
    """The commands that start over."""
    return f"qmigrate abort {quote(work.collection)}, then qmigrate upgrade"


def _changed(build: Build, what: str, work: Work) -> DriftError:
    return DriftError(
        f"{build.source} was changed since {build.target} was built from it, and the cut-over would lose that: {what}",
        hint=f"undo it, and run the command again; or rebuild from what is there now: {over(work)}",
    )
