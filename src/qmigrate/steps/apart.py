"""What is special about going live with points of another time: nothing is carried, in neither direction."""

from __future__ import annotations

from qmigrate.errors import RepairNeededError
from qmigrate.model.plan import Build, GoLive
from qmigrate.steps import back, restore
from qmigrate.steps.owned import check_same
from qmigrate.steps.work import Facts, Work


def converge(step: GoLive, work: Work) -> Facts:
    """Forwards, prove again when the proof is an earlier holder's (rule 7); backwards, let writes in again."""
    if step.back:
        back.lift(step, work)
        return {}
    if step.source is not None:
        check_same(work, step.source)
    if work.facts("converge", work.step - 1).get("epoch") == work.lease.epoch:
        return {}
    built = work.job.steps[work.step - 1]
    if not isinstance(built, Build):
        raise RepairNeededError(f"the stored job of {step.target} does not say what was restored")
    return restore.converge(built, work)
