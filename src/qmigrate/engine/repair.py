"""Repairs of what a user did by hand: a name is put back, a lost generation is recorded. It deletes nothing."""

from __future__ import annotations

from qmigrate.engine.closing import close_repair
from qmigrate.engine.epoch_aliases import holder, reach, read_back, release, swap
from qmigrate.engine.retire.late_writes import drop_late_writes
from qmigrate.engine.work import Phase, Work
from qmigrate.errors import RefusedError, RepairNeededError
from qmigrate.model.facts.phases import Closed, LivePreflight, Named
from qmigrate.model.plan import PutBack, RecordLoss
from qmigrate.model.state import marks_of
from qmigrate.text import quote


def look(step: PutBack, work: Work) -> LivePreflight:
    """Only reads: the recorded generation is there, it is ours, and the name is where it was seen."""
    if step.target not in work.store.physical_names():
        raise RepairNeededError(
            f"{step.target}, which the ledger records for {work.collection}, is not in Qdrant any more",
            hint=f"restore it: qmigrate snapshot list {quote(work.collection)}",
        )
    found = work.store.describe(reach(work, step.target))
    seal, row = marks_of(found), work.generation(step.target)
    if row is None or not seal.is_of(work.ledger_id, row.number):
        raise RepairNeededError(
            f"{step.target} is not the collection that the ledger records for {work.collection}: its seal is "
            f"{'another one' if found and found.seal else 'gone'}",
            hint="qmigrate check shows both",
        )
    _refuse_moved(step, work)
    return LivePreflight(work.store.count(reach(work, step.target)))


def _refuse_moved(step: PutBack, work: Work) -> None:
    serving = holder(work)
    if serving not in (step.serving, step.target):
        raise RefusedError(
            f"{work.collection} is served by {serving or 'nothing'} now: another client moved it",
            hint=f"qmigrate abort {quote(work.collection)} ends this run if it is open; then run the command again: "
            "it checks again",
        )


def move(step: PutBack, work: Work) -> Named:
    """One request through an alias of this lease epoch; read back on every node."""
    # An interruption may lie between the check and here.
    _refuse_moved(step, work)
    if holder(work) != step.target:
        swap(work, step.target, [work.collection])
    read_back(work, [work.collection], step.target)
    return Named(step.serving, step.target)


def close_put_back(step: PutBack, work: Work) -> Closed:
    """Recorded in one transaction."""
    release(work, [step.target, step.serving])
    close_repair(work, "name", step.target, {"reason": step.reason, "before": step.serving})
    return Closed()


def look_for(step: RecordLoss, work: Work) -> LivePreflight:
    """Only reads: it is really not there."""
    if step.target in work.store.physical_names():
        raise RefusedError(
            f"{step.target} is in Qdrant, so its loss can't be recorded",
            hint="if it is another collection of that name: save what is in it, remove it, and run this again",
        )
    return LivePreflight()


def close_loss(step: RecordLoss, work: Work) -> Closed:
    """Recorded in one transaction; what was kept to compare it with is of no use any more."""
    drop_late_writes(work, step.target)
    close_repair(work, "vanished", step.target, {"reason": step.reason}, gone=True)
    return Closed()


PUT_BACK = (
    Phase(LivePreflight, look),
    Phase(Named, move),
    Phase(Closed, close_put_back),
)
RECORD_LOSS = (
    Phase(LivePreflight, look_for),
    Phase(Closed, close_loss),
)
