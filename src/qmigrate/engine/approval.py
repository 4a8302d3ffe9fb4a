"""Whether a step needs another person's approval, and has it: asked right before it begins. It asks for none."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from qmigrate.engine.work import Work
from qmigrate.errors import ApprovalNeededError, CountMovedError
from qmigrate.ledger.approvals import ApprovalRequest, Requests
from qmigrate.ledger.reader import LedgerReader
from qmigrate.model.approval import DELETIONS, Person, Wanted, wanted
from qmigrate.model.facts.edits import Edit
from qmigrate.model.facts.fixes import EditChange
from qmigrate.model.plan import EditPoints
from qmigrate.settings.approval import CONSOLE, ApprovalSettings
from qmigrate.text import counted, quote


def need_approval(work: Work, changes: int, points: int) -> None:
    """See that the step may take this many points away: few enough, or with an approval, which it uses for this run.

    Called where they were just counted, under the lease, in a first phase that only reads.

    Args:
        changes: points that would go.
        points: of the collection.

    Raises:
        ApprovalNeededError: no other person has approved it; nothing was changed.
        CountMovedError: what was approved was another number of points; nothing was changed.
    """
    settings = work.settings.fixes.approval
    # What takes a run back that has not gone live has nothing to lose, and neither has a rehearsal.
    exempt = settings is None or work.job.supersedes is not None or work.job.throwaway
    found = None if exempt else wanted(work.job, work.step)
    if settings is None or found is None:
        return
    ledger = work.lease.ledger
    found = replace(found, changes=changes, points=points)
    above = is_above(settings, ledger, found, before=_before(work))
    if work.looking:
        if above and not usable(settings, ledger, found):
            raise needed(settings, found)
        return
    claimed = work.lease.claim_approval((work.run, work.step), found.digest, changes, partial(counts, settings))
    if claimed.request is not None:
        one = claimed.request
        work.progress.say(f"{work.collection}: request {one.id} of {one.asked_by}, approved by {one.decided_by}")
    elif claimed.moved is not None and above:
        one = claimed.moved
        raise CountMovedError(
            f"{counted(changes, 'point')} of {work.collection} would {found.would} now; request {one.id} was approved "
            f"for {one.changes:,}, and may differ by {one.tolerance * 100:.6g} %; nothing was changed",
            hint="ask for it again by the same command: this approval is void",
            facts={"request": one.id, "approved": one.changes, "changes": changes, "points": points},
        )
    elif above:
        raise needed(settings, found)


def is_above(
    settings: ApprovalSettings, ledger: LedgerReader, found: Wanted, *, before: int = 0, planned: int = 0
) -> bool:
    """Whether this many points are more than one person may decide.

    Args:
        before: points that the same run has taken away already; those of `settings.within` have them, too.
        planned: points that earlier steps of a plan will take away, which nothing has yet.
    """
    recent = Requests(ledger).unapproved(found.collection, settings.within) if settings.within else 0
    gone = planned + max(before, recent)
    return bool(found.changes) and settings.above.is_exceeded(found.changes + gone, found.points)


def usable(settings: ApprovalSettings, ledger: LedgerReader, found: Wanted) -> ApprovalRequest | None:
    """An approval of just this, that can be used now; of one with another number of points None."""
    known = Requests(ledger).approved(found.collection, found.digest)
    return next((one for one in known if one.is_whole and counts(settings, one) and one.allows(found.changes)), None)


def counts(settings: ApprovalSettings, request: ApprovalRequest) -> bool:
    """Whether an approval is one by the settings of today: they may be stricter than those of its time."""
    decided = request.decided
    return decided is not None and problem(settings, request, decided) is None


def problem(settings: ApprovalSettings, request: ApprovalRequest, who: Person) -> str | None:
    """Why a person can't approve a request; None where they can."""
    if who.agent is not None:
        return f"this is run by an assistant ({who.agent}), and an assistant approves nothing"
    if settings.by == CONSOLE and who.proven != CONSOLE:
        return "fixes.approval.by is console: only a user whom the HTTP API has logged in can approve"
    # A name on a command line is only what is said; the user of the system is not.
    known = who.actor if who.proven is not None else who.user
    if settings.approvers and not any(Person(one, "").is_same(Person(known or "", "")) for one in settings.approvers):
        return f"{known} is not among fixes.approval.approvers"
    if request.asked.is_same(who):
        return f"{request.asked_by} asked for it, and may be the same person as {who.shown}"
    return None


def needed(settings: ApprovalSettings, found: Wanted) -> ApprovalNeededError:
    """The error, with what is to be asked for."""
    share = f" ({found.changes / found.points * 100:.3g} %)" if found.points else ""
    return ApprovalNeededError(
        f"{found.changes:,} of {counted(found.points, 'point')}{share} of {found.collection} would {found.would}, and "
        f"above {settings.above} another person has to approve that; nothing was changed",
        hint=f"qmigrate requests list --collection {quote(found.collection)}",
        facts={"collection": found.collection, "changes": found.changes, "points": found.points},
        wish=found,
    )


def _before(work: Work) -> int:
    """Points that earlier steps of the same run have taken away."""
    steps = enumerate(work.job.steps[: work.step])
    mine = [at for at, step in steps if isinstance(step, EditPoints) and Edit.of(step.edit).kind in DELETIONS]
    return sum(work.facts(EditChange, at).changed or 0 for at in mine)
