"""Whether the source of a build still is what it was built from: a change since would be lost. It only reads."""

from __future__ import annotations

from qmigrate.engine.build.shadow import HELD_BACK
from qmigrate.engine.epoch_aliases import reach
from qmigrate.engine.work import Work
from qmigrate.errors import DriftError, PlanError
from qmigrate.model.facts import Preflight
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import CollectionSchema, changes
from qmigrate.model.state import LiveCollection
from qmigrate.text import quote


def check_built(step: Build, work: Work) -> None:
    """See that nobody has changed the source of a copy or a clone while it was made.

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
    expected: CollectionSchema = source.schema
    try:
        for operation in work.operations(build.ops):
            operation.check(expected)
            after = operation.apply(expected)
            expected = after if after is not None else expected
    except PlanError as error:
        raise _changed(build, error.message, work) from error
    _compare(build, build.schema, expected, work)


def _described(work: Work) -> CollectionSchema | None:
    """The source as the preflight of this very run has found it; None in a run that an earlier version began.

    Not what the plan has of it: that knows neither what a server sets by itself, nor that local mode keeps no index,
    where an earlier step of the job has made the source or changed it.
    """
    return work.facts(Preflight, work.build_step()).source


def _compare(
    build: Build, before: CollectionSchema, after: CollectionSchema, work: Work, *, but: str | None = None
) -> None:
    """See that two schemas are the same, whatever their aliases are; the change `but` is none."""
    one, other = before.with_(aliases=()), after.with_(aliases=())
    # What was taken away from the source shows only from the other side.
    seen = (*changes(one, other), *(change.reverse() for change in changes(other, one)))
    found = dict.fromkeys(change.describe() for change in seen)
    found.pop(but or "", None)
    if found:
        raise _changed(build, "; ".join(found), work)


def over(work: Work) -> str:
    """The commands that start over."""
    return f"qmigrate abort {quote(work.collection)}, then qmigrate upgrade"


def _changed(build: Build, what: str, work: Work) -> DriftError:
    return DriftError(
        f"{build.source} was changed since {build.target} was built from it, and the cut-over would lose that: {what}",
        hint=f"undo it, and run the command again; or build again from what is there now: {over(work)}",
    )
