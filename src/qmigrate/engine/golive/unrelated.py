"""What is special about going live with points of another time: nothing is carried, in neither direction."""

from __future__ import annotations

from datetime import datetime

from qmigrate.engine.epoch_aliases import check_same, reach
from qmigrate.engine.golive import rollback
from qmigrate.engine.restore import phases
from qmigrate.engine.work import Work
from qmigrate.errors import RepairNeededError
from qmigrate.ledger import Fixed
from qmigrate.model.facts.audit import UNDO, Audited
from qmigrate.model.facts.phases import GoLivePreflight, Preflight, Proof, WritesSince
from qmigrate.model.facts.stored import UNLEARNED
from qmigrate.model.origin import NOTHING, StoredOrigin
from qmigrate.model.plan import Build, GoLive

#: What the audit calls a reset, as the tables of applications do.
RESET = "FULL_RESET"
#: And deletions that were done again in what it goes back to.
AGAIN = "DELETED_AGAIN"


def converge(step: GoLive, work: Work) -> Proof:
    """Forwards, prove again when the proof is an earlier holder's (rule 7); backwards, let writes in again."""
    if step.back:
        rollback.lift_fence(step, work)
        return Proof()
    if step.source is not None:
        check_same(work, step.source)
    if work.facts(Proof, work.build_step()).epoch == work.lease.epoch:
        return Proof()
    built = _built(work)
    if built is None:
        raise RepairNeededError(f"the stored job of {step.target} does not say what was restored")
    return phases.converge(built, work)


def audit(step: GoLive, work: Work, held_until: datetime) -> Fixed | None:
    """The row of the audit where this is a reset or undoes one; a restore has none.

    Args:
        held_until: how long what is left behind is kept.
    """
    if step.undoes is not None:
        back_again = work.store.count(str(step.target))
        since = (work.facts(GoLivePreflight).writes_since or WritesSince()).added
        undo, file = _kept(work)
        told = Audited(
            work.run,
            work.step,
            step.target,
            changed=back_again,
            counts={"written_since": since},
            undo=undo,
            file=file or UNLEARNED,
            undoes=step.undoes,
            left_in=step.source,
        )
        return Fixed(UNDO, f"fix {step.undoes}", 0, None, told)
    if step.back:
        (undo, file), count = _kept(work), work.facts(Proof).deleted_again or 0
        made = Audited(work.run, work.step, step.target, changed=count, undo=undo, file=file)
        why = f"deleted in {step.source}, by fixes since"
        return Fixed(AGAIN, str(step.target), count, why, made) if file else None
    built = _built(work)
    origin = StoredOrigin.of(built.origin if built is not None else None)
    if origin.kind != NOTHING:
        return None
    # Fenced by now, so that this number stays.
    left_behind = work.store.count(reach(work, str(step.source)))
    counted = work.facts(Preflight, work.build_step()).left or 0
    made = Audited(
        work.run,
        work.step,
        step.target,
        changed=left_behind,
        counts={"points": left_behind, "late": max(0, left_behind - counted)},
        undo="reset",
        left_in=step.source,
        held_until=held_until,
    )
    return Fixed(RESET, work.collection, left_behind, origin.reason, made)


def _kept(work: Work) -> tuple[str | None, str | None]:
    """What undoes the deletion of points that were deleted again, and their file; None where there were none."""
    file = work.facts(Proof).kept
    return ("bring_back", file) if file else (None, None)


def _built(work: Work) -> Build | None:
    """The build whose target this step goes live with."""
    found = work.job.steps[work.build_step()] if work.build_step() >= 0 else None
    return found if isinstance(found, Build) else None
