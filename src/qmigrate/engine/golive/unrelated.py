"""What is special about going live with points of another time: nothing is carried, in neither direction."""

from __future__ import annotations

from datetime import datetime

from qmigrate.engine.epoch_aliases import check_same, reach
from qmigrate.engine.golive import rollback
from qmigrate.engine.restore import phases
from qmigrate.engine.work import Facts, Work
from qmigrate.errors import RepairNeededError
from qmigrate.ledger import Fixed
from qmigrate.model.origin import NOTHING
from qmigrate.model.plan import KEPT, Build, GoLive

#: What the audit calls a reset, as the tables of applications do.
RESET = "FULL_RESET"
#: And deletions that were done again in what it goes back to.
AGAIN = "DELETED_AGAIN"


def converge(step: GoLive, work: Work) -> Facts:
    """Forwards, prove again when the proof is an earlier holder's (rule 7); backwards, let writes in again."""
    if step.back:
        rollback.lift(step, work)
        return {}
    if step.source is not None:
        check_same(work, step.source)
    if work.facts("converge", work.build_step()).get("epoch") == work.lease.epoch:
        return {}
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
        since = (work.facts("preflight").get("writes_since") or {}).get("added", 0)
        again: Facts = {"run": work.run, "step": work.step, "generation": step.target, "changed": back_again}
        left = {"left_in": step.source, "counts": {"written_since": since}, "undo": None, "undoes": step.undoes}
        return Fixed("UNDO", f"fix {step.undoes}", 0, None, again | left | _kept(work))
    if step.back:
        kept, count = _kept(work), int(work.facts("converge").get("deleted_again", 0))
        made: Facts = {"run": work.run, "step": work.step, "generation": step.target, "changed": count, **kept}
        why = f"deleted in {step.source}, by fixes since"
        return Fixed(AGAIN, str(step.target), count, why, made) if kept else None
    built = _built(work)
    origin = built.origin if built is not None else None
    if origin is None or origin.get("kind") != NOTHING:
        return None
    # Fenced by now, so that this number stays.
    left_behind = work.store.count(reach(work, str(step.source)))
    counted = int(work.facts("preflight", work.build_step())["left"])
    facts: Facts = {
        "run": work.run,
        "step": work.step,
        "generation": step.target,
        "left_in": step.source,
        "held_until": held_until.isoformat(),
        "changed": left_behind,
        "counts": {"points": left_behind, "late": max(0, left_behind - counted)},
        "undo": "reset",
    }
    return Fixed(RESET, work.collection, left_behind, origin.get("reason"), facts)


def _kept(work: Work) -> Facts:
    """What an undo needs of points that were deleted again; empty where there were none."""
    file = work.facts("converge").get(KEPT)
    return {"undo": "bring_back", "file": file} if file else {}


def _built(work: Work) -> Build | None:
    """The build whose target this step goes live with."""
    found = work.job.steps[work.build_step()] if work.build_step() >= 0 else None
    return found if isinstance(found, Build) else None
