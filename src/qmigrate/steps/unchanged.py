"""Whether the source of a build still is what it was built from: a change since would be lost. It only reads."""

from __future__ import annotations

from functools import partial

from qmigrate.drift.schema import restoration
from qmigrate.errors import DriftError, PlanError
from qmigrate.model.plan import Build, GoLive
from qmigrate.model.schema import Change, CollectionSchema, changes
from qmigrate.model.state import LiveCollection
from qmigrate.model.words import quote
from qmigrate.steps.owned import reach
from qmigrate.steps.shadow import HELD_BACK
from qmigrate.steps.work import Work


def check_built(step: Build, work: Work) -> None:
    """See that nobody has changed the source of a copy or a clone while it was made.

    Raises:
        DriftError: an index, a vector or a setting is another one.
    """
    if step.source is None or step.fill not in ("copy", "clone"):
        return
    source = work.store.describe(reach(work, step.source))
    if source is not None:
        # A freeze sets the limits of writes, and can't unset them all afterwards.
        check_schema(step, source, work, but=f"set setting {HELD_BACK}")


def check_golive(step: GoLive, work: Work) -> None:
    """The same for the build that goes live with this step."""
    build = work.job.steps[work.build_step()] if work.build_step() >= 0 else None
    if isinstance(build, Build) and build.source == step.source:
        check_built(build, work)


def check_schema(build: Build, source: LiveCollection, work: Work, *, but: str | None = None) -> None:
    """The same operations on the source of today must lead to what was built, or a change by hand would be lost.

    Args:
        but: a change that is none.

    Raises:
        DriftError: they don't.
    """
    expected: CollectionSchema = source.schema
    try:
        for operation in work.operations(build.ops):
            operation.check(expected)
            after = operation.apply(expected)
            expected = after if after is not None else expected
    except PlanError as error:
        raise _changed(build, error.message, work) from error
    names = build.schema.aliases
    here, built = expected.with_(aliases=names), build.schema
    # What was taken away from the source shows only from the other side.
    between = partial(_seen, local=work.store.capabilities.local)
    seen = (*between(built, here), *(change.reverse() for change in between(here, built)))
    found = dict.fromkeys(change.describe() for change in seen)
    found.pop(but or "", None)
    if found:
        raise _changed(build, "; ".join(found), work)


def _seen(before: CollectionSchema, after: CollectionSchema, *, local: bool) -> tuple[Change, ...]:
    """What changes one schema into the other; what local mode only declares says nothing about its source."""
    return restoration(after, before, local=True) if local else changes(before, after)


def over(work: Work) -> str:
    """The commands that start over."""
    return f"qmigrate abort {quote(work.collection)}, then qmigrate upgrade"


def _changed(build: Build, what: str, work: Work) -> DriftError:
    return DriftError(
        f"{build.source} was changed since {build.target} was built from it, and the cut-over would lose that: {what}",
        hint=f"undo it, and run the command again; or build again from what is there now: {over(work)}",
    )
