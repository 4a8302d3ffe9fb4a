"""A reset: the next generation begins empty, and what served stays behind it. It reads and deletes no point."""

from __future__ import annotations

from qmigrate.errors import PlanError, RefusedError, VerificationError
from qmigrate.model.plan import Build
from qmigrate.model.report import VerificationReport
from qmigrate.model.words import quote
from qmigrate.steps.owned import reach
from qmigrate.steps.restored import Base, need_source, origin_of, settle
from qmigrate.steps.work import Facts, Work


def preflight(step: Build, work: Work) -> Facts:
    """Only reads: as many points as were agreed to, in a collection whose settings can all be given to the next one.

    Raises:
        RefusedError: the collection has another number of points now, or a shard layout that can't be repeated.
        PlanError: it has settings that this version doesn't know.
    """
    need_source(step, work)
    address = reach(work, str(step.source))
    live = work.store.describe(address)
    if live is not None and live.unknown:
        raise PlanError(
            f"{step.source} has settings that this version of qmigrate doesn't know, and an empty one would not have "
            f"them: {', '.join(live.unknown)}",
            hint="update qmigrate, or revert these settings first",
        )
    if live is not None and live.custom_sharding:
        raise RefusedError(f"{step.source} uses custom sharding, which is not supported yet")
    left, expected = work.store.count(address), origin_of(step).get("expect")
    if expected is not None and left != expected:
        raise RefusedError(
            f"{work.collection} has {left:,} points, but {expected:,} were expected; nothing was changed",
            hint="check again: --dry-run counts them",
            facts={"points": left},
        )
    view = work.lease.ledger.collections().get(work.collection)
    # Points that are written from now on are embedded by the earlier models.
    return {"points": 0, "left": left, "embedders": dict(view.embedders) if view else {}}


def fill(step: Build, work: Work) -> Facts:  # noqa: ARG001
    """Nothing comes from anywhere."""
    return {}


def converge(step: Build, work: Work) -> Facts:
    """The proof: it is empty, so that every point that is there later was written since.

    Raises:
        VerificationError: another client has written to it before any name led there.
    """
    points = work.store.count(step.target)
    if points:
        raise VerificationError(
            f"{step.target} was made empty for {work.collection}, and has {points:,} points: another client "
            "writes to it by "
            "that name",
            hint=f"find that client; qmigrate abort {quote(work.collection)} removes {step.target}",
        )
    return settle(step, work, VerificationReport(source=str(step.source), target=step.target), Base(step, work))
